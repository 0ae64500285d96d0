"""The parts of the command line: start-up, help, durations, errors, output, live picture, doctor, unpacking."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.cli import checkup
from modelyard.cli.asking import class_floors_of, forms_of
from modelyard.cli.durations import seconds_of, spoken
from modelyard.cli.exits import HINTS, LISTS, exit_code, lines, report
from modelyard.cli.live import RunPicture, _rendered, sparkline
from modelyard.cli.main import COMMANDS, main
from modelyard.cli.output import plain
from modelyard.cli.sizes import bytes_of, spoken_bytes
from modelyard.cli.unpack import unpack
from modelyard.client import DataLoss, InvalidArgument, NotFound, Unavailable
from modelyard.core import errors as core_errors
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2, pipeline_service_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2

GROUPS = {
    "dataset": ["import", "check", "report", "publish", "edit", "fix", "diff", "list", "show", "examples"],
    "annotate": [
        *("schema", "create", "next", "label", "submit", "skip", "undo", "tasks", "history", "review", "list", "show", "set"),
        *("delete", "agreement", "publish", "export", "import", "prelabel", "propose"),
    ],
    "device": ["enrol-token", "list", "show", "label", "revoke", "delete"],
    "endpoint": ["list", "show", "delete", "events"],
    "model": ["list", "show", "import"],
    "target": ["list", "create", "delete"],
    "token": ["create", "list", "revoke"],
    "passport": ["show", "verify"],
    "rollout": ["create", "list", "show", "pause", "resume", "cancel", "revert"],
    "runs": ["list", "show", "watch", "cancel", "stop", "compare", "note", "tag", "save"],
    "watch": ["add", "list", "show", "run", "delete"],
    "recipes": ["list", "preview", "show"],
}
LEAVES = [(name, *([sub] if sub else [])) for name in COMMANDS for sub in GROUPS.get(name, [""])]


def test_starting_loads_nothing_heavy() -> None:
    heavy = "{'typer', 'grpc', 'google.protobuf', 'numpy', 'sqlalchemy', 'rich', 'torch', 'modelyard.core'}"
    code = f"import sys, modelyard.cli.main; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_help_of_no_command_loads_what_its_work_needs() -> None:
    code = """
import contextlib, io, sys
from modelyard.cli.main import COMMANDS, main
for name in COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([name, "--help"])
heavy = {"grpc", "google.protobuf", "numpy", "pyarrow", "sqlalchemy", "torch", "modelyard.core", "modelyard.client.drawing"}
sys.exit(f"loaded: {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_is_quick() -> None:
    best = 9.0
    for _ in range(5):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "modelyard.cli", "--help"], check=True, capture_output=True)
        best = min(best, time.monotonic() - started)
    assert best < 0.4 * _slowness()


def _slowness() -> float:
    """How much slower than alone this machine is now, by the time a bare interpreter takes (20 ms alone)."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return max(1.0, (time.monotonic() - started) / 0.03)


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    said = capsys.readouterr().out
    assert not caught.value.code
    assert f"Example: modelyard {' '.join(command)}" in said
    assert ("--json" in said) == (command not in (("up",), ("completion",)))


def test_a_command_that_is_nearly_right_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predct"])
    assert "there is no command 'predct'; did you mean 'predict'?" in capsys.readouterr().err


def test_an_option_that_is_nearly_right_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, meant in (("--labl", "--label"), ("--min-acuracy", "--min-accuracy"), ("--jsn", "--json")):
        with pytest.raises(SystemExit):
            main(["auto", "houses.csv", "--name", "houses", wrong, "price"])
        assert f"there is no option {wrong!r}; did you mean {meant!r}?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["auto", "houses.csv", "--fly"])
    assert "there is no option '--fly'\n" in capsys.readouterr().err


def test_without_arguments_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        shown = capsys.readouterr()
        assert all(f"  {name} " in shown.out + shown.err for name in COMMANDS)


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["fly"], ["auto"], ["auto", "x", "--name", "y", "--max-latency-ms", "soon"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said", "field"),
    [
        (["auto", "x", "--name", "y", "--seed", "1.5"], "--seed is '1.5': it should be a valid integer", "--seed"),
        (["up", "--port=99999"], "--port is '99999': it should be less than or equal to 65535", "--port"),
        (["runs", "note", "j1"], "missing argument 'TEXT'", "TEXT"),
        (["auto", "x"], "missing option '--name'", "--name"),
        (["dataset", "impot"], "no such command 'impot'. Did you mean 'import'?", ""),
    ],
)
def test_wrong_usage_is_told_as_any_other_error(
    arguments: list[str], said: str, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "--json"] if arguments[0] != "up" else arguments)
    shown = capsys.readouterr()
    words = [word for word in arguments if word in ("auto", "up", "runs", "note", "dataset")]
    assert shown.err == f"error: {said}\nhint: `modelyard {' '.join(words)} --help` says what it takes\n"
    if shown.out:
        error = json.loads(shown.out)["error"]
        assert (error["reason"], error["code"], error["message"]) == ("WRONG_USAGE", "INVALID_ARGUMENT", said)
        assert [each["field"] for each in error["violations"]] == ([field] if field else [])


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"]], ids=" ".join)
def test_who_reads_no_further_gets_no_trace(command: list[str]) -> None:
    """The reading end is closed before anything is written; and a disk that is full (/dev/full) is told in a line."""
    reading, writing = os.pipe()
    os.close(reading)
    called = [sys.executable, "-m", "modelyard.cli", *command]
    ended = subprocess.run(called, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(called, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_lists_of_commands_are_whole_sentences_and_values_have_words(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["dataset", "--help"], ["train", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
    shown = capsys.readouterr().out
    assert "or a version with its counts, columns and notes." in " ".join(shown.split())
    assert "<" not in shown
    assert "--max-epochs NUMBER" in shown


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"name": "projects/p/datasets/f/versions/V001"}, "`modelyard dataset show f` lists its versions"),
        ({"name": "projects/p/models/f/versions/V001"}, "`modelyard model show f` lists its versions"),
        ({"name": "projects/p/models/f"}, "`modelyard model list` lists the models"),
        ({"name": "projects/p/endpoints/f/deployments/V1"}, "`modelyard endpoint show f` lists the versions that it serves"),
        ({"model": "f"}, "`modelyard endpoint list` lists the endpoints"),
        ({"name": "projects/p/datasets/f/annotationRounds/r"}, "`modelyard annotate list f` lists the rounds"),
        ({"name": "projects/p"}, ""),
    ],
)
def test_what_is_not_there_comes_with_the_list_of_what_is(values: dict[str, str], hint: str) -> None:
    assert lines(NotFound("it is not there", values=values)) == "error: it is not there" + (f"\nhint: {hint}" if hint else "")


def test_every_list_that_a_hint_names_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for text in {*LISTS.values(), *HINTS.values()}:
        for command in re.findall(r"`modelyard ([a-z ]+)", text):
            with pytest.raises(SystemExit) as caught:
                main([*command.split(), "--help"])
            assert not caught.value.code, text
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("45", 45), ("1.5h", 5400), ("1 h 30 m", 5400), ("2d", 172800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text, "max_training_time") == seconds


@pytest.mark.parametrize("text", ["", "x", "10x", "m10", "-5m", "0", "0s", "10m foo", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="give a duration such as 90s, 10m or 1h30m"):
        seconds_of(text, "max_training_time")


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_error(text: str) -> None:
    found, fields = 1.0, ["t"]
    try:
        found = seconds_of(text, "t")
    except InvalidArgument as error:
        fields = [violation.field for violation in error.violations]
    assert found > 0
    assert fields == ["t"]


def test_spoken_durations() -> None:
    assert [spoken(value) for value in (0.44, 42, 200, 3900)] == ["0.4 s", "42 s", "3 min 20 s", "1 h 05 min"]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InvalidArgument("x is 1", reason="R"), 2, "error: x is 1\n"),
        (NotFound("there is no x"), 1, "error: there is no x\n"),
        (Unavailable("nobody answers", reason="NO_CONNECTION"), 4, "hint: start a server"),
        (core_errors.Unavailable("PORT_TAKEN", "port 1 is taken", port=1), 4, "hint: give another --port"),
        (core_errors.InvalidArgument("R", "must be above 0", field="split.seed"), 2, "error: seed: must be above 0"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: Permission denied: /x"),
        (ZeroDivisionError("oops"), 1, "error: unexpected ZeroDivisionError: oops\nhint: this is a fault of ours"),
    ],
)
def test_errors_are_a_line_a_hint_and_a_status(
    error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, debug=False, as_json=True) == exit_code(error) == status
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert json.loads(shown.out)["error"]["message"]


def test_debug_shows_the_trace_and_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise NotFound("there is no x", values={"name": "x"}, request_id="r1")
    except NotFound as error:
        report(error, debug=True, as_json=False)
    shown = capsys.readouterr().err
    assert "name = x" in shown
    assert "request id r1" in shown
    assert "Traceback" in shown


def test_messages_as_plain_json() -> None:
    job = trainer_pb2.TrainingJob(name="n", status=job_pb2.JobStatus(state=job_pb2.JOB_STATE_RUNNING))
    job.max_training_time.FromMilliseconds(1500)
    job.status.create_time.FromJsonString("2026-01-02T03:04:05Z")
    job.latest_point.metrics["accuracy"] = float("nan")
    job.recipe.hyperparameters.seed = 2**40
    found = plain(job)
    assert found["status"]["state"] == "RUNNING"
    assert found["status"]["create_time"] == "2026-01-02T03:04:05Z"
    assert found["max_training_time"] == 1.5
    assert found["latest_point"]["metrics"] == {"accuracy": None}
    assert found["recipe"]["hyperparameters"]["seed"] == 2**40
    assert "max_epochs" not in found["recipe"]["hyperparameters"]
    assert found["checkpoints"] == []
    assert plain(dataset_pb2.Finding(severity=dataset_pb2.Finding.SEVERITY_ERROR))["severity"] == "ERROR"
    json.dumps(found, allow_nan=False)


def test_the_live_picture_shows_steps_and_figures() -> None:
    from rich.console import Console

    picture = RunPicture()
    run = pipeline_pb2.PipelineRun()
    for name, state in (("import", job_pb2.JOB_STATE_SUCCEEDED), ("train", job_pb2.JOB_STATE_RUNNING)):
        run.steps.add(step_id=name, state=state, message=f"[{name}]")
    points = [trainer_pb2.TrainingPoint(step=n, epoch=n / 10, loss=3.0 / n, learning_rate=0.01) for n in range(1, 100)]
    points[-1].metrics["accuracy"] = 0.875
    points[-1].eta.FromSeconds(125)
    picture.take(pipeline_service_pb2.WatchPipelineRunResponse(pipeline_run=run, points=points))
    console = Console(file=io.StringIO(), width=140)
    console.print(_rendered(picture))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("✓", "▶", "[train]", "loss 0.0303", "accuracy 0.875", "lr 0.01", "2 min 05 s left", "█"):
        assert word in shown


@given(st.lists(st.floats(-1e6, 1e6), max_size=500))
def test_a_sparkline_is_never_wider_than_asked(values: list[float]) -> None:
    assert len(sparkline(values, 40)) == min(len(values), 40)


def test_unpacking_writes_plain_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a/b.txt", "x")
    assert unpack(tmp_path / "b.zip", tmp_path / "out") == [tmp_path / "out" / "a" / "b.txt"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "c:x"])
def test_unpacking_leaves_the_folder_alone(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("fine.txt", "x")
        archive.writestr(name, "x")
    with pytest.raises(DataLoss, match="would leave the folder"):
        unpack(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(DataLoss, match="no zip file"):
        unpack(tmp_path / "b.zip", tmp_path / "out")


def test_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--data-dir", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {check["name"] for check in found["checks"]} >= {
        "python",
        "packages",
        "onnxruntime",
        "data folder",
        "disk",
        "server",
        "cores",
        "gpu",
    }
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--data-dir", str(tmp_path), "--server", "127.0.0.1:1"])
    assert caught.value.code == 1
    assert "start it with `modelyard up`" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("broken", None)])
def test_cores_of_a_control_group(tmp_path: Path, text: str, cores: Any) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert checkup.cgroup_cores(tmp_path) == cores


def test_a_folder_nobody_may_write_to_is_named() -> None:
    check = checkup.folder(Path("/proc/modelyard"))
    assert check.status == checkup.FAIL
    assert "--data-dir" in check.cure


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "nonsense"], "server is 'nonsense'; give HOST:PORT"),
        (["--data-dir", "/proc/nothing"], "data_dir is '/proc/nothing', which cannot be used"),
    ],
)
def test_a_wrong_place_is_named(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["dataset", "list", *options])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"), [("200KB", 200_000), ("1.5 MB", 1_500_000), ("64KiB", 65_536), ("4096", 4096), ("1b", 1)]
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text, "max_size") == size


@pytest.mark.parametrize("text", ["0", "big", "-5KB", "5 parsecs", "", "0.1"])
def test_wrong_sizes_are_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match="max_size is"):
        bytes_of(text, "max_size")


def test_spoken_sizes() -> None:
    assert [spoken_bytes(size) for size in (812, 43_400, 1_210_000)] == ["812 B", "43.4 KB", "1.21 MB"]


def test_one_option_tells_the_form_of_the_data_and_of_the_model() -> None:
    assert forms_of(["csv", "litert"]) == ("csv", exporter_pb2.FORMAT_LITERT)
    assert forms_of(["image-folders"]) == ("image-folders", 0)
    assert forms_of([]) == ("", 0)
    for wrong in (["xml"], ["onnx", "litert"], ["csv", "idx"], ["unspecified"]):
        with pytest.raises(InvalidArgument, match="give one form of the model and one of the data"):
            forms_of(wrong)


def test_floors_of_classes() -> None:
    assert class_floors_of(["a:b:recall=0.8"]) == [evaluator_pb2.ClassFloor(label="a:b", metric="recall", value=0.8)]
    for wrong in ("recall=0.8", "rose:recall", "rose:recall=high", ":recall=1", "rose:=1"):
        with pytest.raises(InvalidArgument, match="give CLASS:METRIC=VALUE"):
            class_floors_of([wrong])
