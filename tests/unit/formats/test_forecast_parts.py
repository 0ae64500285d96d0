"""Series in time: parts, origins, seasons."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.forecasts import Part, Span, Track, coming, cut_points, naive, naive_error, origins, plan, season, seen


def track(values: np.ndarray, name: str = "s") -> Track:
    return Track(name, values, tuple(Part(first, last, usage, usage) for usage, first, last in cut_points(len(values))))


@given(st.integers(20, 3000))
def test_parts_follow_each_other_and_lose_nothing(steps: int) -> None:
    parts = cut_points(steps)
    assert [usage for usage, _, _ in parts] == ["train", "validation", "test"]
    assert parts[0][1] == 0
    assert parts[-1][2] == steps
    assert all(before[2] == after[1] for before, after in itertools.pairwise(parts))
    assert all(last > first for _, first, last in parts)
    assert parts[0][2] >= 0.6 * steps


def test_a_series_too_short_to_cut_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="19 readings"):
        cut_points(19)


@given(st.integers(20, 300), st.integers(2, 40), st.integers(1, 12))
def test_what_is_said_lies_in_its_usage_and_what_is_seen_before_it(steps: int, context: int, horizon: int) -> None:
    one, span = track(np.arange(steps, dtype=np.float64)[:, None]), Span(context, horizon)
    for part in one.parts:
        at = origins(one, part.usage, span)
        if not len(at):
            assert part.last - max(part.first, context) < horizon
            continue
        said, known = coming(one, at, span)[:, :, 0], seen(one, at, span)["series"][:, :, 0]
        assert said.min() >= part.first
        assert said.max() < part.last
        assert (known[:, -1] == said[:, 0] - 1).all()
        assert (np.diff(known, axis=1) == 1).all()


def test_the_naive_forecast_repeats_the_last_season() -> None:
    one = track(np.arange(40, dtype=np.float64)[:, None])
    assert naive(one, np.array([20]), Span(8, 7, 3))[0, :, 0].tolist() == [17, 18, 19, 17, 18, 19, 17]
    assert naive(one, np.array([20]), Span(8, 3))[0, :, 0].tolist() == [19, 19, 19]
    assert naive_error(one, Span(8, 7, 3)).tolist() == [3.0]
    assert np.isnan(naive_error(track(np.ones((40, 1))), Span(8, 7, 3))).all()


@pytest.mark.parametrize("period", [7, 12, 24])
def test_a_season_is_found_under_growth_and_noise(period: int) -> None:
    at = np.arange(30 * period)
    random = np.random.default_rng(period)
    values = 0.2 * at + 3 * np.sin(2 * np.pi * at / period) + random.normal(0, 0.5, len(at))
    assert season([values[:, None]]) == period
    assert season([random.normal(size=(400, 1))]) == 1
    assert season([np.full((400, 1), np.nan)]) == 1
    assert season([]) == 1


def test_what_is_looked_back_on_and_said_follows_from_the_data() -> None:
    at = np.arange(144)
    monthly = track(np.sin(2 * np.pi * at / 12)[:, None] + at[:, None])
    assert plan([monthly]) == Span(24, 12, 12)
    assert plan([monthly], horizon=6).horizon == 6
    plain = track(np.random.default_rng(1).normal(size=(1000, 1)))
    assert plan([plain]) == Span(30, 10, 1)
    with pytest.raises(InvalidArgument, match="1 to 14"):
        plan([monthly], horizon=15)
    with pytest.raises(InvalidArgument, match="to learn from"):
        plan([Track("x", np.zeros((5, 1)), (Part(0, 5, "train", "x"),))])
