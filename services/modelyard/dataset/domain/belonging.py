"""What belongs together, what came before what, and what is to be spread evenly: by attributes, columns, names and classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import split as splitting
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.conditions import Condition
from modelyard.dataset.domain.name_patterns import NamePattern, is_pattern
from modelyard.dataset.domain.picture_names import stem
from modelyard.formats import dataset as files

Column = Callable[[str], pa.ChunkedArray]
"""Gives a column of a table by its name, all rows of it."""

_NAMED = 20
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)


def groups_of(name: str, column: Column, content: files.DatasetDescriptor, manifest: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each example, equal for those that belong together, int64 [N]: by column, attribute or pattern of names.

    Raises InvalidArgument UNKNOWN_GROUP, BAD_NAME_PATTERN, GROUP_MISSING.
    """
    if content.kind == files.TABLE:
        return _numbered(_column(name, "group_by", column, content, manifest))
    if is_pattern(name):
        return _by_pattern(name, manifest)
    return _by_attribute(name, manifest)


def said_of(condition: Condition, column: Column, content: files.DatasetDescriptor, manifest: pa.Table) -> list[str | None]:
    """What the attribute, column or file name that a condition names says of each example; None where it says nothing.

    Raises InvalidArgument UNKNOWN_COLUMN, UNKNOWN_ATTRIBUTE, BAD_NAME_PATTERN naming the condition's field.
    """
    name, field = condition.name, condition.field
    if content.kind == files.TABLE:
        values = _column(name, field.removeprefix("split."), column, content, manifest).to_pylist()
        return [None if value is None else str(value) for value in values]
    if is_pattern(name):
        form = NamePattern(name, needed="value", field=field)
        found = [form.match(stem(path)) for path in manifest["path"].to_pylist()]
        return [match["value"] if match else None for match in found]
    said, known = _attributes(name, manifest)
    if name not in known:
        message = (
            f'{field} is {condition.text[:80]!r}; {_have(known)}. A pattern of file names works too: "{{label}}_{{value}} < 5"'
        )
        raise InvalidArgument("UNKNOWN_ATTRIBUTE", message, field=field, value=name[:80])
    return [None if value is None else str(value) for value in said]


def times_of(name: str, column: Column, content: files.DatasetDescriptor, manifest: pa.Table) -> npt.NDArray[np.float64]:
    """The time of each row, float64 [N], in the unit of the column; ISO 8601 text as seconds since 1970 (without a zone: UTC).

    Raises InvalidArgument UNKNOWN_COLUMN, TIME_MISSING, BAD_TIME.
    """
    if content.kind != files.TABLE:
        message = f"split.time_by is {name!r}; only rows of a table have a column of times"
        raise InvalidArgument("UNKNOWN_COLUMN", message, field="split.time_by", value=name)
    values = _column(name, "time_by", column, content, manifest)
    if missing := values.null_count:
        message = f"split.time_by is {name!r}: {missing} of {len(values)} rows have no time"
        raise InvalidArgument("TIME_MISSING", message, field="split.time_by", column=name, missing=missing)
    if not pa.types.is_string(values.type):
        return np.asarray(values.to_numpy(), dtype=np.float64)
    texts = values.to_pylist()
    wrong = next((text for text in texts if not _ISO_TIME.fullmatch(text)), None)
    if wrong is not None:
        message = (
            f"split.time_by is {name!r}, where {wrong[:40]!r} stands; times are numbers or ISO 8601 such as 2026-11-30T14:33:00"
        )
        raise InvalidArgument("BAD_TIME", message, field="split.time_by", column=name, value=wrong[:40])
    return np.array([_seconds(text, name) for text in texts], np.float64)


def strata_of(
    manifest: pa.Table, content: files.DatasetDescriptor, targets: Callable[[], npt.NDArray[np.float64]]
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.bool_], list[str]]:
    """What a split spreads evenly, and what there is to say of it: the class of each example, int64 [N]; where examples show
    any number of classes, those, bool [N, classes]; for a number to predict (`targets`, float64 [N]) bins of it, int64 [N]."""
    if "marks" in manifest.column_names or (manifest["label"].null_count and content.kind != files.TABLE):
        return classes_shown(manifest, len(content.classes)), []
    if not content.classes:
        return splitting.strata_of(targets()), []
    index = pc.index_in(manifest["label"], value_set=pa.array(content.classes, pa.string()))
    strata = np.asarray(index.to_numpy(), dtype=np.int64)
    single = np.flatnonzero(np.bincount(strata, minlength=len(content.classes)) == 1)
    names = ", ".join(f'"{content.classes[i]}"' for i in single[:20])
    return strata, [f"Classes of one example stay in train and are not measured: {names}."] if len(single) else []


def classes_shown(manifest: pa.Table, classes: int) -> npt.NDArray[np.int64] | npt.NDArray[np.bool_]:
    """Which classes the marks, labels or ranges of each example name: bool [N, classes].

    Masks are not looked into: their examples are one stratum, int64 [N].
    """
    column = next((name for name in ("marks", "labels", "intervals") if name in manifest.column_names), "")
    if not column:
        return np.zeros(manifest.num_rows, np.int64)
    lists = manifest[column].combine_chunks()
    flat = lists.flatten()
    labels = np.asarray((flat if column == "labels" else flat.field("label")).to_numpy(zero_copy_only=False), dtype=np.int64)
    of = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    shown = np.zeros((manifest.num_rows, classes), np.bool_)
    shown[of, labels] = True
    return shown


def _seconds(text: str, name: str) -> float:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"split.time_by is {name!r}, where {text[:40]!r} stands, which is no date: {error}"
        raise InvalidArgument("BAD_TIME", message, field="split.time_by", column=name, value=text[:40]) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _column(name: str, field: str, column: Column, content: files.DatasetDescriptor, manifest: pa.Table) -> pa.ChunkedArray:
    names = [column.name for column in content.columns]
    if name not in names or content.table is None:
        message = f"split.{field} is {name[:80]!r}; the columns are {', '.join(names[:100])}"
        raise InvalidArgument("UNKNOWN_COLUMN", message, field=f"split.{field}", value=name[:80])
    return column(name).take(manifest["row"])


def _numbered(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Rows without a value are each a group of their own."""
    codes = tables.feature_arrays(pa.table({"group": values}), ["group"])["group"]
    missing = np.flatnonzero(np.isnan(codes))
    numbers = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    numbers[missing] = numbers.max(initial=0) + 1 + np.arange(len(missing))
    return numbers


def _attributes(name: str, manifest: pa.Table) -> tuple[list[str | None], dict[str, set[str]]]:
    """What an attribute says of each example, and what all attributes say."""
    said = manifest["attributes"].to_pylist() if "attributes" in manifest.column_names else []
    known: dict[str, set[str]] = {}
    values: list[str | None] = []
    for text in said:
        attributes = json.loads(text) if text else {}
        for key, value in attributes.items():
            known.setdefault(key, set()).add(value)
        values.append(attributes.get(name))
    return values, known


def _have(known: dict[str, set[str]]) -> str:
    listed = [f"{key} ({_such_as(known[key])})" for key in sorted(known)[:_NAMED]]
    return f"the attributes are {', '.join(listed)}" if known else "the examples have no attributes"


def _by_attribute(name: str, manifest: pa.Table) -> npt.NDArray[np.int64]:
    values, known = _attributes(name, manifest)
    if name not in known:
        message = f'split.group_by is {name[:80]!r}; {_have(known)}. A pattern of file names works too: "{{group}}_{{number}}"'
        if any(key.startswith("part_") for key in known):
            message += '; an import with name_pattern, such as "{label}_{speaker}_{number}", names the parts of file names'
        raise InvalidArgument("UNKNOWN_GROUP", message, field="split.group_by", value=name[:80])
    return _complete(values, name, manifest)


def _such_as(values: set[str]) -> str:
    shown = sorted(values, key=lambda text: (len(text), text))[:3]
    return f"{len(values)} values such as {', '.join(each[:20] for each in shown)}"


def _by_pattern(pattern: str, manifest: pa.Table) -> npt.NDArray[np.int64]:
    form = NamePattern(pattern, needed="group", field="split.group_by")
    found = [form.match(stem(path)) for path in manifest["path"].to_pylist()]
    return _complete([match["group"] if match else None for match in found], pattern, manifest)


def _complete(values: list[str | None], name: str, manifest: pa.Table) -> npt.NDArray[np.int64]:
    missing = [path for value, path in zip(values, manifest["path"].to_pylist(), strict=True) if value is None]
    if missing:
        message = f"split.group_by is {name[:80]!r}: {len(missing)} examples say no group, such as {', '.join(missing[:5])}"
        raise InvalidArgument("GROUP_MISSING", message, field="split.group_by", value=name[:80], missing=len(missing))
    codes = pc.dictionary_encode(pa.array(values)).indices
    return np.asarray(codes.to_numpy(), dtype=np.int64)
