"""The command line on a laptop: without a server each command starts one on its data folder; with `modelyard up` they find it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import worker_processes
from tests.support.sources import breast_cancer_csv, digits_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Ran:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The last line of stdout; the only one with --json."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


class Laptop:
    """A data folder and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "modelyard.cli", *map(str, arguments), "--data-dir", str(self.data_dir)]
        environment = {key: value for key, value in os.environ.items() if key != "MODELYARD_SERVER"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, *arguments: object) -> Ran:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=400)
        assert "Traceback" not in err
        return Ran(process.returncode, out, err)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    return Laptop(tmp_path_factory.mktemp("laptop"))


@pytest.fixture(scope="module")
def cancer(laptop: Laptop) -> Any:
    """What `auto` said about a table."""
    source = breast_cancer_csv(laptop.folder / "cancer.csv")
    ended = laptop.run("auto", source, "--name", "cancer", "--max-train-time", "30s", "--min-accuracy", "0.8", "--json")
    assert ended.status == 0, ended.err
    return ended.document


def test_auto_says_all_it_promises(cancer: Any) -> None:
    assert cancer["state"] == "SUCCEEDED"
    assert cancer["dataset_version"] == "projects/default/datasets/cancer/versions/V001"
    assert cancer["model_version"] == "projects/default/models/cancer/versions/V001"
    assert cancer["endpoint"] == "projects/default/endpoints/cancer"
    assert re.fullmatch("[0-9a-f]{64}", cancer["export_sha256"])
    assert cancer["metrics"]["test"]["accuracy"] >= 0.8
    low, high = cancer["intervals"]["test"]["accuracy"]
    assert low <= cancer["metrics"]["test"]["accuracy"] <= high
    assert cancer["gate"]["verdict"] == "DEPLOY"
    assert 0 < cancer["latency_ms"]["p50"] <= cancer["latency_ms"]["p95"] <= 500
    assert cancer["train_seconds"] > 0


@contextmanager
def server_of(laptop: Laptop) -> Iterator[str]:
    """`modelyard up` on the data folder; what it says when it is ready."""
    server = laptop.start("up", "--port", "0")
    assert server.stdout is not None
    try:
        yield server.stdout.readline()
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=60)
        assert server.returncode == 0, err
    finally:
        server.kill()


def test_another_command_gets_answers(cancer: Any, laptop: Laptop) -> None:
    ended = laptop.run("predict", "cancer", "--csv", laptop.folder / "cancer.csv", "--json")
    rows = (laptop.folder / "cancer.csv").read_text().splitlines()[1:]
    predictions = ended.document["predictions"]
    right = sum(row.endswith(f",{one['label']}") for row, one in zip(rows, predictions, strict=True))
    assert right / len(rows) > 0.9


def test_step_by_step_on_a_server_that_stays(cancer: Any, laptop: Laptop) -> None:
    with server_of(laptop) as ready:
        assert re.match(r"ready at 127\.0\.0\.1:\d+ after", ready)
        listed = laptop.run("dataset", "list", "--json")
        assert [one["name"] for one in listed.document["datasets"]] == ["projects/default/datasets/cancer"]
        assert "one is started" not in listed.err
        second = laptop.run("up", "--port", "0")
        assert second.status == 1
        assert "is in use by the Modelyard server at 127.0.0.1:" in second.err
        published = laptop.run("dataset", "publish", "cancer", "--train-ratio", "0.6", "--json").document
        assert published["name"].endswith("/V002")
        job = laptop.run("train", "cancer/V002", "--recipe", "linear", "--json").document
        assert job["model_version"].endswith("/models/cancer/versions/V002")
        exported = laptop.run("export", "cancer/V002", "--output", laptop.folder / "bundle", "--json").document
        assert {"bundle.json", "model.onnx", "labels.txt"} <= {path.name for path in (laptop.folder / "bundle").iterdir()}
        scored = laptop.run("evaluate", exported["name"], "--json").document
        assert scored["artifact_sha256"] == exported["artifact"]["sha256"]
        refused = laptop.run("deploy", exported["name"], "--floor", "accuracy=1.01")
        assert (refused.status, "BACK_TO_DATA" in refused.err) == (3, True)
        assert laptop.run("deploy", exported["name"]).status == 0
        found = laptop.run("endpoint", "show", "cancer", "--json").document
        assert found["default_version"] == "V002"
        assert [one["name"].rpartition("/")[2] for one in found["deployments"]] == ["V001", "V002"]


def test_a_served_model_speaks_first_about_new_rows(cancer: Any, laptop: Laptop) -> None:
    """Rows without a class, labelled by people who see what the deployed model says of them; the model learns from both next."""
    header, *rows = (laptop.folder / "cancer.csv").read_text().splitlines()
    truth = {f"row {number}": row.rpartition(",")[2] for number, row in enumerate(rows[:60], start=1)}
    (laptop.folder / "new.csv").write_text("\n".join(line.rpartition(",")[0] for line in (header, *rows[:60])))
    with server_of(laptop):
        options = ["--name", "new", "--unlabelled", "--label", "target"]
        assert laptop.run("dataset", "import", laptop.folder / "new.csv", *options).status == 0
        assert laptop.run("annotate", "schema", "new", "--class", "benign", "--class", "malignant").status == 0
        assert laptop.run("annotate", "create", "new", "first").status == 0
        said = laptop.run("annotate", "prelabel", "new/first", "--endpoint", "cancer", "--json").document
        assert said == {"asked": 60, "pre_labels": 60, "unknown_classes": []}
        tasks = laptop.run("annotate", "tasks", "new/first", "--limit", "100", "--json").document["tasks"]
        right = [task["pre_label"]["answer"]["classes"] == [truth[task["example"]["path"]]] for task in tasks]
        assert sum(right) >= 0.85 * len(truth) == 51
        assert all(0.5 <= task["pre_label"]["confidence"] <= 1 for task in tasks)
        assert {task["pre_label"]["model"] for task in tasks} <= {"cancer/V001", "cancer/V002"}
        unsure = laptop.run("annotate", "propose", "new", "--count", "5", "--endpoint", "cancer", "--json")
        assert (unsure.status, "NOTHING_UNLABELLED" in unsure.out) == (1, True)  # all are in the round


def test_a_gate_that_says_no_deploys_nothing(cancer: Any, laptop: Laptop) -> None:
    with server_of(laptop):
        options = ["--name", "strict", "--recipe", "linear", "--floor", "accuracy=1.01", "--json"]
        ended = laptop.run("auto", "projects/default/datasets/cancer/versions/V001", *options)
        assert ended.status == 3, ended.err
        assert ended.document["gate"]["verdict"] == "BACK_TO_DATA"
        assert any("1.01" in reason for reason in ended.document["gate"]["reasons"])
        assert ended.document["endpoint"] == ""
        assert "strict" not in laptop.run("endpoint", "list").out


def test_interrupted_it_stops_at_a_checkpoint_and_goes_on_later(laptop: Laptop) -> None:
    source = digits_folder(laptop.folder / "digits", per_class=15)
    process = laptop.start("auto", source, "--name", "digits", "--recipe", "micronet", "--max-train-time", "20s")
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("train: step"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130, "".join(said) + rest
    again = re.search(r"modelyard (runs watch \S+) --data-dir", rest)
    assert again is not None, rest
    deadline = time.monotonic() + 15
    while left := worker_processes(laptop.data_dir):
        assert time.monotonic() < deadline, f"workers {left} outlive their server"
        time.sleep(0.1)
    ended = laptop.run(*again[1].split(), "--json")
    assert ended.document["state"] == "SUCCEEDED", ended.err
    assert ended.document["model_version"].endswith("/models/digits/versions/V001")
