"""Scores of predictions. numpy only; definitions agree with scikit-learn (the tests compare).

Classification: accuracy, precision, recall and F1 (per class; macro over the classes that occur or are predicted; weighted by
support), areas under the ROC and the precision-recall curve (binary: of the second class; else the mean of one against the rest),
log loss, Brier score, calibration error. Regression: MAE, RMSE, R2, MAPE, and what its residuals are like.
A metric that the examples do not define (ROC AUC of one class, R2 of one example, MAPE of a true 0) is left out.
docs/evaluation.md defines each for users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.calibration_error import calibration_error
from modelyard.evaluator.domain.scores import RESIDUAL_SUMMARY, ClassScore, Metric, Paired, UsageResult, UsageScore
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

MAIN_CLASSIFICATION = ("accuracy", "f1_macro", "log_loss")
MAIN_REGRESSION = ("rmse", "mae", "r2")
"""What slices and the gap to training are told by; the first one is the one to go by."""
# Probabilities are float32: a smaller one is as good as 0, and its logarithm says nothing. As scikit-learn does for float32.
_EPSILON = float(np.finfo(np.float32).eps)


# Classification


def classification(usage: str, labels: Ints, probabilities: Floats, classes: Sequence[str]) -> UsageScore:
    """Scores class probabilities [N, K] against true class indices [N], N of 1 or more. The first largest is predicted."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, len(classes))
    samples = _resampled_rates(confusion)
    scores = _class_scores(classes, confusion, samples)
    metrics = (
        _proportion("accuracy", int(np.trace(confusion)), len(labels)),
        *_averages(confusion, samples),
        *_areas(labels, probabilities),
        *_losses(labels, probabilities),
        calibration_error(probabilities.max(axis=1), predicted == labels),
    )
    rows = tuple(map(tuple, confusion.tolist()))
    return UsageScore(usage, len(labels), metrics, scores, rows)


def main_classification(labels: Ints, probabilities: Floats) -> tuple[Metric, ...]:
    """MAIN_CLASSIFICATION of class probabilities [N, K] against true class indices [N], as `classification` has them."""
    predicted = probabilities.argmax(axis=1)
    # The macro average is over classes that occur or are predicted: the rest need not be carried along.
    present, places = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    confusion = confusion_matrix(places[: len(labels)], places[len(labels) :], len(present))
    found = (
        _proportion("accuracy", int(np.trace(confusion)), len(labels)),
        *_averages(confusion, _resampled_rates(confusion)),
        *_losses(labels, probabilities),
    )
    return tuple(metric for metric in found if metric.name in MAIN_CLASSIFICATION)


def main_regression(targets: Floats, predictions: Floats) -> tuple[Metric, ...]:
    """MAIN_REGRESSION of predictions [N] against true values [N], as `regression` has them."""
    score = regression("", targets, predictions)
    return tuple(metric for metric in map(score.metric, MAIN_REGRESSION) if metric)


def confusion_matrix(labels: Ints, predicted: NDArray[np.intp], count: int) -> Ints:
    """Counts [K, K]; rows are true classes, columns predicted ones."""
    flat = np.bincount(labels * count + predicted, minlength=count * count)
    return flat.reshape(count, count).astype(np.int64)


def _rates(true_positive: Floats, predicted: Floats, support: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1; 0 where they are undefined, as scikit-learn has it with zero_division=0."""
    precision = np.divide(true_positive, predicted, out=np.zeros_like(true_positive), where=predicted > 0)
    recall = np.divide(true_positive, support, out=np.zeros_like(true_positive), where=support > 0)
    both = predicted + support
    f1 = np.divide(2 * true_positive, both, out=np.zeros_like(true_positive), where=both > 0)
    return precision, recall, f1


class _Resampled:
    """Rates of resampled examples: each of precision, recall, F1 as [B, K], with supports and predicted counts."""

    def __init__(self, true_positive: Floats, predicted: Floats, support: Floats) -> None:
        self.precision, self.recall, self.f1 = _rates(true_positive, predicted, support)
        self.support, self.occurs = support, (predicted + support) > 0


def _resampled_rates(confusion: Ints) -> _Resampled:
    rows, columns = np.nonzero(confusion)
    draws = intervals.bootstrap_counts(confusion[rows, columns])
    size = len(confusion)
    return _Resampled(_sum_by(draws * (rows == columns), rows, size), _sum_by(draws, columns, size), _sum_by(draws, rows, size))


def _sum_by(draws: Ints, group: NDArray[np.intp], size: int) -> Floats:
    """Sums the columns of `draws` [B, M] by their group: [B, size]."""
    out = np.zeros((size, len(draws)))
    np.add.at(out, group, draws.T)
    return out.T


def _class_scores(classes: Sequence[str], confusion: Ints, samples: _Resampled) -> tuple[ClassScore, ...]:
    hits, predicted, support = np.diag(confusion).tolist(), confusion.sum(axis=0).tolist(), confusion.sum(axis=1).tolist()
    lower, upper = np.quantile(samples.f1, (0.025, 0.975), axis=0).tolist()
    total = int(confusion.sum())
    counts = zip(classes, hits, predicted, support, zip(lower, upper, strict=True), strict=True)
    return tuple(_class_score(*of_class, total) for of_class in counts)


def _class_score(name: str, hits: int, predicted: int, support: int, f1_interval: intervals.Interval, total: int) -> ClassScore:
    f1 = 2 * hits / (predicted + support) if predicted + support else 0.0
    interval = min(f1_interval[0], f1), max(f1_interval[1], f1)
    if hits == predicted == support:  # without one error a bootstrap sees no spread
        interval = (intervals.wilson(hits, support)[0], 1.0) if support else (0.0, 0.0)
    return ClassScore(
        name,
        support,
        _proportion("precision", hits, predicted),
        _proportion("recall", hits, support),
        Metric("f1", f1, *interval),
        _proportion("accuracy", total - predicted - support + 2 * hits, total),
    )


def _proportion(name: str, successes: int, total: int) -> Metric:
    if total == 0:
        return Metric(name, 0.0, 0.0, 0.0)
    return Metric(name, successes / total, *intervals.wilson(successes, total))


def _averages(confusion: Ints, samples: _Resampled) -> list[Metric]:
    hits, predicted, support = (
        values.astype(np.float64) for values in (np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))
    )
    whole = _Resampled(hits[None], predicted[None], support[None])
    total = int(confusion.sum())
    perfect = intervals.wilson(total, total) if hits.sum() == total else None
    return [
        _average(f"{rate}_{kind}", mean(whole, rate), mean(samples, rate), perfect)
        for kind, mean in (("macro", _macro), ("weighted", _weighted))
        for rate in ("precision", "recall", "f1")
    ]


def _average(name: str, value: Floats, samples: Floats, perfect: intervals.Interval | None) -> Metric:
    return Metric(name, float(value[0]), *(perfect or intervals.percentiles(samples, float(value[0]))))


def _macro(rates: _Resampled, rate: str) -> Floats:
    values: Floats = getattr(rates, rate)
    return np.asarray((values * rates.occurs).sum(axis=1) / rates.occurs.sum(axis=1), dtype=np.float64)


def _weighted(rates: _Resampled, rate: str) -> Floats:
    values: Floats = getattr(rates, rate)
    return np.asarray((values * rates.support).sum(axis=1) / rates.support.sum(axis=1), dtype=np.float64)


def _areas(labels: Ints, probabilities: Floats) -> list[Metric]:
    """ROC AUC and average precision; nothing where fewer than two classes occur. Classes that do not occur are left out."""
    present = [int(index) for index in np.unique(labels)]
    if len(present) < 2:
        return []
    fewest = int(min(np.bincount(labels)[present]))
    areas, influences = [], np.zeros((2, len(labels)))
    by_class = np.ascontiguousarray(probabilities.T)
    for index in [1] if probabilities.shape[1] == 2 else present:
        ranking = intervals.Ranking(by_class[index], labels == index)
        both = (ranking.roc_auc(), ranking.average_precision())
        areas.append([area for area, _ in both])
        influences += [influence for _, influence in both]
    means = np.mean(areas, axis=0)
    return [
        Metric(name, float(mean), *intervals.area_interval(float(mean), influence / len(areas), fewest))
        for name, mean, influence in zip(("roc_auc", "pr_auc"), means, influences, strict=True)
    ]


def _losses(labels: Ints, probabilities: Floats) -> list[Metric]:
    losses = np.stack([log_losses(labels, probabilities), brier_scores(labels, probabilities)], axis=1)
    samples = intervals.bootstrap_means(losses)
    return [_mean_metric(name, losses[:, i], samples[:, i]) for i, name in enumerate(("log_loss", "brier_score"))]


def _mean_metric(name: str, values: Floats, samples: Floats) -> Metric:
    mean = float(values.mean())
    return Metric(name, mean, *intervals.percentiles(samples, mean))


def log_losses(labels: Ints, probabilities: NDArray[np.floating[Any]]) -> Floats:
    """Natural logarithm of each example's loss [N]: 0 is perfect, about 16 the most."""
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(given, _EPSILON, 1.0)), dtype=np.float64)


def brier_scores(labels: Ints, probabilities: Floats) -> Floats:
    """Squared distance of each example's probabilities from the truth [N], summed over the classes: 0 is perfect, 2 the most."""
    given = probabilities[np.arange(len(labels)), labels]
    return np.asarray(np.square(probabilities).sum(axis=1) - 2 * given + 1, dtype=np.float64)


# Regression


def regression(usage: str, targets: Floats, predictions: Floats) -> UsageScore:
    """Scores predictions [N] against true values [N]; N of 1 or more."""
    errors, centred = predictions - targets, targets - targets.mean()
    relative = _relative(errors, targets)
    shares = np.zeros_like(errors) if relative is None else relative
    columns = np.stack([np.abs(errors), np.square(errors), centred, np.square(centred), shares], axis=1)
    means, samples = columns.mean(axis=0)[None], intervals.bootstrap_means(columns)
    definitions: list[tuple[str, Callable[[Floats], Floats]]] = [("mae", _mae), ("rmse", _rmse)]
    if means[0, 3] > 0:
        definitions.append(("r2", _r2))
    if relative is not None:
        definitions.append(("mape", _mape))
    metrics = (Metric(name, *_with_interval(measure, means, samples)) for name, measure in definitions)
    return UsageScore(usage, len(targets), (*metrics, *_residuals(errors)))


def _relative(errors: Floats, targets: Floats) -> Floats | None:
    """Errors as shares of the truth [N]; None where a truth is 0, or so near that their mean is no number."""
    if not np.all(targets != 0):
        return None
    with np.errstate(over="ignore"):
        shares = np.abs(errors / targets)
        return shares if np.isfinite(shares.mean()) else None


def _residuals(errors: Floats) -> tuple[Metric, ...]:
    """What the errors [N] (prediction less truth) are like: RESIDUAL_SUMMARY, in the target's unit."""
    mean, centred = float(errors.mean()), errors - errors.mean()
    samples = intervals.bootstrap_means(np.stack([centred, np.square(centred)], axis=1))
    spread, spreads = float(errors.std()), np.sqrt(np.maximum(samples[:, 1] - np.square(samples[:, 0]), 0))
    low, middle, high = (intervals.quantile(errors, share) for share in (0.05, 0.5, 0.95))
    figures = (
        (mean, *intervals.percentiles(samples[:, 0] + mean, mean)),
        (spread, *intervals.percentiles(spreads, spread)),
        *(low, middle, high),
    )
    return tuple(Metric(name, *figure) for name, figure in zip(RESIDUAL_SUMMARY, figures, strict=True))


def _with_interval(measure: Callable[[Floats], Floats], means: Floats, samples: Floats) -> tuple[float, float, float]:
    value = float(measure(means)[0])
    return value, *intervals.percentiles(measure(samples), value)


def _mae(means: Floats) -> Floats:
    return means[:, 0]


def _rmse(means: Floats) -> Floats:
    return np.sqrt(means[:, 1])


def _mape(means: Floats) -> Floats:
    return means[:, 4]


def _r2(means: Floats) -> Floats:
    """Of sums over a resample; NaN (dropped from the interval) where a resample has no variance."""
    variance = means[:, 3] - np.square(means[:, 2])
    return np.asarray(1 - np.divide(means[:, 1], variance, out=np.full(len(means), np.nan), where=variance > 1e-300))


# Against the baseline


def class_shares(labels: Ints, count: int) -> Floats:
    """Share of each class [K]; all equal where there are no examples."""
    counts = np.bincount(labels, minlength=count).astype(np.float64)
    return counts / counts.sum() if counts.sum() else np.full(count, 1 / count)


def against_majority(usage: str, labels: Ints, probabilities: Floats, classes: Sequence[str], shares: Floats) -> UsageResult:
    """Scores a classifier and the one that always answers with the training shares of the classes, so with the majority class."""
    constant = np.broadcast_to(shares, probabilities.shape)
    right, baseline_right = probabilities.argmax(axis=1) == labels, labels == shares.argmax()
    briers = brier_scores(labels, constant) - brier_scores(labels, probabilities)
    return UsageResult(
        classification(usage, labels, probabilities, classes),
        classification(usage, labels, np.asarray(constant), classes),
        (_paired_accuracy(right, baseline_right), _paired_mean("brier_score", briers)),
    )


def against_mean(usage: str, targets: Floats, predictions: Floats, mean: float) -> UsageResult:
    """Scores a regression and the one that always answers with the mean of the training targets."""
    constant = np.full_like(targets, mean)
    squared = np.square(constant - targets) - np.square(predictions - targets)
    return UsageResult(
        regression(usage, targets, predictions), regression(usage, targets, constant), (_paired_mean("mse", squared),)
    )


def _paired_accuracy(right: NDArray[np.bool_], baseline_right: NDArray[np.bool_]) -> Paired:
    better, worse = int((right & ~baseline_right).sum()), int((~right & baseline_right).sum())
    gain, (lower, upper), _ = intervals.paired_mean(right.astype(np.float64) - baseline_right)
    return Paired("accuracy", len(right), gain, lower, upper, intervals.mcnemar(better, worse), better, worse)


def _paired_mean(metric: str, gains: Floats) -> Paired:
    gain, (lower, upper), p_value = intervals.paired_mean(gains)
    return Paired(metric, len(gains), gain, lower, upper, p_value, int((gains > 0).sum()), int((gains < 0).sum()))
