"""What the dataset service needs from outside. core's JobEngine, ResourceStore and ArtifactStore have these forms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from modelyard.core import ports
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job, JobState
from modelyard.core.requests import Request
from modelyard.dataset.domain.answers import Answer
from modelyard.dataset.domain.folds import FoldPlan
from modelyard.dataset.domain.records import LocalFolder, VersionResult
from modelyard.dataset.domain.rounds import Answers, Entry, NewTask, PreLabel, Progress, Review, Task
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


class LocalFolders(Protocol):
    """Folders on the machine of the service that a caller may have read."""

    def check(self, folder: LocalFolder) -> None:
        """Raises PermissionDenied NOT_THE_OWNER, FailedPrecondition NOT_THE_SAME_FOLDER, InvalidArgument BAD_FOLDER."""


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


class Annotations(Protocol):
    """The tasks of annotation rounds, and all that is done about them. A round is named by its key."""

    def add_round(self, round_: str, tasks: Iterable[NewTask]) -> int:
        """Makes tasks of examples, in their order; how many. When it fails some may be there: delete_round."""

    def delete_round(self, round_: str) -> None:
        """Forgets a round's tasks and all that was done about them."""

    def claim(self, round_: str, annotator: str, count: int, lease_s: float, now: datetime, *, fresh: bool) -> Sequence[Task]:
        """The tasks that a person holds, renewed, and (`fresh`) more up to `count`, each held until `lease_s` from now."""

    def submit(
        self, round_: str, name: str, annotator: str, answer: Answer, seconds: float, now: datetime, request: Request
    ) -> Entry:
        """Takes an answer; a later one of the same person replaces it. Raises NotFound, FailedPrecondition NOT_CLAIMED."""

    def skip(self, round_: str, name: str, annotator: str, reason: str, now: datetime, request: Request) -> Entry:
        """Leaves a task to others. Raises NotFound, FailedPrecondition NOT_CLAIMED."""

    def release(self, round_: str, name: str, annotator: str) -> None:
        """Gives a task back. Nothing happens to one that is not held. Raises NotFound."""

    def withdraw(self, round_: str, name: str, annotator: str, lease_s: float, now: datetime, request: Request) -> Entry:
        """Takes an answer back; the task is held again. Raises NotFound, FailedPrecondition NOT_ANSWERED, TASK_REVIEWED."""

    def review(self, round_: str, name: str, review: Review, now: datetime, request: Request) -> Task:
        """Writes a review down and does what follows from it. Raises NotFound, FailedPrecondition NOTHING_TO_REVIEW."""

    def put_pre_labels(self, round_: str, pre_labels: Sequence[tuple[str, PreLabel]]) -> int:
        """Gives tasks what a model says; how many of them there were and were not reviewed."""

    def import_answers(self, round_: str, answers: Iterable[tuple[str, str, Answer, float]], now: datetime) -> int:
        """Takes answers (task, person, answer, seconds) that people gave elsewhere, without a lease; how many were new."""

    def task(self, round_: str, name: str) -> Task:
        """Raises NotFound ANNOTATION_TASK_NOT_FOUND."""

    def tasks(self, round_: str, state: str, start: int, count: int) -> Sequence[Task]:
        """Tasks from a position on, in their order; `state` "": all."""

    def entries(self, round_: str, name: str, after: tuple[str, int], count: int) -> Sequence[Entry]:
        """Entries after (task, number), by task and number; of one task, or ("") of all."""

    def answers(self, round_: str) -> Iterator[Answers]:
        """Every task with the answers that count, in the order of the tasks."""

    def example_ids(self, round_: str) -> Sequence[str]:
        """Ids of a round's examples."""

    def progress(self, round_: str) -> Progress:
        """How far a round is."""

    def all_entries(self, round_: str) -> Iterator[Mapping[str, Any]]:
        """Of every entry: task, number, kind, annotator, time, seconds, unchanged, counts, verdict."""

    def leased(self, round_: str) -> Mapping[str, int]:
        """How many tasks each person holds."""


@dataclass(frozen=True)
class Listed:
    """An example of a content, as rounds choose from it: `row` in the manifest; label "": none."""

    example_id: str
    path: str
    sha256: str
    usage: str
    label: str
    labelled: bool
    row: int
    width: int = 0
    height: int = 0
    steps: int = 0


class Contents(Protocol):
    """Reads examples of imports and versions."""

    def listed(self, content: DatasetDescriptor) -> Sequence[Listed]:
        """All examples, in the order of the manifest."""

    def labelled_ids(self, content: DatasetDescriptor) -> set[str]:
        """Ids of the examples that have a label or an annotation."""

    def row_of(self, content: DatasetDescriptor, example_id: str) -> int | None:
        """The row of an example; None: there is none."""

    def vectors(self, content: DatasetDescriptor, rows: Sequence[int]) -> Any:
        """What examples look like, for telling them apart: float32 [N, D]; None where the content has nothing of the kind."""

    def read(self, content: DatasetDescriptor, row: int) -> tuple[bytes, str]:
        """An example's bytes and their media type; a row of a table or a series as JSON."""


class Kept(Protocol):
    """Where what jobs keep for themselves is (core.artifacts.ArtifactStore)."""

    def delete(self, blob: Blob | str) -> None:
        """Removes it; fine when it is gone already."""


class Files(Protocol):
    """Where files are kept (core.artifacts.ArtifactStore)."""

    def put_file(self, path: Path) -> Blob:
        """Stores a file."""

    def path(self, blob: Blob) -> Path:
        """A local, verified file. Raises NotFound ARTIFACT_NOT_FOUND."""

    def stat(self, blob: Blob | str) -> Blob:
        """Its size. Raises NotFound ARTIFACT_NOT_FOUND."""
