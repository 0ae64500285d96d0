"""Where the exporter's ports meet their adapters."""

from __future__ import annotations

from functools import cache

from modelyard.core.jobs.job import JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.exporter.adapters.hardware import ThisMachine
from modelyard.exporter.adapters.services_client import ClientDatasetVersions, ClientModelVersions
from modelyard.exporter.handlers import exports, profiles
from modelyard.exporter.handlers.targets import KnownTargets
from modelyard.exporter.ports import DatasetVersions, Hardware, ModelVersions
from modelyard.exporter.rpc.servicer import ExporterServicer
from modelyard.exporter.settings import ExporterSettings
from modelyard.exporter.v1.exporter_service_pb2_grpc import add_ExporterServiceServicer_to_server

NAME = "exporter"
WORKER = "modelyard.exporter.worker"
AGENT_TOKEN = "MODELYARD_AGENT_TOKEN"  # noqa: S105  the variable that the worker reads (worker/measuring.py)


def build(
    platform: Platform,
    *,
    models: ModelVersions | None = None,
    versions: DatasetVersions | None = None,
    hardware: Hardware | None = None,
) -> Service:
    """The exporter over a platform. Replacements are for tests."""
    client = cache(platform.client)
    targets = KnownTargets(platform.resources, hardware or ThisMachine())
    ports = exports.Ports(
        jobs=platform.jobs,
        models=models or ClientModelVersions(client),
        versions=versions or ClientDatasetVersions(client),
        targets=targets,
        uploads=platform.artifacts,
    )
    servicer = ExporterServicer(ports, targets, platform.resources)
    settings = platform.settings if isinstance(platform.settings, ExporterSettings) else ExporterSettings()
    environment = {AGENT_TOKEN: settings.agent_token.get_secret_value()}
    for kind in (exports.KIND, profiles.KIND):
        platform.jobs.register(
            JobKind(kind, service=NAME, worker_module=WORKER, slots=settings.exporter_slots, environment=environment)
        )
    mount = Mount("modelyard.exporter.v1.ExporterService", lambda server: add_ExporterServiceServicer_to_server(servicer, server))
    return Service(NAME, [mount])
