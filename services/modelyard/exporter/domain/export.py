"""What an export is asked to make, and what it makes."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.core.latency import Latency
from modelyard.exporter.domain.compression import AWARE, LONGEST_MS, POST_TRAINING, CompressionLimits, CompressionStep
from modelyard.exporter.domain.form import (
    EDGE,
    FP32,
    INT8,
    LITERT,
    ONNX,
    PRECISIONS_OF,
    TORCH_EXPORT,
    Form,
    check_form,
    form_for,
)
from modelyard.exporter.domain.targets import Target
from modelyard.formats.foreign import Foreign, refusal
from modelyard.formats.tasks import EVERY_WATCHED, Task, task_of

MOST_CANDIDATES: Final = 32
UNSPECIFIED: Final = "unspecified"
SUCCEEDED: Final = "SUCCEEDED"
TRAINED, IMPORTED = "trained", "imported"
DEFAULT_TRAINING_S: Final = 300.0
LONGEST_TRAINING_S: Final = 24 * 3600.0
MOST_CHANNELS: Final = 0.9
MOST_WEIGHTS: Final = 0.99
MOST_CLASSES: Final = 100_000
LONGEST_TEXT: Final = 1000
IMPORT_ENDINGS: Final = {".onnx": ONNX, ".tflite": LITERT, ".pt2": TORCH_EXPORT}


@dataclass(frozen=True)
class Parity:
    """Agreement of the exported bytes with the trained model on `examples` real examples."""

    examples: int
    max_abs_difference: float
    label_agreement: float
    tolerance: float


@dataclass(frozen=True)
class ModelVersionRef:
    """What the exporter needs to know of a model version."""

    name: str
    task: str
    model_file: Blob
    dataset_version: str


@dataclass(frozen=True)
class DatasetVersionRef:
    """What the exporter needs to know of a dataset version. `descriptor` is None until it succeeded."""

    name: str
    state: str
    task: str
    digest: str
    descriptor: Blob | None


@dataclass(frozen=True)
class Pruning:
    """Shares that are left out: channels of each layer (0 to 0.9), single weights (0 to 0.99)."""

    channels: float = 0.0
    weights: float = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anything is left out."""
        return self.channels > 0 or self.weights > 0


@dataclass(frozen=True)
class Wish:
    """An export as asked for; what is empty is filled in from the target by `complete`."""

    model_version: str = ""
    format: str = ""
    precision: str = ""
    target: str = ""
    quantization: str = ""
    pruning: Pruning = field(default_factory=Pruning)
    limits: CompressionLimits | None = None
    max_training_s: float | None = None


@dataclass(frozen=True)
class Imported:
    """A model file from elsewhere: what it is called, what its outputs mean, how pixels (0 to 255) enter it, whose it is."""

    file_name: str
    classes: tuple[str, ...] = ()
    pixel_scale: float = 1.0
    pixel_offset: float = 0.0
    licence: str = ""


@dataclass(frozen=True)
class ExportSpec:
    """The job's assignment. `model_file` is the trained model, or the imported file.

    An empty format or precision: the planner chooses within `limits`, or the imported file says it.
    `facts` is None in jobs of earlier versions.
    """

    model_version: str
    task: str
    model_file: Blob
    dataset_version: str
    dataset_digest: str
    descriptor: Blob
    format: str
    precision: str
    target: str
    quantization: str = ""
    pruning: Pruning = field(default_factory=Pruning)
    limits: CompressionLimits | None = None
    max_training_s: float = DEFAULT_TRAINING_S
    facts: Target | None = None
    imported: Imported | None = None


@dataclass(frozen=True)
class Calibration:
    """The examples that ranges were measured on: how many, the seed of the draw, sha256 over their ids."""

    examples: int
    seed: int
    digest: str


@dataclass(frozen=True)
class ExportResult:
    """What the job made. `latency` is None where it could not be measured: then `unmeasured_reason` says why.

    format, precision, quantization: as made, where the planner or the imported file decided ("" in results of earlier versions).
    """

    artifact: Blob
    parity: Parity | None
    latency: Latency | None
    single_thread_latency: Latency | None = None
    unmeasured_reason: str = ""
    model_size_bytes: int = 0
    calibration: Calibration | None = None
    trail: tuple[CompressionStep, ...] = ()
    format: str = ""
    precision: str = ""
    quantization: str = ""


@dataclass(frozen=True)
class Candidate:
    """A recipe whose untrained export is measured. Sizes in pixels; 0 for tables."""

    recipe_id: str
    task: str
    architecture: str
    input_height: int = 0
    input_width: int = 0
    input_channels: int = 0


@dataclass(frozen=True)
class ProfileSpec:
    """The assignment of a latency profile. `facts` is None in jobs of earlier versions."""

    dataset_version: str
    descriptor: Blob
    candidates: tuple[Candidate, ...]
    target: str
    facts: Target | None = None


@dataclass(frozen=True)
class Measured:
    """What one candidate takes. `latency` is None where it was not measured.

    unmeasured_reason: the target is not here; the candidate could be made, and keeps to the target's limits.
    error_message: why it could not be made, or does not suit the target.
    """

    recipe_id: str
    latency: Latency | None
    size_bytes: int
    error_message: str = ""
    unmeasured_reason: str = ""


@dataclass(frozen=True)
class ProfileResult:
    """The measurements, in the order of the candidates."""

    measured: tuple[Measured, ...]


def complete(wish: Wish, task: str, target: Target) -> Wish:
    """The wish with the target's form where none is named; with `limits`, what is not named stays open for the planner.

    Raises InvalidArgument naming the field: UNSUPPORTED_FORM, FORMAT_NOT_FOR_TARGET, BAD_QUANTIZATION, BAD_PRUNING, BAD_LIMITS,
    BAD_MAX_TRAINING_TIME.
    """
    known = task_of(task)
    suits = known.compressed or form_for(task, Form(target.format, target.precision)).format == target.format
    wish = replace(wish, target=target.id, format=wish.format or (target.format if suits and not known.table else ONNX))
    if wish.limits is None or not known.planned:
        wish = replace(wish, precision=wish.precision or _precision(wish.format, target, known))
    _check_form(wish, target, task)
    _check_quantization(wish, known)
    _check_pruning(wish, known)
    _check_limits(wish)
    if wish.limits is not None and wish.precision != FP32 and not known.planned:
        message = f"precision is {wish.precision}; for {task} no loss is measured on the way, so leave limits out, or take {FP32}"
        raise InvalidArgument("BAD_LIMITS", message, field="export.limits", precision=wish.precision)
    _check_training_time(wish.max_training_s)
    return wish


def _precision(format: str, target: Target, task: Task) -> str:
    """What a format is made in when nobody says: the target's numbers where the format is the target's, else the widest."""
    if not task.planned or target.precision not in task.forms.get(format, ()):
        return FP32 if format not in PRECISIONS_OF or FP32 in PRECISIONS_OF[format] else PRECISIONS_OF[format][0]
    return target.precision if format == target.format else PRECISIONS_OF.get(format, (FP32,))[0]


def _check_form(wish: Wish, target: Target, task: str) -> None:
    accelerator = target.accelerator if wish.format == EDGE else ""
    precision = wish.precision or PRECISIONS_OF.get(wish.format, (FP32,))[0]
    try:
        check_form(Form(wish.format, precision, accelerator=accelerator), task)
    except ModelyardError as error:
        where = error.violations[0].field if error.violations else "format"
        form = f"{wish.format} {precision}"[:80]
        raise InvalidArgument(error.reason, error.message, field=f"export.{where}", form=form) from error
    if target.format == EDGE and wish.format != EDGE:
        message = f"format is {wish.format!r}; {target.id} runs only the format {EDGE!r}"
        raise InvalidArgument("FORMAT_NOT_FOR_TARGET", message, field="export.format", format=wish.format, target=target.id)


def _check_quantization(wish: Wish, task: Task) -> None:
    if wish.quantization == AWARE and not task.compressed:
        message = f"quantization is {AWARE}; training with rounding is for classes of pictures and sounds, not for {task.name}"
        raise InvalidArgument("BAD_QUANTIZATION", message, field="export.quantization", value=wish.quantization)
    if wish.quantization not in ("", POST_TRAINING, AWARE):
        message = f"quantization is {wish.quantization!r:.60}; it must be {POST_TRAINING} or {AWARE}"
        raise InvalidArgument("BAD_QUANTIZATION", message, field="export.quantization", value=wish.quantization[:60])
    if wish.quantization and wish.limits is not None:
        message = f"quantization is {wish.quantization}; with limits the exporter chooses it, so leave one of the two out"
        raise InvalidArgument("BAD_QUANTIZATION", message, field="export.quantization", value=wish.quantization)
    if wish.quantization and wish.precision != INT8:
        message = f"quantization is {wish.quantization}, which finds the ranges of int8; precision is {wish.precision}"
        raise InvalidArgument("BAD_QUANTIZATION", message, field="export.quantization", precision=wish.precision)


def _check_pruning(wish: Wish, task: Task) -> None:
    for name, most in (("channels", MOST_CHANNELS), ("weights", MOST_WEIGHTS)):
        value = getattr(wish.pruning, name)
        if not 0 <= value <= most:
            message = f"pruning.{name} is {value:g}; it must be 0 (none) to {most}"
            raise InvalidArgument("BAD_PRUNING", message, field=f"export.pruning.{name}", value=value)
    if wish.pruning.wanted and not task.compressed:
        what = "a tabular model has no channels and no weights to leave out"
        if not task.table:
            what = f"channels and weights are left out of classifiers of pictures and sounds, not for {task.name}"
        message = f"pruning is set; {what}"
        raise InvalidArgument("BAD_PRUNING", message, field="export.pruning")
    if wish.pruning.weights and wish.quantization == AWARE:
        message = "pruning.weights is set; quantization-aware training moves the weights that were made zero, so leave one out"
        raise InvalidArgument("BAD_PRUNING", message, field="export.pruning.weights", value=wish.pruning.weights)
    if wish.pruning.wanted and wish.limits is not None:
        message = "pruning is set; with limits the exporter chooses it, so leave one of the two out"
        raise InvalidArgument("BAD_PRUNING", message, field="export.pruning")


def _check_limits(wish: Wish) -> None:
    limits = wish.limits
    if limits is None:
        return
    for name, most, form in (
        ("max_size_bytes", 1 << 40, "bytes, or 0 for the target's"),
        ("max_latency_ms", LONGEST_MS, "milliseconds, or 0 for no limit"),
        ("max_loss", 1.0, "of the metric, or 0 for 0.01"),
    ):
        value = getattr(limits, name)
        if not (math.isfinite(value) and 0 <= value <= most):
            message = f"limits.{name} is {value:g}; it must be 0 to {most:g} {form}"
            raise InvalidArgument("BAD_LIMITS", message, field=f"export.limits.{name}", value=value)
    if limits.metric and limits.metric not in EVERY_WATCHED:
        raise _bad_metric(limits.metric, f"it must be one of {', '.join(EVERY_WATCHED)}, or empty for the task's own")


def check_watched(limits: CompressionLimits, task: str) -> None:
    """Whether a model's task has the metric whose loss is limited. Raises InvalidArgument BAD_LIMITS."""
    watched = task_of(task).watched
    if limits.metric and limits.metric not in watched:
        right = f"it must be one of {', '.join(watched)}, or empty for {watched[0]}" if watched else ""
        raise _bad_metric(limits.metric, f"for {task} {right or 'no form loses anything, so leave it empty'}")


def _bad_metric(metric: str, right: str) -> InvalidArgument:
    message = f"limits.metric is {metric!r:.60}; {right}"
    return InvalidArgument("BAD_LIMITS", message, field="export.limits.metric", value=metric[:60])


def _check_training_time(seconds: float | None) -> None:
    if seconds is not None and not 1 <= seconds <= LONGEST_TRAINING_S:
        message = f"max_training_time is {seconds:g} s; it must be 1 s to {LONGEST_TRAINING_S:g} s, or unset for 5 minutes"
        raise InvalidArgument("BAD_MAX_TRAINING_TIME", message, field="export.max_training_time", value=seconds)


def check_imported(imported: Imported, task: str, version_task: str) -> Imported:
    """What is said of a model file from elsewhere. Raises InvalidArgument naming the field."""
    place = "imported_model"
    ending = import_format(imported.file_name)
    if not ending:
        raise unknown_file(imported.file_name[-80:], refusal(imported.file_name), f"{place}.file_name")
    if task != version_task:
        message = f"task is {task}; the dataset version is for {version_task}"
        raise InvalidArgument("TASK_MISMATCH", message, field=f"{place}.task", value=task, expected=version_task)
    _check_classes(imported.classes, task)
    for name in ("pixel_scale", "pixel_offset"):
        if not math.isfinite(getattr(imported, name)):
            message = f"{name} is {getattr(imported, name)}; it must be a finite number"
            raise InvalidArgument("BAD_PIXEL_SCALE", message, field=f"{place}.{name}")
    if len(imported.licence) > LONGEST_TEXT:
        message = f"licence has {len(imported.licence)} characters; at most {LONGEST_TEXT} are allowed"
        raise InvalidArgument("TOO_LONG", message, field=f"{place}.licence")
    return replace(imported, pixel_scale=imported.pixel_scale or 1.0)


def import_format(file_name: str) -> str:
    """The format that a file's ending tells; empty when it tells none."""
    name = file_name.lower()
    return next((format for ending, format in IMPORT_ENDINGS.items() if name.endswith(ending) and len(name) > len(ending)), "")


def _check_classes(classes: tuple[str, ...], task: str) -> None:
    field_name = "imported_model.classes"
    if task.endswith("regression"):
        if classes:
            message = f"classes holds {len(classes)} names; a regression model has none"
            raise InvalidArgument("BAD_CLASSES", message, field=field_name, count=len(classes))
        return
    if not 2 <= len(classes) <= MOST_CLASSES:
        message = f"classes holds {len(classes)} names; give 2 to {MOST_CLASSES}, in the order of the model's outputs"
        raise InvalidArgument("BAD_CLASSES", message, field=field_name, count=len(classes))
    seen: set[str] = set()
    for index, label in enumerate(classes):
        if not label or label in seen:
            message = (
                f"classes[{index}] is {label!r}, which is {'given twice' if label else 'empty'}; each output needs its own name"
            )
            raise InvalidArgument("BAD_CLASSES", message, field=f"{field_name}[{index}]", value=label[:80])
        seen.add(label)


def check_candidates(candidates: tuple[Candidate, ...], task: str) -> tuple[Candidate, ...]:
    """The candidates, each with the dataset version's task.

    Raises InvalidArgument BAD_RECIPE_COUNT, RECIPE_WITHOUT_ARCHITECTURE, TASK_MISMATCH, INVALID_RECIPE, naming the field.
    """
    if not 1 <= len(candidates) <= MOST_CANDIDATES:
        message = f"latency_profile.recipes holds {len(candidates)} recipes; it must hold 1 to {MOST_CANDIDATES}"
        raise InvalidArgument("BAD_RECIPE_COUNT", message, field="latency_profile.recipes", value=len(candidates))
    return tuple(_checked(each, task, f"latency_profile.recipes[{number}]") for number, each in enumerate(candidates))


def _checked(candidate: Candidate, task: str, path: str) -> Candidate:
    if not candidate.architecture:
        message = f"{path}.architecture is empty; take recipes as TrainerService.SuggestRecipes fills them in"
        raise InvalidArgument("RECIPE_WITHOUT_ARCHITECTURE", message, field=f"{path}.architecture", value="")
    if candidate.task not in (task, UNSPECIFIED):
        message = f"{path}.task is {candidate.task}; the dataset version is for {task}"
        raise InvalidArgument("TASK_MISMATCH", message, field=f"{path}.task", value=candidate.task, expected=task)
    if task_of(task).pictured:
        for name, right in (("input_height", range(8, 1025)), ("input_width", range(8, 1025)), ("input_channels", (1, 3))):
            _check_size(getattr(candidate, name), right, f"{path}.{name}")
    return replace(candidate, task=task)


def _check_size(value: int, right: Container[int], field: str) -> None:
    if value not in right:
        allowed = "8 to 1024 pixels" if isinstance(right, range) else "1 (grey) or 3 (RGB)"
        raise InvalidArgument("INVALID_RECIPE", f"{field} is {value}; it must be {allowed}", field=field, value=value)


def ready_descriptor(version: DatasetVersionRef) -> Blob:
    """The descriptor of a published version. Raises FailedPrecondition DATASET_VERSION_NOT_READY."""
    if version.descriptor is None or version.state != SUCCEEDED:
        message = f"{version.name} is {version.state}; it must have SUCCEEDED"
        raise FailedPrecondition("DATASET_VERSION_NOT_READY", message, dataset_version=version.name, state=version.state)
    return version.descriptor


def unknown_file(name: str, found: Foreign | None, field: str) -> InvalidArgument:
    """The error of a file that cannot be imported: what it is, if that is known, and what to give instead."""
    endings = f"{', '.join([*IMPORT_ENDINGS][:-1])} or {[*IMPORT_ENDINGS][-1]}"
    what = f"{found.what}; {found.instead}" if found else f"no model file that can be imported; give the model as {endings}"
    return InvalidArgument("UNKNOWN_MODEL_FILE", f"{name} is {what}", field=field, value=name)
