"""`modelyard auto` and `runs` against fakes: what is sent, what is printed, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelyard.dataset.v1 import dataset_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.type.v1 import learning_pb2
from tests.support.cli_fakes import P, Yard


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "houses of été.csv"
    path.write_text("a,price\n1,2\n")
    return path


def test_the_last_line_is_one_object_with_all_that_is_promised(run: Any, table: Path) -> None:
    ended = run("auto", table, "--name", "houses", "--json")
    assert ended.status == 0
    assert ended.out.count("\n") == 1
    found = ended.document
    assert found["state"] == "SUCCEEDED"
    assert found["dataset_version"] == f"{P}/datasets/flowers/versions/V001"
    assert found["model_version"] == f"{P}/models/flowers/versions/V001"
    assert found["endpoint"] == f"{P}/endpoints/flowers"
    assert found["export_sha256"] == "a" * 64
    assert found["metrics"] == {"test": {"accuracy": 0.91}, "validation": {"accuracy": 0.9}}
    assert found["gate"]["verdict"] == "DEPLOY"
    assert found["gate"]["reasons"] == ["all tests passed"]
    assert found["train_seconds"] == 12.5
    assert found["latency_ms"] == {"p50": 1.5, "p95": 2.5}
    assert found["pipeline_run"] == f"{P}/pipelineRuns/run-1"
    assert found["candidates"][0]["recipe_id"] == "tinynet"
    assert found["findings"] == []
    assert "error" not in found
    assert "train: running tinynet" in ended.err
    assert "accuracy 0.8" in ended.err


def test_everything_asked_for_is_sent(run: Any, yard: Yard, table: Path) -> None:
    options = (
        "--label price --target cpu-1core --max-latency-ms 20 --max-train-time 1h30m --train-ratio 0.70 --seed 7 --no-deploy"
    )
    more = "--min-accuracy 0.9 --floor f1_macro=0.8 --floor rmse=12.5 --recipe linear --incremental flowers --version-name first"
    last = "--task tabular-regression --format csv --exclude id --exclude row --split ratio --usage-column part"
    run("auto", table, "--name", "houses", *f"{options} {more} {last}".split())
    sent = yard.pipelines.requests[0].pipeline_run
    assert sent.source.file_name == "houses of été.csv"
    assert yard.artifacts.blobs[sent.source.blob.uri] == table.read_bytes()
    assert sent.source.dataset == f"{P}/datasets/houses"
    assert (sent.source.label_column, sent.source.task) == ("price", learning_pb2.TASK_TABULAR_REGRESSION)
    assert sent.source.format == dataset_pb2.SOURCE_FORMAT_CSV
    assert (sent.model, sent.endpoint) == (f"{P}/models/houses", f"{P}/endpoints/houses")
    assert (sent.target, sent.max_inference_duration_ms, sent.max_training_time.seconds) == ("cpu-1core", 20, 5400)
    assert (sent.split.train_ratio, sent.split.seed, sent.split.source) == ("0.70", 7, dataset_pb2.SplitPolicy.SOURCE_RATIO)
    assert {floor.metric: floor.value for floor in sent.floors} == {"accuracy": 0.9, "f1_macro": 0.8, "rmse": 12.5}
    assert (sent.recipe.recipe_id, sent.dataset_version_id, sent.skip_deployment) == ("linear", "first", True)
    assert sent.recipe.hyperparameters.seed == 7
    assert sent.incremental_model_version == f"{P}/models/flowers/versions/V001"
    assert list(sent.excluded_columns) == ["id", "row"]


def test_a_gate_that_says_no_ends_with_3_and_its_reasons(run: Any, yard: Yard, table: Path) -> None:
    yard.pipelines.ending = "refuse"
    ended = run("auto", table, "--name", "houses", "--json")
    assert ended.status == 3
    assert ended.document["state"] == "SUCCEEDED"
    assert ended.document["endpoint"] == ""
    assert ended.document["gate"]["verdict"] == "BACK_TO_DATA"
    examples = ended.document["gate"]["examples"]
    assert [(one["example_id"], one["path"], one["label"]) for one in examples] == [
        ("e1", "rose/1.png", "rose"),
        ("e1x", "", "rose"),
    ]
    shown = run("auto", table, "--name", "houses").out
    assert "floor is 0.95" in shown
    assert "rose/1.png" in shown
    assert "e1x" in shown


def test_the_form_of_the_model_is_sent(run: Any, yard: Yard, table: Path) -> None:
    options = [
        "--format",
        "litert",
        "--precision",
        "int8",
        "--max-loss",
        "0.02",
        "--target",
        "mcu",
        "--class-floor",
        "rose:recall=0.8",
    ]
    run("auto", table, "--name", "houses", *options)
    sent = yard.pipelines.requests[0].pipeline_run
    assert (sent.format, sent.precision) == (exporter_pb2.FORMAT_LITERT, exporter_pb2.PRECISION_INT8)
    assert (sent.max_loss, sent.target, sent.source.format) == (0.02, "mcu", 0)
    assert sent.class_floors[0].label == "rose"
    assert sent.max_inference_duration_ms == 0
    assert not sent.HasField("compression")
    run("auto", table, "--name", "houses", "--max-size", "200KB", "--format", "csv")
    sent = yard.pipelines.requests[1].pipeline_run
    assert (sent.compression.max_size_bytes, sent.source.format) == (200_000, dataset_pb2.SOURCE_FORMAT_CSV)


def test_a_run_that_fails_ends_with_1_and_its_error(run: Any, yard: Yard, table: Path) -> None:
    yard.pipelines.ending = "fail"
    ended = run("auto", table, "--name", "houses", "--json")
    assert ended.status == 1
    error = ended.document["error"]
    assert (ended.document["state"], error["reason"], error["values"]) == ("FAILED", "ONE_CLASS", {"label": "rose"})
    assert "error: the data has one class: rose" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "Houses"], "name is 'Houses'"),
        (["--name", "h", "--max-latency-ms", "0"], "max_latency_ms is 0; give 1 to 20000"),
        (["--name", "h", "--max-latency-ms", "20001"], "max_latency_ms is 20001"),
        (["--name", "h", "--max-train-time", "soon"], "max_training_time is 'soon'; give a duration"),
        (["--name", "h", "--max-train-time", "0s"], "max_training_time is '0s'"),
        (["--name", "h", "--min-accuracy", "90"], "min_accuracy is 90; give a share from 0 to 1"),
        (["--name", "h", "--floor", "rmse"], "floors has 'rmse'; give METRIC=VALUE"),
        (["--name", "h", "--floor", "=1"], "floors has '=1'"),
        (["--name", "h", "--split", "half"], "split.source is 'half'; give one of auto, ratio, given"),
        (["--name", "h", "--task", "chess"], "task is 'chess'; give one of image_classification"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_uploaded(
    run: Any, yard: Yard, table: Path, options: list[str], said: str
) -> None:
    ended = run("auto", table, *options)
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not yard.artifacts.headers


def test_what_the_service_refuses_is_one_line_and_a_hint(run: Any, table: Path) -> None:
    ended = run("auto", table, "--name", "h", "--train-ratio", "1.5", "--json")
    assert ended.status == 2
    assert "error: train_ratio is '1.5'; give a number above 0" in ended.err
    assert "hint: set it with --train-ratio" in ended.err
    assert ended.document["error"]["violations"][0]["field"] == "pipeline_run.split.train_ratio"
    assert ended.document["error"]["values"] == {"train_ratio": "1.5"}
    assert "request-7" in run("auto", table, "--name", "h", "--train-ratio", "1.5", "--debug").err


def test_sources_that_are_not_there(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = run("auto", tmp_path / "empty", "--name", "h")
    assert (ended.status, "holds no file" in ended.err) == (2, True)
    ended = run("auto", tmp_path / "nothing", "--name", "h")
    assert (ended.status, "no such file or folder" in ended.err) == (2, True)


def test_data_that_the_server_has_already(run: Any, yard: Yard) -> None:
    uri = "artifact://dataset/" + "b" * 64
    run("auto", uri, "--name", "h")
    run("auto", f"{P}/datasets/flowers", "--name", "h")
    run("auto", f"{P}/datasets/flowers/versions/latest", "--name", "h")
    blob, dataset, version = [request.pipeline_run for request in yard.pipelines.requests]
    assert (blob.source.blob.uri, blob.source.blob.sha256) == (uri, "b" * 64)
    assert dataset.dataset == f"{P}/datasets/flowers"
    assert version.dataset_version == f"{P}/datasets/flowers/versions/V001"


def test_nobody_there_ends_with_4(run: Any, table: Path) -> None:
    ended = run("auto", table, "--name", "h", "--server", "127.0.0.1:1")
    assert ended.status == 4
    assert "nobody answers at 127.0.0.1:1" in ended.err
    assert "modelyard up" in ended.err


def test_interrupted_the_run_goes_on_and_the_command_ends_with_130(yard: Yard, table: Path) -> None:
    yard.pipelines.ending = "hang"
    command = [sys.executable, "-m", "modelyard.cli", "auto", str(table), "--name", "h", "--server", yard.address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert yard.pipelines.watched.wait(30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"modelyard runs watch run-1 --server {yard.address}" in err
    assert "Traceback" not in err
    assert not yard.pipelines.cancelled


def test_detached_it_returns_at_once(run: Any, yard: Yard, table: Path) -> None:
    yard.pipelines.ending = "hang"
    ended = run("auto", table, "--name", "h", "--detach", "--json")
    assert (ended.status, ended.document["pipeline_run"]) == (0, f"{P}/pipelineRuns/run-1")


def test_runs(run: Any, yard: Yard, table: Path) -> None:
    run("auto", table, "--name", "h", "--detach")
    run("train", "flowers/V001", "--detach")
    assert len(run("runs", "list", "--json").document["training_jobs"]) == 1
    listed = run("runs", "list").out
    assert "run-1" in listed
    assert "job-1" in listed
    assert run("runs", "watch", "run-1", "--json").document["state"] == "SUCCEEDED"
    assert run("runs", "show", "run-1", "--json").document["steps"][0]["step_id"] == "train"
    assert run("runs", "watch", "job-1", "--json").document["model_version"].endswith("V001")
    assert run("runs", "stop", "run-1").status == 0
    assert yard.trainer.stopped == [f"{P}/trainingJobs/job-9"]
    assert run("runs", "cancel", "job-1").status == 0
    assert yard.trainer.cancelled == [f"{P}/trainingJobs/job-1"]
    assert run("runs", "cancel", f"{P}/pipelineRuns/run-1").status == 0
    assert yard.pipelines.cancelled == [f"{P}/pipelineRuns/run-1"]
    ended = run("runs", "show", "nothing")
    assert (ended.status, "no pipeline run and no training job 'nothing'" in ended.err) == (1, True)
