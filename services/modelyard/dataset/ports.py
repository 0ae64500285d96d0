"""What the dataset service needs from outside. core's JobEngine, ResourceStore and ArtifactStore have these forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job, JobState
from modelyard.formats.dataset import DatasetDescriptor

if TYPE_CHECKING:  # the database behind it is not needed in workers, which read documents only
    from modelyard.core.resources import Resource


class Jobs(ports.RemovableJobs, ports.WatchedJobs, Protocol):
    """Everything that runs in the background."""

    def find(self, kind: str, *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        """All jobs of a kind, the oldest first."""


class Resources(ports.Resources, Protocol):
    """Datasets as documents."""

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


@dataclass(frozen=True)
class ExampleChange:
    """An example that two versions do not have alike: `before` is None for one that was added, `after` for one that was removed.

    `relabelled`: its class, or what is marked on it, changed."""

    before: ExampleRow | None
    after: ExampleRow | None
    relabelled: bool = False


@dataclass(frozen=True)
class ChangeCounts:
    """How many examples were added, removed, relabelled, moved to another usage (or both), and are as they were."""

    added: int
    removed: int
    relabelled: int
    moved: int
    unchanged: int


class Examples(Protocol):
    """Reads the examples of published versions."""

    def rows(self, descriptor: DatasetDescriptor, usage: str, start: int, count: int) -> tuple[Sequence[ExampleRow], bool]:
        """Examples of a usage ("": all) in the order of their ids, and whether more follow."""

    def change_counts(self, before: DatasetDescriptor, after: DatasetDescriptor) -> ChangeCounts:
        """How many examples changed from one version to another."""

    def changes(
        self, before: DatasetDescriptor, after: DatasetDescriptor, start: int, count: int
    ) -> tuple[Sequence[ExampleChange], bool]:
        """Examples that changed, in the order of their ids, and whether more follow."""
