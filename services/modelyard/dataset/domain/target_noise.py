"""How probable it is that a number to predict is wrong, from what a model that did not learn from the row says of it.

The counterpart of label_noise for regression. A number is taken to be what the model says, plus an error of Student's t
distribution whose scale is that of the errors of rows with similar predictions (their median, so that single wrong numbers do not
move it); but a share of the numbers is some other row's. That share and the heaviness of the tails are those at which the given
numbers are likeliest; what remains for each row is Bayes' rule. Where a model says little, its errors spread as far as the
numbers do, and it accuses nobody. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TAILS = (2.0, 3.0, 5.0, 10.0, 30.0)
_ROUNDS = 60
_FIRST_RATE, _MOST_RATE = 0.03, 0.4
_TINY = 1e-300
_WINDOW = 50
_MADS = 1.4826


@dataclass(frozen=True)
class TargetNoise:
    """wrong float64 [N]: how probable it is that each number is wrong, 0 to 1; rate: the share that seems to be; explained: the
    share of the numbers' spread that the model explains, by medians (0: nothing, 1: all)."""

    wrong: Floats
    rate: float
    explained: float


def fit(predicted: Floats, given: Floats) -> TargetNoise:
    """predicted, given float64 [N], finite; predicted by models that did not learn from the row."""
    errors = given - predicted
    spread = float(np.median(np.abs(given - np.median(given))))
    scales = _scales(predicted, errors, 1e-6 * spread or 1e-12)
    anywhere = np.log(_density(given) + _TINY)
    fits = [(tail, *_rate(_log_t(errors / scales, tail) - np.log(scales), anywhere)) for tail in _TAILS]
    tail, rate, _ = max(fits, key=lambda each: each[2])
    wrong = _wrong(_log_t(errors / scales, tail) - np.log(scales), anywhere, rate)
    left = float(np.median(np.abs(errors - np.median(errors))))
    return TargetNoise(wrong, rate, max(0.0, 1 - (left / spread) ** 2) if spread > 0 else 0.0)


def _scales(predicted: Floats, errors: Floats, least: float) -> Floats:
    """The usual size of the errors of rows with similar predictions: float64 [N]."""
    order = np.argsort(predicted, kind="stable")
    sizes = np.abs(errors)[order]
    half = min(max(_WINDOW, len(sizes) // 20), len(sizes)) // 2
    steps = max(1, half // 4)
    centres = np.arange(0, len(sizes), steps)
    medians = [float(np.median(sizes[max(0, centre - half) : centre + half + 1])) for centre in centres.tolist()]
    out = np.empty(len(sizes))
    out[order] = np.interp(np.arange(len(sizes)), centres, medians) * _MADS
    floor = 0.25 * float(np.median(out))
    return np.asarray(np.maximum(out, max(floor, least)), dtype=np.float64)


def _density(given: Floats) -> Floats:
    """How densely numbers lie around each, by the distance of the one k ranks away: float64 [N]."""
    count = len(given)
    k = max(5, round(count**0.5))
    order = np.argsort(given, kind="stable")
    ranked = given[order]
    low, high = np.maximum(np.arange(count) - k, 0), np.minimum(np.arange(count) + k, count - 1)
    width = ranked[high] - ranked[low]
    usual = float(ranked[-1] - ranked[0]) / count
    out = np.empty(count)
    out[order] = (high - low) / (count * np.maximum(width, max(usual, 1e-12)))
    return out


def _log_t(values: Floats, tail: float) -> Floats:
    """Logarithm of Student's t density, scaled so that the median of the absolute values is that of a normal distribution."""
    squeeze = _T_MEDIANS[tail] * _MADS
    start = lgamma((tail + 1) / 2) - lgamma(tail / 2) - 0.5 * np.log(tail * np.pi) + np.log(squeeze)
    return np.asarray(start - (tail + 1) / 2 * np.log1p((values * squeeze) ** 2 / tail), dtype=np.float64)


_T_MEDIANS = {2.0: 0.8165, 3.0: 0.7649, 5.0: 0.7267, 10.0: 0.6998, 30.0: 0.6828}
"""The upper quartiles of Student's t distributions."""


def _rate(expected: Floats, anywhere: Floats) -> tuple[float, float]:
    """The likeliest share of wrong numbers (expectation maximization), and the mean log likelihood then."""
    rate = _FIRST_RATE
    for _ in range(_ROUNDS):
        rate = min(max(float(_wrong(expected, anywhere, rate).mean()), 1e-6), _MOST_RATE)
    return rate, float(np.logaddexp(np.log1p(-rate) + expected, np.log(rate) + anywhere).mean())


def _wrong(expected: Floats, anywhere: Floats, rate: float) -> Floats:
    moved = np.log(rate) + anywhere
    return np.asarray(np.exp(moved - np.logaddexp(moved, np.log1p(-rate) + expected)), dtype=np.float64)
