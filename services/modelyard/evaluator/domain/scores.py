"""What an evaluation finds: plain values that go to JSON and to the contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LESS_IS_BETTER: Final = frozenset({"log_loss", "brier_score", "mae", "rmse"})


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
    """Figures of one class. `accuracy` is the share of all examples that are right about this class, for or against."""

    label: str
    support: int
    precision: Metric
    recall: Metric
    f1: Metric
    accuracy: Metric


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
    """Everything about one usage: the model's score, the baseline's, and the two on the same examples."""

    score: UsageScore
    baseline: UsageScore
    paired: tuple[Paired, ...]
