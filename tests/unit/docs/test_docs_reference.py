"""What the reference pages are made of: nothing in it is without words."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _site_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))


def module(name: str) -> Any:
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def test_every_part_of_the_contracts_has_a_comment() -> None:
    protos = module("reference_protos")
    entries = list(protos.entries(protos.descriptors()))
    assert len([entry for entry in entries if entry.kind == "rpc"]) > 150
    assert [entry.name for entry in entries if not entry.said] == []


def test_every_command_and_option_has_a_description() -> None:
    cli = module("reference_cli")
    commands = list(cli.commands())
    assert len(commands) > 80
    assert [one.words for one in commands if not one.said] == []
    assert [(one.words, each.name) for one in commands for each in one.parameters if not each.said] == []
    assert [one.words for one in commands if "Example:" not in one.said] == []


def test_every_setting_has_a_description() -> None:
    settings = list(module("reference_settings").settings())
    assert {one.owner for one in settings} == {"core", "dataset", "trainer", "evaluator", "exporter", "serving", "pipeline"}
    assert [one.variable for one in settings if not one.said] == []
    assert len({(one.owner, one.variable) for one in settings}) == len(settings)


def test_every_group_of_the_client_has_methods() -> None:
    methods = list(module("reference_client").methods())
    assert {"datasets", "training", "evaluations", "predictions", "annotations"} <= {one.group for one in methods}
    assert all("self" not in one.signature for one in methods)


def test_the_diagrams_are_as_they_are_drawn() -> None:
    diagrams = module("diagrams")
    stale = [one.name for one in diagrams.DIAGRAMS if not diagrams._same(one)]
    assert stale == [], "run python docs/site/diagrams.py"
    names = [{box.name for box in one.boxes} for one in diagrams.DIAGRAMS]
    assert all(
        {end for arrow in one.arrows for end in (arrow.start, arrow.end)} <= held
        for one, held in zip(diagrams.DIAGRAMS, names, strict=True)
    )


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    """What the build refuses: the checks are run on a page that has every fault."""
    build = module("build")
    (tmp_path / "there.html").write_text('<h1 id="place">x</h1>')
    (tmp_path / "page.html").write_text(
        '<link rel="stylesheet" href="https://cdn.example/x.css"><a href="gone.html">a</a><a href="there.html#place">b</a>'
        '<a href="there.html#nowhere">c</a><a href="https://elsewhere.example">d</a><img src="gone.png">'
    )
    (tmp_path / "page.css").write_text("@font-face { src: url('https://fonts.example/f.woff2') }")
    assert build.faults(tmp_path) == [
        "page.html loads https://cdn.example/x.css",
        "page.html links to gone.html, which is not there",
        "page.html links to there.html#nowhere, but there is no such place in it",
        "page.html links to gone.png, which is not there",
        "page.css loads https://fonts.example/f.woff2",
    ]


def test_lists_and_tables_after_a_paragraph_are_set_apart() -> None:
    build = module("build")
    text = "Said:\n- a\n- b\nmore\n\n| x |\n|---|\nafter\n```\nno\n- list\n```\n# Head\n1. one\n"
    assert build.spaced(text) == "Said:\n\n- a\n- b\nmore\n\n| x |\n|---|\n\nafter\n```\nno\n- list\n```\n# Head\n1. one\n"
    page = build._Page()
    page.feed("<p>a\n- b</p><pre><code>- c</code></pre><p>|---|---|</p><p>fine - so, #1</p><td>## Head</td>")
    assert page.raw == ["a - b", "|---|---|", "## Head"]
