"""Rows of a table before and after a recipe's features: the very numbers a model is given, and what the steps learned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.recipes.build_tabular import TableEncoding, fit_encoding
from modelyard.recipes.features_fit import FittedFeatures
from modelyard.recipes.features_ops import Bin, Cross, Fill, LookUp, Scale
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.tabular import HIDDEN, LINEAR
from modelyard.trainer.domain.recipe_preview import (
    LONGEST_CELL,
    MOST_AFTER,
    MOST_BEFORE,
    MOST_LEARNED,
    PreviewedRow,
    PreviewSpec,
)
from modelyard.trainer.worker.preview_page import Look, Previewed
from modelyard.trainer.worker.tabular import load_rows, with_features


def table_preview(reader: DatasetReader, recipe: Recipe, spec: PreviewSpec, places: NDArray[np.int64], look: Look) -> Previewed:
    """See preview.previewed. Fitted to all training rows, as the last fit of a training is."""
    look("fitting the features", 0, 2)
    rows, _ = with_features(recipe.features, reader, load_rows(reader, TRAIN), load_rows(reader, VALIDATION))
    features = rows.pipeline.fit(rows.columns, strict=True) if rows.pipeline is not None else None
    linear = recipe.architecture in (LINEAR, *HIDDEN)
    encoding = fit_encoding(rows.columns, rows.target, linear=linear, features=features)
    look("encoding the rows", 1, 2)
    some = {name: values[places] for name, values in rows.columns.items()}
    numbers, names = encoding.apply(some), number_names(encoding)
    shown = [column.name for column in reader.descriptor.columns if column.name in encoding.names][:MOST_BEFORE]
    ids = reader.example_ids(TRAIN)
    table = reader.table(TRAIN, columns=shown).take(places)
    cells = [table[name].to_pylist() for name in shown]
    made = tuple(
        PreviewedRow(ids[place], tuple(_cell(column[at]) for column in cells), tuple(_values(numbers[at])))
        for at, place in enumerate(places.tolist())
    )
    return Previewed(
        title=f"What {recipe.name} makes of {'/'.join(spec.dataset_version.split('/')[3::2])}",
        recipe=recipe,
        columns_before=tuple(shown),
        columns_after=tuple(names[:MOST_AFTER]),
        rows=made,
        learned=learned(encoding)[:MOST_LEARNED],
        width=len(names),
    )


def number_names(encoding: TableEncoding) -> list[str]:
    """What each number of an encoded row is."""
    found = [column.name for column in encoding.numeric]
    found += [f"{column.name} missing" for column in encoding.numeric if column.indicator]
    for each in encoding.given:
        labels = encoding.features.output(each.name).labels if encoding.features is not None else ()
        found += [f"{each.name} = {label}" for label in labels] if labels else [each.name]
    for column in encoding.categorical:
        if column.values:
            width = column.rows.shape[1]
            found += [f"{column.name}: target {at}" for at in range(width - 1)] + [f"{column.name}: share"]
        else:
            found += [f"{column.name} = {category or '(missing)'}" for category in column.categories]
    return found


def learned(encoding: TableEncoding) -> tuple[str, ...]:
    """A sentence for each thing that was learned from the training rows."""
    found = list(_of_features(encoding.features)) if encoding.features is not None else []
    for column in encoding.numeric:
        if column.fill is not None:
            found.append(
                f"{column.name}: missing becomes {column.fill:g}, then less {column.center:g}, divided by {column.scale:g}"
            )
    found += [f"{column.name}: {len(column.categories)} categories" for column in encoding.categorical]
    return tuple(found)


def _of_features(features: FittedFeatures) -> list[str]:
    found = []
    for op in features.ops:
        if isinstance(op, Fill):
            found.append(f"{op.name}: missing becomes {op.text if op.number is None else f'{op.number:g}'}")
        elif isinstance(op, Scale):
            found.append(f"{op.name}: less {op.center:g}, divided by {op.scale:g}")
        elif isinstance(op, Bin):
            found.append(f"{op.name}: bins at {', '.join(f'{edge:g}' for edge in op.edges[:20])}")
        elif isinstance(op, LookUp):
            what = " and ".join(op.out)[:LONGEST_CELL]
            some = [f"{text or '(missing)'} {_row(row)}" for text, row in list(zip(op.categories, op.rows, strict=True))[:10]]
            found.append(f"{what}: {len(op.categories)} values of {op.name}: {'; '.join(some)}; any other {_row(op.default)}")
        elif isinstance(op, Cross):
            told = [f"{op.firsts[one] or '(missing)'} & {op.seconds[other] or '(missing)'}" for one, other in op.pairs[:10]]
            some = [f"{pair} {_row(row)}" for pair, row in zip(told, op.rows, strict=False)]
            found.append(f"{op.out[:LONGEST_CELL]}: {len(op.pairs)} pairs: {'; '.join(some)}; any other {_row(op.default)}")
    return found


def _row(row: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in row[:8]) + (" ..." if len(row) > 8 else "")


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _values(row: NDArray[np.float32]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [float(value) if np.isfinite(value) else None for value in row[:MOST_AFTER]]
