"""How far the examples of one version differ from those of another: feature by feature, with the size of the difference.

Numbers are compared by the largest distance of their distribution functions (Kolmogorov-Smirnov, with its asymptotic test),
categories by Pearson's chi-squared test, and both also by the population stability index, PSI = sum((p - q) ln(p / q)) over the
deciles of the base or the categories. The chances of all features of a comparison are put right together after Benjamini and
Hochberg (1995). With many examples everything is significant, so a difference is reported only when it is also large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from modelyard.dataset.domain.listing import Text, of_column
from modelyard.dataset.domain.records import Finding

SURE = 0.01
"""Largest adjusted chance at which a difference is reported..."""

LEAST_DISTANCE = 0.1
"""...when the distance of the distributions (of categories: half the sum of the differences of shares) is at least this..."""

LEAST_PSI = 0.1
"""...or the stability index is; after the usage of credit scoring 0.1 is a moderate, 0.25 a large shift."""

LARGE_DISTANCE = 0.25
LARGE_PSI = 0.25

LEAST_EXAMPLES = 30
"""Smaller samples are not compared."""

_BINS = 10
_MOST_CATEGORIES = 200
_LEAST_SHARE = 1e-4

Floats = npt.NDArray[np.float64]
Values: TypeAlias = npt.NDArray[np.float64] | Any
"""Numbers float64 [N], NaN where missing; or texts as an Arrow array, null where missing."""


@dataclass(frozen=True)
class Feature:
    """A feature of the examples of two samples: both numbers, or both texts."""

    name: str
    before: Values
    after: Values
    column: str = ""  # of a table, or a channel
    what: str = ""  # for people: 'column "age"', "brightness"


@dataclass(frozen=True)
class Shift:
    """How a feature differs. distance 0 to 1; psi from 0; chance 0 to 1 before, adjusted after the correction; said: in words."""

    feature: Feature
    distance: float
    psi: float
    chance: float
    said: str
    adjusted: float = 1.0

    @property
    def reported(self) -> bool:
        """Whether it is sure and large enough."""
        return self.adjusted <= SURE and (self.distance >= LEAST_DISTANCE or self.psi >= LEAST_PSI)


def shifts(features: Sequence[Feature]) -> list[Shift]:
    """How each feature differs, with the chances corrected for their number; features of too few values are left out."""
    found = [each for feature in features for each in (*_of(feature), *_gaps(feature))]
    adjusted = adjust([each.chance for each in found])
    return [replace(each, adjusted=float(value)) for each, value in zip(found, adjusted, strict=True)]


def drift_findings(features: Sequence[Feature], between: str) -> list[Finding]:
    """A finding for each feature that differs. between: what is compared, such as "V002 and V001"."""
    reported = [each for each in shifts(features) if each.reported]
    return [_finding(each, between) for each in sorted(reported, key=lambda each: -max(each.distance, each.psi / 2))]


def adjust(chances: Sequence[float]) -> Floats:
    """Chances adjusted after Benjamini and Hochberg: float64 [N]."""
    values = np.asarray(chances, dtype=np.float64)
    order = np.argsort(values)
    ranked = values[order] * len(values) / np.arange(1, len(values) + 1)
    out = np.empty(len(values))
    out[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return out


def kolmogorov(before: Floats, after: Floats) -> tuple[float, float]:
    """Largest distance of the distribution functions of float64 [N] and [M], and the chance of one as large (asymptotic)."""
    from scipy.special import kolmogorov as survival

    one, other = np.sort(before), np.sort(after)
    every = np.concatenate([one, other])
    distance = float(
        np.max(np.abs(np.searchsorted(one, every, "right") / len(one) - np.searchsorted(other, every, "right") / len(other)))
    )
    size = np.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return distance, float(survival(size * distance))


def stability(before: Floats, after: Floats) -> float:
    """Population stability index of counts int or float64 [bins]."""
    p = np.maximum(before / max(before.sum(), 1.0), _LEAST_SHARE)
    q = np.maximum(after / max(after.sum(), 1.0), _LEAST_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))


def _of(feature: Feature) -> list[Shift]:
    if isinstance(feature.before, np.ndarray) and isinstance(feature.after, np.ndarray):
        one, other = (values[~np.isnan(values)] for values in (feature.before, feature.after))
        return [_numbers(feature, one, other)] if min(len(one), len(other)) >= LEAST_EXAMPLES else []
    before, after = (_counts(values) for values in (feature.before, feature.after))
    if min(sum(before.values()), sum(after.values())) < LEAST_EXAMPLES:
        return []
    return [_categories(feature, before, after)]


def _numbers(feature: Feature, one: Floats, other: Floats) -> Shift:
    distance, chance = kolmogorov(one, other)
    edges = np.unique(np.quantile(one, np.arange(1, _BINS) / _BINS))
    before, after = (np.bincount(np.searchsorted(edges, values, "left"), minlength=len(edges) + 1) for values in (one, other))
    said = f"its median went from {float(np.median(one)):.4g} to {float(np.median(other)):.4g}"
    if np.median(one) == np.median(other):
        said = (
            f"its mean went from {float(one.mean()):.4g} to {float(other.mean()):.4g}, its deviation from "
            f"{float(one.std()):.4g} to {float(other.std()):.4g}"
        )
    return Shift(feature, distance, stability(before.astype(np.float64), after.astype(np.float64)), chance, said)


def _counts(values: Any) -> dict[str, int]:
    found = pc.value_counts(values.drop_null())
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def _categories(feature: Feature, before: Mapping[str, int], after: Mapping[str, int]) -> Shift:
    """The commonest categories one by one, all others together."""
    from scipy.special import chdtrc

    both = {name: before.get(name, 0) + after.get(name, 0) for name in {**before, **after}}
    kept = sorted(both, key=lambda name: (-both[name], name))[:_MOST_CATEGORIES]
    rows = np.array([[side.get(name, 0) for name in kept] for side in (before, after)], dtype=np.float64)
    rest = np.array([[sum(side.values())] for side in (before, after)], dtype=np.float64) - rows.sum(axis=1, keepdims=True)
    table = np.concatenate([rows, rest], axis=1) if rest.sum() else rows
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    # Cells of fewer than five expected make the statistic too large (Cochran 1954): they count together.
    small = (expected < 5).any(axis=0)
    if small.sum() > 1:
        table = np.concatenate([table[:, ~small], table[:, small].sum(axis=1, keepdims=True)], axis=1)
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / np.maximum(expected, 1e-9)).sum())
    chance = float(chdtrc(table.shape[1] - 1, statistic)) if table.shape[1] > 1 else 1.0
    shares = rows / np.maximum(np.array([[sum(side.values())] for side in (before, after)]), 1)
    most = int(np.abs(shares[1] - shares[0]).argmax())
    said = f'"{kept[most]}" went from {shares[0, most]:.1%} to {shares[1, most]:.1%}'
    return Shift(feature, float(np.abs(shares[1] - shares[0]).sum() / 2), stability(*table), chance, said)


def _gaps(feature: Feature) -> list[Shift]:
    """The share of missing values, where either side has any."""
    before, after = (_missing(values) for values in (feature.before, feature.after))
    sizes = len(feature.before), len(feature.after)
    if not (before or after) or min(sizes) < LEAST_EXAMPLES:
        return []
    said = {"missing": before, "there": sizes[0] - before}, {"missing": after, "there": sizes[1] - after}
    made = replace(feature, what=f"what is missing of {feature.what or feature.name}")
    words = f"from {before / sizes[0]:.1%} to {after / sizes[1]:.1%}"
    return [replace(_categories(made, *said), said=f"it went {words}")]


def _missing(values: Values) -> int:
    return int(np.isnan(values).sum()) if isinstance(values, np.ndarray) else int(values.null_count)


def _finding(shift: Shift, between: str) -> Finding:
    what = shift.feature.what or shift.feature.name
    large = shift.distance >= LARGE_DISTANCE or shift.psi >= LARGE_PSI
    text = Text(
        "DRIFT",
        "warning" if large else "info",
        f"{what[:1].upper()}{what[1:]} differs between {between}: {shift.said} (distance {shift.distance:.2f}, PSI "
        f"{shift.psi:.2f}, "
        f"chance {shift.adjusted:.1g} for all features together).",
        "A model of the older version answers on data that it was not trained for; scores of the two versions are "
        "not of one thing.",
        "Look whether the change is real. If it is, train again on the newer version; if not, look at how the "
        "data were collected.",
    )
    return of_column(text, shift.feature.column, len(shift.feature.after))
