"""Figures of a run's curves: what is measured, how it moves, how much it jumps. Arithmetic; what it means is in `advice`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.statistics.student import student_quantile

Floats = NDArray[np.float64]

PREFERRED: Final = (
    "val_accuracy",
    "accuracy",
    "val_map_50",
    "val_map",
    "val_mean_iou",
    "val_f1",
    "val_f1_macro",
    "val_pck",
    "roc_auc",
    "val_roc_auc",
    "r2",
    "val_r2",
    "val_loss",
    "log_loss",
    "rmse",
)
"""Metrics that a run is judged by, the first that it has."""
LOWER_IS_BETTER: Final = ("loss", "rmse", "mae", "mse", "error", "mape", "distance")
LOSSES: Final = ("val_loss", "log_loss", "rmse")
OF_TRAINING: Final = "train_"
LAST_PART: Final = 1 / 3
FEWEST: Final = 4
"""Points that a slope is fitted to, at least."""


@dataclass(frozen=True)
class Line:
    """A straight line fitted to some points: its rise over all of them, with the 95 % interval of that."""

    rise: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Curve:
    """The curves of one run. Points: steps [N], training losses [N] and learning rates [N], in order. Validations: their steps
    [M], the metric [M] so turned that more is better, the validation loss [M] (NaN where there is none), and the same two of a
    sample of training examples [M] (NaN where there is none)."""

    metric: str
    sign: int
    steps: Floats
    losses: Floats
    rates: Floats
    at: Floats
    scores: Floats
    held_losses: Floats
    seen_scores: Floats
    seen_losses: Floats

    @property
    def best(self) -> int:
        """Which validation was the best; -1 without any."""
        return int(np.argmax(self.scores)) if len(self.scores) else -1

    @property
    def best_value(self) -> float:
        """The metric there, as it is named."""
        return self.sign * float(self.scores[self.best])


def metric_of(names: Iterable[str]) -> str:
    """The metric that a run is judged by; empty when it has none."""
    known = [name for name in names if not name.startswith(OF_TRAINING)]
    for name in PREFERRED:
        if name in known:
            return name
    return min(known, default="")


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better."""
    return not any(part in LOWER_IS_BETTER for part in metric.split("_"))


def bounded(metric: str) -> bool:
    """Whether it is a share, from 0 to 1."""
    return higher_is_better(metric) and metric.removeprefix("val_") != "r2"


def curve_of(points: Sequence[Mapping[str, Any]]) -> Curve:
    """The curves of a run's points (step, loss, learning_rate, metrics). Where a run was begun again after a loss of its worker,
    what came later stands for what came before at the same step."""
    ordered = _in_order(points)
    validated = [point for point in ordered if point.get("metrics")]
    metric = metric_of(name for point in validated for name in point["metrics"])
    scored = [point for point in validated if metric in point["metrics"]]
    sign = 1 if higher_is_better(metric) else -1
    loss = next((name for name in LOSSES if any(name in point["metrics"] for point in scored)), "")
    return Curve(
        metric=metric,
        sign=sign,
        steps=_column(ordered, "step"),
        losses=_column(ordered, "loss"),
        rates=_column(ordered, "learning_rate"),
        at=_column(scored, "step"),
        scores=sign * _metric(scored, metric),
        held_losses=_metric(scored, loss),
        seen_scores=sign * _metric(scored, metric.replace("val_", OF_TRAINING, 1))
        if metric.startswith("val_")
        else _none(scored),
        seen_losses=_metric(scored, loss.replace("val_", OF_TRAINING, 1)) if loss.startswith("val_") else _train_losses(scored),
    )


def last_part(count: int) -> slice:
    """The last third of so many points, at least FEWEST of them."""
    return slice(max(0, count - max(FEWEST, math.ceil(count * LAST_PART))), count)


def line_of(x: Floats, y: Floats) -> Line | None:
    """A line through the points by least squares; None with fewer than 3, or where all are at one place."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) < 3 or float(np.ptp(x)) == 0:
        return None
    centred = x - x.mean()
    square = float(np.square(centred).sum())
    slope = float((centred * y).sum()) / square
    rest = y - y.mean() - slope * centred
    error = math.sqrt(float(np.square(rest).sum()) / (len(x) - 2) / square)
    half = student_quantile(0.975, len(x) - 2) * error
    span = float(np.ptp(x))
    return Line(slope * span, (slope - half) * span, (slope + half) * span)


def jumps_of(y: Floats) -> float:
    """Standard deviation of what a series does from point to point beside its trend; 0 with fewer than 4 points.

    From second differences, which a straight line has none of, by their median, which a single jump does not move.
    """
    good = y[np.isfinite(y)]
    if len(good) < 4:
        return 0.0
    return float(1.4826 * np.median(np.abs(np.diff(good, 2))) / math.sqrt(6))


def binomial_tail(hits: int, of: int, chance: float) -> float:
    """Probability of at least so many hits by chance alone."""
    if hits <= 0:
        return 1.0
    if chance <= 0 or chance >= 1:
        return 0.0 if chance <= 0 else 1.0
    logs = [
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(chance) + (of - k) * math.log1p(-chance)
        for k in range(hits, of + 1)
    ]
    return min(1.0, math.fsum(math.exp(each) for each in logs))


def _in_order(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[dict[str, Any]] = []
    for point in points:
        while kept and kept[-1]["step"] > point["step"]:
            kept.pop()
        before = kept.pop() if kept and kept[-1]["step"] == point["step"] else {}
        kept.append({**before, **point, "metrics": point.get("metrics") or before.get("metrics") or {}})
    return list(kept)


def _column(points: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([math.nan if point.get(name) is None else float(point[name]) for point in points])


def _metric(points: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([float(point["metrics"].get(name, math.nan)) for point in points])


def _none(points: Sequence[Mapping[str, Any]]) -> Floats:
    return np.full(len(points), math.nan)


def _train_losses(points: Sequence[Mapping[str, Any]]) -> Floats:
    """Of trees: the training loss itself is comparable."""
    return _column(points, "loss")
