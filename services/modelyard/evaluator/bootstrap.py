"""Where the evaluator's ports meet their adapters."""

from __future__ import annotations

from functools import cache

from modelyard.core.jobs.job import JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.evaluator.adapters.services_client import ClientDatasetVersions, ClientExports
from modelyard.evaluator.handlers.evaluations import KIND
from modelyard.evaluator.ports import DatasetVersions, Exports
from modelyard.evaluator.rpc.servicer import EvaluatorServicer
from modelyard.evaluator.settings import EvaluatorSettings
from modelyard.evaluator.v1.evaluator_service_pb2_grpc import add_EvaluatorServiceServicer_to_server

NAME = "evaluator"


def build(platform: Platform, *, exports: Exports | None = None, versions: DatasetVersions | None = None) -> Service:
    """The evaluator over a platform. Replacements are for tests."""
    client = cache(platform.client)
    servicer = EvaluatorServicer(
        platform.jobs, platform.resources, exports or ClientExports(client), versions or ClientDatasetVersions(client)
    )
    settings = platform.settings if isinstance(platform.settings, EvaluatorSettings) else EvaluatorSettings()
    slots = settings.evaluator_slots
    platform.jobs.register(JobKind(KIND, service=NAME, worker_module="modelyard.evaluator.worker", slots=slots))
    mount = Mount(
        "modelyard.evaluator.v1.EvaluatorService", lambda server: add_EvaluatorServiceServicer_to_server(servicer, server)
    )
    return Service(NAME, [mount])
