"""Columns of a table that carry nothing, or the same as another one, and categories that are rare or written in several ways."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.words import several
from modelyard.dataset.domain.listing import Text, of_column, quoted
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.table_view import TableView
from modelyard.formats.dataset import CATEGORICAL, FEATURE, NUMERIC, Column

NEARLY_ALL = 0.99
"""Share of equal values from which a column is nearly constant."""

RARE = 5
"""A category in fewer rows than this is rare..."""

RARE_SHARE = 0.02
"""...and worth a finding when such categories hold this share of the rows..."""

RARE_VALUES = 10
"""...or when there are this many of them."""

SAME = 0.9999
"""Squared correlation from which two columns of numbers say the same (metres and feet)."""

_BETWEEN = frozenset(" \t\n\u00a0-_.,;:/'\"()[]")
_ROWS = 20_000
_PRODUCTS = 2e10
_BLOCK = 512

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def column_findings(view: TableView) -> list[Finding]:
    """Constant, nearly constant, repeated and identifying columns; rare categories; spellings of one value."""
    found = [each for column in view.columns if (each := _set_aside(column, len(view)))]
    counted = {name: pc.value_counts(view.table[name].drop_null()) for name in view.features()}
    found += [each for name, counts in counted.items() if (each := _nearly_constant(name, counts, len(view)))]
    found += [_repeated(group) for group in repeated_columns(view)]
    for column in view.columns:
        if column.type != CATEGORICAL or column.role != FEATURE:
            continue
        found += [each for each in [_rare(column.name, counted[column.name], len(view))] if each]
    for name in view.used(CATEGORICAL):
        counts = counted[name] if name in counted else pc.value_counts(view.table[name].drop_null())
        found += [each for each in [_spellings(name, counts)] if each]
    return found


def repeated_columns(view: TableView) -> list[tuple[str, ...]]:
    """Features that say the same: equal values, other names for the same values, the same order of numbers (degrees and their
    logarithm), or numbers that are a multiple of each other up to rounding.

    Each group in the order of the columns. Multiples are looked for on 20,000 rows at most (fewer where there are very many
    columns).
    """
    names = view.features()
    place = {name: number for number, name in enumerate(names)}
    parent = list(range(len(names)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for first, second in [*_renamed(view, names), *_proportional(view)]:
        one, other = root(place[first]), root(place[second])
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[str]] = {}
    for number, name in enumerate(names):
        groups.setdefault(root(number), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def spellings(values: Sequence[str]) -> list[list[str]]:
    """Values that differ only in case, spaces, accents or punctuation, in groups."""
    found: dict[str, list[str]] = {}
    for value in values:
        found.setdefault(_plain(value), []).append(value)
    return [group for key, group in found.items() if key and len(group) > 1]


def _renamed(view: TableView, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of columns whose values stand one for one. Words by the order in which they first appear, where each is in two
    rows or
    more on average; numbers by their order of size, from whichever end."""
    seen: dict[tuple[int, bytes], str] = {}
    for name in names:
        keys = [key for key in (_by_appearance(view.table[name]), _by_size(view, name)) if key]
        known = next((seen[key] for key in keys if key in seen), None)
        if known is not None:
            yield known, name
        for key in keys:
            seen.setdefault(key, name)


def _by_appearance(column: pa.ChunkedArray) -> tuple[int, bytes] | None:
    values = column.combine_chunks()
    whole = values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
    coded = whole.dictionary_encode()
    if not 2 <= len(coded.dictionary) <= len(whole) / 2:
        return None
    indices = pc.fill_null(coded.indices, -1)
    return 0, _digest(np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int32))


def _by_size(view: TableView, name: str) -> tuple[int, bytes] | None:
    if not view.is_numeric(name):
        return None
    values = view.array(name)
    known = ~np.isnan(values)
    distinct, ranks = np.unique(values[known], return_inverse=True)
    if len(distinct) < 3:
        return None
    if ranks[0] > len(distinct) - 1 - ranks[0]:
        ranks = len(distinct) - 1 - ranks
    every = np.full(len(values), -1, np.int32)
    every[known] = ranks
    return 1, _digest(every)


def _digest(numbers: npt.NDArray[np.int32]) -> bytes:
    return hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()


def _proportional(view: TableView) -> Iterator[tuple[str, str]]:
    """Pairs of numeric columns of which one is a linear function of the other."""
    names = [column.name for column in view.columns if column.type == NUMERIC and column.role == FEATURE]
    if len(names) < 2 or len(view) < 30:
        return
    size = int(min(len(view), _ROWS, max(200.0, _PRODUCTS / len(names) ** 2)))
    rows = np.sort(np.random.Generator(np.random.PCG64(0)).permutation(len(view))[:size])
    drawn = view.table.select(names).take(pa.array(rows))
    standard = np.zeros((len(names), size), np.float32)
    gaps = np.zeros((len(names), size), np.bool_)
    for place, name in enumerate(names):
        values = np.asarray(drawn[name].to_numpy(), dtype=np.float64)
        gaps[place] = np.isnan(values)
        spread = float(np.nanstd(values)) if not gaps[place].all() else 0.0
        if spread > 0:
            standard[place] = np.where(gaps[place], 0.0, (values - np.nanmean(values)) / (spread * np.sqrt(size)))
    for start in range(0, len(names), _BLOCK):
        close = np.square(standard[start : start + _BLOCK] @ standard[start:].T)
        for a, b in zip(*np.nonzero(np.triu(close, 1) >= SAME * _present(gaps, start) ** 2), strict=True):
            if np.array_equal(gaps[start + a], gaps[start + b]):
                yield names[start + int(a)], names[start + int(b)]


def _present(gaps: npt.NDArray[np.bool_], start: int) -> Floats:
    """Share of the rows that have a value, of each column of a block, [block, 1]: standardized sums are short by it."""
    return np.asarray(1 - gaps[start : start + _BLOCK].mean(axis=1, keepdims=True), dtype=np.float64)


def _set_aside(column: Column, rows: int) -> Finding | None:
    if column.set_aside_reason == "ALL_MISSING":
        message = f'Column "{column.name}" has no value in any row.'
        text = Text("MISSING_VALUES", "warning", message, "It carries nothing.", "It is set aside.")
    elif column.set_aside_reason == "CONSTANT":
        message = f'Column "{column.name}" has the same value in every row.'
        text = Text("CONSTANT_COLUMN", "info", message, "It carries nothing.", "It is set aside.")
    elif column.set_aside_reason == "IDENTIFIER":
        message = f'Column "{column.name}" only tells rows apart ({column.distinct_count} different values in {rows} rows).'
        cost = "A model would learn rows by heart; new rows have values that it has never seen."
        text = Text("IDENTIFIER_COLUMN", "info", message, cost, "It is set aside.")
    else:
        return None
    return of_column(text, column.name, rows)


def _nearly_constant(name: str, counts: pa.StructArray, rows: int) -> Finding | None:
    numbers = _numbers(counts)
    if len(numbers) < 2 or numbers.max() < NEARLY_ALL * rows:
        return None
    value = str(counts.field("values")[int(numbers.argmax())].as_py())
    text = Text(
        "NEAR_CONSTANT_COLUMN",
        "info",
        f'Column "{name}" is "{value[:60]}" in all but {several(int(rows - numbers.max()), "row")} of {rows}.',
        "The few other rows are learned by heart rather than by rule.",
        f'Look whether the other values are mistakes; otherwise publish with --exclude "{name}".',
    )
    return of_column(text, name, int(rows - numbers.max()))


def _repeated(group: tuple[str, ...]) -> Finding:
    others = quoted(group[1:])
    text = Text(
        "REPEATED_COLUMN",
        "info",
        f'Column "{group[0]}" says the same as {others}, in the same or in other words.',
        "Importances are shared out between them by chance, and every one of them has to be there when the model is asked.",
        "Publish with " + " ".join(f'--exclude "{name}"' for name in group[1:6]) + ".",
    )
    return of_column(text, group[1], 0)


def _rare(name: str, counts: pa.StructArray, rows: int) -> Finding | None:
    numbers = _numbers(counts)
    rare = numbers < RARE
    held = int(numbers[rare].sum())
    if len(numbers) < 3 or not (held >= RARE_SHARE * rows or rare.sum() >= RARE_VALUES):
        return None
    values = [str(value) for value in counts.field("values").filter(pa.array(rare)).slice(0, 6).to_pylist()]
    text = Text(
        "RARE_CATEGORIES",
        "info",
        f'Column "{name}" has {int(rare.sum())} of {len(numbers)} categories in fewer than {RARE} rows each, such '
        f"as {quoted(values, 3)}.",
        "Nothing can be learned of a category seen so rarely, and a split may leave it to the test alone.",
        "Put rare categories together under one name at the source, or collect more rows of them.",
    )
    return of_column(text, name, held)


def _spellings(name: str, counts: pa.StructArray) -> Finding | None:
    values = [str(value) for value in counts.field("values").to_pylist()]
    groups = spellings(values)
    if not groups:
        return None
    sizes = dict(zip(values, _numbers(counts).tolist(), strict=True))
    shown = "; ".join(" = ".join(f'"{value[:40]}"' for value in group[:4]) for group in groups[:3])
    lesser = sum(sum(sizes[value] for value in group) - max(sizes[value] for value in group) for group in groups)
    text = Text(
        "SPELLING_VARIANTS",
        "warning",
        f'Column "{name}" has values that differ only in case, spaces, accents or punctuation: {shown}.',
        "They are learned as different values, each from a part of the rows.",
        "Write each value in one way at the source.",
    )
    return of_column(text, name, lesser)


def _numbers(counts: pa.StructArray) -> Ints:
    return np.asarray(counts.field("counts").to_numpy(zero_copy_only=False), dtype=np.int64)


def _plain(value: str) -> str:
    """Lower case, without accents, spaces and the punctuation that stands between words. Signs stay: "A+" is not "A"; and numbers
    stay as they are: "1.5" is not "15", "-1" not "1"."""
    if re.fullmatch(r"\s*[+-]?[\d.,]+\s*", value):
        return value.strip()
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter) and letter not in _BETWEEN)
