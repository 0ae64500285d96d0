"""What a tabular model is made of: the encoding of columns as numbers, and the trees, the linear map or the network behind it.

Everything here is plain data and numpy, so that the exporter can write the same arithmetic as an ONNX graph. Numbers are
float32 wherever a served model would see float32. For workers only (LightGBM is imported when trees are used).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from cattrs import BaseValidationError, Converter
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset import CATEGORICAL, NUMERIC
from modelyard.formats.model import ModelCard, ModelFile
from modelyard.recipes.features_fit import FittedFeatures, Output
from modelyard.recipes.features_ops import op_document, op_from
from modelyard.recipes.tabular import LIGHTGBM, LINEAR, NETWORK

Floats = NDArray[np.floating[Any]]
Matrix = NDArray[np.float32]
Columns = Mapping[str, NDArray[Any]]

MISSING: Final = ""
"""A missing value of a categorical column; NaN is that of a numeric one."""

ONE_HOT_MOST: Final = 24
"""Columns with more categories than this are described by what the target does in each category."""

SMOOTHING: Final = 10.0
"""Weight, in rows, of the mean over all rows in the mean of a category (Micci-Barreca 2001)."""

_HIDDEN: Final = re.compile(r"features\.\d{1,3}\.weight")

FEATURES_VERSION: Final = 1
"""Of what a model card says of a feature pipeline."""

CLIP: Final = 10.0
"""For linear models: a number further than this many standard deviations from the mean counts as being this far."""


@dataclass(frozen=True)
class NumericEncoding:
    """A numeric column. Trees: taken as it is (`fill` None). Linear: missing -> fill, then (x - center) / scale, clipped."""

    name: str
    fill: float | None = None
    center: float = 0.0
    scale: float = 1.0
    indicator: bool = False


@dataclass(frozen=True)
class CategoricalEncoding:
    """A categorical column: its known categories, and the row of numbers that each becomes.

    `values` is empty for one-hot (category i becomes 1 in place i; an unknown one all zeros), else one row per category.
    `default` is the row of an unknown category. A missing value is the category "" where training saw missing values.
    """

    name: str
    categories: tuple[str, ...]
    values: tuple[tuple[float, ...], ...] = ()
    default: tuple[float, ...] = ()

    @property
    def rows(self) -> Matrix:
        """Numbers of each category, and last those of an unknown one: [categories + 1, width]."""
        if self.values:
            return np.array([*self.values, self.default], dtype=np.float32)
        count = len(self.categories)
        return np.vstack([np.eye(count), np.zeros((1, count))]).astype(np.float32)


@dataclass(frozen=True)
class GivenEncoding:
    """Numbers that a feature pipeline made, taken as they are: one, or several under one name. fill: of missing ones, one number
    each; empty where they stay missing (trees)."""

    name: str
    fill: tuple[float, ...] = ()

    def block(self, columns: Columns) -> Matrix:
        """float32 [N, width]."""
        values = columns[self.name]
        wide: Matrix = values if values.ndim == 2 else values[:, None]
        return np.where(np.isnan(wide), np.array(self.fill, np.float32), wide) if self.fill else wide


@dataclass(frozen=True)
class TableEncoding:
    """How the columns of a row become numbers: all numeric columns, then the missing indicators, what a feature pipeline gives as
    it is, then each categorical column. features: the pipeline that makes these columns of those of the table; None: they are
    those of the table."""

    numeric: tuple[NumericEncoding, ...]
    categorical: tuple[CategoricalEncoding, ...]
    given: tuple[GivenEncoding, ...] = ()
    features: FittedFeatures | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        if self.features is not None:
            return tuple(name for name, _ in self.features.inputs)
        return (*(column.name for column in self.numeric), *(column.name for column in self.categorical))

    @property
    def numeric_names(self) -> set[str]:
        """Those of them that hold numbers."""
        if self.features is not None:
            return {name for name, kind in self.features.inputs if kind == NUMERIC}
        return {column.name for column in self.numeric}

    def derived(self, columns: Columns) -> Columns:
        """The columns as they are encoded: after the pipeline, where there is one."""
        return columns if self.features is None else self.features.apply(columns)

    def apply(self, columns: Columns) -> Matrix:
        """Numbers for a model, float32 [N, width]. Numeric columns are float32 [N] with NaN, categorical ones str [N]."""
        return self.encoded(self.derived(columns))

    def encoded(self, columns: Columns) -> Matrix:
        """`apply` for columns that are derived already."""
        parts = [numeric_block(self.numeric, columns)] if self.numeric else []
        indicators = [np.isnan(columns[c.name]) for c in self.numeric if c.indicator]
        parts += [np.stack(indicators, axis=1).astype(np.float32)] if indicators else []
        parts += [each.block(columns) for each in self.given]
        parts += [column.rows[_positions(column.categories, columns[column.name])] for column in self.categorical]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def numeric_block(numeric: Sequence[NumericEncoding], columns: Columns) -> Matrix:
    """The numeric columns after filling, centring, scaling and clipping, float32 [N, columns]."""
    block = np.stack([columns[column.name] for column in numeric], axis=1).astype(np.float32)
    if numeric[0].fill is None:
        return block
    fill, center, scale = numeric_constants(numeric)
    filled = np.where(np.isnan(block), fill, block)
    limit = np.float32(CLIP)
    scaled: Matrix = np.clip((filled - center) / scale, -limit, limit)
    return scaled


def numeric_constants(numeric: Sequence[NumericEncoding]) -> tuple[Matrix, Matrix, Matrix]:
    """Fill, center and scale of each column, float32 [columns] each."""
    rows = [(column.fill or 0.0, column.center, column.scale) for column in numeric]
    fill, center, scale = np.array(rows, dtype=np.float32).T
    return fill, center, scale


def _positions(categories: Sequence[str], values: NDArray[Any]) -> NDArray[np.int64]:
    """Index of each value among the categories; their number where it is none of them."""
    known = {name: position for position, name in enumerate(categories)}
    return np.array([known.get(value, len(categories)) for value in values], dtype=np.int64)


def target_matrix(y: NDArray[Any], classes: int) -> Floats:
    """What category means are taken of, [N, outputs]: one-hot classes (of two only the second), or the values (classes 0)."""
    if classes == 0:
        return y[:, None].astype(np.float64)
    hot: Floats = np.eye(classes)[y]
    return hot[:, 1:] if classes == 2 else hot


def fit_encoding(columns: Columns, target: Floats, *, linear: bool, features: FittedFeatures | None = None) -> TableEncoding:
    """Learns the encoding from training rows; `target` as `target_matrix` gives it. features: a pipeline fitted to them."""
    if features is not None:
        return _fit_derived(features, columns, target, linear=linear)
    numeric = [name for name, values in columns.items() if values.dtype != object]
    fit_numeric = _fit_scaled if linear else _fit_plain
    return TableEncoding(
        tuple(fit_numeric(name, columns[name]) for name in numeric),
        tuple(fit_categorical(name, values, target) for name, values in columns.items() if values.dtype == object),
    )


def _fit_derived(features: FittedFeatures, columns: Columns, target: Floats, *, linear: bool) -> TableEncoding:
    derived, fit_numeric = features.apply(columns), _fit_scaled if linear else _fit_plain
    numbers = [each for each in features.outputs if each.kind != CATEGORICAL]
    return TableEncoding(
        tuple(fit_numeric(each.name, derived[each.name]) for each in numbers if not each.given),
        tuple(
            fit_categorical(each.name, derived[each.name], target, by_target=each.by_target)
            for each in features.outputs
            if each.kind == CATEGORICAL
        ),
        tuple(GivenEncoding(each.name, _medians(derived[each.name]) if linear else ()) for each in numbers if each.given),
        features,
    )


def _medians(values: NDArray[Any]) -> tuple[float, ...]:
    """Of each number, of those that are there; 0 where none is."""
    wide = values if values.ndim == 2 else values[:, None]
    known = [column[np.isfinite(column)] for column in wide.T]
    return tuple(_f32(np.median(column)) if len(column) else 0.0 for column in known)


def _fit_plain(name: str, values: NDArray[Any]) -> NumericEncoding:
    return NumericEncoding(name)


def _fit_scaled(name: str, values: NDArray[Any]) -> NumericEncoding:
    present = values[~np.isnan(values)].astype(np.float64)
    if present.size == 0:
        return NumericEncoding(name, fill=0.0)
    scale = float(np.float32(present.std()))
    missing = bool(present.size < values.size)
    return NumericEncoding(name, _f32(np.median(present)), _f32(present.mean()), scale if scale > 0 else 1.0, missing)


def _f32(value: float) -> float:
    return float(np.float32(value))


def fit_categorical(name: str, values: NDArray[Any], target: Floats, *, by_target: bool = False) -> CategoricalEncoding:
    """One-hot for few categories; else (or always, by_target) what the target does in each: its smoothed mean, and the share of
    rows it has."""
    categories, inverse = np.unique(values.astype(str), return_inverse=True)
    if len(categories) <= ONE_HOT_MOST and not by_target:
        return CategoricalEncoding(name, tuple(categories.tolist()))
    means, default = _category_means(inverse, len(categories), target)
    rows = tuple(tuple(_f32(x) for x in row) for row in means)
    return CategoricalEncoding(name, tuple(categories.tolist()), rows, tuple(_f32(x) for x in default))


def _category_means(inverse: NDArray[Any], count: int, target: Floats) -> tuple[Floats, Floats]:
    prior = target.mean(axis=0)
    rows = np.bincount(inverse, minlength=count)[:, None]
    sums = np.stack([np.bincount(inverse, weights=target[:, k], minlength=count) for k in range(target.shape[1])], axis=1)
    means = (sums + SMOOTHING * prior) / (rows + SMOOTHING)
    share = rows / len(inverse)
    return np.hstack([means, share]), np.append(prior, 0.0)


def apply_out_of_fold(encoding: TableEncoding, columns: Columns, target: Floats, folds: NDArray[np.int64]) -> Matrix:
    """`encoding.apply` for the training rows themselves: no row's target enters the numbers of its own categories.

    Category means are learnt for each fold (numbers 0...) from the other folds. Without this a model would trust them too much.
    """
    columns = encoding.derived(columns)
    by_mean = [position for position, column in enumerate(encoding.categorical) if column.values]
    if not by_mean:
        return encoding.encoded(columns)
    out = encoding.encoded(columns)
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        refit = list(encoding.categorical)
        for position in by_mean:
            refit[position] = _refit(refit[position], columns, target, outside)
        inner = TableEncoding(encoding.numeric, tuple(refit), encoding.given)
        out[inside] = inner.encoded({name: v[inside] for name, v in columns.items()})
    return out


def _refit(column: CategoricalEncoding, columns: Columns, target: Floats, rows: NDArray[np.bool_]) -> CategoricalEncoding:
    values = columns[column.name][rows].astype(str)
    categories, inverse = np.unique(values, return_inverse=True)
    means, default = _category_means(inverse, len(categories), target[rows])
    return CategoricalEncoding(
        column.name, tuple(categories.tolist()), tuple(map(tuple, means.tolist())), tuple(default.tolist())
    )


@dataclass(frozen=True)
class LinearMap:
    """weight [outputs, width] and bias [outputs], float32. One output for regression and two classes, else one per class."""

    weight: Matrix
    bias: Matrix


@dataclass(frozen=True)
class TableModel:
    """A trained tabular model. `trees` is LightGBM's text, `layers` a network's, a ReLU between them; exactly one of `trees`,
    `linear` and `layers` is set."""

    encoding: TableEncoding
    classes: tuple[str, ...]
    trees: str = ""
    linear: LinearMap | None = None
    layers: tuple[LinearMap, ...] = ()

    @property
    def kind(self) -> str:
        """`lightgbm`, `linear` or `mlp`."""
        if self.layers:
            return NETWORK
        return LINEAR if self.linear is not None else LIGHTGBM

    def predict(self, columns: Columns) -> Floats:
        """Probabilities [N, classes] or predictions [N, 1], float64."""
        encoded = self.encoding.apply(columns)
        if self.layers:
            scores = _network_scores(self.layers, encoded)
        else:
            scores = _linear_scores(self.linear, encoded) if self.linear is not None else _tree_scores(self.trees, encoded)
        return answers(scores, len(self.classes))


def answers(scores: Floats, classes: int) -> Floats:
    """Raw scores [N, outputs] as probabilities [N, classes], or as they are when `classes` is 0. No overflow."""
    if classes == 0:
        return scores
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _linear_scores(linear: LinearMap, encoded: Matrix) -> Floats:
    return encoded.astype(np.float64) @ linear.weight.astype(np.float64).T + linear.bias.astype(np.float64)


def _network_scores(layers: Sequence[LinearMap], encoded: Matrix) -> Floats:
    values: Floats = encoded.astype(np.float64)
    for place, layer in enumerate(layers):
        values = (np.maximum(values, 0) if place else values) @ layer.weight.astype(np.float64).T + layer.bias
    return values


def _tree_scores(text: str, encoded: Matrix) -> Floats:
    import lightgbm

    booster = lightgbm.Booster(model_str=text)
    scores = np.asarray(booster.predict(encoded.astype(np.float64), raw_score=True, num_threads=1))
    return scores if scores.ndim == 2 else scores[:, None]


_CONVERTER = Converter(forbid_extra_keys=True)


def columns_document(encoding: TableEncoding, order: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """The encoding as the `columns` of a model card, in the order of the source."""
    documents: dict[str, dict[str, Any]] = {c.name: {"type": NUMERIC, **asdict(c)} for c in encoding.numeric}
    documents |= {c.name: {"type": CATEGORICAL, **asdict(c)} for c in encoding.categorical}
    return tuple(documents[name] for name in order)


def card_parts(encoding: TableEncoding, order: Sequence[str]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The `columns` of a model card, and what `details` says of a feature pipeline: nothing without one. order: of the source."""
    features = encoding.features
    if features is None:
        return columns_document(encoding, order), {}
    derived: list[dict[str, Any]] = [{"type": NUMERIC, **asdict(each)} for each in encoding.numeric]
    derived += [{"type": CATEGORICAL, **asdict(each)} for each in encoding.categorical]
    document = {
        "version": FEATURES_VERSION,
        "steps": [dict(step) for step in features.steps],
        "ops": [op_document(op) for op in features.ops],
        "outputs": [asdict(output) for output in features.outputs],
        "derived": derived,
        "given": [asdict(each) for each in encoding.given],
    }
    return tuple({"name": name, "type": kind} for name, kind in features.inputs), {"features": document}


def encoding_of(card: ModelCard) -> TableEncoding:
    """Reads what `card_parts` wrote. Raises InvalidArgument with reason BAD_MODEL for anything else."""
    document = card.details.get("features")
    if not document:
        return encoding_from(card.columns)
    try:
        if document["version"] != FEATURES_VERSION:
            raise ValueError(f"its version is {document['version']!r}; this code reads {FEATURES_VERSION}")
        features = FittedFeatures(
            tuple((str(column["name"]), str(column["type"])) for column in card.columns),
            tuple(op_from(each) for each in document["ops"]),
            tuple(_CONVERTER.structure(each, Output) for each in document["outputs"]),
            tuple(document["steps"]),
        )
        inner = encoding_from(document["derived"])
        given = tuple(_CONVERTER.structure(each, GivenEncoding) for each in document["given"])
        return TableEncoding(inner.numeric, inner.categorical, given, features)
    except (BaseValidationError, KeyError, TypeError, ValueError) as error:
        message = f"the model card's features cannot be read: {error}"
        raise InvalidArgument("BAD_MODEL", message, field="card.details.features") from error


def encoding_from(columns: Sequence[Mapping[str, Any]]) -> TableEncoding:
    """Reads what `columns_document` wrote. Raises InvalidArgument with reason BAD_MODEL for anything else."""
    try:
        return TableEncoding(
            tuple(_CONVERTER.structure(_body(c), NumericEncoding) for c in columns if c["type"] == NUMERIC),
            tuple(_CONVERTER.structure(_body(c), CategoricalEncoding) for c in columns if c["type"] == CATEGORICAL),
        )
    except (BaseValidationError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("BAD_MODEL", f"the model card's columns cannot be read: {error}", field="card.columns") from error


def _body(column: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in column.items() if key != "type"}


def model_from(file: ModelFile) -> TableModel:
    """The trained model of a model file of kind `lightgbm` or `linear`. Raises InvalidArgument BAD_MODEL."""
    encoding = encoding_of(file.card)
    if file.card.kind == LIGHTGBM:
        return TableModel(encoding, file.card.classes, trees=file.payload.decode())
    tensors = file.tensors()
    if file.card.kind == NETWORK:
        return TableModel(encoding, file.card.classes, layers=network_layers(tensors, file.card.details))
    if set(tensors) != {"weight", "bias"}:
        message = f"linear.safetensors holds {sorted(tensors)}, it must hold weight and bias"
        raise InvalidArgument("BAD_MODEL", message, field="linear.safetensors")
    return TableModel(encoding, file.card.classes, linear=LinearMap(tensors["weight"], tensors["bias"]))


def network_layers(tensors: Mapping[str, Matrix], details: Mapping[str, Any]) -> tuple[LinearMap, ...]:
    """The layers of a network of rows (recipes.build_mlp), whose scores are as those of a LinearMap: one for two classes, and in
    the target's own numbers for a regression (details: its target_mean and target_spread). Raises InvalidArgument BAD_MODEL."""
    hidden = sorted(int(name.split(".")[1]) for name in tensors if _HIDDEN.fullmatch(name))
    names = [*(f"features.{place}" for place in hidden), "head"]
    if set(tensors) != {f"{name}.{part}" for name in names for part in ("weight", "bias")}:
        message = f"network.safetensors holds {sorted(tensors)[:8]}; layers features.0, features.2... and head are right"
        raise InvalidArgument("BAD_MODEL", message, field="network.safetensors")
    *layers, last = (LinearMap(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names)
    weight, bias = last.weight.astype(np.float64), last.bias.astype(np.float64)
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    if len(weight) == 1 and len(last.weight) == 1:
        mean, spread = (float(details.get(name, usual)) for name, usual in (("target_mean", 0.0), ("target_spread", 1.0)))
        weight, bias = weight * spread, bias * spread + mean
    made = (*layers, LinearMap(weight.astype(np.float32), bias.astype(np.float32)))
    if any(after.weight.shape[1:] != (len(before.bias),) for before, after in itertools.pairwise(made)):
        raise InvalidArgument(
            "BAD_MODEL", "network.safetensors holds layers that do not fit each other", field="network.safetensors"
        )
    return made


def payload_of(model: TableModel) -> bytes | dict[str, Matrix]:
    """What formats.model.write_model takes as the payload of this model."""
    if model.linear is None:
        return model.trees.encode()
    return {"weight": model.linear.weight, "bias": model.linear.bias}


def columns_of(table: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns of a pyarrow table as they are served: numbers as float32 (missing NaN), text as str (missing "")."""
    return {name: _column(table[name]) for name in names}


def _column(values: Any) -> NDArray[Any]:
    kind = str(values.type)
    if kind in ("string", "large_string") or kind.startswith("dictionary"):
        return np.array([MISSING if value is None else value for value in values.to_pylist()], dtype=object)
    return np.asarray(values.cast("float64").fill_null(float("nan")).to_numpy()).astype(np.float32)
