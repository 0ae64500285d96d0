"""Where the dataset service's ports meet their adapters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from modelyard.core.jobs.job import Job, JobKind
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.dataset.adapters.annotations_sql import SqlAnnotations
from modelyard.dataset.adapters.contents_parquet import StoredContents
from modelyard.dataset.adapters.examples_parquet import ParquetExamples
from modelyard.dataset.adapters.folds_parquet import ParquetFolding
from modelyard.dataset.adapters.local_folders import OwnersFolders
from modelyard.dataset.adapters.users_client import ClientUsers
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.annotation_results import note_publication
from modelyard.dataset.handlers.annotation_rounds import Annotating, delete_rounds
from modelyard.dataset.handlers.imports import keep_import
from modelyard.dataset.handlers.quality_reports import forget_saved
from modelyard.dataset.handlers.versions import keep_version
from modelyard.dataset.ports import Examples, Users
from modelyard.dataset.rpc.annotation_servicer import AnnotationServicer
from modelyard.dataset.rpc.servicer import DatasetServicer
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import annotation_service_pb2_grpc, dataset_service_pb2_grpc

SERVICE = "dataset"
WORKER = "modelyard.dataset.worker"


def build(
    platform: Platform, *, examples: Examples | None = None, users: Users | None = None, worker_module: str = WORKER
) -> Service:
    """The service over a platform. Tests replace the worker's module, and who uses versions."""
    settings = platform.settings if isinstance(platform.settings, DatasetSettings) else DatasetSettings()
    own = platform if platform.name == SERVICE else platform.for_service(SERVICE)

    def imported(job: Job) -> None:
        keep_import(own.resources, job)

    def published(job: Job) -> None:
        keep_version(own.jobs, own.resources, job)
        note_publication(own.resources, job)

    def given_up(job: Job) -> None:
        forget_saved(own.artifacts, job)

    followed = {kinds.IMPORT: imported, kinds.DATASET_VERSION: published}
    for kind in kinds.KINDS:
        follow = followed.get(kind)
        platform.jobs.register(_kind(kind, settings, worker_module, follow, given_up))
    annotations = SqlAnnotations(own.engine)
    servicer = DatasetServicer(
        own.jobs,
        own.resources,
        own.artifacts,
        examples or ParquetExamples(own.artifacts),
        ParquetFolding(own.artifacts),
        users or ClientUsers(platform.client),
        OwnersFolders(jobs_run_here=platform.settings.runner == "process"),
        partial(delete_rounds, own.resources, annotations),
        platform.jobs.import_is_near,
    )
    at = Annotating(own.jobs, own.resources, annotations, StoredContents(own.artifacts))
    annotation_servicer = AnnotationServicer(at, own.artifacts)

    def add(server: Any) -> None:
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(servicer, server)

    def add_annotation(server: Any) -> None:
        annotation_service_pb2_grpc.add_AnnotationServiceServicer_to_server(annotation_servicer, server)

    mounts = [
        Mount("modelyard.dataset.v1.DatasetService", add),
        Mount("modelyard.dataset.v1.AnnotationService", add_annotation),
    ]
    return Service(SERVICE, mounts)


def _kind(
    kind: str,
    settings: DatasetSettings,
    worker_module: str,
    follow: Callable[[Job], None] | None,
    given_up: Callable[[Job], None],
) -> JobKind:
    return JobKind(
        kind=kind,
        service=SERVICE,
        worker_module=worker_module,
        slots=settings.dataset_slots,
        max_attempts=settings.dataset_attempts,
        on_success=follow,
        on_failure=given_up,
        foreseen=kind == kinds.IMPORT,
    )
