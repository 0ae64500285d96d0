"""What to label next: examples that a model is unsure of, that differ from what is labelled, or both.

Uncertainty: least confidence, margin, entropy (Settles 2009, Active Learning Literature Survey). Diversity: k-center greedy
(Sener and Savarese 2018; Gonzalez 1985). Both: k-means, weighted by the uncertainty, over the most uncertain few times as many
as are wanted, and of each cluster the one nearest its middle (Zhdanov 2019, Diverse mini-batch active learning).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

LEAST_CONFIDENCE = "least_confidence"
MARGIN = "margin"
ENTROPY = "entropy"
DIVERSITY = "diversity"
MIXED = "mixed"
RANDOM = "random"
STRATEGIES = (LEAST_CONFIDENCE, MARGIN, ENTROPY, DIVERSITY, MIXED, RANDOM)
NEED_PREDICTIONS = (LEAST_CONFIDENCE, MARGIN, ENTROPY, MIXED)

BROAD = 10
"""Of how many times as many uncertain examples as are wanted a mixed choice is made."""

_ROUNDS = 20
_AT_ONCE = 4096
_MOST_CENTRES = 2000
_COMPARED = 1000

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Proposal:
    """Places of the chosen examples among those offered, the most worthwhile first; how unsure the model is of each, 0 to 1
    (zeros without predictions), and how far each is from what is labelled and chosen before it, as a share of the largest such
    distance."""

    chosen: Ints
    uncertainty: Floats
    novelty: Floats
    strategy: str


def propose(
    count: int,
    strategy: str,
    *,
    offered: int,
    probabilities: Floats | None = None,
    vectors: Vectors | None = None,
    labelled: Vectors | None = None,
    seed: int = 0,
) -> Proposal:
    """Chooses `count` of `offered` examples, or all of them if they are fewer.

    probabilities [N, C] of each offered example's classes; vectors float32 [N, D] say how alike examples are (distance),
    labelled [M, D] those of examples that have a label. strategy "": mixed, as far as there are predictions and vectors. Raises
    InvalidArgument NO_PREDICTIONS, NO_VECTORS, BAD_PREDICTIONS.
    """
    used = _strategy(strategy, probabilities, vectors)
    if probabilities is not None:
        _check(probabilities)
    unsure = uncertainty(probabilities, used) if probabilities is not None else np.zeros(offered)
    rng = np.random.default_rng(abs(seed))
    count = min(count, offered)
    if used == RANDOM:
        chosen = rng.permutation(offered)[:count]
    elif used == DIVERSITY:
        assert vectors is not None
        chosen = k_center(vectors, count, labelled, rng)
    elif used == MIXED and vectors is not None:
        chosen = _mixed(unsure, vectors, count, rng)
    else:
        chosen = np.argsort(-unsure, kind="stable")[:count]
    chosen = chosen.astype(np.int64)
    novelty = _novelty(vectors[chosen], labelled) if vectors is not None else np.zeros(len(chosen))
    return Proposal(chosen, unsure[chosen], novelty, used)


def uncertainty(probabilities: Floats, strategy: str) -> Floats:
    """How unsure a model is of each example, 0 (certain) to 1 (every class alike): [N]."""
    classes = probabilities.shape[1]
    ordered = np.sort(probabilities, axis=1)
    if strategy == LEAST_CONFIDENCE:
        return np.asarray((1 - ordered[:, -1]) * classes / (classes - 1))
    if strategy == ENTROPY:
        logs = np.log(np.maximum(probabilities, 1e-12))
        return np.asarray(-(probabilities * logs).sum(axis=1) / np.log(classes))
    return np.asarray(1 - (ordered[:, -1] - ordered[:, -2]))


def k_center(vectors: Vectors, count: int, labelled: Vectors | None, rng: np.random.Generator) -> Ints:
    """Places of `count` vectors, each the one farthest from those before it and from the labelled ones (2-approximation)."""
    nearest = np.full(len(vectors), np.inf)
    squares = np.square(vectors, dtype=np.float64).sum(axis=1)
    if labelled is not None and len(labelled):
        for start in range(0, len(labelled), _AT_ONCE // 8):
            nearest = np.minimum(nearest, _distances(vectors, labelled[start : start + _AT_ONCE // 8]).min(axis=1))
    chosen: list[int] = []
    for _ in range(count):
        next_ = int(rng.integers(len(vectors))) if not np.isfinite(nearest).any() else int(np.argmax(nearest))
        chosen.append(next_)
        away = squares + squares[next_] - 2.0 * (vectors @ vectors[next_])
        nearest = np.minimum(nearest, away)
        nearest[next_] = -1.0
    return np.asarray(chosen, np.int64)


def _mixed(unsure: Floats, vectors: Vectors, count: int, rng: np.random.Generator) -> Ints:
    broad = np.argsort(-unsure, kind="stable")[: count * BROAD]
    if len(broad) <= count or count > _MOST_CENTRES:
        return broad[:count]
    points, weights = vectors[broad].astype(np.float64), np.maximum(unsure[broad], 1e-9)
    centres = _k_means(points, weights, count, rng)
    distances = _distances(points, centres)
    cluster = distances.argmin(axis=1)
    picked: list[int] = []
    for number in range(count):
        members = np.flatnonzero(cluster == number)
        if len(members):
            picked.append(int(members[np.argmin(distances[members, number])]))
    missing = count - len(picked)
    rest = [place for place in range(len(broad)) if place not in set(picked)][:missing]  # the most uncertain of the others
    order = sorted([*picked, *rest])  # broad is in the order of uncertainty
    return np.asarray(broad[order])


def _k_means(points: Floats, weights: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Centres [count, D] of weighted k-means, begun as k-means++ does (Arthur and Vassilvitskii 2007)."""
    first = int(rng.choice(len(points), p=weights / weights.sum()))
    centres = [points[first]]
    nearest = _distances(points, points[first : first + 1])[:, 0]
    for _ in range(count - 1):
        chances = nearest * weights
        total = chances.sum()
        place = int(rng.choice(len(points), p=chances / total)) if total > 0 else int(rng.integers(len(points)))
        centres.append(points[place])
        nearest = np.minimum(nearest, _distances(points, points[place : place + 1])[:, 0])
    found = np.stack(centres)
    for _ in range(_ROUNDS):
        cluster = _distances(points, found).argmin(axis=1)
        sums, totals = np.zeros_like(found), np.bincount(cluster, weights, minlength=count)
        np.add.at(sums, cluster, points * weights[:, None])
        moved = np.where(totals[:, None] > 0, sums / np.maximum(totals, 1e-12)[:, None], found)
        if np.allclose(moved, found):
            break
        found = moved
    return found


def _distances(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> Floats:
    """Squared distances [N, M]."""
    squares = np.square(one, dtype=np.float64).sum(axis=1)[:, None] + np.square(other, dtype=np.float64).sum(axis=1)[None, :]
    return np.asarray(np.maximum(squares - 2.0 * (one @ other.T), 0.0), dtype=np.float64)


def _novelty(vectors: Vectors, labelled: Vectors | None) -> Floats:
    nearest = np.full(len(vectors), np.inf)
    if labelled is not None and len(labelled):
        for start in range(0, len(labelled), _AT_ONCE):
            nearest = np.minimum(nearest, _distances(vectors, labelled[start : start + _AT_ONCE]).min(axis=1))
    for place in range(1, min(len(vectors), _COMPARED)):
        nearest[place] = min(nearest[place], float(_distances(vectors[:place], vectors[place : place + 1]).min()))
    far = np.sqrt(np.where(np.isfinite(nearest), nearest, np.nan))
    largest = np.nanmax(far) if np.isfinite(far).any() else 0.0
    return np.where(np.isnan(far), 1.0, far / largest if largest > 0 else 0.0)


def _strategy(wanted: str, probabilities: Floats | None, vectors: Vectors | None) -> str:
    if wanted and wanted not in STRATEGIES:
        raise InvalidArgument("BAD_STRATEGY", f"strategy is {wanted!r}; it is one of {', '.join(STRATEGIES)}", field="strategy")
    if wanted in NEED_PREDICTIONS and probabilities is None:
        message = f"strategy is {wanted}, which needs predictions; without them there are diversity and random"
        raise InvalidArgument("NO_PREDICTIONS", message, field="predictions")
    if wanted == DIVERSITY and vectors is None:
        message = "strategy is diversity, but this content has nothing that says how alike its examples are (pictures have)"
        raise InvalidArgument("NO_VECTORS", message, field="strategy")
    if wanted:
        return wanted
    if probabilities is not None:
        return MIXED
    return DIVERSITY if vectors is not None else RANDOM


def _check(probabilities: Floats) -> None:
    wrong = probabilities.ndim != 2 or probabilities.shape[1] < 2 or not np.isfinite(probabilities).all()
    if wrong or (probabilities < -1e-6).any() or (probabilities > 1 + 1e-6).any():
        message = "predictions must hold the probability of each of two or more classes, each 0 to 1, for every example"
        raise InvalidArgument("BAD_PREDICTIONS", message, field="predictions")
