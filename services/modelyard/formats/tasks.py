"""The tasks, and what every service must know of one: what its examples are, its metrics, its forms, its outputs. Data only.

A task that a model can learn has an entry here; how it is trained, exported and scored is in the workers, under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelyard.formats.dataset_descriptor import (
    ANOMALY_DETECTION,
    AUDIO,
    AUDIO_CLASSIFICATION,
    FORECASTING,
    IMAGE,
    IMAGE_CLASSIFICATION,
    IMAGE_MULTILABEL,
    KEYPOINT_DETECTION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    SERIES,
    SERIES_CLASSIFICATION,
    TABLE,
    TABULAR_CLASSIFICATION,
    TABULAR_REGRESSION,
)

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
REGRESSION_METRICS: Final = ("mae", "rmse", "r2", "mape")
DETECTION_METRICS: Final = ("map_50", "map_50_95", "picture_ap50", "map_small", "map_medium", "map_large")
SEGMENTATION_METRICS: Final = ("mean_iou", "picture_iou", "dice", "boundary_f1", "pixel_accuracy")
KEYPOINT_METRICS: Final = (
    "picture_oks",
    "oks_50_95",
    "pck_10",
    "pck_05",
    "normalised_error",
    "reading_error",
    "reading_within_2",
)
ANOMALY_METRICS: Final = (
    "f1",
    "balanced_accuracy",
    "precision",
    "recall",
    "false_alarm_rate",
    "roc_auc",
    "pr_auc",
    "range_f1",
    "range_precision",
    "range_recall",
    "detected_share",
    "detection_delay",
    "best_f1",
)
FORECAST_METRICS: Final = ("mase", "mae", "rmse", "smape", "forecast_skill", "pinball", "coverage")
MULTILABEL_METRICS: Final = ("mean_average_precision", "picture_f1", "f1_macro", "f1_micro", "exact_match")

_EVERY_FORM: Final = {
    "onnx": ("fp32", "fp16", "int8", "dynamic_int8"),
    "litert": ("fp32", "dynamic_int8", "int8"),
    "savedmodel": ("fp32",),
    "openvino": ("fp32", "fp16", "int8"),
    "edge": ("int8",),
    "torch_export": ("fp32",),
}
_GRAPHS: Final = {
    "onnx": ("fp32", "int8", "dynamic_int8"),
    "litert": ("fp32", "dynamic_int8", "int8"),
    "openvino": ("fp32", "fp16"),
}
_TABLES: Final = {"onnx": ("fp32",)}
_SERIES: Final = {"onnx": ("fp32", "int8")}


@dataclass(frozen=True)
class Task:
    """A task.

    kind: what an example is (image, table, audio, series). metrics: overall metrics of an evaluation, on which a floor may be
    set. paired: the metric by which two artifacts are compared on the same examples (a figure an example). forms: precisions by
    format;
    why_not: why there are no others. one_label: whether an answer is one class, so that `label` is served beside `probabilities`.
    compressed: whether the exporter can prune, and train on with rounding (it then knows the loss).
    """

    name: str
    kind: str
    metrics: tuple[str, ...]
    paired: str
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _EVERY_FORM)
    why_not: str = ""
    one_label: bool = False
    compressed: bool = False

    @property
    def table(self) -> bool:
        """Whether an example is a row of columns."""
        return self.kind == TABLE

    @property
    def planned(self) -> bool:
        """Whether the exporter tries forms within limits: where it knows what is lost on an example."""
        return self.compressed or (self.kind == IMAGE and not self.one_label)

    @property
    def watched(self) -> tuple[str, ...]:
        """Metrics whose loss limits on an export may bound, the one to go by first; none where no form loses anything."""
        if self.compressed:
            return ("accuracy", "f1_macro", "recall_macro")
        return (self.paired,) if self.planned else ()

    @property
    def pictured(self) -> bool:
        """Whether an example comes as a picture: one, or a sound, which comes as its spectrogram (formats/sounds.py)."""
        return self.kind in (IMAGE, AUDIO)


_NO_COUNTERPART: Final = "its trees, text columns and encodings have no counterpart there"
_FINISHED: Final = "its answers are finished inside the graph, which takes operators that are not written there"
_REFERENCES: Final = "readings are held against others that are given beside them, which no converter of ours writes"
_FORECASTS: Final = "its level and spread are those of each window, which no converter of ours writes"
_FEATURES: Final = (
    "networks of series are written there alone; MiniRocket's features count how often a sum exceeds a number, so it stays fp32"
)

_KNOWN: Final = (
    Task(IMAGE_CLASSIFICATION, IMAGE, CLASSIFICATION_METRICS, "accuracy", one_label=True, compressed=True),
    Task(TABULAR_CLASSIFICATION, TABLE, CLASSIFICATION_METRICS, "accuracy", _TABLES, _NO_COUNTERPART, one_label=True),
    Task(TABULAR_REGRESSION, TABLE, REGRESSION_METRICS, "rmse", _TABLES, _NO_COUNTERPART),
    Task(OBJECT_DETECTION, IMAGE, DETECTION_METRICS, "picture_ap50", _GRAPHS, _FINISHED),
    Task(SEMANTIC_SEGMENTATION, IMAGE, SEGMENTATION_METRICS, "picture_iou", _GRAPHS, _FINISHED),
    Task(KEYPOINT_DETECTION, IMAGE, KEYPOINT_METRICS, "picture_oks", _GRAPHS, _FINISHED),
    Task(
        IMAGE_MULTILABEL,
        IMAGE,
        MULTILABEL_METRICS,
        "picture_f1",
        {format: _EVERY_FORM[format] for format in ("onnx", "litert", "openvino")},
    ),
    Task(AUDIO_CLASSIFICATION, AUDIO, CLASSIFICATION_METRICS, "accuracy", one_label=True, compressed=True),
    Task(ANOMALY_DETECTION, SERIES, ANOMALY_METRICS, "balanced_accuracy", _TABLES, _REFERENCES),
    Task(FORECASTING, SERIES, FORECAST_METRICS, "forecast_skill", _TABLES, _FORECASTS),
    Task(SERIES_CLASSIFICATION, SERIES, CLASSIFICATION_METRICS, "accuracy", _SERIES, _FEATURES, one_label=True),
)
TASKS: Final[Mapping[str, Task]] = {each.name: each for each in _KNOWN}
"""By name, those that a model can learn."""


def task_of(name: str) -> Task:
    """The task of that name; of one that no model learns yet an entry that allows nothing."""
    return TASKS.get(name) or Task(name, "", (), "", {}, "no model learns this task yet")


_FLOAT_ALONE: Final = frozenset({"modelyard:minirocket", "modelyard:minirocket_small"})


def made_in(architecture: str, precision: str) -> bool:
    """Whether models of an architecture are made in a precision that its task has ("": any); of one that is not known: yes."""
    return precision in ("", "fp32") or architecture not in _FLOAT_ALONE


def metrics_of(name: str) -> tuple[str, ...]:
    """Names of the overall metrics of a task, the one to go by first."""
    return task_of(name).metrics


EVERY_WATCHED: Final = tuple(dict.fromkeys(metric for each in _KNOWN for metric in each.watched))
"""Metrics that limits on an export may name for some task."""

EVERY_METRIC: Final = tuple(dict.fromkeys(metric for each in _KNOWN for metric in each.metrics))
"""Of all tasks."""
