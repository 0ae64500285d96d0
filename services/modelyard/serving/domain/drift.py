"""How far what a model sees and answers is from what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.training_statistics import FeatureStatistics

Counts = NDArray[np.int64]

SOME_FROM: Final = 0.1
STRONG_FROM: Final = 0.25
"""Bounds of the population stability index, as credit scoring has used them since the 1990s (Siddiqi, Credit Risk Scorecards)."""
LEAST_EXAMPLES: Final = 100
LEAST_EXPECTED: Final = 5.0
"""Bins in which fewer examples are to be expected are looked at together."""
SMOOTHING: Final = 0.5
FALSE_ALARMS_PER_HOUR: Final = 0.01
CHECKS_PER_HOUR: Final = 240
"""Somebody looks every 15 seconds, as Prometheus does."""


class Direction(StrEnum):
    """Which way a tensor goes."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class Level(StrEnum):
    """What a score means."""

    TOO_FEW = "TOO_FEW"
    NONE = "NONE"
    SOME = "SOME"
    STRONG = "STRONG"


@dataclass(frozen=True)
class DriftScore:
    """One tensor, or one property of a picture (`image.brightness`). `score` is the population stability index."""

    feature: str
    direction: Direction
    score: float
    examples: int
    level: Level
    note: str = ""


def score_of(feature: FeatureStatistics, seen: Counts, features: int = 1) -> DriftScore:
    """How far counts (as FeatureStatistics.count lays them out) are from training; `features` are watched together.

    The index of n examples from the very distribution of training's m is not 0 but about (bins - 1) (1/n + 1/m), and that many
    times a chi-squared variable over its degrees of freedom (Yurdakul, Statistical Properties of the PSI, 2018). The mean is
    taken off, and a level is said only where chance would hardly ever bring it: see FALSE_ALARMS_PER_HOUR.
    """
    examples = int(seen.sum())
    direction = Direction(feature.direction)
    if not examples:
        return DriftScore(feature.name, direction, 0.0, 0, Level.TOO_FEW)
    reference, now = _pooled(feature.reference, seen)
    noise = 1 / examples + 1 / int(reference.sum())
    index, freedom = stability_index(reference, now), len(reference) - 1
    score = max(0.0, index - freedom * noise)
    sure = index > noise * chi_squared_bound(FALSE_ALARMS_PER_HOUR / CHECKS_PER_HOUR / max(features, 1), freedom)
    level = level_of(score, examples, sure)
    note = note_of(feature, seen) if score >= SOME_FROM else ""
    return DriftScore(feature.name, direction, round(score, 6), examples, level, note)


def level_of(score: float, examples: int, sure: bool) -> Level:
    """What a score means; TOO_FEW where it is large, but may be chance."""
    if examples < LEAST_EXAMPLES or (score >= SOME_FROM and not sure):
        return Level.TOO_FEW
    return Level.STRONG if score >= STRONG_FROM else Level.SOME if score >= SOME_FROM else Level.NONE


def stability_index(reference: Counts, seen: Counts) -> float:
    """The population stability index of two counts over the same bins: 0 for equal shares, always finite."""
    expected = (reference + SMOOTHING) / (reference.sum() + SMOOTHING * len(reference))
    found = (seen + SMOOTHING) / (seen.sum() + SMOOTHING * len(seen))
    return float(((found - expected) * np.log(found / expected)).sum())


def _pooled(reference: Counts, seen: Counts) -> tuple[Counts, Counts]:
    """Both with the bins put together in which few are to be expected: the choice does not depend on what was seen there."""
    few = reference * (seen.sum() / reference.sum()) < LEAST_EXPECTED
    if few.sum() < 2:
        return reference, seen
    return tuple(np.append(counts[~few], counts[few].sum()) for counts in (reference, seen))  # type: ignore[return-value]


def chi_squared_bound(chance: float, freedom: int) -> float:
    """What a chi-squared variable exceeds with this chance (Wilson and Hilferty, 1931); a little too large at small chances."""
    if freedom < 1:
        return float("inf")
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - chance) * part**0.5) ** 3)


def note_of(feature: FeatureStatistics, seen: Counts) -> str:
    """The bin that changed most (of equals, one that grew), for people: "age 60 to 75: 4 % in training, 31 % now"."""
    before, now = feature.reference / feature.reference.sum(), seen / seen.sum()
    index = int((np.abs(now - before) + 1e-9 * (now > before)).argmax())
    return f"{feature.bin_text(index)}: {_percent(before[index])} in training, {_percent(now[index])} now"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def of_several(places: Iterable[Iterable[DriftScore]]) -> tuple[DriftScore, ...]:
    """Scores of the same version in several places, as one: the mean, weighted by examples.

    The index is convex in what is seen, so this is never below the index of all examples together. A level above NONE needs a
    place that is sure of one.
    """
    found: dict[tuple[Direction, str], list[DriftScore]] = {}
    for scores in places:
        for score in scores:
            found.setdefault((score.direction, score.feature), []).append(score)
    return worst_first(map(_together, found.values()))


def _together(scores: list[DriftScore]) -> DriftScore:
    if len(scores) == 1:
        return scores[0]
    examples = sum(each.examples for each in scores)
    mean = sum(each.score * each.examples for each in scores) / examples if examples else 0.0
    level = level_of(mean, examples, any(each.level in (Level.SOME, Level.STRONG) for each in scores))
    worst = max(scores, key=lambda each: each.score)
    return DriftScore(worst.feature, worst.direction, round(mean, 6), examples, level, worst.note if mean >= SOME_FROM else "")


def worst_first(scores: Iterable[DriftScore]) -> tuple[DriftScore, ...]:
    """The strongest change first."""
    order = [Level.STRONG, Level.SOME, Level.NONE, Level.TOO_FEW]
    return tuple(sorted(scores, key=lambda each: (order.index(each.level), -each.score, each.direction, each.feature)))


def scores_json(scores: Iterable[DriftScore]) -> bytes:
    """As a model's process sends them to the server."""
    return json.dumps([asdict(each) for each in scores], ensure_ascii=False).encode()


def scores_from_json(data: bytes) -> tuple[DriftScore, ...]:
    """Reads what scores_json wrote."""
    entries: list[dict[str, Any]] = json.loads(data)
    return tuple(
        DriftScore(**{**entry, "direction": Direction(entry["direction"]), "level": Level(entry["level"])}) for entry in entries
    )
