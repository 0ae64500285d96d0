"""What an evaluation finds: plain values that go to JSON and to the contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RESIDUAL_SUMMARY: Final = ("residual_mean", "residual_std", "residual_p05", "residual_median", "residual_p95")
"""Figures that describe the errors (prediction less truth) of a regression; no floor is set on them."""
LESS_IS_BETTER: Final = frozenset(
    {
        "log_loss",
        "brier_score",
        "calibration_error",
        "mae",
        "rmse",
        "mape",
        "detection_delay",
        "false_alarm_rate",
        "normalised_error",
        "reading_error",
        "smape",
        "mase",
        "pinball",
    }
    | set(RESIDUAL_SUMMARY)
)


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 percent interval, all three in the metric's own unit."""

    name: str
    value: float
    lower: float
    upper: float

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.name not in LESS_IS_BETTER


@dataclass(frozen=True)
class ClassScore:
    """Figures of one class. `accuracy` is the share of all examples that are right about this class, for or against (None where
    an example is not of one class); `metrics` are what else the task says of a class."""

    label: str
    support: int
    precision: Metric
    recall: Metric
    f1: Metric
    accuracy: Metric | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True)
class UsageScore:
    """Figures of one usage. `confusion[t][p]` counts the examples of class t that were called class p."""

    usage: str
    example_count: int
    metrics: tuple[Metric, ...]
    classes: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()

    def metric(self, name: str) -> Metric | None:
        """The metric of this name; None where it could not be computed (or is no metric of this task)."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True)
class Paired:
    """The model against the baseline on the same examples, by one metric. `gain` is positive where the model is better.

    `better` and `worse` count the examples on which the model did better and worse; `p_value` is two-sided.
    """

    metric: str
    example_count: int
    gain: float
    lower: float
    upper: float
    p_value: float
    better: int
    worse: int


@dataclass(frozen=True)
class UsageResult:
    """Everything about one usage: the model's score, the baseline's, and the two on the same examples.

    `baseline_does` says what the baseline does ("finding nothing"); empty: it answers with the majority class or the mean.
    """

    score: UsageScore
    baseline: UsageScore
    paired: tuple[Paired, ...]
    baseline_does: str = ""


@dataclass(frozen=True)
class ExampleScore:
    """One example and what the model says of it. `label` and `prediction` are classes, or numbers as text.

    `probability` is the one given to the prediction (0 for regression); `loss` is -log of the probability of the label, or the
    absolute error.
    """

    example_id: str
    usage: str
    label: str
    prediction: str
    probability: float
    loss: float


@dataclass(frozen=True)
class FoundBox:
    """A box that a detector found: its class, left, top, right, bottom in pixels of the picture, and how sure the model is."""

    label: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class DetectedExample(ExampleScore):
    """An example with the boxes that were found in it, the surest first. It is shown, and never kept in a result."""

    boxes: tuple[FoundBox, ...] = ()


@dataclass(frozen=True)
class SliceScore:
    """Main metrics, with intervals, of the examples that share a value of a column (or a range of its numbers)."""

    column: str
    value: str
    example_count: int
    metrics: tuple[Metric, ...]
