"""Where ports meet adapters: the trainer on a platform."""

from __future__ import annotations

from typing import Any

from modelyard.core.jobs.job import Job, JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.trainer.adapters.datasets_client import ClientDatasets
from modelyard.trainer.domain.training_job import KIND
from modelyard.trainer.handlers.completion import keep_trained_model
from modelyard.trainer.ports import Datasets
from modelyard.trainer.rpc.servicer import TrainerServicer
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.v1 import trainer_service_pb2_grpc

SERVICE = "trainer"
WORKER = "modelyard.trainer.worker"


def build(platform: Platform, *, datasets: Datasets | None = None, worker_module: str = WORKER) -> Service:
    """The service over a platform. Tests replace `datasets` and the worker's module."""
    settings = platform.settings if isinstance(platform.settings, TrainerSettings) else TrainerSettings()
    own = platform if platform.name == SERVICE else platform.for_service(SERVICE)
    platform.jobs.register(_training(own, settings, worker_module))
    found = datasets or ClientDatasets(platform.client, own.artifacts)
    servicer = TrainerServicer(own.jobs, own.resources, found, own.jobs.watch)

    def add(server: Any) -> None:
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)

    return Service(SERVICE, [Mount("modelyard.trainer.v1.TrainerService", add)])


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
