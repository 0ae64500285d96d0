"""What the trainer needs from outside. core's JobEngine and ResourceStore have these forms; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Job
from modelyard.core.resources import Resource
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

    def hold(self, version: str, training_job: str, model: str) -> None:
        """Records that a job trains on a version, which is then not deleted. Raises FailedPrecondition FROZEN_TEST where it
        trains on what was frozen as test later, Unavailable."""


class JobPage(Protocol):
    """Some of a list of jobs."""

    @property
    def items(self) -> Sequence[Job]:
        """The jobs, the newest first."""

    @property
    def next_page_token(self) -> str:
        """Empty on the last page."""


class Jobs(ports.RemovableJobs, Protocol):
    """Training jobs."""

    def stop(self, name: str) -> Job:
        """Asks a job to end early and keep what it has."""


class Resources(ports.Readings, Protocol):
    """Models and versions as documents."""

    def create(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        """Stores a new one. Raises AlreadyExists."""

    def update(self, name: str, change: Callable[[Document], Document], etag: str = "") -> Resource:
        """Stores what `change` makes of the document. Raises NotFound, Aborted ETAG_MISMATCH."""

    def delete(self, name: str, etag: str = "") -> None:
        """Removes one. Raises NotFound."""
