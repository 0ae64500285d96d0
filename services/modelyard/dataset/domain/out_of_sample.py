"""What a quick model says of each example that it did not learn from: probabilities of the classes, by cross-validation.

The model is ridge regression on random cosines of the features (Rahimi and Recht 2007: their inner products come close to a
Gaussian kernel), on the classes as one-hot targets. It needs one pass over the examples: each fold's products of features are
summed once, and the model without a fold is solved from the sums of the others. Least squares do not bend to single wrong labels,
which is what is wanted of a model that is to find them. label_noise makes probabilities of its scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.label_noise import LabelNoise, fit
from modelyard.dataset.domain.neighbours import principal_axes
from modelyard.dataset.domain.work import Work

FOLDS = 5
MOST_COSINES = 3072
"""Random features; fewer of few examples."""

_BLOCK = 4096
_STRETCH = 64
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
_PAIRS = 2000
_NARROW = 1.0
_AXES = 256
"""Longer features are turned to so many of their principal axes first: random cosines of these tell the classes as well, at a
fraction of the products (docs/quality.md)."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Blocks = Callable[[int, int], Floats]
"""Features of the examples from a position to another: float32 [n, D]."""


@dataclass(frozen=True)
class OutOfSample:
    """What a model says of each example that it did not learn from; accuracy: share of the labels that are its most probable
    class (0 to 1); balanced: the mean of that share over the classes."""

    noise: LabelNoise
    accuracy: float
    balanced: float


def out_of_sample(
    features: Blocks, labels: Ints, groups: Ints, classes: int, work: Work, span: tuple[float, float]
) -> OutOfSample:
    """Cross-validates. labels int64 [N], 0 to classes - 1; groups int64 [N]: examples of one group (duplicates) are in one fold.

    `span`: the share of the job that this is, for its progress. Raises Cancelled.
    """
    rng = np.random.default_rng(0)
    folds = _folds(groups, rng)
    cosines = _Cosines(features, len(labels), rng)
    begin, end = span
    turn = begin + 0.6 * (end - begin)
    sums = _summed(features, cosines, labels, folds, classes, work, (begin, turn))
    ridge, without_first = _best_ridge(features, cosines, sums, labels, folds)
    weights = [without_first]
    for fold in range(1, FOLDS):
        work.check()
        weights.append(_solved(sums, ridge, fold))
    scores = np.empty((len(labels), classes), np.float32)
    for start in range(0, len(labels), _BLOCK):
        work.stage("judge labels", start, len(labels), "examples", turn, end)
        block = cosines(features(start, min(start + _BLOCK, len(labels))))
        for fold in range(FOLDS):
            mine = np.flatnonzero(folds[start : start + _BLOCK] == fold)
            scores[start + mine] = block[mine] @ weights[fold]
    return judged(scores, labels)


def judged(scores: Floats, labels: Ints) -> OutOfSample:
    """What scores out of sample, float32 [N, K] on any scale, say of the labels int64 [N]."""
    classes = scores.shape[1]
    hits = scores.argmax(axis=1) == labels
    carried = np.bincount(labels, minlength=classes)
    right = np.bincount(labels, weights=hits, minlength=classes)
    balanced = float(np.mean(right[carried > 0] / carried[carried > 0]))
    return OutOfSample(fit(scores, labels), float(hits.mean()), balanced)


class _Cosines:
    """Features as random cosines, [n, width + 1] with a last column of ones. The scale is the median distance of two examples."""

    def __init__(self, features: Blocks, count: int, rng: np.random.Generator) -> None:
        sample = np.concatenate([features(*place) for place in _places(count, rng)])
        self._axes: Floats | None = None
        self._mean: Floats = sample.mean(axis=0)
        if sample.shape[1] > _AXES:
            self._mean, self._axes = principal_axes(sample, _AXES)
        sample = self._turned(sample)
        pairs = rng.integers(0, len(sample), (2, _PAIRS))
        distances = np.linalg.norm(sample[pairs[0]] - sample[pairs[1]], axis=1)
        scale = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
        self.width = int(min(MOST_COSINES, max(256, count // 4)))
        self._directions = (rng.normal(size=(sample.shape[1], self.width)) * (_NARROW / scale)).astype(np.float32)
        self._shift = rng.uniform(0, 2 * np.pi, self.width).astype(np.float32)
        self._out = np.ones((_BLOCK, self.width + 1), np.float32)

    def __call__(self, block: Floats) -> Floats:
        """Of a block of at most _BLOCK; what it gives is good until the next call."""
        out = self._out[: len(block)]
        turns = np.matmul(self._turned(block), self._directions, out=out[:, :-1])
        turns += self._shift
        np.cos(turns, out=turns)
        return out

    def _turned(self, block: Floats) -> Floats:
        centred = block - self._mean
        return np.asarray(centred if self._axes is None else centred @ self._axes, dtype=np.float32)


@dataclass(frozen=True)
class _Sums:
    """Of each fold, the sums of products of features [FOLDS, W, W], the triangle below the diagonal alone, and of features by
    class [FOLDS, W, K]."""

    products: Floats
    answers: npt.NDArray[np.float64]


def _summed(
    features: Blocks, cosines: _Cosines, labels: Ints, folds: Ints, classes: int, work: Work, span: tuple[float, float]
) -> _Sums:
    from scipy.linalg.blas import ssyrk

    width = cosines.width + 1
    products = np.zeros((FOLDS, width, width), np.float32)
    answers = np.zeros((FOLDS, width, classes))
    for start in range(0, len(labels), _BLOCK):
        work.stage("learn labels", start, len(labels), "examples", *span)
        block = cosines(features(start, min(start + _BLOCK, len(labels))))
        for fold in range(FOLDS):
            mine = np.flatnonzero(folds[start : start + _BLOCK] == fold)
            rows = block[mine]
            # Adds to the sums where they lie. To BLAS, which counts by columns, this array is its transpose: upper is lower here.
            ssyrk(1, rows.T, beta=1, c=products[fold].T, lower=0, overwrite_c=1)
            answers[fold] += rows.T @ (labels[start + mine, None] == np.arange(classes)).astype(np.float32)
    return _Sums(products, answers)


def _best_ridge(features: Blocks, cosines: _Cosines, sums: _Sums, labels: Ints, folds: Ints) -> tuple[float, Floats]:
    """The ridge whose model without fold 0 is right most often on examples of fold 0, and that model."""
    places = _places(len(labels), np.random.default_rng(1))
    held = [(start, np.flatnonzero(folds[start:stop] == 0)) for start, stop in places]
    seen = np.concatenate([cosines(features(*place))[mine] for place, (_, mine) in zip(places, held, strict=True)])
    given = np.concatenate([labels[start + mine] for start, mine in held])
    tried = [(ridge, _solved(sums, ridge, 0)) for ridge in _RIDGES]
    return max(tried, key=lambda each: float(np.mean((seen @ each[1]).argmax(axis=1) == given)))


def _folds(groups: Ints, rng: np.random.Generator) -> Ints:
    """A fold for each example, int64 [N]; one for each group."""
    _, of = np.unique(groups, return_inverse=True)
    return rng.permutation(int(of.max()) + 1)[of] % FOLDS


def _places(count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Stretches that hold about _BLOCK examples from all over (sources come class by class), or all of them."""
    if count <= _BLOCK:
        return [(0, count)]
    return [(int(start), int(start) + _STRETCH) for start in np.sort(rng.integers(0, count - _STRETCH, _BLOCK // _STRETCH))]


def _solved(sums: _Sums, ridge: float, fold: int) -> Floats:
    """Weights [width + 1, K] of the model without a fold."""
    from scipy.linalg import LinAlgError, solve

    answers = sums.answers.sum(axis=0) - sums.answers[fold]
    for kind in ("pos", "sym"):  # sums in 32 bits may be positive definite by nothing but the ridge, and then not quite
        products = sums.products.sum(axis=0, dtype=np.float64) - sums.products[fold]
        products[np.diag_indices_from(products)] += ridge * np.trace(products) / len(products)
        try:
            solved = solve(products, answers, assume_a=kind, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            continue
        return np.asarray(solved, dtype=np.float32)
    return np.zeros(answers.shape, np.float32)
