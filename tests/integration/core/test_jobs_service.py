"""Flavors and logs through the client, and `modelyard logs` and `modelyard flavors` on top of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.cli.main import main
from modelyard.client import Client, InvalidArgument, NotFound
from modelyard.core.settings import CoreSettings
from tests.integration.core.test_jobs import Running, sample, until

FLAVORS = [{"name": "cpu-small", "cpu": "500m", "memory": "1Gi", "description": "Half a core"}, {"name": "gpu-1", "gpu": 1}]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    path = tmp_path / "flavors.json"
    path.write_text(json.dumps(FLAVORS))
    started = Running(tmp_path, [sample()], CoreSettings(data_dir=tmp_path, flavors=path))
    yield started
    started.stop()


@pytest.fixture
def run(running: Running, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command line against the running server; gives what it wrote."""

    def command(*arguments: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--server", running.platform.own_address["address"]])
        written = capfd.readouterr()
        assert (caught.value.code or 0) == status, written.err
        text = written.out if status == 0 else written.err
        return "".join(
            line for line in text.splitlines(keepends=True) if " [info " not in line
        )  # the server's own, in this process

    return command


def submit(running: Running, **spec: object) -> str:
    name = "projects/default/trainingJobs/t-1"
    running.platform.jobs.submit(name, "sample", parent="projects/default", spec={"steps": 3, "say": "counted", **spec})
    return name


def test_a_log_is_read_and_followed(running: Running, run: Callable[..., str]) -> None:
    name = submit(running, steps=20, pause_s=0.1)
    with Client(running.platform.own_address["address"]) as client:
        until(lambda: client.jobs.get_job_log(name))
        followed = b"".join(piece.data for piece in client.jobs.watch_job_log(name)).decode()
        read = b"".join(piece.data for piece in client.jobs.get_job_log("trainingJobs/t-1")).decode()
        with pytest.raises(NotFound):
            client.jobs.get_job_log("trainingJobs/other")
        with pytest.raises(InvalidArgument):
            client.jobs.get_job_log("models/m")
    assert running.platform.jobs.get(name).state.terminal, "following ends with the job"
    lines = [f"counted {step}" for step in range(20)]
    assert [line for line in followed.splitlines() if line.startswith("counted")] == lines
    assert followed == read
    assert run("logs", "t-1") == run("logs", name, "--follow") == read
    assert json.loads(run("logs", "t-1", "--json"))["pieces"][0]["attempt"] == 1
    assert run("logs", "t-1", "--attempt", "2") == ""
    assert "there is no training job, export, evaluation or latency profile 't-2'" in run("logs", "t-2", status=1)


def test_flavors_are_listed(running: Running, run: Callable[..., str]) -> None:
    with Client(running.platform.own_address["address"]) as client:
        small, gpu = client.jobs.list_instance_flavors()
    assert (small.name, small.cpu_cores, small.memory_bytes, small.gpu_resource) == ("cpu-small", 0.5, 1 << 30, "")
    assert (gpu.gpu_count, gpu.gpu_resource, gpu.node_count) == (1, "nvidia.com/gpu", 1)
    listed = run("flavors")
    assert "cpu-small" in listed
    assert "1 nvidia.com/gpu" in listed
    assert "give one of dataset, trainer" in run("flavors", "--service", "serving", status=2)
