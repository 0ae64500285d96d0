"""The table of a model selection: what each candidate took, came to, and why it is out."""

from __future__ import annotations

import io
import sys

import pytest
from google.protobuf.duration_pb2 import Duration

from modelyard.cli.commands.select import print_selection
from modelyard.cli.selection_table import COLUMNS, rows, selection_picture
from modelyard.trainer.v1 import selection_pb2 as pb
from modelyard.trainer.v1 import selection_service_pb2 as service_pb
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2


def candidates(won: int = pb.CANDIDATE_STATE_TRAINING) -> list[pb.SelectionCandidate]:
    slow = "takes 61 ms (p95) on cpu; 20 ms are allowed"
    return [
        pb.SelectionCandidate(
            recipe=trainer_pb2.Recipe(recipe_id="tinynet"),
            input="28x28",
            state=won,
            p95_ms=1.234,
            size_bytes=702_000,
            rung=2,
            training_jobs=["a", "b"],
            metric=0.91234,
            standard_error=0.0021,
            train_duration=Duration(seconds=75),
            full_duration=Duration(seconds=300),
        ),
        pb.SelectionCandidate(
            recipe=trainer_pb2.Recipe(recipe_id="efficientnet-lite0"),
            input="96x96",
            state=pb.CANDIDATE_STATE_SET_ASIDE,
            p95_ms=61.0,
            message=slow,
        ),
    ]


def selection(**more: object) -> pb.ModelSelection:
    found = pb.ModelSelection(name="projects/default/modelSelections/s1", candidates=candidates(), metric="val_accuracy", **more)
    found.training_job.max_training_time.seconds = 600
    return found


def test_a_row_says_what_it_took_what_it_came_to_and_why_it_is_out() -> None:
    first, second = (dict(zip(COLUMNS, row, strict=True)) for row in rows(candidates(), "val_accuracy"))
    assert first["candidate"] == "tinynet 28x28"
    assert first["metric"] == "val_accuracy 0.9123 ± 0.002"
    assert (first["p95 ms"], first["size"], first["rung"], first["trained"]) == ("1.234", "702 KB", "2", "1 min 15 s")
    assert first["to its end"] == "5 min 00 s"
    assert (second["state"], second["metric"], second["trained"], second["rung"]) == ("set aside", "", "", "")
    assert second["why"].startswith("takes 61 ms")


def test_without_a_terminal_each_change_is_a_line_and_nothing_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    running = selection()
    running.status.progress.stage, running.status.progress.fraction = "rung 1 of 2: tinynet 28x28", 0.25
    running.status.progress.eta.seconds = 450
    with selection_picture() as show:
        for _ in range(3):
            show(service_pb.WatchModelSelectionResponse(model_selection=running))
    lines = said.getvalue().splitlines()
    assert lines[0] == "select: 25%  rung 1 of 2: tinynet 28x28  7 min 30 s left"
    assert lines[1] == "tinynet 28x28: training  val_accuracy 0.9123 ± 0.002"
    assert lines[2].startswith("efficientnet-lite0 96x96: set aside  takes 61 ms")
    assert len(lines) == 3


def test_the_end_tells_the_time_and_what_was_spared(capsys: pytest.CaptureFixture[str]) -> None:
    ended = selection(model_version="projects/default/models/m/versions/V001", summary="tinynet won.")
    ended.status.state, ended.status.reason = job_pb2.JOB_STATE_SUCCEEDED, "TIME_LIMIT"
    ended.train_duration.seconds, ended.spared_duration.seconds = 599, 1800
    print_selection(ended)
    shown = capsys.readouterr().out
    for words in ("9 min 59 s of 10 min 00 s", "30 min 00 s", "m/V001", "SUCCEEDED TIME_LIMIT", "tinynet won."):
        assert words in shown
