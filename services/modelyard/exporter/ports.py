"""What the exporter needs of the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from modelyard.core.jobs.job import Document, Job, JobChange
from modelyard.exporter.domain.export import DatasetVersionRef, ModelVersionRef


class ModelVersions(Protocol):
    """The trainer service."""

    def get(self, name: str) -> ModelVersionRef:
        """Raises NotFound."""


class DatasetVersions(Protocol):
    """The dataset service."""

    def get(self, name: str) -> DatasetVersionRef:
        """Raises NotFound."""


class Jobs(Protocol):
    """The job engine (core.jobs)."""

    def submit(
        self,
        name: str,
        kind: str,
        *,
        parent: str,
        spec: Document,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
    ) -> Job: ...

    def get(self, name: str) -> Job: ...

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> Any: ...

    def cancel(self, name: str) -> Job: ...

    def delete(self, name: str) -> None: ...

    def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]: ...
