"""What a run is asked to do, and what is wrong with it before anything is made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from modelyard.core import names
from modelyard.core.artifacts import Blob, parse_uri
from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.formats.tasks import EVERY_METRIC, TASKS, task_of

Document = dict[str, Any]

DEFAULT_TARGET: Final = "cpu"
DEFAULT_MS: Final = 500
LARGEST_MS: Final = 20_000
LONGEST_DISPLAY_NAME: Final = 200
CLASS_METRICS: Final = ("precision", "recall", "f1")
PRECISIONS_OF: Final = {
    "onnx": ("fp32", "fp16", "int8", "dynamic_int8"),
    "litert": ("fp32", "dynamic_int8", "int8"),
    "savedmodel": ("fp32",),
    "openvino": ("fp32", "fp16", "int8"),
    "edge": ("int8",),
    "torch_export": ("fp32",),
}
"""As the exporter has them (a contract test compares), so that what can never be exported is refused before it is trained."""
FLOAT_FORM: Final = ("onnx", "fp32")
DEFAULT_MAX_LOSS: Final = 0.01
_RATIO = re.compile(r"0?\.[0-9]{1,5}", re.ASCII)
_NOT_ZERO = re.compile(r"[1-9]")


@dataclass(frozen=True)
class Floor:
    """The least a metric must reach on the test usage; for a metric where less is better, the most."""

    metric: str
    value: float


@dataclass(frozen=True)
class Source:
    """Data to import. `format` and `task` are names of the contract's enums ("" detects)."""

    blob: Blob
    dataset: str
    file_name: str = ""
    format: str = ""
    task: str = ""
    label_column: str = ""


@dataclass(frozen=True)
class Split:
    """How the version is split; see the contract's SplitPolicy. `source` is the name of its enum ("" is AUTO)."""

    train_ratio: str = ""
    source: str = ""
    seed: int = 0
    group_by: str = ""
    time_by: str = ""
    test_where: tuple[str, ...] = ()
    validation_where: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassFloor:
    """The least that one class must reach: `metric` is precision, recall or f1."""

    label: str
    metric: str
    value: float


@dataclass(frozen=True)
class Limits:
    """Limits within which the exporter chooses form and numbers; 0 and empty as in its contract."""

    max_size_bytes: int = 0
    max_latency_ms: float = 0.0
    max_loss: float = 0.0
    metric: str = ""
    skip_training: bool = False


@dataclass(frozen=True)
class TargetFacts:
    """What the exporter says of the target: the form of models for it, whether anything can measure there, room for the file."""

    format: str
    precision: str
    measurable: bool
    flash_bytes: int = 0


@dataclass(frozen=True)
class RunSpec:
    """A run as asked for; `complete` fills in what was left open. Of source, dataset and dataset_version one is set."""

    display_name: str = ""
    source: Source | None = None
    dataset: str = ""
    dataset_version: str = ""
    dataset_version_id: str = ""
    split: Split = field(default_factory=Split)
    excluded_columns: tuple[str, ...] = ()
    model: str = ""
    incremental_model_version: str = ""
    recipe: Document | None = None
    target: str = ""
    max_inference_ms: int = 0
    max_training_s: float | None = None
    floors: tuple[Floor, ...] = ()
    endpoint: str = ""
    skip_deployment: bool = False
    format: str = ""
    precision: str = ""
    compression: Limits | None = None
    max_loss: float = 0.0
    class_floors: tuple[ClassFloor, ...] = ()
    latency_demanded: bool = True
    facts: TargetFacts | None = None
    instance_flavor: str = ""

    @property
    def float_first(self) -> bool:
        """Whether the deployed form is another than float ONNX, so that the float export is made too, to compare with."""
        if self.compression is not None:
            return True
        target = (self.facts.format, self.facts.precision) if self.facts else FLOAT_FORM
        format = self.format or target[0]
        precision = self.precision or (target[1] if format == target[0] else PRECISIONS_OF[format][0])
        return (format, precision) != FLOAT_FORM

    def float_first_of(self, task: str) -> bool:
        """The same once the task is known: a target's own numbers ask for no other form of rows and series, named ones do."""
        return self.float_first and (task_of(task).pictured or self.precision not in ("", FLOAT_FORM[1]))

    @property
    def data_name(self) -> str:
        """Name of the dataset the data are in, or come into."""
        if self.source is not None:
            return self.source.dataset
        return self.dataset or names.parent_of(self.dataset_version)


def complete(spec: RunSpec, parent: str) -> RunSpec:
    """The spec with every default filled in. Raises InvalidArgument with a violation for each field that is wrong."""
    violations = tuple(_violations(spec, parent))
    if violations:
        message = "; ".join(violation.description for violation in violations)
        raise InvalidArgument(_reason(violations[0].field), message, violations=violations, field_count=len(violations))
    dataset_id = names.DATASET.parse(spec.data_name)["dataset"]
    model = spec.model or f"{parent}/models/{dataset_id}"
    return replace(
        spec,
        model=model,
        target=spec.target or DEFAULT_TARGET,
        max_inference_ms=spec.max_inference_ms or DEFAULT_MS,
        latency_demanded=spec.max_inference_ms > 0,
        max_loss=spec.max_loss or DEFAULT_MAX_LOSS,
        endpoint=spec.endpoint or f"{parent}/endpoints/{names.id_of(model)}",
    )


def _violations(spec: RunSpec, parent: str) -> Iterator[FieldViolation]:
    yield from _wrong_data(spec)
    yield from _wrong_names(spec, parent)
    yield from _wrong_preparation(spec)
    yield from _wrong_limits(spec)
    yield from _wrong_form(spec)
    yield from _wrong_compression(spec.compression)
    yield from _wrong_class_floors(spec.class_floors)
    yield from _wrong_floors(spec.floors, EVERY_METRIC)


def _wrong_data(spec: RunSpec) -> Iterator[FieldViolation]:
    given = [kind for kind in ("source", "dataset", "dataset_version") if getattr(spec, kind)]
    if len(given) != 1:
        yield _violation("data", f"has {' and '.join(given) or 'nothing'}; give one of source, dataset and dataset_version")
    if spec.source is not None:
        try:
            parse_uri(spec.source.blob.uri)
        except InvalidArgument as error:
            yield _violation("source.blob.uri", f"is wrong: {error.message}")
        if spec.source.blob.size_bytes <= 0:
            yield _violation(
                "source.blob.size_bytes", f"is {spec.source.blob.size_bytes}; the source must hold at least one byte"
            )


def _wrong_names(spec: RunSpec, parent: str) -> Iterator[FieldViolation]:
    dataset = spec.source.dataset if spec.source else spec.dataset
    forms = [
        ("source.dataset" if spec.source else "dataset", dataset, names.DATASET, spec.source is not None),
        ("dataset_version", spec.dataset_version, names.DATASET_VERSION, False),
        ("model", spec.model, names.MODEL, False),
        ("incremental_model_version", spec.incremental_model_version, names.MODEL_VERSION, False),
        ("endpoint", spec.endpoint, names.ENDPOINT, False),
    ]
    for place, name, pattern, required in forms:
        if (name and not pattern.matches(name)) or (required and not name):
            yield _violation(place, f"is {name[:200]!r}; it must be {pattern.template}")
        elif name and not name.startswith(f"{parent}/"):
            yield _violation(place, f"is {name!r}, which is not in the run's project {parent}")


def _wrong_preparation(spec: RunSpec) -> Iterator[FieldViolation]:
    ratio = spec.split.train_ratio
    if ratio and not (_RATIO.fullmatch(ratio) and _NOT_ZERO.search(ratio)):
        text = f'is {ratio[:40]!r}; it is decimal text above 0 and below 1 with one to five decimals, such as "0.8"'
        yield _violation("split.train_ratio", text)
    if spec.dataset_version_id:
        try:
            names.check_version_id(spec.dataset_version_id, "dataset_version_id")
        except InvalidArgument as error:
            yield FieldViolation("pipeline_run.dataset_version_id", error.message)
    if len(spec.display_name) > LONGEST_DISPLAY_NAME:
        yield _violation("display_name", f"has {len(spec.display_name)} characters; at most {LONGEST_DISPLAY_NAME} are allowed")
    if "" in spec.excluded_columns:
        yield _violation(f"excluded_columns[{spec.excluded_columns.index('')}]", "is empty; it must be the name of a column")


def _wrong_limits(spec: RunSpec) -> Iterator[FieldViolation]:
    if not 0 <= spec.max_loss <= 1:
        yield _violation("max_loss", f"is {spec.max_loss:g}; it must be above 0 to 1, or 0 for {DEFAULT_MAX_LOSS:g}")
    if not 0 <= spec.max_inference_ms <= LARGEST_MS:
        text = f"is {spec.max_inference_ms}; it must be 1 to {LARGEST_MS} milliseconds, or 0 for {DEFAULT_MS}"
        yield _violation("max_inference_duration_ms", text)
    if spec.max_training_s is not None and not spec.max_training_s >= 1:
        yield _violation("max_training_time", f"is {spec.max_training_s:g} s; it must be at least 1 s, or unset for no limit")


def _wrong_form(spec: RunSpec) -> Iterator[FieldViolation]:
    if spec.format and spec.format not in PRECISIONS_OF:
        yield _violation("format", f"is {spec.format[:60]!r}; it must be one of {', '.join(PRECISIONS_OF)}")
    right = PRECISIONS_OF.get(spec.format) or tuple(dict.fromkeys(each for every in PRECISIONS_OF.values() for each in every))
    if spec.precision and spec.precision not in right:
        where = f" for the format {spec.format}" if spec.format else ""
        yield _violation("precision", f"is {spec.precision[:60]!r}{where}; it must be one of {', '.join(right)}")


def _wrong_compression(limits: Limits | None) -> Iterator[FieldViolation]:
    if limits is None:
        return
    for name, most in (("max_size_bytes", 1 << 40), ("max_latency_ms", float(LARGEST_MS)), ("max_loss", 1.0)):
        if not 0 <= getattr(limits, name) <= most:
            yield _violation(
                f"compression.{name}", f"is {getattr(limits, name):g}; it must be 0 (no limit of its own) to {most:g}"
            )


def _wrong_class_floors(floors: tuple[ClassFloor, ...]) -> Iterator[FieldViolation]:
    for index, floor in enumerate(floors):
        if not floor.label:
            yield _violation(f"class_floors[{index}].label", "is empty; it must be the name of a class")
        if floor.metric not in CLASS_METRICS:
            yield _violation(
                f"class_floors[{index}].metric", f"is {floor.metric[:80]!r}; it must be one of {', '.join(CLASS_METRICS)}"
            )
        if not 0 <= floor.value <= 1:
            yield _violation(f"class_floors[{index}].value", f"is {floor.value:g}; it must be 0 to 1")


def _wrong_floors(floors: tuple[Floor, ...], known: tuple[str, ...]) -> Iterator[FieldViolation]:
    for index, floor in enumerate(floors):
        if floor.metric not in known:
            yield _violation(f"floors[{index}].metric", f"is {floor.metric[:80]!r}; it must be one of {', '.join(known)}")
        if not math.isfinite(floor.value):
            yield _violation(f"floors[{index}].value", f"is {floor.value}; it must be a finite number")


def check_task(spec: RunSpec, task: str) -> None:
    """Once the task is known ("tabular_regression"): raises InvalidArgument for a demand that this task cannot meet.

    UNKNOWN_METRIC for a floor on another task's metric, UNSUPPORTED_FORM for a form that tables are not exported in,
    BAD_LIMITS for limits that nothing is known to keep to.
    """
    known_task, regression = task_of(task), task.endswith("regression")
    floors = tuple(_wrong_floors(spec.floors, known_task.metrics))
    if regression and spec.class_floors:
        floors = (*floors, _violation("class_floors", "are given; a regression has no classes"))
    if floors:
        message = f"for {task} " + "; ".join(violation.description for violation in floors)
        known = ", ".join(known_task.metrics)
        raise InvalidArgument("UNKNOWN_METRIC", message, violations=floors, task=task, known=known)
    metric = spec.compression.metric if spec.compression else ""
    if metric and metric not in known_task.watched:
        right = f"it must be one of {', '.join(known_task.watched)}" if known_task.watched else "no form loses anything"
        message = f"compression.metric is {metric!r:.60}; for {task} {right}, or leave it empty"
        raise InvalidArgument("BAD_LIMITS", message, field="pipeline_run.compression.metric", value=metric[:60], task=task)
    if not known_task.metrics:
        message = f"the data are for {task}, and {known_task.why_not}; models learn {', '.join(TASKS)}"
        raise InvalidArgument("NO_RECIPE_FITS", message, field="pipeline_run.source.task", task=task)
    format, precision = spec.format or FLOAT_FORM[0], spec.precision or FLOAT_FORM[1]
    if precision not in known_task.forms.get(format, ()) and (spec.precision or format not in known_task.forms):
        what = "a tabular model" if known_task.table else f"a model for {task}"
        made = "; ".join(f"{each} {', '.join(precisions)}" for each, precisions in known_task.forms.items())
        message = f"{what} is exported as {made} only, not as {format} {precision}"
        raise InvalidArgument(
            "UNSUPPORTED_FORM", message, field="pipeline_run.format", task=task, format=format, precision=precision
        )
    if spec.compression is not None and precision != FLOAT_FORM[1] and not known_task.planned:
        message = f"precision is {precision}; for {task} no loss is measured on the way, so leave limits out, or take fp32"
        raise InvalidArgument("BAD_LIMITS", message, field="pipeline_run.compression", task=task, precision=precision)
    if spec.facts is not None and spec.facts.format == "edge" and "edge" not in known_task.forms:
        what = "a tabular model is exported as onnx fp32 only" if known_task.table else f"a model for {task} is not made as edge"
        message = f"target is {spec.target}, which runs no ONNX; {what}"
        raise InvalidArgument("UNSUPPORTED_FORM", message, field="pipeline_run.target", task=task, target=spec.target)


def _violation(place: str, what: str) -> FieldViolation:
    return FieldViolation(f"pipeline_run.{place}", f"{place} {what}")


def _reason(place: str) -> str:
    reasons = {
        "data": "MISSING_DATA",
        "train_ratio": "BAD_TRAIN_RATIO",
        "format": "UNSUPPORTED_FORM",
        "precision": "UNSUPPORTED_FORM",
        "max_loss": "BAD_MAX_LOSS",
        "max_size_bytes": "BAD_LIMITS",
        "max_latency_ms": "BAD_LIMITS",
        "label": "BAD_FLOOR",
        "max_inference_duration_ms": "BAD_MAX_INFERENCE_DURATION",
        "max_training_time": "BAD_MAX_TRAINING_TIME",
        "metric": "UNKNOWN_METRIC",
        "value": "BAD_FLOOR",
        "dataset_version_id": "BAD_ID",
        "size_bytes": "EMPTY_SOURCE",
        "uri": "BAD_ARTIFACT_URI",
        "display_name": "TOO_LONG",
    }
    last = place.rpartition(".")[2]
    if place.startswith("pipeline_run.compression"):
        return "BAD_LIMITS"
    if last.startswith("excluded_columns"):
        return "BAD_COLUMN"
    return reasons.get(last, "BAD_RESOURCE_NAME")
