"""What the exporter needs of the outside."""

from __future__ import annotations

from typing import Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.resources import Naming, Page
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


class Jobs(ports.RemovableJobs, ports.WatchedJobs, Protocol):
    """Exports and profiles."""


class Resources(ports.Resources, Protocol):
    """Targets as documents."""

    def list(
        self,
        collection: str,
        parent: str | None = None,
        page_size: int = 0,
        page_token: str = "",
        *,
        newest_first: bool = True,
        naming: Naming | None = None,
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
