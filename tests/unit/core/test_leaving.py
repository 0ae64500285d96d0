"""A server that is told to stop ends, whatever hangs in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

HANGS = """
import asyncio, subprocess, sys, threading
from modelyard.core.jobs import groups
from modelyard.core.platform import serve_until_signalled
from modelyard.core.rpc.loop import run

class Hangs:
    stops_within_s = 1.0

    async def start(self):
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        groups.began(worker.pid)
        return str(worker.pid)

    async def stop(self):
        await asyncio.to_thread(hang)

def hang():
    threading.Event().wait()

run(serve_until_signalled(Hangs(), lambda address: print(address, flush=True)))
"""


def serving() -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def ended(pid: int) -> bool:
    """Whether a process is gone; nobody waits for one whose parent is."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(") ", 1)[1][0] == "Z"
    except FileNotFoundError:
        return True


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + 10
    while not ended(pid):
        assert time.monotonic() < until, f"{pid} is left behind"
        time.sleep(0.05)


def test_it_ends_after_its_time_and_says_where_it_hangs() -> None:
    process, worker = serving()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "did not stop in time" in said
    assert "in hang" in said, "the log says where its threads are"
    wait_for_end(worker)


def test_a_second_signal_ends_it_at_once() -> None:
    process, worker = serving()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, "stopped at once" in said) == (130, True)
    assert time.monotonic() - began < 5
    wait_for_end(worker)
