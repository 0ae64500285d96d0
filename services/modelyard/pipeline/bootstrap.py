"""Where the pipeline's ports meet their adapters."""

from __future__ import annotations

from functools import cache, partial

from modelyard.core.jobs.job import JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.pipeline.adapters.services_client import services_over
from modelyard.pipeline.handlers.journey import run_journey
from modelyard.pipeline.handlers.runs import KIND
from modelyard.pipeline.ports import Services, ServicesOf
from modelyard.pipeline.rpc.servicer import PipelineServicer
from modelyard.pipeline.settings import PipelineSettings
from modelyard.pipeline.v1.pipeline_service_pb2_grpc import add_PipelineServiceServicer_to_server

NAME = "pipeline"


def build(platform: Platform, *, services_of: ServicesOf | None = None) -> Service:
    """The pipeline over a platform. Replacements are for tests."""

    @cache
    def over_client(project: str) -> Services:
        return services_over(platform.client(project))

    services_of = services_of or over_client
    settings = platform.settings if isinstance(platform.settings, PipelineSettings) else PipelineSettings()
    run = partial(run_journey, services_of)
    platform.jobs.register(JobKind(KIND, service=NAME, run=run, slots=settings.pipeline_slots))
    servicer = PipelineServicer(platform.jobs, services_of)
    mount = Mount("modelyard.pipeline.v1.PipelineService", lambda server: add_PipelineServiceServicer_to_server(servicer, server))
    return Service(NAME, [mount])
