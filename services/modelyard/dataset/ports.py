"""What the dataset service needs from outside. core's JobEngine, ResourceStore and ArtifactStore have these forms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job, JobState
from modelyard.dataset.domain.folds import FoldPlan
from modelyard.dataset.domain.records import VersionResult
from modelyard.formats.annotations import Annotation
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

    def put(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        """Stores one, in place of what was there."""

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
class Selection:
    """Which examples of a content are meant: of a usage, of a class (or with an object of it), or those with these ids. What is
    empty does not choose."""

    usage: str = ""
    label: str = ""
    example_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """One channel of a sound or a series: smallest and largest value of each of a few stretches of equal length."""

    name: str
    low: Sequence[float]
    high: Sequence[float]


NOTHING_SAID: Final = Annotation()


@dataclass(frozen=True)
class ExampleLook:
    """An example as people look at it. `cells`: column and value (None: missing) of a row. `mask`: PNG in colours of classes."""

    row: ExampleRow
    annotation: Annotation = NOTHING_SAID
    media_type: str = ""
    content: bytes = b""
    width: int = 0
    height: int = 0
    masked: bool = False
    mask: bytes = b""
    cells: Sequence[tuple[str, str | None]] = ()
    traces: Sequence[Trace] = ()
    steps: int = 0
    rate: float = 0.0


@dataclass(frozen=True)
class Look:
    """How much of examples is wanted: `content` is "", "preview" or "original", sizes are pixels, `points` those of a trace."""

    content: str = ""
    size: int = 256
    points: int = 300


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

    def rows(self, descriptor: DatasetDescriptor, chosen: Selection, start: int, count: int) -> tuple[Sequence[ExampleRow], int]:
        """Chosen examples in the order of their ids from `start` on, and how many are chosen in all."""

    def looks(self, descriptor: DatasetDescriptor, example_ids: Sequence[str], look: Look) -> Sequence[ExampleLook]:
        """Examples to look at, in this order; those that are not there are left out."""

    def change_counts(self, before: DatasetDescriptor, after: DatasetDescriptor) -> ChangeCounts:
        """How many examples changed from one version to another."""

    def changes(
        self, before: DatasetDescriptor, after: DatasetDescriptor, start: int, count: int
    ) -> tuple[Sequence[ExampleChange], bool]:
        """Examples that changed, in the order of their ids, and whether more follow."""

    def count_held(self, descriptor: DatasetDescriptor, contents: Blob) -> int:
        """How many train and validation examples have a content that a frozen test set (records.FrozenTest.contents) holds."""


@dataclass(frozen=True)
class MadeFolds:
    """Folds of a version: who is in which, and the version as each fold sees it (that of fold f of repeat r at place r * k +
    f)."""

    assignment: Blob
    descriptors: tuple[Blob, ...]
    examples: int
    notes: tuple[str, ...]


class Folding(Protocol):
    """Makes folds of published versions."""

    def make(self, version: VersionResult, plan: FoldPlan, group_by: str) -> MadeFolds:
        """Shares the train and validation examples out. Raises InvalidArgument UNKNOWN_GROUP, FailedPrecondition
        TOO_FEW_EXAMPLES..."""


@dataclass(frozen=True)
class Use:
    """What stands on a version: a training job (of a model) or an evaluation, by name."""

    user: str
    purpose: str
    usages: tuple[str, ...] = ()
    model: str = ""


class Users(Protocol):
    """The services whose resources stand on versions."""

    def standing(self, use: Use) -> str:
        """What still runs, in words that name it ("projects/.../trainingJobs/j1 runs on it"); "" where it has ended or is gone.

        Raises Unavailable where it cannot be found out.
        """

    def models_of(self, versions: Collection[str]) -> Sequence[str]:
        """Names of the model versions that were trained on one of these versions, all of one project. Raises Unavailable."""
