"""A feature pipeline fitted to training rows: what it learned, and the same arithmetic for every row after.

Everything is float32 as a served model computes it (logarithms in float64, rounded), so the exporter writes the same steps into a
graph (exporter.worker.feature_graph) and gets the same bits. Columns: numbers float32 [N] (NaN missing), text object [N] ("").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset_descriptor import CATEGORICAL, NUMERIC, Column
from modelyard.formats.text_numbers import DateNumbers, HashedText, earliest
from modelyard.recipes.features import (
    BLOCK,
    CROSSED,
    FEATURES,
    MOST_NUMBERS,
    Namespace,
    applied,
    date_parts,
    made_by,
    namespace_of,
)
from modelyard.recipes.features_ops import Bin, Cross, Fill, Interact, Log, LookUp, Op, Read, Scale, reading_key
from modelyard.recipes.steps import Step

Values = NDArray[Any]
Columns = Mapping[str, Values]
Floats = NDArray[np.float64]

RARE: Final = "\x00rare"
"""The category that stands for all rare ones."""
_AS_THEY_ARE: Final = ("scale", "encode", "text", "cross")
"""Steps whose numbers a linear model takes as they are."""


@dataclass(frozen=True)
class Output:
    """A column that is left at the end. given: a linear model takes its numbers as they are. by_target: text that is described by
    what the target does in each category. labels: of a block, what each number is."""

    name: str
    kind: str
    given: bool = False
    by_target: bool = False
    labels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers it is; of text, as yet unknown, 1."""
        return len(self.labels) if self.kind == BLOCK else 1


@dataclass(frozen=True)
class FittedFeatures:
    """What a pipeline learned. inputs: the columns that it reads, with their kinds, in the order of the source. steps: as asked,
    for people."""

    inputs: tuple[tuple[str, str], ...]
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]
    steps: tuple[Mapping[str, Any], ...] = ()

    def apply(self, columns: Columns) -> dict[str, Values]:
        """The outputs by name: numbers [N], blocks [N, width], text [N]. Columns may hold readings (`with_readings`)."""
        env: dict[str, Values] = dict(columns)
        for op in self.ops:
            env |= op.apply(env)
        return {output.name: env[output.name] for output in self.outputs}

    def output(self, name: str) -> Output:
        """The output of a name."""
        return next(each for each in self.outputs if each.name == name)


@dataclass
class Fit:
    """A fit in the making: the training columns as they are now, and what was learned on the way."""

    env: dict[str, Values]
    space: Namespace
    strict: bool
    ops: list[Op] = field(default_factory=list)
    given: set[str] = field(default_factory=set)
    by_target: set[str] = field(default_factory=set)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, op: Op) -> None:
        """Takes a step with the training rows."""
        self.ops.append(op)
        self.env |= op.apply(self.env)

    def present(self, name: str, where: str) -> Floats:
        """The values of a column of numbers that are there. Raises InvalidArgument FEATURE_COLUMN_EMPTY."""
        values = self.env[name]
        found: Floats = values[np.isfinite(values)].astype(np.float64)
        if not len(found) and self.strict:
            raise _empty(name, where)
        return found if len(found) else np.zeros(1)

    def words(self, name: str, where: str) -> tuple[list[str], NDArray[np.int64]]:
        """The different texts of a column, sorted, and how often each is there ("" too)."""
        texts, counts = np.unique(self.env[name].astype(str), return_counts=True)
        if self.strict and texts.tolist() == [""]:
            raise _empty(name, where)
        return texts.tolist(), counts


def settled_steps(steps: Sequence[Step], columns: Columns) -> tuple[Step, ...]:
    """The steps with what is left to the training rows filled in: where elapsed days begin."""
    found = []
    for step in steps:
        if step.do == "date" and "elapsed_days" in step.settings["parts"] and not step.settings["reference"]:
            firsts = [earliest(columns[name].tolist(), step.settings["format"]) for name in step.columns]
            first = min([each for each in firsts if each], default="1970-01-01")
            step = replace(step, settings={**step.settings, "reference": first})
        found.append(step)
    return tuple(found)


def raw_columns(steps: Sequence[Step], columns: Sequence[Column]) -> list[str]:
    """The columns of a dataset version that a pipeline may read, in their order."""
    named = {name for step in steps for name in (*step.columns, str(step.settings.get("group_by", "")))}
    space = namespace_of(columns)
    return [c.name for c in columns if c.name in space.columns or (c.name in space.aside and c.name in named)]


def with_readings(steps: Sequence[Step], columns: Columns) -> dict[str, Values]:
    """The columns with every date and text read once, so that fits to parts of the rows need not read them again."""
    out = dict(columns)
    for step in steps:
        reading = reading_of(step)
        if reading is not None:
            out |= {reading_key(name, reading): reading.numbers(columns[name]) for name in step.columns}
    return out


def reading_of(step: Step) -> DateNumbers | HashedText | None:
    """How a step reads text; None for a step that does not."""
    settings = step.settings
    if step.do == "date":
        parts, form, reference = tuple(settings["parts"]), settings["format"], settings["reference"]
        return DateNumbers(parts, settings["cyclic"], form, reference, settings["indicator"])
    if step.do == "text":
        by, shortest, longest = settings["by"], settings["shortest"], settings["longest"]
        return HashedText(by, shortest, longest, settings["buckets"], settings["lower"], settings["binary"])
    return None


def fit_features(
    steps: Sequence[Step], table: Sequence[Column], columns: Columns, path: str = FEATURES, *, strict: bool = True
) -> FittedFeatures:
    """Fits checked and settled steps to training rows. table: the columns of the dataset version.

    strict: raises InvalidArgument FEATURE_COLUMN_EMPTY where a column has no value to learn from; else 0 and 1 stand in (for
    folds of few rows). Raises FEATURES_TOO_WIDE.
    """
    from modelyard.recipes.steps import step_document

    fit = Fit(dict(columns), namespace_of(table), strict)
    for place, step in enumerate(steps):
        where = f"{path}[{place}]"
        names = fit.space.take(step)
        _FITS[step.do](fit, step, names, where)
        applied(step, names, fit.space, where)
        made = made_by(step, names)
        if step.do in _AS_THEY_ARE and not (step.do == "encode" and step.settings["by"] == "target"):
            fit.given |= set(made) if made else set(names)
        else:
            fit.given -= set(made)
    outputs = tuple(
        Output(name, kind, name in fit.given, name in fit.by_target and kind == CATEGORICAL, fit.labels.get(name, ()))
        for name, kind in fit.space.columns.items()
    )
    width = sum(output.width for output in outputs)
    if width > MOST_NUMBERS:
        widest = max(outputs, key=lambda each: each.width)
        message = (
            f"{path} makes {width} numbers of a row, {widest.width} of them of {widest.name!r}; at most {MOST_NUMBERS} are right."
            " Give encode a smaller most or a larger rare, or text fewer buckets"
        )
        raise InvalidArgument("FEATURES_TOO_WIDE", message, field=path, value=width, column=widest.name)
    ops, needed = _alive(fit.ops, [output.name for output in outputs])
    kinds = {column.name: column.type for column in table}
    inputs = tuple((name, kinds[name]) for name in raw_columns(steps, table) if name in needed)
    return FittedFeatures(inputs, ops, outputs, tuple(step_document(step) for step in steps))


def _alive(ops: Sequence[Op], outputs: Sequence[str]) -> tuple[tuple[Op, ...], set[str]]:
    """The steps that the outputs depend on, and the columns that the first of them read."""
    needed: set[str] = set(outputs)
    kept: list[Op] = []
    for op in reversed(ops):
        if set(op.made) & needed:
            kept.append(op)
            needed = (needed - set(op.made)) | set(op.reads)
    return tuple(reversed(kept)), needed


def _empty(name: str, where: str) -> InvalidArgument:
    message = (
        f"{where} is for the column {name!r}, which has no value in any training row; drop it, or impute it by constant first"
    )
    return InvalidArgument("FEATURE_COLUMN_EMPTY", message, field=f"{where}.columns", value=name)


def _f32(value: float) -> float:
    return float(np.float32(value))


# What each step learns


def _impute(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    for name in names:
        indicator = f"{name} missing" if step.settings["indicator"] else ""
        if fit.space.columns[name] == NUMERIC:
            fit.add(Fill(name, number=_filling(fit, step, name, where), indicator=indicator))
        else:
            fit.add(Fill(name, text=_filling_text(fit, step, name, where), indicator=indicator))


def _filling(fit: Fit, step: Step, name: str, where: str) -> float:
    by = step.settings["by"]
    if by == "constant":
        return _f32(float(step.settings["value"]))
    present = fit.present(name, where)
    if by == "most_frequent":
        values, counts = np.unique(present, return_counts=True)
        return _f32(values[counts.argmax()])
    return _f32(present.mean() if by == "mean" else np.median(present))


def _filling_text(fit: Fit, step: Step, name: str, where: str) -> str:
    if step.settings["by"] == "constant":
        return str(step.settings["value"])
    texts, counts = fit.words(name, where)
    known = [(count, text) for text, count in zip(texts, counts.tolist(), strict=True) if text]
    most = max([count for count, _ in known], default=0)
    return next((text for count, text in known if count == most), "")


def _scale(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    by = step.settings["by"]
    for name in names:
        present = fit.present(name, where)
        if by == "log":
            fit.add(Log(name))
        elif by == "quantile":
            shares = np.arange(1, step.settings["bins"]) / step.settings["bins"]
            fit.add(Bin(name, tuple(np.unique(np.quantile(present, shares).astype(np.float32)).tolist())))
        else:
            centre, spread = _spread(present, by)
            fit.add(Scale(name, _f32(centre), _f32(spread) if _f32(spread) > 0 else 1.0, bool(step.settings["clip"])))


def _spread(present: Floats, by: str) -> tuple[float, float]:
    if by == "standard":
        return float(present.mean()), float(present.std())
    if by == "min_max":
        return float(present.min()), float(present.max() - present.min())
    low, middle, high = np.quantile(present, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)


def _encode(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    by = step.settings["by"]
    for name in names:
        texts, counts = fit.words(name, where)
        if by == "target":
            fit.by_target.add(name)
        elif by == "one_hot":
            _one_hot(fit, step, name, texts, counts)
        elif by == "frequency":
            shares = (counts / counts.sum()).tolist()
            fit.add(LookUp(name, tuple(texts), tuple((_f32(share),) for share in shares), (0.0,), (name,)))
        else:
            order = [text for text in (step.settings["order"] or texts) if text]
            rows = tuple((float(place),) for place in range(len(order)))
            fit.add(LookUp(name, tuple(order), rows, (-1.0,), (name,)))


def _one_hot(fit: Fit, step: Step, name: str, texts: Sequence[str], counts: NDArray[np.int64]) -> None:
    """The most frequent categories that are not rare get a number each; if any is rare, those and unknown ones get one more."""
    ranked = sorted(zip(texts, counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    frequent = [text for text, count in ranked if count >= step.settings["rare"]][: step.settings["most"]]
    kept = sorted(frequent)
    pooled = len(kept) < len(texts)
    eye = np.eye(len(kept) + pooled)
    default = tuple(eye[-1].tolist()) if pooled else (0.0,) * len(kept)
    rows = tuple(tuple(row) for row in eye[: len(kept)].tolist())
    fit.add(LookUp(name, tuple(kept), rows, default, (name,), block=True))
    fit.labels[name] = (*(text or "(missing)" for text in kept), *(("(rare)",) if pooled else ()))


def _read(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    reading = reading_of(step)
    if reading is None:
        raise AssertionError("only dates and texts are read")
    for name in names:
        fit.words(name, where)
        if isinstance(reading, DateNumbers):
            fit.add(Read(name, tuple(f"{name} {part}" for part in date_parts(step)), date=reading))
        else:
            fit.add(Read(name, (f"{name} hash",), hashed=reading))
            fit.labels[f"{name} hash"] = reading.names


def _aggregate(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    group = str(step.settings["group_by"])
    texts, inverse = np.unique(fit.env[group].astype(str), return_inverse=True)
    for name in names:
        fit.present(name, where)
        values = fit.env[name].astype(np.float64)
        members = [values[inverse == place] for place in range(len(texts))]
        whole = _statistics(values, step.settings["values"], len(values), ())
        rows = tuple(_statistics(each, step.settings["values"], len(each), whole) for each in members)
        unknown = tuple(0.0 if what == "count" else one for what, one in zip(step.settings["values"], whole, strict=True))
        made = tuple(f"{name} {what} by {group}" for what in step.settings["values"])
        fit.add(LookUp(group, tuple(texts.tolist()), rows, unknown, made))


def _statistics(values: Floats, wanted: Sequence[str], count: int, whole: tuple[float, ...]) -> tuple[float, ...]:
    """Of the values that are there; those of the whole where none is."""
    present = values[np.isfinite(values)]
    if not len(present):
        return tuple(
            float(count) if what == "count" else one for what, one in zip(wanted, whole or (0.0,) * len(wanted), strict=True)
        )
    found = {
        "mean": present.mean(),
        "deviation": present.std(),
        "smallest": present.min(),
        "largest": present.max(),
        "median": np.median(present),
        "count": count,
    }
    return tuple(_f32(float(found[what])) for what in wanted)


def _interact(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    made = next(iter(made_by(step, names)))
    fit.add(Interact(names[0], names[1], step.settings["by"], made))


def _cross(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    """The most frequent pairs that are not rare, told apart; if any is rare, those and unknown ones get one number more."""
    by, made = step.settings["by"], next(iter(made_by(step, names)))
    firsts, seconds = (fit.words(name, where)[0] for name in names)
    places = [np.searchsorted(texts, fit.env[name].astype(str)) for texts, name in zip((firsts, seconds), names, strict=True)]
    pairs, counts = np.unique(np.stack(places, axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -counts))
    frequent = order[counts[order] >= step.settings["rare"]][: step.settings["most"]]
    kept, pooled = np.sort(frequent), len(frequent) < len(pairs)
    chosen, shares = pairs[kept], counts[kept] / counts.sum()
    if by == "one_hot":
        eye = np.eye(len(kept) + pooled)
        rows, default = eye[: len(kept)].tolist(), eye[-1].tolist() if pooled else [0.0] * len(kept)
    else:
        rows, default = [[_f32(share)] for share in shares.tolist()], [0.0]
    used = [np.unique(chosen[:, side]) for side in (0, 1)]
    texts = [tuple(words[place] for place in side.tolist()) for words, side in zip((firsts, seconds), used, strict=True)]
    at = [np.searchsorted(side, chosen[:, number]).tolist() for number, side in enumerate(used)]
    told = tuple(zip(*at, strict=True))
    rows_, default_ = tuple(tuple(row) for row in rows), tuple(default)
    fit.add(Cross(names[0], names[1], texts[0], texts[1], told, rows_, default_, made, block=by == "one_hot"))
    if by == "one_hot":
        labels = [f"{texts[0][one] or '(missing)'}{CROSSED}{texts[1][other] or '(missing)'}" for one, other in told]
        fit.labels[made] = (*labels, *(("(rare)",) if pooled else ()))


def _nothing(fit: Fit, step: Step, names: Sequence[str], where: str) -> None:
    """Columns come and go in the namespace alone."""


_FITS: Final = {
    "impute": _impute,
    "scale": _scale,
    "encode": _encode,
    "date": _read,
    "text": _read,
    "aggregate": _aggregate,
    "interact": _interact,
    "cross": _cross,
    "drop": _nothing,
    "keep": _nothing,
}
