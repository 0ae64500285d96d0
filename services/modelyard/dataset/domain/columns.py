"""What the columns of a table are: numbers or categories, target, usage, identifier. Whole columns at a time, on Arrow arrays."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset import CATEGORICAL, NUMERIC, TABULAR_CLASSIFICATION, TABULAR_REGRESSION

MISSING = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "Null", "#N/A", "#NA", "<NA>", "?")
"""Texts that mean "no value" in any column."""

MISSING_NUMBERS = (*MISSING, "None", "none", "NONE", "-", "--", ".", "missing", "Missing", "inf", "-inf", "Inf", "-Inf")
"""Texts that mean "no value" in a column of numbers."""

NUMERIC_SHARE = 0.95
"""A column is read as numbers when at least this share of its values are; what is not becomes missing, and a finding says so."""

REGRESSION_DISTINCT = 20
"""A numeric target with more different values than this is predicted as a number, else as a class."""

MAX_CLASSES = 1000

LISTED_CATEGORIES = 1000

LABEL_COLUMN = "dataset_import.label_column"
"""The request field that names the target."""

_PLAIN_DOT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DOT_NUMBER = _PLAIN_DOT + r"|^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]+$"
_DOT_OR_GROUPED = _PLAIN_DOT + r"|^[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?$"
_COMMA_NUMBER = r"^[+-]?([0-9]+,?[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]+)?$"
_ID_NAME = re.compile(r"^(id|.*[_ ]id|.*[a-z]ID|uuid|guid|index|row[_ ]?(id|number|no)|unnamed: 0)$|^$", re.IGNORECASE)
_TARGET_NAMES = ("target", "label", "class")


@dataclass(frozen=True)
class TypedColumn:
    """A column as it goes on: float64 or string, null where missing. `odd_values` are texts in a column that is mostly numbers
    or numbers in one that is not, `odd_count` how many rows hold one."""

    name: str
    type: str
    values: pa.ChunkedArray
    odd_values: tuple[str, ...] = ()
    odd_count: int = 0
    decimal_comma: bool = False

    @property
    def missing_count(self) -> int:
        """Rows without a value."""
        return int(self.values.null_count)

    @property
    def distinct_count(self) -> int:
        """Number of different values, missing not counted."""
        return int(pc.count_distinct(self.values, mode="only_valid").as_py())


def type_column(name: str, values: pa.ChunkedArray, *, comma_allowed: bool = False) -> TypedColumn | None:
    """Decides how a column is read. None for what has no place in a table of numbers and categories (lists, bytes...).

    Texts are read as numbers when at least 95 percent of those that are not missing are. Booleans and dates are categories.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_boolean(kind):
        return TypedColumn(name, CATEGORICAL, pc.if_else(values, "True", "False"))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return TypedColumn(name, NUMERIC, _finite(values.cast(pa.float64(), safe=False)))
    if pa.types.is_null(kind):
        return TypedColumn(name, CATEGORICAL, values.cast(pa.string()))
    if pa.types.is_temporal(kind):
        return TypedColumn(name, CATEGORICAL, values.cast(pa.string()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return type_text(name, values.cast(pa.string()), comma_allowed=comma_allowed)
    return None


def type_text(name: str, values: pa.ChunkedArray, *, comma_allowed: bool = False) -> TypedColumn:
    """Decides how a column of texts is read. "1,5" and "1.234,5" are numbers too where no reading with points fits more values;
    `comma_allowed`: fields are not separated by commas, so that "1,234" has a decimal comma."""
    trimmed = pc.utf8_trim_whitespace(values)
    texts = _null_where(trimmed, pc.is_in(trimmed, value_set=pa.array(MISSING)))
    candidates = _null_where(texts, pc.is_in(texts, value_set=pa.array(MISSING_NUMBERS)))
    present = len(candidates) - candidates.null_count
    numeric, comma = _which_numbers(candidates, comma_allowed)
    count = int(pc.sum(numeric).as_py() or 0)
    if present and count >= NUMERIC_SHARE * present:
        odd = candidates.filter(pc.invert(pc.fill_null(numeric, True)))
        return TypedColumn(name, NUMERIC, _parse(candidates, numeric, comma), _sample(odd), len(odd), comma)
    odd = candidates.filter(pc.fill_null(numeric, False)) if count else candidates.slice(0, 0)
    mixed = len(odd) if present and count > (1 - NUMERIC_SHARE) * present else 0
    return TypedColumn(name, CATEGORICAL, texts, _sample(odd) if mixed else (), mixed)


def choose_target(names: Sequence[str], wanted: str) -> tuple[str, str]:
    """The column to predict, and the assumption made in a sentence ("" when the user said it).

    Raises InvalidArgument TARGET_COLUMN_MISSING, listing the columns.
    """
    if wanted:
        if wanted not in names:
            listed = ", ".join(names[:100])
            near = difflib.get_close_matches(wanted, names, 1)
            meant = f"did you mean {near[0]!r}? It has" if near else "it has"
            message = f"the data have no column {wanted!r} to predict; {meant}: {listed}"
            raise InvalidArgument("TARGET_COLUMN_MISSING", message, field=LABEL_COLUMN, column=wanted, columns=listed)
        return wanted, ""
    for candidate in _TARGET_NAMES:
        for name in names:
            if name.strip().lower() == candidate:
                return name, f'The column "{name}" was taken as the target because of its name.'
    return names[-1], f'The last column, "{names[-1]}", was taken as the target; name another with label_column.'


def choose_task(target: TypedColumn, wanted: str) -> tuple[str, str]:
    """Classification or regression, and the assumption made in a sentence.

    Raises InvalidArgument TARGET_ALL_MISSING, or TARGET_NOT_NUMERIC when a number is wanted of a column of texts.
    """
    if target.missing_count == len(target.values):
        message = f"the target column {target.name!r} has no value in any of its {len(target.values)} rows"
        raise InvalidArgument("TARGET_ALL_MISSING", message, field=LABEL_COLUMN, column=target.name)
    if wanted == TABULAR_REGRESSION and target.type != NUMERIC:
        message = f"the target column {target.name!r} holds text, such as {_first(target)!r}; regression needs numbers"
        raise InvalidArgument("TARGET_NOT_NUMERIC", message, field="dataset_import.task", column=target.name)
    distinct = target.distinct_count
    if wanted == TABULAR_REGRESSION and distinct == 1:
        message = f"the target column {target.name!r} holds {_first(target)} in every row; there is nothing to predict"
        raise InvalidArgument("TARGET_CONSTANT", message, field=LABEL_COLUMN, column=target.name)
    if wanted:
        return wanted, ""
    if target.type == NUMERIC and distinct > REGRESSION_DISTINCT:
        sentence = f'The target "{target.name}" holds {distinct} different numbers, so a number is predicted (regression).'
        return TABULAR_REGRESSION, sentence
    return TABULAR_CLASSIFICATION, f'The target "{target.name}" holds {distinct} different values, so a class is predicted.'


def class_labels(target: TypedColumn, original: pa.ChunkedArray) -> pa.ChunkedArray:
    """The target as class names: numbers without a fraction as "3", everything else as it was written; null where missing."""
    if target.type != NUMERIC:
        return target.values
    numbers = target.values
    if pc.all(pc.equal(numbers, pc.round(numbers))).as_py() and (pc.max(pc.abs(numbers)).as_py() or 0) < 2**53:
        return numbers.cast(pa.int64()).cast(pa.string())
    if pa.types.is_string(original.type):
        return pc.if_else(pc.is_valid(numbers), pc.utf8_trim_whitespace(original), pa.scalar(None, pa.string()))
    return numbers.cast(pa.string())


def sort_classes(labels: pa.ChunkedArray) -> tuple[str, ...]:
    """The class names in the order of their index: by value when all are numbers, else by code point.

    Raises InvalidArgument ONE_CLASS, or TOO_MANY_CLASSES above 1000.
    """
    names = [name for name in pc.unique(labels).to_pylist() if name is not None]
    check_classes(names)
    return sorted_classes(names)


def sorted_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Class names by value when all are numbers, else by code point."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def check_classes(names: Sequence[str]) -> None:
    """Raises InvalidArgument ONE_CLASS or TOO_MANY_CLASSES."""
    if len(names) == 1:
        message = f"all examples are of one class, {names[0]!r}; a classifier needs examples of at least two"
        raise InvalidArgument("ONE_CLASS", message, class_name=names[0])
    if len(names) > MAX_CLASSES:
        message = f"the target has {len(names)} classes; at most {MAX_CLASSES} are supported. Was another column meant?"
        raise InvalidArgument("TOO_MANY_CLASSES", message, field=LABEL_COLUMN, classes=len(names), limit=MAX_CLASSES)


def is_identifier(column: TypedColumn) -> bool:
    """Whether a column only tells rows apart: (nearly) every row a text of its own, or a running number, or different whole
    numbers under a name like "id"."""
    rows = len(column.values) - column.missing_count
    if rows < 20:
        return False
    distinct = column.distinct_count
    if column.type == CATEGORICAL:
        return distinct >= 0.9 * rows
    if distinct < rows:
        return False
    numbers = np.asarray(column.values.drop_null().to_numpy(), dtype=np.float64)
    whole = bool(np.all(numbers == np.round(numbers)))
    return whole and (_ID_NAME.match(column.name.strip()) is not None or bool(np.all(np.diff(numbers) == 1)))


def categories(column: TypedColumn) -> tuple[str, ...]:
    """The different values of a categorical column, sorted; () when there are more than 1000 or the column is numeric."""
    if column.type != CATEGORICAL or column.distinct_count > LISTED_CATEGORIES:
        return ()
    return tuple(sorted(value for value in pc.unique(column.values).to_pylist() if value is not None))


def _which_numbers(texts: pa.ChunkedArray, comma_allowed: bool) -> tuple[pa.ChunkedArray, bool]:
    """Which texts are numbers, and whether with decimal commas: the reading that fits more of them. Where both fit alike
    ("1,234" and
    nothing else) it is a thousand, but where fields are not separated by commas it is a number between one and two."""
    dotted = pc.match_substring_regex(texts, _DOT_NUMBER if comma_allowed else _DOT_OR_GROUPED)
    with_comma = pc.match_substring_regex(texts, _COMMA_NUMBER)
    more = int(pc.sum(with_comma).as_py() or 0) > int(pc.sum(dotted).as_py() or 0)
    return (with_comma, True) if more else (dotted, False)


def _parse(texts: pa.ChunkedArray, numeric: pa.ChunkedArray, comma: bool) -> pa.ChunkedArray:
    grouping, point = (".", ",") if comma else (",", ".")
    plain = pc.replace_substring(pc.replace_substring(texts, grouping, ""), point, ".")
    plain = pc.replace_substring_regex(plain, r"^\+", "")
    return _finite(_null_where(plain, pc.invert(numeric)).cast(pa.float64()))


def _finite(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    return _null_where(numbers, pc.invert(pc.is_finite(numbers)))


def _null_where(values: pa.ChunkedArray, mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.fill_null(mask, True), pa.scalar(None, values.type), values)


def _sample(values: pa.ChunkedArray) -> tuple[str, ...]:
    return tuple(pc.unique(values).to_pylist()[:5])


def _first(column: TypedColumn) -> str:
    return str(column.values.drop_null()[0].as_py())
