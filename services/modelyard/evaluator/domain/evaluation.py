"""What an evaluation is asked to score, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.latency import Latency
from modelyard.evaluator.domain import slices
from modelyard.evaluator.domain.scores import ExampleScore, Metric, SliceScore, UsageResult
from modelyard.formats.tasks import task_of

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
USAGES: Final = (TRAIN, VALIDATION, TEST)
TRAIN_CAP: Final = 5000
"""Most training examples that are scored: they show overfitting, nothing else, and that shows in this many."""
SUCCEEDED: Final = "SUCCEEDED"


@dataclass(frozen=True)
class ExportRef:
    """What the evaluator needs to know of an export. `artifact` is None until it succeeded."""

    name: str
    state: str
    artifact: Blob | None
    latency: Latency | None
    dataset_version: str
    task: str


@dataclass(frozen=True)
class DatasetVersionRef:
    """What the evaluator needs to know of a dataset version. `descriptor` is None until it succeeded."""

    name: str
    state: str
    descriptor: Blob | None
    digest: str
    task: str
    columns: tuple[str, ...] = ()  # of a table; empty for pictures


@dataclass(frozen=True)
class EvaluationSpec:
    """The job's assignment: the bytes, the data, the usages to score, and how long one answer takes (None: not measured).

    `slice_columns` cut the test usage into slices.
    """

    export: str
    artifact: Blob
    dataset_version: str
    descriptor: Blob
    dataset_digest: str
    task: str
    usages: tuple[str, ...]
    latency: Latency | None = None
    slice_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """What was found, one entry a usage that holds examples.

    `slices` are of the test usage, the worst first. `worst_examples` are at most 50 a usage, the worst first. `label_suspects`
    are at most 100 examples whose label is probably wrong: first those that the model did not learn from. `train_gaps` say by
    how much each main metric is better on train than on validation. `suggested_threshold` is 0 but for two classes.
    """

    results: tuple[UsageResult, ...]
    predictions: Blob
    dataset_digest: str
    artifact_sha256: str
    slices: tuple[SliceScore, ...] = ()
    worst_examples: tuple[ExampleScore, ...] = ()
    label_suspects: tuple[ExampleScore, ...] = ()
    train_gaps: tuple[Metric, ...] = ()
    suggested_threshold: float = 0.0

    def usage(self, usage: str) -> UsageResult | None:
        """The result of a usage; None where it holds no examples."""
        return next((result for result in self.results if result.score.usage == usage), None)


def metric_names(task: str) -> tuple[str, ...]:
    """Names of the overall metrics of a task."""
    return task_of(task).metrics


def choose_usages(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The usages to score: those asked for, or all. Raises InvalidArgument BAD_USAGE, naming the place in the list."""
    for index, usage in enumerate(asked):
        if usage not in USAGES or usage in asked[:index]:
            message = f"usages[{index}] is {usage!r}; each must be one of {', '.join(USAGES)}, and none twice"
            raise InvalidArgument("BAD_USAGE", message, field=f"evaluation.usages[{index}]", value=usage)
    return asked or USAGES


def plan(
    export: ExportRef, version: DatasetVersionRef, usages: tuple[str, ...], slice_columns: tuple[str, ...] = ()
) -> EvaluationSpec:
    """The assignment. Raises FailedPrecondition EXPORT_NOT_READY, DATASET_VERSION_NOT_READY or TASK_MISMATCH, and InvalidArgument
    for slice columns that cannot be (see slices.check_columns).
    """
    if export.artifact is None or export.state != SUCCEEDED:
        raise _not_ready("EXPORT_NOT_READY", "evaluation.export", export.name, export.state)
    if version.descriptor is None or version.state != SUCCEEDED:
        raise _not_ready("DATASET_VERSION_NOT_READY", "evaluation.dataset_version", version.name, version.state)
    if export.task != version.task:
        message = (
            f"{export.name} is for {export.task}, {version.name} for {version.task}; a model is scored on data of its own task"
        )
        raise FailedPrecondition("TASK_MISMATCH", message, export_task=export.task, dataset_task=version.task)
    slices.check_columns(slice_columns, version.columns or slices.PICTURE_COLUMNS, version.name)
    return EvaluationSpec(
        export=export.name,
        artifact=export.artifact,
        dataset_version=version.name,
        descriptor=version.descriptor,
        dataset_digest=version.digest,
        task=export.task,
        usages=choose_usages(usages),
        latency=export.latency,
        slice_columns=_sliceable(slice_columns, usages),
    )


def _sliceable(slice_columns: tuple[str, ...], usages: tuple[str, ...]) -> tuple[str, ...]:
    if slice_columns and TEST not in choose_usages(usages):
        message = (
            f"slices are of the test usage, and only {', '.join(usages)} is to be scored; add test, or leave slice_columns out"
        )
        raise InvalidArgument("SLICES_NEED_TEST", message, field="evaluation.slice_columns", usages=", ".join(usages))
    return slice_columns


def _not_ready(reason: str, field: str, name: str, state: str) -> FailedPrecondition:
    message = f"{name} is {state or 'without a state'}; it must have SUCCEEDED before it can be used here"
    return FailedPrecondition(reason, message, field=field, name=name, state=state)
