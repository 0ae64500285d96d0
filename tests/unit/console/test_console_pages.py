"""Every page asks its services inside `stretch`: what waits, fails and tries again is in one place, and tested there in a browser
(tests/e2e/console/test_console_states.py) for the pages that load differently."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelyard.console.pages

FILES = sorted(Path(modelyard.console.pages.__file__).parent.glob("*.py"))
# A title is asked for before the frame is there, for QUICK_S at most, and a refusal leaves the id in its place.
TITLES = {"title_of"}
# Pages that ask nothing before they are shown.
SHOWN_AT_ONCE = {"dataset_new", "home"}


def pages(file: Path) -> Iterator[ast.AsyncFunctionDef | ast.FunctionDef]:
    """The functions of a file that are pages."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            called = [
                each.func.id for each in node.decorator_list if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
            ]
            if "route" in called:
                yield node


def awaited(page: ast.AST) -> Iterator[str]:
    """What a page itself waits for; not what it gives away to be called later."""
    for node in ast.iter_child_nodes(page):
        if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Await):
            yield ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ast.unparse(node.value)
        else:
            yield from awaited(node)


@pytest.mark.parametrize("file", [file for file in FILES if list(pages(file))], ids=lambda file: file.stem)
def test_a_page_asks_its_services_inside_a_stretch(file: Path) -> None:
    for page in pages(file):
        waits = set(awaited(page)) - TITLES
        assert waits <= {"stretch"}, f"{file.name}: {page.name} waits for {waits}, whose failure nobody shows"
        assert waits or file.stem in SHOWN_AT_ONCE, f"{file.name}: {page.name} shows nothing that was asked"
