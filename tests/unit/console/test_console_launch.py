"""The process of the pages: started when somebody comes, started again when it died, gone with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.console.launch import Behind, Console, read_state

pytest.importorskip("nicegui", reason="the console is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    made = Console(Behind("127.0.0.1:1", "secret-token"), tmp_path / "console", 0, log=tmp_path / "log")
    yield made
    made.stop()


def get(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(wanted: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.05)


def pages_of(console: Console) -> int:
    assert console._child is not None
    return console._child.pid


def test_nobody_pays_for_pages_that_nobody_opens(console: Console) -> None:
    time.sleep(0.3)
    assert console._child is None
    assert get(console.address)[0] == 401
    command = Path(f"/proc/{pages_of(console)}/cmdline").read_bytes() + Path(f"/proc/{pages_of(console)}/environ").read_bytes()
    assert b"secret-token" not in command


def test_the_pages_come_back_and_sessions_with_them(console: Console) -> None:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    assert opener.open(console.link(), timeout=60).status == 200
    assert "Models · Modelyard" in opener.open(f"{console.address}/p/default/models", timeout=60).read().decode()
    before = pages_of(console)
    os.kill(before, signal.SIGKILL)
    until(lambda: console._child is not None and console._child.poll() is not None)
    assert opener.open(f"{console.address}/p/default/models", timeout=60).status == 200
    assert pages_of(console) != before


def test_the_pages_go_with_who_holds_the_door(console: Console, tmp_path: Path) -> None:
    get(console.address)
    pages = pages_of(console)
    assert read_state(tmp_path / "console")["address"] == console.address
    console.stop()
    until(lambda: not Path(f"/proc/{pages}").exists())
    assert read_state(tmp_path / "console") == {}
    console._ending.clear()
    console.__init__(console._behind, tmp_path / "again", 0)  # type: ignore[misc]  for the fixture to stop


def test_a_killed_holder_leaves_no_pages(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from modelyard.console.launch import *\n"
        f"c = Console(Behind('127.0.0.1:1'), pathlib.Path({str(tmp_path)!r}), 0)\n"
        "print(c.address, flush=True); time.sleep(300)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    get(holder.stdout.readline().strip())
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
    threads = [path.read_text().split() for path in Path(f"/proc/{holder.pid}/task").glob("*/children")]
    pages = {int(each) for each in [*children, *(pid for found in threads for pid in found)]}
    assert pages
    holder.kill()
    holder.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pages))


def test_a_port_that_is_taken_is_another_one(console: Console, tmp_path: Path) -> None:
    other = Console(Behind("127.0.0.1:1"), tmp_path / "other", console.port)
    try:
        assert other.port != console.port
    finally:
        other.stop()


def test_holding_the_door_loads_nothing() -> None:
    code = (
        "import sys, modelyard.console.launch, modelyard.cli.consoles\n"
        "print([name for name in sys.modules if name in ('nicegui', 'grpc', 'fastapi', 'google.protobuf')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
