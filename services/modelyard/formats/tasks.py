"""The tasks, and what every service must know of one: what its examples are, its metrics, its forms, its outputs. Data only.

A task that a model can learn has an entry here; how it is trained, exported and scored is in the workers, under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelyard.formats.dataset_descriptor import (
    AUDIO,
    AUDIO_CLASSIFICATION,
    IMAGE,
    IMAGE_CLASSIFICATION,
    IMAGE_MULTILABEL,
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
MULTILABEL_METRICS: Final = ("mean_average_precision", "picture_f1", "f1_macro", "f1_micro", "exact_match")

_EVERY_FORM: Final = {
    "onnx": ("fp32", "fp16", "int8", "dynamic_int8"),
    "litert": ("fp32", "dynamic_int8", "int8"),
    "savedmodel": ("fp32",),
    "openvino": ("fp32", "fp16", "int8"),
    "edge": ("int8",),
    "torch_export": ("fp32",),
}
_GRAPHS: Final = {"onnx": ("fp32", "int8", "dynamic_int8"), "openvino": ("fp32", "fp16")}
_TABLES: Final = {"onnx": ("fp32",)}


@dataclass(frozen=True)
class Task:
    """A task.

    kind: what an example is (image, table, audio). metrics: overall metrics of an evaluation, on which a floor may be set.
    paired: the metric by which two artifacts are compared on the same examples (a figure an example). forms: precisions by
    format;
    why_not: why there are no others. one_label: whether an answer is one class, so that `label` is served beside `probabilities`.
    compressed: whether the exporter can plan within limits, prune, and train on with rounding (it then knows the loss).
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
    def pictured(self) -> bool:
        """Whether an example comes as a picture: one, or a sound, which comes as its spectrogram (formats/sounds.py)."""
        return self.kind in (IMAGE, AUDIO)


_NO_COUNTERPART: Final = "its trees, text columns and encodings have no counterpart there"
_BOXES: Final = "finding the peaks of a heat map and sorting them has no counterpart there"
_MASKS: Final = "enlarging a map of classes to the picture's size has no counterpart there"
_FEATURES: Final = "its features count how often a sum exceeds a number, which no converter of ours writes"

_KNOWN: Final = (
    Task(IMAGE_CLASSIFICATION, IMAGE, CLASSIFICATION_METRICS, "accuracy", one_label=True, compressed=True),
    Task(TABULAR_CLASSIFICATION, TABLE, CLASSIFICATION_METRICS, "accuracy", _TABLES, _NO_COUNTERPART, one_label=True),
    Task(TABULAR_REGRESSION, TABLE, REGRESSION_METRICS, "rmse", _TABLES, _NO_COUNTERPART),
    Task(OBJECT_DETECTION, IMAGE, DETECTION_METRICS, "picture_ap50", _GRAPHS, _BOXES),
    Task(SEMANTIC_SEGMENTATION, IMAGE, SEGMENTATION_METRICS, "picture_iou", _GRAPHS, _MASKS),
    Task(
        IMAGE_MULTILABEL,
        IMAGE,
        MULTILABEL_METRICS,
        "picture_f1",
        {"onnx": _EVERY_FORM["onnx"], "openvino": _EVERY_FORM["openvino"]},
    ),
    Task(AUDIO_CLASSIFICATION, AUDIO, CLASSIFICATION_METRICS, "accuracy", one_label=True, compressed=True),
    Task(SERIES_CLASSIFICATION, SERIES, CLASSIFICATION_METRICS, "accuracy", _TABLES, _FEATURES, one_label=True),
)
TASKS: Final[Mapping[str, Task]] = {each.name: each for each in _KNOWN}
"""By name, those that a model can learn."""


def task_of(name: str) -> Task:
    """The task of that name; of one that no model learns yet an entry that allows nothing."""
    return TASKS.get(name) or Task(name, "", (), "", {}, "no model learns this task yet")


def metrics_of(name: str) -> tuple[str, ...]:
    """Names of the overall metrics of a task, the one to go by first."""
    return task_of(name).metrics


EVERY_METRIC: Final = tuple(dict.fromkeys(metric for each in _KNOWN for metric in each.metrics))
"""Of all tasks."""
