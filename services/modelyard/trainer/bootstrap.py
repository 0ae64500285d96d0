"""Where ports meet adapters: the trainer on a platform."""

from __future__ import annotations

from functools import partial
from typing import Any

from modelyard.core.jobs.job import Job, JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.trainer.adapters.datasets_client import ClientDatasets
from modelyard.trainer.adapters.folds import ClientFolding
from modelyard.trainer.adapters.profiles_client import ClientProfiling
from modelyard.trainer.domain.recipe_preview import KIND as PREVIEW
from modelyard.trainer.domain.training_job import KIND
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.completion import keep_trained_model
from modelyard.trainer.handlers.cross_validation import KIND as CROSSED
from modelyard.trainer.handlers.cross_validation import run_cross_validation
from modelyard.trainer.handlers.ladder import KIND as ADVISED
from modelyard.trainer.handlers.ladder import run_ladder
from modelyard.trainer.handlers.model_selections import KIND as SELECTED
from modelyard.trainer.handlers.selection import run_model_selection
from modelyard.trainer.ports import Datasets, Profiling
from modelyard.trainer.rpc.advisor_servicer import AdvisorServicer
from modelyard.trainer.rpc.selection_servicer import ModelSelectionServicer
from modelyard.trainer.rpc.servicer import TrainerServicer
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.v1.advice_service_pb2_grpc import add_AdvisorServiceServicer_to_server
from modelyard.trainer.v1.selection_service_pb2_grpc import add_ModelSelectionServiceServicer_to_server
from modelyard.trainer.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server

SERVICE = "trainer"
WORKER = "modelyard.trainer.worker"
PREVIEW_WORKER = "modelyard.trainer.worker.preview"


def build(
    platform: Platform,
    *,
    datasets: Datasets | None = None,
    profiling: Profiling | None = None,
    worker_module: str = WORKER,
) -> Service:
    """The service over a platform. Tests replace `datasets`, `profiling` and the worker's module."""
    settings = platform.settings if isinstance(platform.settings, TrainerSettings) else TrainerSettings()
    own = platform if platform.name == SERVICE else platform.for_service(SERVICE)
    platform.jobs.register(_training(own, settings, worker_module))
    found = datasets or ClientDatasets(platform.client, own.artifacts)
    world = World(own.jobs, found, own.resources)
    # These wait for trainings and compute nothing, so they take none of their slots.
    ladder = partial(run_ladder, world)
    platform.jobs.register(JobKind(ADVISED, service=SERVICE, run=ladder, slots=settings.study_slots))
    crossing = partial(run_cross_validation, world, ClientFolding(platform.client, own.artifacts))
    platform.jobs.register(JobKind(CROSSED, service=SERVICE, run=crossing, slots=settings.study_slots))
    measuring = profiling or ClientProfiling(platform.client)
    selecting = partial(run_model_selection, world, measuring)
    platform.jobs.register(JobKind(SELECTED, service=SERVICE, run=selecting, slots=settings.study_slots))
    previews = JobKind(
        PREVIEW,
        service=SERVICE,
        worker_module=PREVIEW_WORKER,
        slots=settings.preview_slots,
        max_attempts=settings.training_attempts,
    )
    platform.jobs.register(previews)
    servicer = TrainerServicer(own.jobs, own.resources, found, own.jobs.watch)
    advisor = AdvisorServicer(world, own.jobs.watch)
    selections = ModelSelectionServicer(world, measuring, own.jobs.watch)
    mounts = [
        Mount("modelyard.trainer.v1.TrainerService", partial(add_TrainerServiceServicer_to_server, servicer)),
        Mount("modelyard.trainer.v1.AdvisorService", partial(add_AdvisorServiceServicer_to_server, advisor)),
        Mount("modelyard.trainer.v1.ModelSelectionService", partial(add_ModelSelectionServiceServicer_to_server, selections)),
    ]
    return Service(SERVICE, mounts)


def _training(platform: Platform, settings: TrainerSettings, worker_module: str) -> JobKind:
    def keep(job: Job) -> dict[str, Any]:
        return dict(keep_trained_model(platform.resources, job))

    return JobKind(
        kind=KIND,
        service=SERVICE,
        worker_module=worker_module,
        slots=settings.training_slots,
        max_attempts=settings.training_attempts,
        on_success=keep,
        distributed=True,
        environment=settings.for_workers(),
    )
