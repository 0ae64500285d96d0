"""What the trainer needs from outside. core's JobEngine and ResourceStore have these forms; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Job
from modelyard.core.resources import Resource
from modelyard.recipes.catalogue import DatasetFacts
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.selection import Measured

Document = dict[str, Any]


@dataclass(frozen=True)
class DatasetVersion:
    """A dataset version that is ready to train on. `name` never says "latest". validation_count: validation examples;
    class_counts: those of each class, empty where there are none."""

    name: str
    digest: str
    classes: tuple[str, ...]
    descriptor: Blob
    facts: DatasetFacts
    validation_count: int = 0
    class_counts: tuple[int, ...] = ()


class Datasets(Protocol):
    """The dataset service, as far as the trainer needs it."""

    def get_version(self, name: str) -> DatasetVersion:
        """Reads a version. Raises NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, Unavailable."""

    def hold(self, version: str, training_job: str, model: str) -> None:
        """Records that a job trains on a version, which is then not deleted. Raises FailedPrecondition FROZEN_TEST where it
        trains on what was frozen as test later, Unavailable."""


@dataclass(frozen=True)
class Fold:
    """A dataset version cut anew: its descriptor, and how many examples train and validate. absent: sentences about classes that
    have no training, or no validation examples in it."""

    descriptor: Blob
    train_count: int
    validation_count: int
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folds:
    """All folds of a cut, fold f of repeat r at place r * folds + f. notes: what was decided on the way, in sentences."""

    each: tuple[Fold, ...]
    notes: tuple[str, ...] = ()


class Folding(Protocol):
    """Cuts dataset versions into folds."""

    def cut(self, version: str, folds: int, repeats: int, seed: int, group_by: str) -> Folds:
        """The folds of a version, by its name; the same arguments give the same. Test examples stay out.

        Raises InvalidArgument and FailedPrecondition as the dataset service does.
        """


class Profiling(Protocol):
    """Measures recipes before they are trained, on the hardware that will answer."""

    def check_target(self, parent: str, target: str) -> None:
        """Raises NotFound, InvalidArgument where there is no such target."""

    def start(self, parent: str, dataset_version: str, recipes: Sequence[Recipe], target: str, request_id: str) -> str:
        """Starts measuring; gives the profile's name. The same request id gives the same one."""

    def measured(self, profile: str) -> tuple[Measured, ...] | None:
        """What each takes, in the order given; None while it is being measured. Raises what ended it where it failed."""

    def cancel(self, profile: str) -> None:
        """Ends it; fine when it has ended."""


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

    def find(self, kind: str, *, parent: str | None = None) -> Sequence[Job]:
        """All jobs of a kind, the oldest first."""

    def specs(self, kind: str, parent: str) -> Sequence[tuple[str, Document]]:
        """Names and specs of all jobs of a kind, the newest first."""

    def events(self, name: str) -> Sequence[Document]:
        """All events of a job, the oldest first. Raises NotFound."""

    def relabel(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Job:
        """Stores what `change` makes of a job's labels. Raises NotFound."""


class Resources(ports.Readings, Protocol):
    """Models, versions and experiments as documents."""

    def made_by(self, request_id: str, method: str, fingerprint: str) -> str | None:
        """The name of what this same request made before. Raises InvalidArgument REQUEST_ID_REUSED."""

    def create(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        """Stores a new one. Raises AlreadyExists."""

    def update(self, name: str, change: Callable[[Document], Document], etag: str = "") -> Resource:
        """Stores what `change` makes of the document. Raises NotFound, Aborted ETAG_MISMATCH."""

    def delete(self, name: str, etag: str = "") -> None:
        """Removes one. Raises NotFound."""
