"""Figures of forecasts against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.evaluator.domain.forecasts import Forecasts, forecast_metrics


def held(said: list[float], came: list[float], naive: list[float], *, width: float = 1.0, scale: float = 2.0) -> Forecasts:
    """Each number an origin of its own, one step and one channel."""
    first, second, third = (np.array(each, np.float64)[:, None, None] for each in (said, came, naive))
    return Forecasts(first, first - width, first + width, second, third, np.full((len(said), 1), scale))


def test_figures_by_hand() -> None:
    found = {each.name: each.value for each in forecast_metrics(held([10, 20, 30, 40], [11, 18, 30, 44], [12, 22, 30, 42]), 0.9)}
    assert found["mae"] == pytest.approx((1 + 2 + 0 + 4) / 4)
    assert found["rmse"] == pytest.approx(((1 + 4 + 0 + 16) / 4) ** 0.5)
    assert found["smape"] == pytest.approx(np.mean([200 / 21, 400 / 38, 0, 800 / 84]))
    assert found["mase"] == pytest.approx(7 / 8)
    assert found["coverage"] == pytest.approx(2 / 4)
    assert found["forecast_skill"] == pytest.approx(np.mean([1 / 2, 4 / 6, 0.5, 2 / 6]))
    lower = [0.05 * 2, 0.95 * 1, 0.05 * 1, 0.05 * 5]  # came less lower: 2, -1, 1, 5
    upper = [0.05 * 0, 0.05 * 3, 0.05 * 1, 0.95 * 3]  # came less upper: 0, -3, -1, 3
    assert found["pinball"] == pytest.approx(np.mean(lower + upper))


def test_what_never_came_counts_for_nothing_and_a_constant_series_has_no_mase() -> None:
    one = held([10, 20], [11, 18], [12, 22])
    gap = held([10, 20, 30], [11, 18, np.nan], [12, 22, 1])
    for name in ("mae", "rmse", "smape", "mase", "coverage", "pinball"):
        both = [next(each.value for each in forecast_metrics(part, 0.9) if each.name == name) for part in (one, gap)]
        assert both[0] == pytest.approx(both[1]), name
    assert "mase" not in {each.name for each in forecast_metrics(held([1], [2], [3], scale=np.nan), 0.9)}


def test_intervals_hold_the_value_and_shrink_with_more_origins() -> None:
    random = np.random.default_rng(0)
    few, many = (
        {each.name: each for each in forecast_metrics(held(*random.normal(size=(3, count)).tolist()), 0.9)}
        for count in (20, 2000)
    )
    for name, metric in few.items():
        assert metric.lower <= metric.value <= metric.upper
        assert many[name].upper - many[name].lower < metric.upper - metric.lower
