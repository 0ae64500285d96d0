"""What the dataset service needs from outside. core's JobEngine, ResourceStore and ArtifactStore have these forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job, JobChange, JobPage, JobState
from modelyard.formats.dataset import DatasetDescriptor

if TYPE_CHECKING:  # the database behind it is not needed in workers, which read documents only
    from modelyard.core.resources import Page, Resource


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
        """Writes a job and starts it; the same request_id gives the earlier one. Raises AlreadyExists."""

    def get(self, name: str) -> Job:
        """Reads a job. Raises NotFound."""

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> JobPage:
        """A page of jobs, the newest first."""

    def find(self, kind: str, *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        """All jobs of a kind, the oldest first."""

    def cancel(self, name: str) -> Job:
        """Asks a job to end without a result."""

    def delete(self, name: str) -> None:
        """Removes a job that has ended. Raises FailedPrecondition JOB_RUNNING."""

    def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]:
        """The job now and at every change until it has ended."""


class Resources(Protocol):
    """Datasets as documents (core.resources.ResourceStore)."""

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
    ) -> Resource:
        """Stores a new one. Raises AlreadyExists."""

    def get(self, name: str) -> Resource:
        """Raises NotFound."""

    def list(self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "") -> Page:
        """A page of a collection, the newest first."""

    def update(self, name: str, change: Callable[[Document], Document], etag: str = "") -> Resource:
        """Stores what `change` makes of the document. Raises NotFound, Aborted ETAG_MISMATCH."""

    def delete(self, name: str, etag: str = "") -> None:
        """Removes one. Raises NotFound, Aborted ETAG_MISMATCH."""


class Sources(Protocol):
    """Where the bytes to import are (core.artifacts.ArtifactStore)."""

    def stat(self, blob: Blob | str) -> Blob:
        """Its size. Raises NotFound ARTIFACT_NOT_FOUND."""


@dataclass(frozen=True)
class ExampleRow:
    """An example of a version, as listed."""

    example_id: str
    usage: str
    label: str
    path: str
    sha256: str


class Examples(Protocol):
    """Reads the examples of published versions."""

    def rows(self, descriptor: DatasetDescriptor, usage: str, start: int, count: int) -> tuple[Sequence[ExampleRow], bool]:
        """Examples of a usage ("": all) in the order of their ids, and whether more follow."""
