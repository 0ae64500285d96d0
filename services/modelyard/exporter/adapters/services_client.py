"""The trainer and dataset services, through modelyard.client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.core.client_errors import named_errors
from modelyard.core.jobs import convert
from modelyard.exporter.domain.export import DatasetVersionRef, ModelVersionRef
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.client import Client


class ClientModelVersions:
    """ports.ModelVersions. The client is made at the first call: embedded, the address is known only then."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, name: str) -> ModelVersionRef:
        """Raises NotFound, Unavailable."""
        with named_errors():
            version = self._client().models.get_model_version(name)
        task = learning_pb2.Task.Name(version.task).removeprefix("TASK_").lower()
        return ModelVersionRef(version.name, task, convert.blob_from(version.model_file), version.dataset_version)


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
            state=job_pb2.JobState.Name(version.status.state).removeprefix("JOB_STATE_"),
            task=learning_pb2.Task.Name(version.task).removeprefix("TASK_").lower(),
            digest=version.digest,
            descriptor=convert.blob_from(version.descriptor_blob) if version.descriptor_blob.uri else None,
        )
