"""Which quick model judges the labels of which kind of data, and what it is shown of each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.out_of_sample import FOLDS, Blocks, OutOfSample, judged, out_of_sample
from modelyard.dataset.domain.signal_features import series_features, sound_features
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.packs import Packs
from modelyard.dataset.worker.picture_pass import Looks
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import samples

_LOOKED_AT = 256
_MANY_ROWS = 5_000
_SMALL: dict[str, Any] = {"max_iter": 40, "learning_rate": 0.06, "max_leaf_nodes": 8}
_LARGE: dict[str, Any] = {"max_iter": 100, "learning_rate": 0.08}
"""Of few rows, many trees of many leaves are surer than they are right: they accuse more labels of titanic, and fewer rightly."""

_LEAST = 1e-6

Ints = npt.NDArray[np.int64]
Span = tuple[float, float]


def judge(
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    looks: Looks | None,
    labels: Ints,
    members: Ints,
    work: Work,
    span: Span,
) -> OutOfSample:
    """Probabilities of the classes for the examples at `members` int64 [M], by models that did not learn from them.

    labels int64 [M]. Raises Cancelled.
    """
    groups, classes = stored.near_groups[members], len(content.classes)
    if content.kind == files.TABLE:
        rows = np.asarray(stored.manifest["row"].to_numpy()[members], dtype=np.int64)
        return _judge_table(store, content, rows, labels, groups, work, span)
    if looks is not None:
        features: Blocks = lambda start, stop: looks.at(members[start:stop])  # noqa: E731
        return out_of_sample(features, labels, groups, classes, work, span)
    middle = (span[0] + span[1]) / 2
    vectors = _signals(store, content, stored, members, work, (span[0], middle))
    return out_of_sample(lambda start, stop: vectors[start:stop], labels, groups, classes, work, (middle, span[1]))


def _signals(
    store: ArtifactStore, content: files.DatasetDescriptor, stored: Stored, members: Ints, work: Work, span: Span
) -> npt.NDArray[np.float32]:
    """Vectors of sounds or series, each dimension with mean 0 and deviation 1: float32 [M, D]."""
    of = _sound if content.kind == files.AUDIO else _series(stored, members)
    packs = Packs([store.path(pack) for pack in content.packs])
    pack, offset, length = (stored.manifest[name].to_numpy()[members] for name in ("pack", "offset", "length"))
    vectors = []
    for row in range(len(members)):
        if row % _LOOKED_AT == 0:
            work.stage("look at signals", row, len(members), "examples", *span)
        vectors.append(of(row, packs.read(int(pack[row]), int(offset[row]), int(length[row]))))
    stacked = np.stack(vectors)
    spread = stacked.std(axis=0)
    return np.asarray((stacked - stacked.mean(axis=0)) / np.where(spread > 1e-9, spread, 1), dtype=np.float32)


def _sound(row: int, data: bytes) -> npt.NDArray[np.float32]:
    return sound_features(*samples(data))


def _series(stored: Stored, members: Ints) -> Callable[[int, bytes], npt.NDArray[np.float32]]:
    channels = stored.manifest["channels"].to_numpy()[members]

    def vector(row: int, data: bytes) -> npt.NDArray[np.float32]:
        return series_features(np.frombuffer(data, np.float64).reshape(-1, int(channels[row])))

    return vector


def _judge_table(
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    rows: Ints,
    labels: Ints,
    groups: Ints,
    work: Work,
    span: Span,
) -> OutOfSample:
    """Gradient boosted trees (scikit-learn), which take numbers, categories and missing values as they are; equal rows in one
    fold."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    values, named = _columns(store, content, rows)
    probabilities = np.zeros((len(labels), len(content.classes)), np.float32)
    for number, (train, held) in enumerate(GroupKFold(FOLDS, shuffle=True, random_state=0).split(values, labels, groups)):
        work.stage("learn labels", number, FOLDS, "folds", *span)
        model = HistGradientBoostingClassifier(
            **(_SMALL if len(labels) < _MANY_ROWS else _LARGE),
            categorical_features=named,
            early_stopping=False,
            random_state=0,
        )
        model.fit(values[train], labels[train])
        probabilities[held[:, None], model.classes_[None, :]] = model.predict_proba(values[held])
    return judged(np.log(np.maximum(probabilities, _LEAST)).astype(np.float32), labels)


def _columns(store: ArtifactStore, content: files.DatasetDescriptor, rows: Ints) -> tuple[npt.NDArray[np.float64], list[bool]]:
    """The features of a table's rows, float64 [M, D], and which of them are names of categories."""
    if content.table is None:
        raise AssertionError("a table's content has a table")
    used = [column for column in content.columns if column.role == files.FEATURE]
    table = files.read_parquet(store.path(content.table), [column.name for column in used])
    arrays = tables.feature_arrays(table, [column.name for column in used])
    values = np.stack([arrays[column.name][rows] for column in used], axis=1)
    return values, [column.type == files.CATEGORICAL and column.distinct_count <= 255 for column in used]


def judge_targets(
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    targets: npt.NDArray[np.float64],
    work: Work,
    span: Span,
) -> npt.NDArray[np.float64]:
    """What models that did not learn from a row say of its number to predict: float64 [N]. targets float64 [N], finite.

    Raises Cancelled.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import GroupKFold

    values, named = _columns(store, content, np.asarray(stored.manifest["row"].to_numpy(), dtype=np.int64))
    predicted = np.empty(len(targets))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0).split(values, None, stored.near_groups)
    for number, (train, held) in enumerate(folds):
        work.stage("learn the target", number, FOLDS, "folds", *span)
        model = HistGradientBoostingRegressor(
            **{**_LARGE, "max_leaf_nodes": 31 if len(targets) >= _MANY_ROWS else 8},
            categorical_features=named,
            early_stopping=False,
            random_state=0,
        )
        predicted[held] = model.fit(values[train], targets[train]).predict(values[held])
    return predicted
