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

Document = dict[str, Any]

TARGETS: Final = ("cpu", "cpu-1core")
DEFAULT_MS: Final = 500
LARGEST_MS: Final = 20_000
LONGEST_DISPLAY_NAME: Final = 200
CLASSIFICATION_METRICS: Final = (
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier_score",
    "calibration_error",
)
"""As the evaluator has them (a contract test compares), so that a floor that can never be checked is refused at once."""
REGRESSION_METRICS: Final = ("mae", "rmse", "r2", "mape")
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
    """How the version is split. `source` is the name of the contract's enum ("" is AUTO)."""

    train_ratio: str = ""
    source: str = ""
    seed: int = 0


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
        target=spec.target or TARGETS[0],
        max_inference_ms=spec.max_inference_ms or DEFAULT_MS,
        endpoint=spec.endpoint or f"{parent}/endpoints/{names.id_of(model)}",
    )


def _violations(spec: RunSpec, parent: str) -> Iterator[FieldViolation]:
    yield from _wrong_data(spec)
    yield from _wrong_names(spec, parent)
    yield from _wrong_preparation(spec)
    yield from _wrong_limits(spec)
    yield from _wrong_floors(spec.floors, (*CLASSIFICATION_METRICS, *REGRESSION_METRICS))


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
    if spec.target and spec.target not in TARGETS:
        yield _violation("target", f"is {spec.target[:80]!r}; it must be one of {', '.join(TARGETS)}")
    if not 0 <= spec.max_inference_ms <= LARGEST_MS:
        text = f"is {spec.max_inference_ms}; it must be 1 to {LARGEST_MS} milliseconds, or 0 for {DEFAULT_MS}"
        yield _violation("max_inference_duration_ms", text)
    if spec.max_training_s is not None and not spec.max_training_s >= 1:
        yield _violation("max_training_time", f"is {spec.max_training_s:g} s; it must be at least 1 s, or unset for no limit")


def _wrong_floors(floors: tuple[Floor, ...], known: tuple[str, ...]) -> Iterator[FieldViolation]:
    for index, floor in enumerate(floors):
        if floor.metric not in known:
            yield _violation(f"floors[{index}].metric", f"is {floor.metric[:80]!r}; it must be one of {', '.join(known)}")
        if not math.isfinite(floor.value):
            yield _violation(f"floors[{index}].value", f"is {floor.value}; it must be a finite number")


def check_floors(floors: tuple[Floor, ...], task: str) -> None:
    """Once the task is known ("tabular_regression"): raises InvalidArgument for a floor on another task's metric."""
    known = REGRESSION_METRICS if task.endswith("regression") else CLASSIFICATION_METRICS
    violations = tuple(_wrong_floors(floors, known))
    if violations:
        message = f"for {task} " + "; ".join(violation.description for violation in violations)
        raise InvalidArgument("UNKNOWN_METRIC", message, violations=violations, task=task, known=", ".join(known))


def _violation(place: str, what: str) -> FieldViolation:
    return FieldViolation(f"pipeline_run.{place}", f"{place} {what}")


def _reason(place: str) -> str:
    reasons = {
        "data": "MISSING_DATA",
        "train_ratio": "BAD_TRAIN_RATIO",
        "target": "UNKNOWN_TARGET",
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
    if last.startswith("excluded_columns"):
        return "BAD_COLUMN"
    return reasons.get(last, "BAD_RESOURCE_NAME")
