"""Ctrl-C ends a command within seconds, whatever hangs: a server that does not answer, a worker that is stuck, an open stream."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import digits_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What a command may take from its first Ctrl-C (clients/modelyard/cli/interrupts.py has 10 s), and a busy machine on top.
FIRST_S = 20.0
# From the second: nothing is waited for.
SECOND_S = 5.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_folder(tmp_path_factory.mktemp("pictures") / "digits", per_class=180)


def started(data_dir: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modelyard.cli", *map(str, arguments), "--data-dir", str(data_dir)]
    environment = {key: value for key, value in os.environ.items() if key != "MODELYARD_SERVER"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def children(pid: int) -> list[int]:
    """Processes that a process started and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rsplit(") ", 1)[1].split()[:2]
                found += [int(entry.name)] if int(parent) == pid and state != "Z" else []
    return found


def importing(data_dir: Path, pictures: Path, server: int = 0) -> tuple[subprocess.Popen[str], list[int]]:
    """An import whose workers are stuck: stopped in the middle. `server`: whose children they are; 0: the command's own."""
    process = started(data_dir, "dataset", "import", pictures, "--name", "digits")
    deadline = time.monotonic() + 60
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("import: running"):
            break
    while not (found := children(server or process.pid)):
        assert time.monotonic() < deadline, "no worker came"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return process, found


def interrupted(process: subprocess.Popen[str], within_s: float) -> tuple[float, str]:
    """How long it took to end after one more Ctrl-C, and what it said."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"has not ended {within_s:g} s after Ctrl-C") from None
    return time.monotonic() - began, err


@contextlib.contextmanager
def up(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    server = started(data_dir, "up", "--port", "0", "--no-console")
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("ready at")
        yield server
    finally:
        for pid in children(server.pid):
            os.kill(pid, signal.SIGKILL)
        server.kill()
        server.communicate()


@contextlib.contextmanager
def killed(process: subprocess.Popen[str], workers: list[int]) -> Iterator[None]:
    """Nothing is left of a test that fails."""
    try:
        yield
    finally:
        process.kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_stuck(tmp_path: Path, pictures: Path) -> None:
    process, workers = importing(tmp_path, pictures)
    with killed(process, workers):
        seconds, err = interrupted(process, FIRST_S)
        assert (process.returncode, "Traceback" in err) == (130, False), err
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        print(f"{seconds:.1f} s", err)


def test_a_server_that_does_not_answer(tmp_path: Path, pictures: Path) -> None:
    with up(tmp_path) as server:
        process, workers = importing(tmp_path, pictures, server.pid)
        server.send_signal(signal.SIGSTOP)
        with killed(process, workers):
            seconds, err = interrupted(process, FIRST_S)
            assert (process.returncode, "Traceback" in err) == (130, False), err
            print(f"{seconds:.1f} s", err)


def test_a_second_ends_at_once(tmp_path: Path, pictures: Path) -> None:
    with up(tmp_path) as server:
        process, workers = importing(tmp_path, pictures, server.pid)
        server.send_signal(signal.SIGSTOP)
        with killed(process, workers):
            process.send_signal(signal.SIGINT)
            time.sleep(1.0)
            seconds, err = interrupted(process, SECOND_S)
            assert (process.returncode, "Traceback" in err) == (130, False), err
            print(f"{seconds:.1f} s", err)


def test_a_server_with_a_stuck_worker_and_an_open_stream(tmp_path: Path, pictures: Path) -> None:
    with up(tmp_path) as server:
        process, workers = importing(tmp_path, pictures, server.pid)
        process.send_signal(signal.SIGSTOP)  # its Watch stream stays open, and nobody reads it
        with killed(process, workers):
            seconds, err = interrupted(server, 40)
            assert server.returncode == 0, err
            print(f"{seconds:.1f} s", err)


def test_at_a_question_it_is_no_answer(tmp_path: Path) -> None:
    with up(tmp_path):
        command = [sys.executable, "-m", "modelyard.cli", "dataset", "delete", "digits", "--data-dir", str(tmp_path)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        with killed(process, []):
            assert process.stderr is not None
            asked = ""
            while "[y/N]" not in asked:
                asked += process.stderr.read(1) or pytest.fail(f"it ended before it asked: {asked!r}")
            _, err = interrupted(process, FIRST_S)
            assert process.returncode == 130
            assert "NOT_CONFIRMED" not in err
            assert "Traceback" not in err
