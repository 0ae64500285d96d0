"""Servers that are started for a measurement, and stopped after it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.bench.peers.asking import ready
from tests.bench.peers.memory import Memory, memory_of, processor_s, tree
from tests.bench.peers.models import BenchModel

START_S: Final = 120.0


@dataclass(frozen=True)
class Process:
    """What to run: a command, what is added to its environment, where it runs and where it answers."""

    command: Sequence[str]
    addresses: Mapping[str, str]
    environment: Mapping[str, str]


Plan = Callable[[Sequence[BenchModel], Path], list[Process]]


@dataclass(frozen=True)
class Contestant:
    """A server in one configuration. `peer`: the environment it needs, empty for ours."""

    name: str
    words: str
    plan: Plan
    peer: str = ""


@dataclass(frozen=True)
class Running:
    """A server that answers for all its models. `log`: what it wrote."""

    contestant: Contestant
    addresses: Mapping[str, str]
    pids: tuple[int, ...]
    log: Path

    def memory(self) -> Memory:
        """What its whole tree of processes holds now."""
        return memory_of(self.pids)

    def processor_s(self) -> float:
        """Seconds of processor time that the tree has used."""
        return processor_s(self.pids)


@contextmanager
def running(contestant: Contestant, models: Sequence[BenchModel], folder: Path) -> Iterator[Running]:
    """The server with these models, until the end of the block. Raises RuntimeError with what it wrote if it does not come up."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as file:
            plan = contestant.plan(models, folder)
            processes = [_start(each, folder, file) for each in plan]
        addresses = {model: address for each in plan for model, address in each.addresses.items()}
        _wait(contestant, addresses, processes, log)
        yield Running(contestant, addresses, tuple(each.pid for each in processes), log)
    finally:
        for each in processes:
            stop(each)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: asked first, killed after 10 seconds."""
    family = list(tree(process.pid))
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family[1:]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def free_port() -> int:
    """A port of the loopback device that nobody listens on now."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def _start(process: Process, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment = {**inherited, **process.environment}
    return subprocess.Popen(process.command, stdout=log, stderr=log, cwd=folder, env=environment)


def _wait(contestant: Contestant, addresses: Mapping[str, str], processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    until = time.monotonic() + START_S
    while not all(ready(address, model) for model, address in addresses.items()):
        ended = any(each.poll() is not None for each in processes)
        if ended or time.monotonic() > until:
            written = log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{contestant.name} did not come up:\n{written}")
        time.sleep(0.3)
