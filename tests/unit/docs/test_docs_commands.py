"""Every command that the documents name is one that there is, with options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.group import root_command

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_LINE = re.compile(r"^(?:    |\$ )(?:[A-Z_]+=\S+ )*modelyard [a-z].*$", re.MULTILINE)
_INLINE = re.compile(r"`modelyard ([a-z][^`]*)`")


def commands(text: str) -> Iterator[str]:
    """Commands in blocks and in sentences, without what follows them: comments, pipes, words in a second column."""
    for line in _LINE.findall(text):
        for part in re.split(r"[;|&]|\$\(", line):
            if "modelyard " in part:
                yield _command(part[part.index("modelyard ") :])
    for found in _INLINE.findall(text):
        yield _command(f"modelyard {found}")


def _command(text: str) -> str:
    return re.split(r" {2,}| #|[;>)]|\$\(", text)[0].strip()


def fault(command: str, root: Any) -> str:
    """What is wrong with a command; empty when nothing is. Values are not looked at: many stand for something (EXPORT)."""
    try:
        words = shlex.split(command)[1:]
    except ValueError as error:
        return f"cannot be read: {error}"
    context = root.make_context("modelyard", [], resilient_parsing=True)
    found: Any = root
    while words and hasattr(found, "get_command"):
        below = found.get_command(context, words[0])
        if below is None:
            return f"there is no command {words[0]!r}"
        context = type(context)(below, info_name=words[0], parent=context)
        found, words = below, words[1:]
    known = {option for one in found.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"it has no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_there_is(page: Path) -> None:
    root = root_command()
    wrong = {command: said for command in commands(page.read_text(encoding="utf-8")) if (said := fault(command, root))}
    assert wrong == {}


def test_commands_are_found_and_faults_are_seen() -> None:
    found = list(
        commands(
            "text `modelyard up` and\n\n    modelyard runs show ID        pause, resume\n"
            "    modelyard nope; modelyard auto x --naem y\n"
        )
    )
    assert found == ["modelyard runs show ID", "modelyard nope", "modelyard auto x --naem y", "modelyard up"]
    root = root_command()
    assert [bool(fault(command, root)) for command in found] == [False, True, True, False]
    assert fault("modelyard runs shw X", root) == "there is no command 'shw'"
