"""The exporter and dataset services, through modelyard.client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.core.artifacts import Blob
from modelyard.core.client_errors import named_errors
from modelyard.core.jobs import convert
from modelyard.core.rpc.latency import latency_of
from modelyard.evaluator.domain.evaluation import DatasetVersionRef, ExportRef
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.client import Client


class ClientExports:
    """ports.Exports. The client is made at the first call: embedded, the address is known only then."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, name: str) -> ExportRef:
        """Raises NotFound, Unavailable."""
        with named_errors():
            export = self._client().exports.get_export(name)
        return ExportRef(
            name=export.name,
            state=_state(export.status.state),
            artifact=convert.blob_from(export.artifact) if export.artifact.uri else None,
            latency=latency_of(export.latency) if export.HasField("latency") else None,
            dataset_version=export.dataset_version,
            task=_task(export.task),
        )


class ClientDatasetVersions:
    """ports.DatasetVersions."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, name: str) -> DatasetVersionRef:
        """Raises NotFound, Unavailable."""
        with named_errors():
            version = self._client().datasets.get_dataset_version(name)
        return DatasetVersionRef(
            name=version.name,
            state=_state(version.status.state),
            descriptor=convert.blob_from(version.descriptor_blob) if version.descriptor_blob.uri else None,
            digest=version.digest,
            task=_task(version.task),
            columns=tuple(column.name for column in version.columns),
        )

    def use(self, version: str, evaluation: str, usages: tuple[str, ...]) -> Blob:
        """Raises NotFound, Unavailable."""
        with named_errors():
            used = self._client().datasets.create_dataset_use(version, evaluation, usages=usages)
        return convert.blob_from(used.descriptor_blob)


def _state(state: job_pb2.JobState.ValueType) -> str:
    return job_pb2.JobState.Name(state).removeprefix("JOB_STATE_")


def _task(task: learning_pb2.Task.ValueType) -> str:
    return learning_pb2.Task.Name(task).removeprefix("TASK_").lower()
