"""What the trainer needs from outside. core's JobEngine and ResourceStore have these forms; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Job
from modelyard.core.resources import Page, Resource
from modelyard.recipes.catalogue import DatasetFacts

Document = dict[str, Any]


@dataclass(frozen=True)
class DatasetVersion:
    """A dataset version that is ready to train on. `name` never says "latest"."""

    name: str
    digest: str
    classes: tuple[str, ...]
    descriptor: Blob
    facts: DatasetFacts


class Datasets(Protocol):
    """The dataset service, as far as the trainer needs it."""

    def get_version(self, name: str) -> DatasetVersion:
        """Reads a version. Raises NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, Unavailable."""


class JobPage(Protocol):
    """Some of a list of jobs."""

    @property
    def items(self) -> Sequence[Job]:
        """The jobs, the newest first."""

    @property
    def next_page_token(self) -> str:
        """Empty on the last page."""


class Jobs(Protocol):
    """Everything that runs in the background (core.jobs.engine.JobEngine)."""

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
    ) -> Job:
        """Writes a job and starts it; the same request_id gives the earlier one."""

    def get(self, name: str) -> Job:
        """Reads a job. Raises NotFound."""

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> JobPage:
        """A page of jobs, the newest first."""

    def stop(self, name: str) -> Job:
        """Asks a job to end early and keep what it has."""

    def cancel(self, name: str) -> Job:
        """Asks a job to end without a result."""

    def delete(self, name: str) -> None:
        """Removes a job that has ended."""


class Resources(Protocol):
    """Models and versions as documents (core.resources.ResourceStore)."""

    def create(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        """Stores a new one. Raises AlreadyExists."""

    def get(self, name: str) -> Resource:
        """Raises NotFound."""

    def list(self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "") -> Page:
        """A page of a collection, the newest first."""

    def update(self, name: str, change: Callable[[Document], Document], etag: str = "") -> Resource:
        """Stores what `change` makes of the document. Raises NotFound, Aborted ETAG_MISMATCH."""

    def delete(self, name: str, etag: str = "") -> None:
        """Removes one. Raises NotFound."""
