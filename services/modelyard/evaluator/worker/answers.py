"""What the model said, and what scoring makes of it: the types that every task's scoring shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from modelyard.evaluator.domain.evaluation import TRAIN_CAP
from modelyard.evaluator.domain.scores import ExampleScore, Metric, SliceScore, UsageResult
from modelyard.evaluator.domain.slices import Slices
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.statistics.intervals import Ints

if TYPE_CHECKING:
    import pyarrow as pa

Outputs = NDArray[Any]
Columns = Sequence[tuple[str, Slices]]


@dataclass(frozen=True)
class Answers:
    """What the model said of examples of a usage: positions in the usage's own order, and probabilities [N, K], values [N], or
    what else `TaskScoring.read` keeps of an example."""

    usage: str
    positions: Ints
    outputs: Outputs


@dataclass(frozen=True)
class Findings:
    """Everything that is computed from answers; see EvaluationResult."""

    results: tuple[UsageResult, ...]
    slices: tuple[SliceScore, ...] = ()
    worst_examples: tuple[ExampleScore, ...] = ()
    label_suspects: tuple[ExampleScore, ...] = ()
    train_gaps: tuple[Metric, ...] = ()
    suggested_threshold: float = 0.0


@dataclass(frozen=True)
class TaskScoring:
    """How answers of one task are read, judged and kept. A new task is a new one of these in worker/tasks.py.

    `check(card, reader)` refuses a model and data that do not fit; `read(card, answers)` takes from what the model says of a
    batch what to keep [N, ...]; `judge` makes the findings of all usages, with slices of the test usage; `rows` the table of
    single
    predictions of one usage: where an answer is neither a class nor a number, with a column `score`, higher is better, by which
    two artifacts are compared. `train_cap`: most training examples that are scored. `batches(card, reader, usage, positions)`:
    what the model is asked of those examples, where that is not one question an example.
    """

    check: Callable[[BundleCard, DatasetReader], None]
    read: Callable[[BundleCard, Mapping[str, NDArray[Any]]], Outputs]
    judge: Callable[[BundleCard, DatasetReader, Sequence[Answers], Columns], Findings]
    rows: Callable[[BundleCard, DatasetReader, Answers], pa.Table]
    train_cap: int = TRAIN_CAP
    batches: Callable[[BundleCard, DatasetReader, str, Ints], Iterator[dict[str, NDArray[Any]]]] | None = None


def chosen_ids(answer: Answers, reader: DatasetReader) -> list[str]:
    """Ids of the examples that were answered."""
    ids = reader.example_ids(answer.usage)
    return [ids[position] for position in answer.positions.tolist()]
