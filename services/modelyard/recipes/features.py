"""A feature pipeline as data: a list of steps over the columns of a table, checked against them before anything is trained.

Steps are taken in their order, and each sees what those before it made. `columns` names the columns of a step; `kind` (numeric,
categorical) takes all of a kind that no step of the same sort has had. What no step touches is encoded as it always was
(recipes.build_tabular); with no step at all everything is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset_descriptor import CATEGORICAL, FEATURE, NUMERIC, SET_ASIDE, Column
from modelyard.formats.text_numbers import ISO, MOST_BUCKETS, PARTS, check_format, date_of
from modelyard.recipes.rules import OneOf, Real, Several, Text, Whole, YesOrNo
from modelyard.recipes.steps import Forms, Setting, Step, completed, unknown, wrong

FEATURES: Final = "recipe.features"
REASON: Final = "INVALID_FEATURES"
MOST_NUMBERS: Final = 4096
"""Numbers that a row may become."""
BLOCK: Final = "block"
"""Several numbers under one name, which no later step takes apart."""
STATISTICS: Final = ("mean", "deviation", "smallest", "largest", "median", "count")
INTERACTIONS: Final = {"product": " x ", "ratio": " / ", "difference": " - ", "sum": " + "}
CROSSED: Final = " & "
IDENTIFIER: Final = "IDENTIFIER"

_NAME: Final = Text(500, 1)

FEATURE_FORMS: Final[Forms] = {
    "impute": {
        "by": Setting(OneOf(("auto", "mean", "median", "most_frequent", "constant")), "auto"),
        "value": Setting(Text(200), ""),
        "indicator": Setting(YesOrNo(), False),
    },
    "scale": {
        "by": Setting(OneOf(("standard", "robust", "min_max", "log", "quantile")), "standard"),
        "bins": Setting(Whole(2, 256), 10),
        "clip": Setting(YesOrNo(), False),
    },
    "encode": {
        "by": Setting(OneOf(("one_hot", "ordinal", "frequency", "target")), "one_hot"),
        "rare": Setting(Whole(0, 1_000_000), 0),
        "most": Setting(Whole(1, 1024), 256),
        "order": Setting(Several(Text(200), 1024), ()),
    },
    "date": {
        "parts": Setting(Several(OneOf(PARTS), len(PARTS), 1), ("year", "month", "day", "weekday", "hour")),
        "cyclic": Setting(YesOrNo(), False),
        "format": Setting(Text(100, 1), ISO),
        "reference": Setting(Text(40), ""),
        "indicator": Setting(YesOrNo(), False),
    },
    "text": {
        "by": Setting(OneOf(("word", "character")), "word"),
        "shortest": Setting(Whole(1, 8), 1),
        "longest": Setting(Whole(1, 8), 1),
        "buckets": Setting(Whole(2, MOST_BUCKETS), 256),
        "lower": Setting(YesOrNo(), True),
        "binary": Setting(YesOrNo(), False),
    },
    "aggregate": {
        "group_by": Setting(_NAME, ""),
        "values": Setting(Several(OneOf(STATISTICS), len(STATISTICS), 1), ("mean",)),
    },
    "interact": {"by": Setting(OneOf(tuple(INTERACTIONS)), "product")},
    "cross": {
        "by": Setting(OneOf(("one_hot", "frequency")), "one_hot"),
        "rare": Setting(Whole(0, 1_000_000), 0),
        "most": Setting(Whole(1, 1024), 256),
    },
    "drop": {},
    "keep": {},
}
"""The steps of a feature pipeline (protos/modelyard/trainer/v1/transform.proto)."""

_TAKES: Final = {"scale": NUMERIC, "encode": CATEGORICAL, "date": CATEGORICAL, "text": CATEGORICAL, "aggregate": NUMERIC}
_TAKES_ALSO: Final = {"interact": NUMERIC, "cross": CATEGORICAL}
_WORDS: Final = {NUMERIC: "numbers", CATEGORICAL: "text", BLOCK: "several numbers"}
_KINDS: Final = OneOf(("", NUMERIC, CATEGORICAL))
_LIMIT: Final = Real(-3e38, 3e38)


@dataclass
class Namespace:
    """The columns there are at a step: name to kind. aside: those that the dataset set aside as identifiers. had: by sort of step
    the columns that had one."""

    columns: dict[str, str]
    aside: dict[str, str] = field(default_factory=dict)
    had: dict[str, set[str]] = field(default_factory=dict)

    def chosen(self, step: Step) -> tuple[str, ...]:
        """The columns that a step is for, by name or by kind."""
        if step.columns:
            return step.columns
        done = self.had.get(step.do, set())
        return tuple(name for name, kind in self.columns.items() if kind == step.kind and name not in done)

    def take(self, step: Step) -> tuple[str, ...]:
        """The columns of a step, which have had one of its sort from now on. Brings in what was set aside."""
        names = self.chosen(step)
        for name in names:
            if name in self.aside:
                self.columns[name] = self.aside.pop(name)
        self.had.setdefault(step.do, set()).update(names)
        return names


def namespace_of(columns: Iterable[Column]) -> Namespace:
    """What a pipeline begins with: the features, and aside the identifiers (texts that differ in nearly every row, and dates)."""
    columns = list(columns)
    return Namespace(
        {column.name: column.type for column in columns if column.role == FEATURE},
        {c.name: c.type for c in columns if c.role == SET_ASIDE and c.set_aside_reason == IDENTIFIER},
    )


def made_by(step: Step, names: Sequence[str]) -> dict[str, str]:
    """The columns that a step adds or replaces: name to kind."""
    settings = step.settings
    if step.do == "impute" and settings["indicator"]:
        return {f"{name} missing": NUMERIC for name in names}
    if step.do == "encode" and settings["by"] in ("one_hot",):
        return dict.fromkeys(names, BLOCK)
    if step.do == "encode" and settings["by"] != "target":
        return dict.fromkeys(names, NUMERIC)
    if step.do == "date":
        return {f"{name} {part}": NUMERIC for name in names for part in date_parts(step)}
    if step.do == "text":
        return {f"{name} hash": BLOCK for name in names}
    if step.do == "aggregate":
        return {f"{name} {value} by {settings['group_by']}": NUMERIC for name in names for value in settings["values"]}
    if step.do == "interact":
        return {INTERACTIONS[settings["by"]].join(names): NUMERIC}
    if step.do == "cross":
        return {CROSSED.join(names): BLOCK if settings["by"] == "one_hot" else NUMERIC}
    return {}


def date_parts(step: Step) -> tuple[str, ...]:
    """The numbers that a date step makes."""
    from modelyard.formats.text_numbers import DateNumbers

    settings = step.settings
    return DateNumbers(tuple(settings["parts"]), settings["cyclic"], unread=settings["indicator"]).names


def check_features(
    steps: Sequence[Step], columns: Sequence[Column], path: str = FEATURES, *, rows: int = 0, target: str = ""
) -> tuple[Step, ...]:
    """The steps with every setting filled, checked against the columns of a dataset version.

    rows: of the dataset version, to see columns without any value; 0: not looked at. Raises InvalidArgument INVALID_FEATURES that
    names the step's field, the value and what would be right.
    """
    found = completed(steps, FEATURE_FORMS, path, REASON)
    space = namespace_of(columns)
    empty = {c.name for c in columns if rows and c.missing_count >= rows}
    for place, step in enumerate(found):
        where = f"{path}[{place}]"
        _check_choice(step, where)
        _check_settings(step, where)
        for at, name in enumerate(step.columns):
            _check_there(name, space, columns, f"{where}.columns[{at}]", target)
            if name in empty and not (step.do == "impute" and step.settings["by"] == "constant") and step.do != "drop":
                message = "which has no value in any row"
                raise _bad(f"{where}.columns[{at}]", name, message, "drop it, or impute it by constant")
        if step.do == "aggregate":
            _check_group(step, space, columns, where, target)
        names = space.take(step)
        _check_kinds(step, names, space, where)
        applied(step, names, space, where)
    if found and not space.columns:
        raise wrong(REASON, path, len(found), "leaves no column to learn from", "drop fewer columns")
    _check_width(found, path)
    return found


def _check_choice(step: Step, where: str) -> None:
    if not _KINDS.holds(step.kind):
        raise wrong(REASON, f"{where}.kind", step.kind, f"is {step.kind!r}", f"it must be {NUMERIC} or {CATEGORICAL}")
    if bool(step.columns) == bool(step.kind):
        what = "names both columns and a kind" if step.kind else "names no columns"
        raise wrong(REASON, f"{where}.columns", list(step.columns), what, "give either columns, or a kind (numeric, categorical)")
    if len(set(step.columns)) != len(step.columns):
        raise wrong(REASON, f"{where}.columns", list(step.columns), "names a column twice", "name each once")
    if step.do in ("interact", "cross") and len(step.columns) != 2:
        what = f"names {len(step.columns)} columns"
        raise wrong(REASON, f"{where}.columns", list(step.columns), what, f"{step.do} takes two")
    if step.do in ("date", "text", "keep") and step.kind:
        raise wrong(REASON, f"{where}.kind", step.kind, f"is {step.kind!r}", f"{step.do} takes columns by name")


def _check_settings(step: Step, where: str) -> None:
    settings, at = step.settings, f"{where}.{step.do}"
    if step.do == "impute":
        if settings["by"] == "constant" and not settings["value"]:
            raise wrong(REASON, f"{at}.value", "", "is empty", "constant needs the value to fill in")
        if settings["by"] != "constant" and settings["value"]:
            raise wrong(REASON, f"{at}.value", settings["value"], f"is {settings['value']!r}", "a value goes with by constant")
    if step.do == "date":
        fault = check_format(settings["format"])
        if fault:
            right = "iso, or strptime's directives such as %d.%m.%Y"
            raise wrong(REASON, f"{at}.format", settings["format"], f"is {settings['format']!r} ({fault})", right)
        if settings["reference"] and date_of(settings["reference"]) is None:
            right = "a date such as 2020-01-31, or nothing for the earliest of the training rows"
            raise wrong(REASON, f"{at}.reference", settings["reference"], f"is {settings['reference']!r}", right)
    if step.do == "text" and settings["shortest"] > settings["longest"]:
        what = f"is {settings['shortest']}, above longest, which is {settings['longest']}"
        raise wrong(REASON, f"{at}.shortest", settings["shortest"], what, "at most longest is right")
    if step.do == "encode" and settings["order"] and settings["by"] != "ordinal":
        raise wrong(REASON, f"{at}.order", list(settings["order"]), "is given", "an order goes with by ordinal")


def _check_there(name: str, space: Namespace, columns: Sequence[Column], path: str, target: str) -> None:
    if name in space.columns or name in space.aside:
        return
    known = {column.name: column for column in columns}
    if name == target:
        raise _bad(path, name, "which is the target", "features are made of the other columns")
    if name in known and known[name].role == SET_ASIDE:
        why = known[name].set_aside_reason
        right = "publish the version with keep_leaking_columns" if why == "LEAKS_TARGET" else "name another column"
        raise _bad(path, name, f"which the dataset version sets aside ({why})", right)
    if name in known and known[name].role == FEATURE:
        raise _bad(path, name, "which an earlier step has dropped or replaced", "order the steps otherwise")
    if name in known:
        raise _bad(path, name, f"which is the {known[name].role}", "features are made of the other columns")
    raise unknown(REASON, path, name, [*space.columns, *space.aside], "column")


def _check_group(step: Step, space: Namespace, columns: Sequence[Column], where: str, target: str) -> None:
    group = str(step.settings["group_by"])
    path = f"{where}.aggregate.group_by"
    _check_there(group, space, columns, path, target)
    kind = space.columns.get(group) or space.aside.get(group)
    if kind != CATEGORICAL:
        raise _bad(path, group, f"which holds {_WORDS.get(str(kind), kind)}", "groups are made by a column of text")
    if group in step.columns:
        raise _bad(path, group, "which is among the columns", "another column is right")


def _check_kinds(step: Step, names: Sequence[str], space: Namespace, where: str) -> None:
    needed = {**_TAKES, **_TAKES_ALSO}.get(step.do)
    for at, name in enumerate(names):
        kind = space.columns[name]
        path = f"{where}.columns[{at}]" if step.columns else f"{where}.kind"
        if needed and kind != needed:
            raise _bad(path, name, f"which holds {_WORDS[kind]}", f"{step.do} is for {_WORDS[needed]}")
        if step.do == "impute":
            _check_filling(step, name, kind, where, path)
        if step.do in ("date", "text") and name in space.had.get("impute", set()):
            raise _bad(path, name, "which an earlier step imputes", f"{step.do} reads a text as it came; leave the impute out")


def _check_filling(step: Step, name: str, kind: str, where: str, path: str) -> None:
    by, value = step.settings["by"], step.settings["value"]
    if kind == BLOCK:
        raise _bad(path, name, "which holds several numbers", "impute comes before encode")
    if kind == CATEGORICAL and by in ("mean", "median"):
        raise _bad(path, name, "which holds text", f"{by} is of numbers; most_frequent or constant is right")
    if kind == NUMERIC and by == "constant" and number_of(value) is None:
        raise wrong(REASON, f"{where}.impute.value", value, f"is {value!r}", f"column {name!r} holds numbers")


def number_of(text: str) -> float | None:
    """The number in a text that float32 holds; None where there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if _LIMIT.holds(value) else None


def applied(step: Step, names: Sequence[str], space: Namespace, where: str) -> None:
    """Makes the namespace what it is after a step. Raises InvalidArgument where a column is made that is there already."""
    made = made_by(step, names)
    if step.do == "drop":
        for name in names:
            del space.columns[name]
    if step.do in ("date", "text"):  # a later step may read the same text in another way
        for name in names:
            space.aside[name] = space.columns.pop(name)
    clash = [name for name in made if name in space.columns and step.do != "encode"]
    if clash:
        raise wrong(
            REASON, where, clash[0], f"makes the column {clash[0]!r}, which is there already", "one step of the two is right"
        )
    space.columns |= made


def _check_width(steps: Sequence[Step], path: str) -> None:
    hashed = [(at, step.settings["buckets"] * len(step.columns)) for at, step in enumerate(steps) if step.do == "text"]
    total = sum(count for _, count in hashed)
    if total > MOST_NUMBERS:
        where = f"{path}[{hashed[-1][0]}].text.buckets"
        raise wrong(
            REASON, where, total, f"makes {total} numbers of a row with the texts before", f"at most {MOST_NUMBERS} are right"
        )


def _bad(path: str, name: str, what: str, right: str) -> InvalidArgument:
    return wrong(REASON, path, name, f"is {name!r}, {what}", right)


def features_shown(steps: Sequence[Step]) -> Mapping[str, str]:
    """A pipeline for a comparison: its version and its steps in words; nothing for none."""
    from modelyard.recipes.steps import said, version_of

    if not steps:
        return {}
    return {"features": f"{version_of(steps)}: {'; '.join(said(step, FEATURE_FORMS) for step in steps)}"}
