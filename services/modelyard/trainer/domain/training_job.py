"""What a training job is asked to do, what it leaves behind, and when one may start from another's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.recipes.recipe import Recipe, recipe_document
from modelyard.trainer.domain.recipe import recipe_from

Kind = TypeVar("Kind")
KIND: Final = "training"
LAST: Final = "last"
BEST: Final = "best"
CHECKPOINT_KINDS: Final = (LAST, BEST)
MOST_NOTES: Final = 50
LEAST_TRAINING_TIME_S: Final = 1.0
MOST_TRAINING_TIME_S: Final = timedelta(days=365).total_seconds()


@dataclass(frozen=True)
class Checkpoint:
    """A state that a run can go on from. step: optimizer steps (rounds, for trees) behind it; epoch: whole epochs behind it."""

    kind: str
    step: int
    epoch: int
    metrics: Mapping[str, float]
    blob: Blob


@dataclass(frozen=True)
class ResumeFrom:
    """Goes on from a checkpoint of another job. The blob is named here too, so that it stays when that job is deleted."""

    training_job: str
    checkpoint: Checkpoint


@dataclass(frozen=True)
class WarmStart:
    """Starts from the weights of a model version."""

    model_version: str
    model_file: Blob


@dataclass(frozen=True)
class TrainingSpec:
    """All that a worker needs to know, fixed when the job is created. `requested` is the recipe as it was asked for.

    max_training_time_s: 1 or more, 0 for no limit. experiment: its fingerprint (domain.ledger); repeat_of: the first job of the
    same. measure_only: no model version is made. part_of: the job that it is a step of. fold: "repeat 0, fold 2 of 5", where
    the descriptor is not the version's own. pause_s: seconds of training after which it stops, to be gone on with; 0: none.
    stretch: it is part of a longer run, whose schedule it goes on with.
    """

    dataset_version: str
    dataset_digest: str
    descriptor: Blob
    classes: tuple[str, ...]
    model: str
    recipe: Recipe
    requested: Mapping[str, Any] = field(default_factory=dict)
    display_name: str = ""
    max_training_time_s: float = 0.0
    resume_from: ResumeFrom | None = None
    warm_start: WarmStart | None = None
    experiment: str = ""
    repeat_of: str = ""
    repeat_reason: str = ""
    measure_only: bool = False
    part_of: str = ""
    fold: str = ""
    pause_s: float = 0.0
    stretch: bool = False


@dataclass(frozen=True)
class Note:
    """Something that people should know of a run. reason: BATCH_HALVED, WEIGHTS_ABSENT...; step: when."""

    reason: str
    message: str
    step: int = 0


@dataclass(frozen=True)
class TrainingState:
    """What a job has to show so far: reported by the worker with every point, and the start of the next attempt.

    processes: how many train it together (0: none yet). peak_memory_bytes: of a GPU; 0 on processors. batch_limit: most examples
    a step since memory ran out; 0: as the recipe says. chosen: hyperparameters that the run found by itself.
    """

    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    latest_point: Mapping[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    notes: tuple[Note, ...] = ()
    processes: int = 0
    peak_memory_bytes: int = 0
    batch_limit: int = 0
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingResult:
    """What a job came to. `recipe`: what was really run (a batch that was halved, the better of two architectures);
    `metrics`: validation metrics of the model that was kept."""

    model_file: Blob
    recipe: Recipe
    metrics: Mapping[str, float]
    parameter_count: int
    state: TrainingState


def spec_document(spec: TrainingSpec) -> dict[str, Any]:
    """A spec as JSON."""
    return dict(_converter().unstructure(spec))


def spec_from(document: Mapping[str, Any]) -> TrainingSpec:
    """A spec as `spec_document` wrote it."""
    return _structure(document, TrainingSpec)


def state_document(state: TrainingState) -> dict[str, Any]:
    """A state as JSON."""
    return dict(_converter().unstructure(state))


def state_from(document: Mapping[str, Any] | None) -> TrainingState:
    """A state as `state_document` wrote it; an empty one for a job that has reported nothing."""
    return _structure(document or {}, TrainingState)


def result_document(result: TrainingResult) -> dict[str, Any]:
    """A result as JSON."""
    return dict(_converter().unstructure(result))


def result_from(document: Mapping[str, Any]) -> TrainingResult:
    """A result as `result_document` wrote it (and on_success added to it)."""
    return _structure(document, TrainingResult)


def check_training_time(seconds: float | None) -> float:
    """The limit in seconds, 0 for none. Raises InvalidArgument INVALID_TRAINING_TIME unless it is 1 s to a year."""
    if seconds is None:
        return 0.0
    if not LEAST_TRAINING_TIME_S <= seconds <= MOST_TRAINING_TIME_S:
        path = "training_job.max_training_time"
        message = f"{path} is {seconds:g} s; it must be {LEAST_TRAINING_TIME_S:g} s to 365 days, or unset for no limit"
        raise InvalidArgument("INVALID_TRAINING_TIME", message, field=path, value=seconds)
    return seconds


def check_same_dataset(source: str, source_version: str, version: str) -> None:
    """Raises FailedPrecondition DATASET_VERSION_DIFFERS unless the job to go on from was trained on the same dataset version."""
    if source_version != version:
        message = (
            f"training_job.resume_from.training_job is {source}, which trains on {source_version}, not on {version}; "
            "a run goes on with the data it began with. To take its weights to other data use warm_start_model_version"
        )
        raise FailedPrecondition(
            "DATASET_VERSION_DIFFERS",
            message,
            field="training_job.dataset_version",
            value=version,
            expected=source_version,
        )


def check_ended(source: str, state: str, ended: bool, path: str = "training_job.resume_from.training_job") -> None:
    """Raises FailedPrecondition TRAINING_JOB_RUNNING while the job to go on from still moves its checkpoints."""
    if not ended:
        message = f"{path} is {source}, which is {state}; stop or cancel it first, or wait for its end"
        raise FailedPrecondition("TRAINING_JOB_RUNNING", message, field=path, value=source, state=state)


def chosen_checkpoint(source: str, state: TrainingState, kind: str) -> Checkpoint:
    """The checkpoint to go on from. Raises FailedPrecondition NO_CHECKPOINT when the job has none of that kind."""
    if kind not in state.checkpoints:
        there = ", ".join(sorted(state.checkpoints)) or "none"
        message = f"{source} has no checkpoint of kind {kind}; there is {there}"
        path = "training_job.resume_from.checkpoint"
        raise FailedPrecondition("NO_CHECKPOINT", message, field=path, training_job=source, kind=kind, available=there)
    return state.checkpoints[kind]


def check_work_left(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Raises InvalidArgument NOTHING_LEFT_TO_TRAIN when the checkpoint has reached the end that the recipe sets."""
    settings = recipe.tabular if recipe.tabular is not None else recipe.hyperparameters
    reached = {"max_epochs": checkpoint.epoch, "max_steps": checkpoint.step}
    for name, done in reached.items():
        most = getattr(settings, name, 0)
        if most and done >= most:
            path = f"training_job.recipe.hyperparameters.{name}"
            message = f"{path} is {most}, and the {checkpoint.kind} checkpoint has {done} behind it; give more than {done}"
            raise InvalidArgument("NOTHING_LEFT_TO_TRAIN", message, field=path, value=most, done=done)


def check_same_task(model_version: str, task: str, wanted: str) -> None:
    """Raises FailedPrecondition TASK_MISMATCH unless the version to start from is for the same task."""
    if task != wanted:
        path = "training_job.warm_start_model_version"
        message = f"{path} is {model_version}, which is for {task}; the dataset version is for {wanted}"
        raise FailedPrecondition("TASK_MISMATCH", message, field=path, value=task, expected=wanted)


def check_same_architecture(model_version: str, architecture: str, wanted: str) -> None:
    """Raises FailedPrecondition ARCHITECTURE_MISMATCH unless the version to start from has the recipe's architecture."""
    if architecture != wanted:
        path = "training_job.warm_start_model_version"
        message = f"{path} is {model_version}, a {architecture}; the recipe trains a {wanted}, which cannot take its weights"
        raise FailedPrecondition("ARCHITECTURE_MISMATCH", message, field=path, value=architecture, expected=wanted)


def _structure(document: Mapping[str, Any], cls: type[Kind]) -> Kind:
    kind: Kind = _converter().structure(document, cls)
    return kind


@lru_cache(maxsize=1)
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    converter.register_structure_hook(Recipe, lambda document, _: recipe_from(document))
    converter.register_unstructure_hook(Recipe, recipe_document)
    return converter
