"""Drift scores: quiet while nothing changed, loud when something did, and in words that people understand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.formats.observed_features import INPUT, OUTPUT
from modelyard.formats.training_statistics import FeatureStatistics, statistics_of
from modelyard.serving.domain.drift import (
    Direction,
    DriftScore,
    Level,
    chi_squared_bound,
    of_several,
    score_of,
    scores_from_json,
    scores_json,
    stability_index,
    worst_first,
)
from modelyard.serving.domain.drift_window import HALF_EXAMPLES, HALF_S, LONGEST_HALF_S, Window


def feature(values: Any, name: str = "age") -> FeatureStatistics:
    (made,) = statistics_of({(INPUT, name): np.asarray(values)})
    return made


def score(training: Any, now: Any) -> DriftScore:
    made = feature(training)
    return score_of(made, made.count(np.asarray(now)))


def words(*counts: tuple[str, int]) -> np.ndarray:
    return np.array([word for word, count in counts for _ in range(count)], dtype=object)


NORMAL = np.random.default_rng(1).normal(50, 10, 3000)


def test_the_same_distribution() -> None:
    found = score(NORMAL, np.random.default_rng(2).normal(50, 10, 800))
    assert found.level == Level.NONE
    assert found.score < 0.03
    assert found.note == ""
    assert found.direction == Direction.INPUT


def test_a_shifted_number_says_where() -> None:
    found = score(NORMAL, np.random.default_rng(2).normal(65, 10, 400))
    assert found.level == Level.STRONG
    assert found.note.startswith("age above 6")
    assert ": 10 % in training, " in found.note
    assert found.note.endswith(" % now")


def test_a_smaller_shift_is_some() -> None:
    assert score(NORMAL, np.random.default_rng(2).normal(54.5, 10, 2000)).level == Level.SOME


def test_a_few_examples_say_nothing() -> None:
    found = score(NORMAL, np.full(20, 90.0))
    assert found.level == Level.TOO_FEW
    assert found.examples == 20


def test_a_large_score_of_few_examples_may_be_chance() -> None:
    """100 examples against 60 of training: an index that large is not rare, so it is no alarm."""
    rng = np.random.default_rng(3)
    levels = {score(rng.normal(size=60), rng.normal(size=100)).level for _ in range(200)}
    assert levels <= {Level.NONE, Level.TOO_FEW}


def test_a_new_category() -> None:
    found = score(words(("car", 900), ("house", 600)), words(("car", 150), ("house", 100), ("boat", 120)))
    assert found.level == Level.STRONG
    assert found.note == "age with values that were new or rare in training: 0 % in training, 32 % now"


def test_values_that_went_missing() -> None:
    now = NORMAL[:500].copy()
    now[:200] = np.nan
    found = score(NORMAL, now)
    assert found.level == Level.STRONG
    assert found.note == "age missing: 0 % in training, 40 % now"


def test_a_shifted_prior() -> None:
    found = score(words(("ok", 900), ("broken", 100)), words(("ok", 250), ("broken", 150)))
    assert found.level == Level.STRONG
    assert found.note == "age 'broken': 10 % in training, 38 % now"


def test_nothing_seen() -> None:
    assert score(NORMAL, np.zeros(0)) == DriftScore("age", Direction.INPUT, 0.0, 0, Level.TOO_FEW)


def test_the_index_of_shares() -> None:
    """The definition, by hand: sum of (a - e) ln(a / e), over counts so large that smoothing does not show."""
    reference, now = np.array([500_000, 500_000]), np.array([250_000, 750_000])
    expected = (0.25 - 0.5) * math.log(0.5) + (0.75 - 0.5) * math.log(1.5)
    assert stability_index(reference, now) == pytest.approx(expected, rel=1e-4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=2, max_size=60))
def test_the_index_is_finite_and_not_negative(pairs: list[tuple[int, int]]) -> None:
    reference, now = (np.array(side) for side in zip(*pairs, strict=True))
    assert 0 <= stability_index(reference, now) < 100
    assert stability_index(reference, reference) == 0


@pytest.mark.parametrize(("freedom", "bound"), [(1, 10.83), (5, 20.52), (9, 27.88), (50, 86.66)])
def test_the_bound_is_that_of_chi_squared(freedom: int, bound: float) -> None:
    """Against the 0.1 % column of the usual table."""
    assert chi_squared_bound(0.001, freedom) == pytest.approx(bound, rel=0.04)


def test_the_strongest_first() -> None:
    def made(name: str, score: float, level: Level) -> DriftScore:
        return DriftScore(name, Direction.OUTPUT, score, 9, level)

    given = [
        made("few", 3.0, Level.TOO_FEW),
        made("b", 0.2, Level.SOME),
        made("c", 0.4, Level.STRONG),
        made("a", 0.0, Level.NONE),
    ]
    assert [each.feature for each in worst_first(given)] == ["c", "b", "a", "few"]


def test_scores_go_through_json() -> None:
    given = (DriftScore("Alter Ä", Direction.OUTPUT, 0.25, 9, Level.STRONG, "note"),)
    assert scores_from_json(scores_json(given)) == given
    assert scores_from_json(scores_json(())) == ()


# The window


class FakeClock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(values: np.ndarray) -> tuple[Window, FakeClock, Callable[[np.ndarray], None]]:
    """A window over a feature, its clock, and what shows it examples."""
    made, clock = feature(values), FakeClock()
    window = Window([made], clock)
    return window, clock, lambda now: window.add([made.count(now)], len(now))


def test_an_example_counts_once() -> None:
    window, _, show = watched(NORMAL)
    show(NORMAL[:30])
    assert window.scores()[0].examples == 30


def test_what_is_long_ago_is_forgotten() -> None:
    window, clock, show = watched(NORMAL)
    show(np.random.default_rng(0).normal(90, 10, HALF_EXAMPLES))
    assert window.scores()[0].level == Level.STRONG
    for _ in range(2):
        clock.now += HALF_S
        show(NORMAL[:HALF_EXAMPLES])
    clock.now += HALF_S
    assert window.scores()[0].level == Level.NONE


def test_few_examples_are_kept_for_longer() -> None:
    window, clock, show = watched(NORMAL)
    for _ in range(20):
        show(NORMAL[:10])
        clock.now += HALF_S
    assert window.scores()[0].examples == 200
    clock.now += LONGEST_HALF_S
    window.scores()
    clock.now += LONGEST_HALF_S
    assert window.scores() == ()


def test_a_feature_that_is_not_seen_has_no_score() -> None:
    made = statistics_of({(INPUT, "a"): NORMAL, (OUTPUT, "b"): NORMAL})
    window = Window(made, FakeClock())
    window.add([made[0].count(NORMAL), None], len(NORMAL))
    assert [each.feature for each in window.scores()] == ["a"]


def hour_of_quiet(seed: int, per_s: float, training: int) -> bool:
    """Whether an hour of traffic just as in training gave an alarm: 4 features, somebody looks every 15 s."""
    rng, clock = np.random.default_rng(seed), FakeClock()
    rare = np.array([f"w{number}" for number in range(400)], object)
    zipf = 1 / np.arange(1, 401)
    draws: list[Callable[[int], np.ndarray]] = [
        lambda n: rng.normal(size=n),
        lambda n: np.exp(2 * rng.normal(size=n)),
        lambda n: rng.choice(4, n, p=[0.7, 0.2, 0.07, 0.03]).astype(float),
        lambda n: rare[rng.choice(400, n, p=zipf / zipf.sum())],
    ]
    made = statistics_of({(INPUT, f"f{at:02d}"): draw(training) for at, draw in enumerate(draws)})
    window, alarm = Window(made, clock), False
    for _ in range(240):
        clock.now += 15
        count = rng.poisson(15 * per_s)
        if count:
            window.add([each.count(draws[int(each.name[1:])](count)) for each in made], count)
        alarm |= any(each.level in (Level.SOME, Level.STRONG) for each in window.scores())
    return alarm


@pytest.mark.parametrize("per_s", [0.3, 3.0])
@pytest.mark.parametrize("training", [300, 4000])
def test_quiet_hours_are_quiet(per_s: float, training: int) -> None:
    """Four hours each; docs/decisions/0019 has the rate over thousands."""
    assert sum(hour_of_quiet(seed, per_s, training) for seed in range(4)) == 0


def test_scores_of_several_pods_are_one() -> None:
    """Weighted by examples; a level only where a pod is sure of one."""
    calm = DriftScore("x", Direction.INPUT, 0.0, 900, Level.NONE)
    strong = DriftScore("x", Direction.INPUT, 2.0, 300, Level.STRONG, "x 1 to 2: more")
    other = DriftScore("y", Direction.OUTPUT, 0.05, 300, Level.NONE)
    found = of_several([[calm], [strong, other], []])
    assert [(one.feature, one.score, one.examples, one.level, one.note) for one in found] == [
        ("x", 0.5, 1200, Level.STRONG, "x 1 to 2: more"),
        ("y", 0.05, 300, Level.NONE, ""),
    ]
    few = DriftScore("x", Direction.INPUT, 2.0, 60, Level.TOO_FEW)
    assert of_several([[few], [few]])[0].level is Level.TOO_FEW
