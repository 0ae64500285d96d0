"""Steps of a list that a recipe holds: of its feature pipeline and of its augmentation policy. Plain data, checked by forms.

A step says what it does and the settings that it needs; a form says which settings there are, their rules and their defaults.
A checked step has every setting, so two lists that mean the same are equal, and so are their versions.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.recipes.rules import Real, Rule, Several

MOST_STEPS: Final = 100


@dataclass(frozen=True)
class Step:
    """One step. do: its name. columns, kind: of a feature pipeline, which columns it is for: by name, or all of a kind."""

    do: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Setting:
    """A setting of a step: what is right, and its value where none is given."""

    rule: Rule
    default: Any


Forms = Mapping[str, Mapping[str, Setting]]
"""The settings of each step, by the step's name."""


def completed(steps: Sequence[Step], forms: Forms, path: str, reason: str) -> tuple[Step, ...]:
    """The steps with every setting filled in. Raises InvalidArgument `reason` with a violation for each thing that is wrong."""
    if len(steps) > MOST_STEPS:
        raise wrong(reason, path, len(steps), f"has {len(steps)} steps", f"at most {MOST_STEPS} are allowed")
    found: list[Step] = []
    bad: list[tuple[str, Any, str]] = []
    for place, step in enumerate(steps):
        where = f"{path}[{place}]"
        if step.do not in forms:
            raise unknown(reason, where, step.do, forms, "step")
        form = forms[step.do]
        for name in step.settings:
            if name not in form:
                raise unknown(reason, f"{where}.{step.do}", name, form, "setting")
        values = {name: _like(setting.rule, step.settings.get(name, setting.default)) for name, setting in form.items()}
        bad += [
            (f"{where}.{step.do}.{name}", values[name], setting.rule.right)
            for name, setting in form.items()
            if not setting.rule.holds(values[name])
        ]
        found.append(replace(step, settings=values))
    if bad:
        raise _all_wrong(reason, bad)
    return tuple(found)


def version_of(steps: Sequence[Step]) -> str:
    """What tells two lists apart: 12 hexadecimal digits over all that they say; empty for an empty list."""
    if not steps:
        return ""
    text = json.dumps([step_document(step) for step in steps], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def step_document(step: Step) -> dict[str, Any]:
    """A step as JSON values: {"columns": [...], "impute": {...}}."""
    about: dict[str, Any] = {"columns": list(step.columns)} if step.columns else {}
    if step.kind:
        about["kind"] = step.kind
    return {**about, step.do: {name: _plain(value) for name, value in step.settings.items()}}


def steps_from(documents: Iterable[Mapping[str, Any]], forms: Forms) -> tuple[Step, ...]:
    """Steps as `step_document` wrote them; numbers as their rules have them (JSON does not keep 1.0 and 1 apart)."""
    found = []
    for document in documents:
        do = next(name for name in document if name not in ("columns", "kind"))
        form = forms.get(do, {})
        settings = {name: _like(form[name].rule, value) if name in form else value for name, value in document[do].items()}
        found.append(Step(do, settings, tuple(document.get("columns", ())), str(document.get("kind", ""))))
    return tuple(found)


def said(step: Step, forms: Forms) -> str:
    """A step for people, with the settings that differ from the defaults: "impute age, fare (by mean)"."""
    form = forms.get(step.do, {})
    given = [f"{name} {_words(value)}" for name, value in step.settings.items() if name in form and value != form[name].default]
    about = ", ".join(step.columns) or (f"every {step.kind} column" if step.kind else "")
    return " ".join(filter(None, (step.do, about, f"({', '.join(given)})" if given else "")))


def wrong(reason: str, path: str, value: object, what: str, right: str) -> InvalidArgument:
    """An error at a place: "PATH WHAT; RIGHT"."""
    message = f"{path} {what}; {right}"
    return InvalidArgument(reason, message, violations=(FieldViolation(path, message),), name=path, value=value)


def unknown(reason: str, path: str, name: str, known: Iterable[str], what: str) -> InvalidArgument:
    """An error for a name that is none of those known, with the nearest one."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names[:60])}"
    return wrong(reason, path, name, f"names the {what} {name[:80]!r}, which is not there", hint)


def _all_wrong(reason: str, bad: Sequence[tuple[str, Any, str]]) -> InvalidArgument:
    violations = tuple(FieldViolation(path, f"{path} is {value!r}; it must be {right}") for path, value, right in bad)
    message = "; ".join(each.description for each in violations)
    return InvalidArgument(reason, message, violations=violations, name=bad[0][0], value=bad[0][1])


def _like(rule: Rule, value: Any) -> Any:
    if isinstance(rule, Real) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(rule, Several) and isinstance(value, list | tuple):
        return tuple(_like(rule.each, one) for one in value)
    return value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        " ".join(map(_words, value))
        if isinstance(value, list | tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
