"""Where the pipeline's ports meet their adapters."""

from __future__ import annotations

from functools import cache, partial

from modelyard.core.database import now
from modelyard.core.jobs.job import JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.pipeline.adapters.scheduler import Scheduler
from modelyard.pipeline.adapters.services_client import services_over
from modelyard.pipeline.adapters.watching_client import ClientWatching
from modelyard.pipeline.handlers.journey import run_journey
from modelyard.pipeline.handlers.reevaluations import KIND as REEVALUATION
from modelyard.pipeline.handlers.reevaluations import Reevaluating, run_reevaluation, start_due
from modelyard.pipeline.handlers.runs import KIND
from modelyard.pipeline.ports import Services, ServicesOf, Watching, WatchingOf
from modelyard.pipeline.rpc.metrics import refresh
from modelyard.pipeline.rpc.reevaluation_servicer import ReevaluationServicer
from modelyard.pipeline.rpc.servicer import PipelineServicer
from modelyard.pipeline.settings import PipelineSettings
from modelyard.pipeline.v1.pipeline_service_pb2_grpc import add_PipelineServiceServicer_to_server
from modelyard.pipeline.v1.reevaluation_service_pb2_grpc import add_ReevaluationServiceServicer_to_server

NAME = "pipeline"


def build(platform: Platform, *, services_of: ServicesOf | None = None, watching_of: WatchingOf | None = None) -> Service:
    """The pipeline over a platform. Replacements are for tests."""

    @cache
    def over_client(project: str) -> Services:
        return services_over(platform.client(project))

    @cache
    def watching_over_client(project: str) -> Watching:
        return ClientWatching(platform.client(project))

    services_of, watching_of = services_of or over_client, watching_of or watching_over_client
    settings = platform.settings if isinstance(platform.settings, PipelineSettings) else PipelineSettings()
    run = partial(run_journey, services_of)
    platform.jobs.register(JobKind(KIND, service=NAME, run=run, slots=settings.pipeline_slots))
    again = partial(run_reevaluation, services_of, watching_of, platform.jobs)
    platform.jobs.register(JobKind(REEVALUATION, service=NAME, run=again, slots=settings.pipeline_slots))
    servicer = PipelineServicer(platform.jobs, services_of)
    ports = Reevaluating(platform.resources, platform.jobs, watching_of, now)
    reevaluations = ReevaluationServicer(ports)
    scheduler = Scheduler([partial(start_due, ports), partial(refresh, ports)], settings.reevaluation_check_s)
    mounts = [
        Mount("modelyard.pipeline.v1.PipelineService", partial(add_PipelineServiceServicer_to_server, servicer)),
        Mount("modelyard.pipeline.v1.ReevaluationService", partial(add_ReevaluationServiceServicer_to_server, reevaluations)),
    ]
    return Service(NAME, mounts, start=scheduler.start, stop=scheduler.stop)
