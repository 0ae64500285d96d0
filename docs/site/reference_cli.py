"""The reference of the command line, made of the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from markdown_text import plain

SHARED = {"server", "data_dir", "project", "json", "debug", "token", "ca", "cert", "cert_key"}
"""Options that every command has; they are described once."""


@dataclass(frozen=True)
class Parameter:
    """An option or an argument: how it is written, its own words, and these with its default and variable."""

    name: str
    written: str
    said: str
    told: str


@dataclass(frozen=True)
class Command:
    """A command that does something."""

    words: tuple[str, ...]
    said: str
    usage: str
    parameters: list[Parameter] = field(default_factory=list)


def commands() -> Iterator[Command]:
    """Every command that does something, in the order of `modelyard --help`."""
    from modelyard.cli.group import root_command

    root = root_command()
    context = root.make_context("modelyard", [], resilient_parsing=True)
    for name in root.list_commands(context):
        found = root.get_command(context, name)
        yield from _walk((name,), found, context)


def _walk(words: tuple[str, ...], found: Any, parent: Any) -> Iterator[Command]:
    context = type(parent)(found, info_name=words[-1], parent=parent)
    if hasattr(found, "list_commands"):
        for name in found.list_commands(context):
            yield from _walk((*words, name), found.get_command(context, name), context)
        return
    parameters = [_parameter(each, context) for each in found.params if each.name != "help"]
    yield Command(words, (found.help or "").strip(), " ".join(found.collect_usage_pieces(context)), parameters)


def _parameter(one: Any, context: Any) -> Parameter:
    written, told = one.get_help_record(context) or (one.name, "")
    return Parameter(one.name, written, one.help or "", told)


def page() -> str:
    """The page."""
    lines = [
        "# Command line",
        "",
        "Made from the commands when this site was built; `modelyard COMMAND --help` says the same.",
        "",
        "## What every command takes",
        "",
        *_table([one for one in next(iter(commands())).parameters if one.name in SHARED]),
    ]
    group = ""
    for one in commands():
        if one.words[0] != group:
            group = one.words[0]
            lines += ["", f"## modelyard {group}"]
        if len(one.words) > 1:
            lines += ["", f"### modelyard {' '.join(one.words)}"]
        about, _, example = one.said.partition("Example:")
        lines += ["", plain(about), "", "```text", f"modelyard {' '.join(one.words)} {one.usage}", "```"]
        for each in re.split(r"Example:", example) if example else []:
            lines += ["", "```text", each.replace("\b", "").strip(), "```"]
        own = [each for each in one.parameters if each.name not in SHARED]
        if own:
            lines += ["", *_table(own)]
    return "\n".join(lines) + "\n"


def _table(parameters: list[Parameter]) -> list[str]:
    rows = []
    for one in parameters:
        written = one.written.replace("|", "\\|")
        rows.append(f"| `{written}` | {plain(one.told or one.said)} |")
    return ["| | |", "|---|---|", *rows]
