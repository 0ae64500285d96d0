"""Columns that give the target away: one column alone predicts it (nearly) perfectly, out of fold, and the others cannot.

After Kaufman et al., "Leakage in data mining" (2012): a feature that is too good is more often an answer than a clue. A task that
is easy for every column is no leak, so the test is a comparison with what the remaining columns reach together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PERFECT_CLASS = 0.995
"""Balanced accuracy, out of fold, from which a single column is suspected."""

PERFECT_NUMBER = 0.998
"""R2, out of fold (or squared correlation of values or ranks), from which a single column is suspected."""

SUSPECT_CLASS = 0.95
SUSPECT_NUMBER = 0.97
"""The same from which a column is worth a look, when it is also..."""

ABOVE_REST = 0.1
"""...this much better than all others together: an answer that was noted with a few mistakes."""

REST_IS_ENOUGH = 0.97
"""When the other columns together reach this, the task is easy and a perfect column no leak."""

MIN_ROWS = 30
_SAMPLE = 20_000
_REST_SAMPLE = 5_000
_FEW = 2_000
_FOLDS = 5
_MOST_SUSPECTS = 3
_BINS = 256
_CELLS = 20_000_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Leak:
    """A column that predicts the target alone: its score (balanced accuracy or R2), what the others reach together, and whether
    it is to be set aside (or the task is simply easy). `perfect`: its score is that of a copy of the target."""

    column: str
    score: float
    rest_score: float
    one_to_one: bool
    perfect: bool = True

    @property
    def set_aside(self) -> bool:
        """Whether the column is to be set aside."""
        return self.perfect and (self.one_to_one or self.rest_score < REST_IS_ENOUGH)


def find_leaks(columns: Mapping[str, Floats], target: Floats | Ints, *, classification: bool) -> list[Leak]:
    """Columns (float64 [N], NaN where missing, categories as codes) that give the target away.

    target: class index int64 [N], or numbers float64 [N]. Looks at 20,000 rows at most, drawn with a fixed seed.
    """
    if len(target) < MIN_ROWS:
        return []
    rows = _sample(len(target), _SAMPLE)
    drawn = target[rows]
    codes = {name: _codes(values[rows]) for name, values in columns.items()}
    folds = np.arange(len(rows)) % _FOLDS
    if classification:
        scores = {name: _class_score(code, drawn.astype(np.int64), folds) for name, code in codes.items()}
    else:
        scores = {name: _number_score(columns[name][rows], code, drawn, folds) for name, code in codes.items()}
    perfect, suspect = (PERFECT_CLASS, SUSPECT_CLASS) if classification else (PERFECT_NUMBER, SUSPECT_NUMBER)
    copies = [name for name, score in scores.items() if score >= perfect]
    nearly = sorted((name for name, score in scores.items() if suspect <= score < perfect), key=lambda name: -scores[name])
    noted = []
    for name in nearly[:_MOST_SUSPECTS]:
        rest_score = _rest_score(_without(columns, [*copies, name]), target, classification, _FEW)
        if rest_score < scores[name] - ABOVE_REST:
            noted.append(Leak(name, scores[name], rest_score, one_to_one=False, perfect=False))
    if not copies:
        return noted
    # An answer noted with mistakes is no sign that the task is easy.
    rest_score = _rest_score(_without(columns, [*copies, *(leak.column for leak in noted)]), target, classification)
    one_to_one = {name: classification and _one_to_one(codes[name], drawn.astype(np.int64)) for name in copies}
    return [*(Leak(name, scores[name], rest_score, one_to_one[name]) for name in copies), *noted]


def _without(columns: Mapping[str, Floats], names: Sequence[str]) -> list[Floats]:
    return [values for name, values in columns.items() if name not in names]


def _sample(n: int, size: int) -> Ints:
    """A fixed random order of (at most `size` of) n rows: also deals the folds."""
    return np.random.Generator(np.random.PCG64(0)).permutation(n)[:size].astype(np.int64)


def _codes(values: Floats) -> Ints:
    """Values as 0, 1, 2...: each different value for few, 256 bins of equal counts for many; missing is a value of its own."""
    missing = np.isnan(values)
    present = values[~missing]
    codes = np.zeros(len(values), np.int64)
    different = np.unique(present)
    if len(different) <= _BINS or np.array_equal(present, np.round(present)):
        codes[~missing] = 1 + np.searchsorted(different, present)
    else:
        edges = np.unique(np.quantile(present, np.arange(1, _BINS) / _BINS))
        codes[~missing] = 1 + np.searchsorted(edges, present, side="right")
    return codes


def _class_score(codes: Ints, classes: Ints, folds: Ints) -> float:
    """Balanced accuracy of "the commonest class of this code in the other folds"."""
    n_codes, n_classes = int(codes.max()) + 1, int(classes.max()) + 1
    if n_codes * n_classes > _CELLS:
        return 0.0
    cell = codes * n_classes + classes
    every = np.bincount(cell, minlength=n_codes * n_classes)
    predicted = np.empty(len(codes), np.int64)
    for fold in range(_FOLDS):
        held = folds == fold
        others = (every - np.bincount(cell[held], minlength=len(every))).reshape(n_codes, n_classes)
        best = np.where(others.sum(axis=1) > 0, others.argmax(axis=1), others.sum(axis=0).argmax())
        predicted[held] = best[codes[held]]
    return _balanced_accuracy(predicted, classes)


def _balanced_accuracy(predicted: Ints, classes: Ints) -> float:
    counts = np.bincount(classes)
    hits = np.bincount(classes, weights=predicted == classes, minlength=len(counts))
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))


def _number_score(values: Floats, codes: Ints, target: Floats | Ints, folds: Ints) -> float:
    numbers = target.astype(np.float64)
    predicted = np.empty(len(codes), np.float64)
    for fold in range(_FOLDS):
        held = folds == fold
        sums = np.bincount(codes[~held], weights=numbers[~held], minlength=int(codes.max()) + 1)
        counts = np.bincount(codes[~held], minlength=int(codes.max()) + 1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), numbers[~held].mean())
        predicted[held] = means[codes[held]]
    spread = float(np.sum((numbers - numbers.mean()) ** 2))
    binned = 1 - float(np.sum((numbers - predicted) ** 2)) / spread if spread > 0 else 0.0
    return max(binned, _correlation(values, numbers), _correlation(_ranks(values), _ranks(numbers)))


def _correlation(a: Floats, b: Floats) -> float:
    """Squared correlation where both are there, times the share of rows where they are."""
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() < MIN_ROWS or a[both].std() == 0 or b[both].std() == 0:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1] ** 2 * both.mean())


def _ranks(values: Floats) -> Floats:
    """Average ranks; NaN stays NaN."""
    ranks = np.full(len(values), np.nan)
    present = ~np.isnan(values)
    _, inverse, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[present] = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _one_to_one(codes: Ints, classes: Ints) -> bool:
    """Whether each value stands for one class and each class for one value (99.5 percent of rows)."""
    pairs, counts = np.unique(np.stack([codes, classes]), axis=1, return_counts=True)
    if len(np.unique(codes)) != len(np.unique(classes)):
        return False
    order = np.argsort(-counts, kind="stable")[: len(np.unique(classes))]
    kept = pairs[:, order]
    distinct = len(np.unique(kept[0])) == len(np.unique(kept[1])) == len(order)
    return distinct and counts[order].sum() >= PERFECT_CLASS * len(codes)


def _rest_score(rest: list[Floats], target: Floats | Ints, classification: bool, most: int = _REST_SAMPLE) -> float:
    """What a small forest reaches out of fold on the columns that are not suspected; 0 without any."""
    if not rest:
        return 0.0
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    rows = _sample(len(target), most)
    features = np.stack([values[rows] for values in rest], axis=1)
    drawn = target[rows]
    forest = RandomForestClassifier if classification else RandomForestRegressor
    model = forest(n_estimators=40, min_samples_leaf=2, random_state=0, n_jobs=1)
    predicted = cross_val_predict(model, features, drawn, cv=KFold(3))
    if classification:
        return _balanced_accuracy(predicted.astype(np.int64), drawn.astype(np.int64))
    spread = float(np.sum((drawn - drawn.mean()) ** 2))
    return 1 - float(np.sum((drawn - predicted) ** 2)) / spread if spread > 0 else 0.0
