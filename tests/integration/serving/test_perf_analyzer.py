"""Triton's own perf_analyzer, unchanged, against a real server. Runs where MODELYARD_PERF_ANALYZER names the program.

docs/serving.md ("Protocol") says how to get it: it is in the wheel tritonclient 2.39, and needs two libraries beside it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inference_world import inference_world
from tests.support.serving_server import ServingWorld

PROGRAM = os.environ.get("MODELYARD_PERF_ANALYZER", "")
LIBRARIES = os.environ.get("MODELYARD_PERF_ANALYZER_LIBRARIES", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="MODELYARD_PERF_ANALYZER does not name the program"),
]
# A fixed number of requests and any spread: on a shared machine no two windows are alike, and none is measured here.
MEASURED = ("--measurement-mode", "count_windows", "--measurement-request-count", "100", "-s", "999", "-r", "3")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingWorld]:
    with inference_world(tmp_path_factory.mktemp("perf")) as made:
        yield made


def analyzed(address: str, *arguments: str) -> str:
    command = [PROGRAM, "-u", address, "--shared-memory", "none", *MEASURED, *arguments]
    environment = {**os.environ, "LD_LIBRARY_PATH": LIBRARIES} if LIBRARIES else dict(os.environ)
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("-i", "grpc"),
        ("-i", "http"),
        ("-i", "grpc", "--async"),
        ("-i", "http", "--async"),
        ("-i", "grpc", "--streaming"),
        ("-i", "grpc", "-b", "8"),
        ("-i", "grpc", "-x", "1"),
    ],
    ids=" ".join,
)
def test_a_range_of_callers(world: ServingWorld, arguments: tuple[str, ...]) -> None:
    said = analyzed(world.address, "-m", "mlp", *arguments, "--concurrency-range", "1:2")
    rates = [float(rate) for rate in re.findall(r"Throughput: ([0-9.]+) infer/sec", said)]
    assert len(rates) == 2
    assert min(rates) > 0
    counts = [int(count) for count in re.findall(r"Inference count: (\d+)", said)]
    assert len(counts) == 2
    assert min(counts) > 0, "the server's own statistics were read"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_text_and_several_inputs(world: ServingWorld, tmp_path: Path, protocol: str) -> None:
    data = tmp_path / "data.json"
    data.write_text('{"data": [{"sex": ["male"], "age": [30.5]}, {"sex": ["female"], "age": [40.5]}]}')
    said = analyzed(world.address, "-m", "person", "-i", protocol, "--concurrency-range", "1", "--input-data", str(data))
    assert "Throughput" in said
