"""Overfitting: how much better a model is on what it learned from than on validation examples."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.evaluator.domain.scores import Metric, UsageScore
from modelyard.statistics import intervals


def train_gaps(train: UsageScore | None, validation: UsageScore | None, names: Sequence[str]) -> tuple[Metric, ...]:
    """Each metric of these names by how much it is better on train, with the interval of the difference.

    Positive is better on train, also for metrics where less is better. An interval that holds 0 shows no overfitting. Nothing
    where a usage was not scored, or a metric is not defined on it.
    """
    if train is None or validation is None:
        return ()
    pairs = ((train.metric(name), validation.metric(name)) for name in names)
    return tuple(_gap(first, second) for first, second in pairs if first and second)


def _gap(train: Metric, validation: Metric) -> Metric:
    better, worse = (train, validation) if train.higher_is_better else (validation, train)
    figures = ((metric.value, metric.lower, metric.upper) for metric in (better, worse))
    return Metric(train.name, *intervals.difference(*figures))
