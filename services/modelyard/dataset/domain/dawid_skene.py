"""Classes from several people of different reliability (Dawid and Skene 1979, Applied Statistics 28, 20-28).

Each person has a table of how often they say each class for each true one; the classes have shares. Expectation maximization
finds tables, shares and, for each example, the probability of each class, beginning with the shares of the votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 200
_SETTLED = 1e-6
_TINY = 1e-12


@dataclass(frozen=True)
class Estimate:
    """probabilities [N, C] of each example's classes; confusions [A, C, C]: share of each said class (last axis) for each true
    one; shares [C] of the classes; log likelihood of what was said."""

    probabilities: Floats
    confusions: Floats
    shares: Floats
    log_likelihood: float


def dawid_skene(examples: Ints, people: Ints, classes: Ints, sizes: tuple[int, int, int], *, prior: float = 0.0) -> Estimate:
    """examples, people, classes int64 [V]: who said which class of which example, once or several times; `sizes` N, A, C.

    `prior`: votes added to every cell of a person's table, so that few answers do not make anyone infallible; 0 is the paper's
    maximum likelihood. Examples without a vote get the shares of the classes.
    """
    count, crowd, width = sizes
    votes = np.zeros((count, width))
    np.add.at(votes, (examples, classes), 1.0)
    known = votes.sum(axis=1) > 0
    probabilities = np.where(known[:, None], votes / np.maximum(votes.sum(axis=1, keepdims=True), 1), 1.0 / width)
    before = -np.inf
    for _ in range(_ROUNDS):
        shares = probabilities[known].mean(axis=0) if known.any() else np.full(width, 1.0 / width)
        tables = np.full((crowd, width, width), prior)
        for said in range(width):  # np.add.at over a slice is ten times slower
            chosen = classes == said
            np.add.at(tables[:, :, said], people[chosen], probabilities[examples[chosen]])
        sums = tables.sum(axis=2, keepdims=True)
        # Of a class that a person never had before them nothing is known of how they call it.
        tables = np.divide(tables, sums, out=np.full_like(tables, 1.0 / width), where=sums > 0)
        logs = np.log(np.maximum(tables, _TINY))
        scores = np.tile(np.log(np.maximum(shares, _TINY)), (count, 1))
        np.add.at(scores, examples, logs[people, :, classes])
        top = scores.max(axis=1, keepdims=True)
        sums_of = np.exp(scores - top).sum(axis=1, keepdims=True)
        probabilities = np.exp(scores - top) / sums_of
        likelihood = float((top + np.log(sums_of))[known].sum())
        if abs(likelihood - before) < _SETTLED * max(1.0, abs(likelihood)):
            break
        before = likelihood
    return Estimate(probabilities, tables, shares, likelihood)
