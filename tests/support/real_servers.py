"""Starting a real server for the length of a test session, and what to do when it is not there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

START_S = 60.0


def absent(what: str) -> NoReturn:
    """Skips the test with a reason; where CI=true, fails it, because there everything must be tested."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{what} (CI=true: it must be there)", pytrace=False)
    pytest.skip(what)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def temporary_folder(user: str | None = None) -> Iterator[Path]:
    """A folder with a short path (sockets allow about 100 characters) that belongs to a user; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="my-"))
    try:
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    command: Sequence[str], ready: Callable[[], bool], log: Path, *, user: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """The command as a process from the moment it is ready; stopped at the end, and also when the tests are killed."""
    with log.open("wb") as output:
        process = subprocess.Popen([*_dies_with_us(), *command], stdout=output, stderr=output, user=user, group=user, env=env)
    try:
        _wait(process, ready, log)
        yield
    finally:
        _stop(process)


def _dies_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT"] if setpriv else []


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
