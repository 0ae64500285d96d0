"""`modelyard report`: the page of a run, and what is said when it cannot be had."""

from __future__ import annotations

from pathlib import Path

from modelyard.evaluator.v1 import evaluator_pb2
from tests.support.cli_fakes import DONE, Yard
from tests.unit.cli.conftest import Run


def test_a_run_becomes_a_page(run: Run, yard: Yard, tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text("a,b\n1,2\n")
    assert run("auto", source, "--name", "flowers").status == 0
    ended = run("report", "run-1", "-o", tmp_path / "page.html", "--json")
    assert ended.status == 0, ended.err
    page = (tmp_path / "page.html").read_text()
    assert ended.document["path"] == str(tmp_path / "page.html")
    assert ended.document["bytes"] == len(page.encode())
    assert "flowers/V001" in page
    assert "all tests passed" in page


def test_what_cannot_be_read_is_named(run: Run, yard: Yard, tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text("a,b\n1,2\n")
    run("auto", source, "--name", "flowers")
    scored = evaluator_pb2.Evaluation(name="projects/default/evaluations/e1", status=DONE)
    yard.evaluator.evaluations.append(scored)
    (made,) = yard.pipelines.runs.values()
    made.result.evaluation = scored.name
    ended = run("report", "run-1", "-o", tmp_path / "page.html")
    assert "not in the report: the decisions" in ended.err


def test_wrong_places_and_names_are_refused(run: Run, tmp_path: Path) -> None:
    ended = run("report", "nobody", "-o", tmp_path / "page.html")
    assert (ended.status, "no pipeline run and no training job 'nobody'" in ended.err) == (1, True)
    for out in (tmp_path, tmp_path / "none" / "page.html"):
        ended = run("report", "run-1", "-o", out)
        assert ended.status == 2
        assert "out is" in ended.err
        assert "Traceback" not in ended.err
