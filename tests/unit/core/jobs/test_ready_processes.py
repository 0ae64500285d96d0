"""Processes that wait for a job with everything imported (core/jobs/ready.py)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.process_runner import LIFELINE, ProcessRunner
from modelyard.core.jobs.ready_processes import ReadyProcesses
from modelyard.core.jobs.runner import Order, Stage

WORKER = """
import os, sys
print("worker", os.environ["MODELYARD_JOB"], os.environ["OWN"], sys.modules["readied.ready"].size, flush=True)
os.read(int(os.environ["MODELYARD_LIFELINE_FD"]), 1)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "path" / "readied"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(WORKER)
    (package / "ready.py").write_text("size = 0\ndef prepare(bytes_):\n    global size\n    size = bytes_\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *sys.path]))
    return "readied"


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[ProcessRunner]:
    made = ProcessRunner({"OWN": "its own"}, log_dir=tmp_path / "logs", work_dir=tmp_path / "work")
    yield made
    made.close()


def order(module: str) -> Order:
    return Order("projects/p/jobs/j", "Import", "dataset", 1, module, Flavor("cpu-small"), identity="{}")


def said(log: Path, seconds: float = 20.0) -> str:
    deadline = time.monotonic() + seconds
    while not (log.is_file() and log.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return log.read_text()


def test_a_process_that_waits_becomes_the_worker(runner: ProcessRunner, tmp_path: Path, module: str) -> None:
    runner.expect(module, 7)
    waiting = runner._ready._waiting[module].process.pid
    run = runner.start(order(module))
    assert run.process.pid == waiting
    assert said(tmp_path / "logs" / "projects_p_jobs_j.log") == "worker {} its own 7\n"
    assert run.running()
    os.close(run.lifeline)  # as when the server dies
    run.lifeline = -1
    assert run.process.wait(10) == 0
    assert run.status().stage is Stage.ENDED
    run.end(0.0)


def test_one_is_kept_and_ends_with_the_server(runner: ProcessRunner, module: str) -> None:
    runner.expect(module, 0)
    process = runner._ready._waiting[module].process
    runner.expect(module, 0)
    assert runner._ready._waiting[module].process is process
    runner.close()
    assert process.poll() is not None
    runner.expect(module, 0)
    assert not runner._ready._waiting


def test_one_that_has_died_is_not_taken(runner: ProcessRunner, tmp_path: Path, module: str) -> None:
    runner.expect(module, 0)
    process = runner._ready._waiting[module].process
    process.kill()
    process.wait()
    run = runner.start(order(module))
    assert run.process.pid != process.pid
    run.end(0.0)


def test_another_environment_needs_another_process(module: str) -> None:
    ready = ReadyProcesses({"OWN": "1"}, LIFELINE)
    ready.want(module, 0)
    assert ready.take(module, {"OWN": "2"}) is None
    found = ready.take(module, {"OWN": "1"})
    assert found is not None
    found.end()
    assert found.process.poll() is not None
