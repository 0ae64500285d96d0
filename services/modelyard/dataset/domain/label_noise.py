"""How probable it is that a label is wrong, from what a model that did not learn from the example says of it.

Labels are taken to be what the model's probabilities say, but for a share of them that was moved to another class at random
(Angluin and Laird 1988). That share and the temperature of the probabilities are those at which the labels that were given are
likeliest; what remains for each example is Bayes' rule. So a weak model, whose classes overlap, explains what it cannot tell by
the overlap and accuses few; one that tells the classes well sees wrong labels as what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TEMPERATURES = np.geomspace(0.02, 3.0, 32)
_ROUNDS = 60
_FIRST_RATE, _MOST_RATE = 0.03, 0.5
_LEAST = 1e-12

Scores = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelNoise:
    """probabilities float32 [N, K] of the classes; wrong float64 [N]: how probable it is that each label is wrong, 0 to 1;
    rate: the share of labels that seem to have been moved."""

    probabilities: Scores
    wrong: npt.NDArray[np.float64]
    rate: float


def fit(scores: Scores, labels: Ints) -> LabelNoise:
    """scores float32 [N, K] (higher: more probable, on any scale; logarithms of probabilities for one), labels int64 [N]."""
    fits = [(temperature, *_rate(_held(scores, labels, temperature), scores.shape[1])) for temperature in _TEMPERATURES]
    temperature, rate, _ = max(fits, key=lambda each: each[2])
    held = _held(scores, labels, temperature)
    return LabelNoise(_softmax(scores, temperature), _wrong(held, rate, scores.shape[1]), rate)


def _rate(held: npt.NDArray[np.float64], classes: int) -> tuple[float, float]:
    """The likeliest share of moved labels (expectation maximization), and the labels' mean log likelihood then."""
    rate = _FIRST_RATE
    for _ in range(_ROUNDS):
        rate = min(float(_wrong(held, rate, classes).mean()), _MOST_RATE)
    return rate, float(np.log((1 - rate) * held + rate * (1 - held) / (classes - 1) + _LEAST).mean())


def _wrong(held: npt.NDArray[np.float64], rate: float, classes: int) -> npt.NDArray[np.float64]:
    """Bayes' rule, from the probability that the model gives each label: how probable it is that it was moved there."""
    moved = rate * (1 - held) / (classes - 1)
    return np.asarray(moved / (moved + (1 - rate) * held + _LEAST), dtype=np.float64)


def _held(scores: Scores, labels: Ints, temperature: float) -> npt.NDArray[np.float64]:
    return _softmax(scores, temperature)[np.arange(len(labels)), labels].astype(np.float64)


def _softmax(scores: Scores, temperature: float) -> Scores:
    scaled = scores / np.float32(temperature)
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)
