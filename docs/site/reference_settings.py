"""The reference of the settings, made of the settings classes: a table for what all services share, one for each service."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_text import plain

SERVICES = ("dataset", "trainer", "evaluator", "exporter", "serving", "pipeline")


@dataclass(frozen=True)
class Setting:
    """A setting: the variable that sets it, what it takes, what it is without, and what it does."""

    owner: str
    variable: str
    takes: str
    default: str
    said: str


def settings() -> Iterator[Setting]:
    """All settings: first those that all services share ("core"), then each service's own."""
    from modelyard.core.settings import CoreSettings

    yield from _of("core", CoreSettings, set())
    for service in SERVICES:
        module = importlib.import_module(f"modelyard.{service}.settings")
        for name in sorted(vars(module)):
            kind = getattr(module, name)
            own = isinstance(kind, type) and issubclass(kind, CoreSettings) and kind.__module__ == module.__name__
            if own:
                yield from _of(service, kind, set(CoreSettings.model_fields))


def _of(owner: str, kind: Any, left_out: set[str]) -> Iterator[Setting]:
    prefix = kind.model_config["env_prefix"]
    for name, field in kind.model_fields.items():
        if name not in left_out:
            yield Setting(owner, f"{prefix}{name.upper()}", _takes(field), _default(field), field.description or "")


def _takes(field: Any) -> str:
    text = str(field.annotation)
    if text.startswith("typing.Literal"):
        return " or ".join(part.strip(" '") or "nothing" for part in text[len("typing.Literal[") : -1].split(","))
    named = getattr(field.annotation, "__name__", "") if "[" not in text and "|" not in text else text
    words = {
        "str": "text",
        "SecretStr": "text (secret)",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "Path": "path",
    }
    shown = " or ".join(
        words.get(part, part) for part in re.findall(r"\w+", named.replace("pathlib.", "")) if part not in ("None", "NoneType")
    )
    bounds = [str(limit) for limit in field.metadata if hasattr(limit, "ge") or hasattr(limit, "le") or hasattr(limit, "gt")]
    said = " ".join(re.sub(r"^(Ge|Le|Gt|Lt)\((ge|le|gt|lt)=(.*)\)$", _bound, bound) for bound in bounds)
    return f"{shown} {said}".strip()


def _bound(found: re.Match[str]) -> str:
    return {"Ge": "≥", "Le": "≤", "Gt": ">", "Lt": "<"}[found[1]] + f" {found[3]}"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else "(must be given)"
    if value is None or value == "" or type(value).__name__ == "SecretStr":
        return ""
    return str(value) if not isinstance(value, Path) else value.as_posix()


def page() -> str:
    """The page."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable; nothing else is read from the environment. Made from the settings classes",
        "when this site was built. The command line has a few of its own: they stand with the options in",
        "[its reference](cli.md).",
    ]
    owner = ""
    for one in settings():
        if one.owner != owner:
            owner = one.owner
            title = "What all services share" if owner == "core" else f"The {owner} service"
            lines += ["", f"## {title}", "", "| variable | takes | default | |", "|---|---|---|---|"]
        default = f"`{one.default}`" if one.default else " "
        lines.append(f"| `{one.variable}` | {plain(one.takes)} | {default} | {plain(one.said)} |")
    return "\n".join(lines) + "\n"
