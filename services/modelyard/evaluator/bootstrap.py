"""Where the evaluator's ports meet their adapters."""

from __future__ import annotations

from functools import cache

from modelyard.core.jobs.job import JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.evaluator.adapters.evidence import StoredBundles, StoredPredictions
from modelyard.evaluator.adapters.experiments import ClientExperiments
from modelyard.evaluator.adapters.passports import SignedPassports
from modelyard.evaluator.adapters.services_client import ClientDatasetVersions, ClientExports
from modelyard.evaluator.handlers.decisions import Deciding
from modelyard.evaluator.handlers.evaluations import KIND
from modelyard.evaluator.ports import DatasetVersions, Experiments, Exports
from modelyard.evaluator.rpc.servicer import EvaluatorServicer
from modelyard.evaluator.settings import EvaluatorSettings
from modelyard.evaluator.v1.evaluator_service_pb2_grpc import add_EvaluatorServiceServicer_to_server
from modelyard.formats.passport_keys import TRUSTED_KEYS

NAME = "evaluator"


def build(
    platform: Platform,
    *,
    exports: Exports | None = None,
    versions: DatasetVersions | None = None,
    experiments: Experiments | None = None,
) -> Service:
    """The evaluator over a platform. Replacements are for tests."""
    client, settings, artifacts = cache(platform.client), evaluator_settings(platform), platform.artifacts
    own, trusted = settings.own_signing_key(), settings.data_dir / TRUSTED_KEYS
    deciding = Deciding(
        jobs=platform.jobs,
        resources=platform.resources,
        predictions=StoredPredictions(artifacts),
        bundles=StoredBundles(artifacts),
        experiments=experiments or ClientExperiments(client),
        passports=SignedPassports(artifacts, settings.passport_signing_key, own, trusted),
    )
    servicer = EvaluatorServicer(deciding, exports or ClientExports(client), versions or ClientDatasetVersions(client))
    slots = settings.evaluator_slots
    platform.jobs.register(JobKind(KIND, service=NAME, worker_module="modelyard.evaluator.worker", slots=slots))
    mount = Mount(
        "modelyard.evaluator.v1.EvaluatorService", lambda server: add_EvaluatorServiceServicer_to_server(servicer, server)
    )
    return Service(NAME, [mount])


def evaluator_settings(platform: Platform) -> EvaluatorSettings:
    """The platform's settings with the evaluator's own, which come from the environment where it was opened without them."""
    if isinstance(platform.settings, EvaluatorSettings):
        return platform.settings
    return EvaluatorSettings(**platform.settings.model_dump())
