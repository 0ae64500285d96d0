"""What the exporter needs of the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job, JobChange
from modelyard.core.resources import Page, Resource
from modelyard.exporter.domain.export import DatasetVersionRef, ModelVersionRef
from modelyard.exporter.domain.targets import Target


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


class Resources(Protocol):
    """The resource store (core.resources)."""

    def create(
        self,
        name: str,
        collection: str,
        parent: str,
        document: Document,
        *,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
    ) -> Resource: ...

    def get(self, name: str) -> Resource: ...

    def list(
        self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "", *, newest_first: bool = True
    ) -> Page: ...

    def delete(self, name: str, etag: str = "") -> None: ...


class Targets(Protocol):
    """Targets by their ids or names: the named ones and a project's own."""

    def find(self, parent: str, target: str, field: str) -> Target:
        """The target; empty is cpu. Raises InvalidArgument UNKNOWN_TARGET, naming the field and the targets there are."""


class Uploads(Protocol):
    """Files that were uploaded."""

    def exists(self, blob: Blob) -> bool:
        """Whether the bytes are here."""


class Hardware(Protocol):
    """The machine this service runs on."""

    def gpu_is_here(self) -> bool:
        """Whether the runtime that serves can compute on an NVIDIA GPU of this machine."""
