"""Watching an endpoint from end to end: a table is trained, served, and scored again on newly labelled rows, good and bad."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import Client
from modelyard.formats.bundle import open_bundle
from tests.support.servers import Process, start_embedded
from tests.support.sources import breast_cancer_csv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("watch")
    process = start_embedded(folder / "data", folder / "log")
    process.wait_ready()
    yield process
    process.stop()


def modelyard(server: Process, *arguments: object) -> tuple[int, Any]:
    """Exit status, and the last line of stdout as JSON."""
    command = [sys.executable, "-m", "modelyard.cli", *map(str, arguments), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, env=server.for_commands(), check=False)
    assert "Traceback" not in ended.stderr
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout.strip().splitlines()[-1])


def new_rows(source: Path, target: Path, wrong: float, seed: int) -> Path:
    """As many rows as there were, each moved a little, a share of them with the other label."""
    rng = random.Random(seed)
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    label = list(rows[0])[-1]
    names = sorted({row[label] for row in rows})
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            moved = {name: str(float(value) * rng.uniform(0.99, 1.01)) for name, value in row.items() if name != label}
            other = names[1 - names.index(row[label])]
            writer.writerow({**moved, label: other if rng.random() < wrong else row[label]})
    return target


def test_an_endpoint_is_scored_again_on_new_rows(server: Process, tmp_path: Path) -> None:
    source = breast_cancer_csv(tmp_path / "cancer.csv")
    status, made = modelyard(server, "auto", source, "--name", "cancer", "--max-train-time", "20s", "--min-accuracy", "0.8")
    assert status == 0
    with Client(server.address) as client:
        export = client.exports.get_export(client.endpoints.get_endpoint("cancer").deployments[0].export)
        bundle = open_bundle(client.artifacts.download(export.artifact, tmp_path / "m.bundle"))
    statistics = bundle.statistics()
    assert statistics is not None
    assert {feature.name for feature in statistics.features} >= {"label", "probabilities.top"}

    status, _ = modelyard(server, "watch", "add", "cancer", "--dataset", "cancer")
    assert status == 0
    status, found = modelyard(server, "watch", "run", "cancer")
    assert (status, found["verdict"]) == (0, "NOT_ENOUGH_DATA")

    for number, (wrong, verdict) in enumerate(((0.4, "DRIFTED"), (0.0, "OK")), 2):
        rows = new_rows(source, tmp_path / f"new-{number}.csv", wrong, number)
        assert modelyard(server, "dataset", "import", rows, "--name", "cancer")[0] == 0
        assert modelyard(server, "dataset", "publish", "cancer")[0] == 0
        status, found = modelyard(server, "watch", "run", "cancer")
        result = found["results"][0]
        assert found["verdict"] == result["verdict"] == verdict, result
        assert status == (3 if verdict == "DRIFTED" else 0)
        assert result["dataset_version"].endswith(f"/V{number:03d}")
        assert result["new_examples"] >= 50
        assert result["gate_metric"]["value"] == pytest.approx(made["metrics"]["test"]["accuracy"])
