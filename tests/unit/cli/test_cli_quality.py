"""`modelyard dataset check`, `report` and `fix`, against fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelyard.dataset.v1 import dataset_pb2
from tests.support.cli_fakes import P, Yard

pytestmark = pytest.mark.usefixtures("yard")


def asked(yard: Yard) -> Any:
    return next(request for request in reversed(yard.datasets.requests) if hasattr(request, "quality_report"))


def edits(yard: Yard) -> list[tuple[int, list[str], list[str]]]:
    sent = yard.datasets.requests[-1].dataset_version
    return [(edit.action, list(edit.example_ids), list(edit.labels)) for edit in sent.edits]


def test_a_check_says_what_it_costs_and_what_mends_it(run: Any, yard: Yard) -> None:
    ended = run("dataset", "check", "flowers")
    lines = ended.out.splitlines()
    assert "warning: EXACT_DUPLICATES: 4 pictures twice" in lines
    assert "  cost: they count twice" in lines
    assert "  a.png, b.png, c.png, ..." in lines
    assert "  modelyard dataset fix flowers --kind EXACT_DUPLICATES" in lines
    assert not any("--kind SMALL_CLASS" in line for line in lines)
    assert asked(yard).quality_report.depth == dataset_pb2.QualityReport.DEPTH_FULL


def test_a_check_as_json_ends_with_an_object_of_findings(run: Any) -> None:
    found = run("dataset", "check", "flowers", "--json").document["findings"]
    assert {"kind", "severity", "examples", "action", "cost"} <= set(found[0])
    assert found[0]["severity"] == "WARNING"


def test_a_version_and_a_quick_check(run: Any, yard: Yard) -> None:
    run("dataset", "check", "flowers/V001", "--quick")
    assert asked(yard).quality_report.dataset_version == f"{P}/datasets/flowers/versions/V001"
    assert asked(yard).quality_report.depth == dataset_pb2.QualityReport.DEPTH_QUICK


def test_a_folder_is_imported_checked_and_thrown_away(run: Any, yard: Yard, tmp_path: Path) -> None:
    source = tmp_path / "pictures"
    (source / "a").mkdir(parents=True)
    (source / "a" / "1.png").write_bytes(b"png")
    ended = run("dataset", "check", str(source), "--page", str(tmp_path / "r.html"))
    assert ended.status == 0
    (gone,) = yard.datasets.deleted
    assert gone.startswith(f"{P}/datasets/check-")
    assert asked(yard).parent == gone
    assert "dataset fix" not in ended.out
    assert (tmp_path / "r.html").read_bytes() == b"<!doctype html>a report"


def test_a_folder_can_be_kept(run: Any, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    ended = run("dataset", "check", tmp_path / "t.csv", "--name", "kept")
    assert yard.datasets.deleted == []
    assert "modelyard dataset fix kept --kind EXACT_DUPLICATES" in ended.out


def test_options_of_an_import_do_not_go_with_a_dataset(run: Any) -> None:
    ended = run("dataset", "check", "flowers", "--label", "x")
    assert ended.status == 2
    assert "--label goes with a source of files" in ended.err


def test_a_report_is_written_once_made(run: Any, yard: Yard, tmp_path: Path) -> None:
    place = tmp_path / "out" / "report.html"
    assert run("dataset", "report", "flowers", "-o", place).out.strip() == str(place)
    assert place.read_bytes().startswith(b"<!doctype html>")
    made = len(yard.datasets.reports)
    assert run("dataset", "report", "flowers", "-o", place).status == 0
    assert len(yard.datasets.reports) == made
    assert run("dataset", "report", "flowers", "-o", place, "--new").status == 0
    assert len(yard.datasets.reports) == made + 1


def test_a_report_is_not_written_over_anything_else(run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("my life's work")
    ended = run("dataset", "report", "flowers", "-o", tmp_path / "thesis.html")
    assert ended.status == 2
    assert (tmp_path / "thesis.html").read_text() == "my life's work"


def test_fix_takes_each_example_once_and_the_surest_only(run: Any, yard: Yard) -> None:
    drop, relabel = dataset_pb2.Edit.ACTION_DROP, dataset_pb2.Edit.ACTION_RELABEL
    assert run("dataset", "fix", "flowers", "--kind", "LABEL_ERRORS", "--min-score", "0.5").status == 0
    assert edits(yard) == [(relabel, ["e2", "e3"], ["rose", "rose"])]
    assert run("dataset", "fix", "flowers", "--kind", "EXACT_DUPLICATES", "--kind", "LABEL_ERRORS").status == 0
    assert edits(yard) == [(drop, ["e1", "e2"], []), (relabel, ["e3", "e4"], ["rose", "tulip"])]


def test_fix_goes_on_from_a_version(run: Any, yard: Yard) -> None:
    assert run("dataset", "fix", "flowers/V001", "--kind", "LABEL_ERRORS").status == 0
    assert yard.datasets.requests[-1].dataset_version.base_version == f"{P}/datasets/flowers/versions/V001"


def test_a_dry_run_changes_nothing(run: Any, yard: Yard) -> None:
    ended = run("dataset", "fix", "flowers", "--kind", "LABEL_ERRORS", "--dry-run")
    assert "LABEL_ERRORS: relabel 3 examples" in ended.out
    assert not any(hasattr(request, "dataset_version") for request in yard.datasets.requests)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "SMALL_CLASS"], "the findings here that an edit mends are: EXACT_DUPLICATES, LABEL_ERRORS"),
        (["--kind", "EXACT_DUPLICATES", "--min-score", "0.5"], "have no scores"),
        (["--kind", "LABEL_ERRORS", "--min-score", "0.99"], "no example of these findings scores as high"),
    ],
)
def test_what_cannot_be_fixed_is_said(run: Any, arguments: list[str], said: str) -> None:
    ended = run("dataset", "fix", "flowers", *arguments)
    assert ended.status == 2
    assert said in ended.err
