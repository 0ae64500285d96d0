"""Pods that are processes of this machine: for one machine without Kubernetes, and for tests. They end with the server.

A process that ends by itself is started again, later each time, under a new port. docs/decisions/0026-serving-pods.md.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from modelyard.serving.domain.backoff import CrashRecord
from modelyard.serving.domain.placement import Placement, Pod, PodState

log = structlog.get_logger()

TICK_S: Final = 0.2
STOP_S: Final = 30.0
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class PodOrder:
    """What a pod is to be started as. `folder` is its own; `port` on the loopback interface."""

    endpoint: str
    target: str
    port: int
    folder: Path


Command = Callable[[PodOrder], tuple[Sequence[str], Mapping[str, str]]]
"""The command line of a pod and its whole environment."""


@dataclass
class _Process:
    order: PodOrder
    name: str
    process: subprocess.Popen[bytes]
    ready: bool = False
    ending: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass
class _Group:
    """The pods of an endpoint on a target. `wanted`: how many; `roll`: those that are to be replaced, one after the other."""

    endpoint: str
    target: str
    wanted: int = 1
    sleeps: bool = False
    roll: list[_Process] = field(default_factory=list)
    there: list[_Process] = field(default_factory=list)
    crashes: CrashRecord = field(default_factory=CrashRecord)
    message: str = ""
    restarts: int = 0
    not_before: float = 0.0


class ProcessFleet:
    """See ports.PodFleet."""

    def __init__(self, folder: Path, command: Command) -> None:
        self._folder, self._command = folder, command
        self._groups: dict[tuple[str, str], _Group] = {}
        self._guard = threading.RLock()
        self._number = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod-processes", daemon=True)
        self._thread.start()

    def apply(self, endpoint: str, placements: Sequence[Placement]) -> None:
        """See ports.PodFleet."""
        with self._guard:
            for placement in placements:
                key = (endpoint, placement.target)
                group = self._groups.get(key)
                if group is None:
                    group = self._groups[key] = _Group(endpoint, placement.target)
                    group.wanted = max(1, placement.min_replicas)
                group.sleeps = placement.sleeps
                if not placement.sleeps:
                    group.wanted = max(1, placement.min_replicas)
            targets = {placement.target for placement in placements}
            for other in [group for group in self._groups.values() if group.endpoint == endpoint and group.target not in targets]:
                other.wanted = 0
                other.sleeps = False

    def remove(self, endpoint: str) -> None:
        """See ports.PodFleet."""
        with self._guard:
            for group in [group for group in self._groups.values() if group.endpoint == endpoint]:
                group.wanted = 0
                group.sleeps = False

    def endpoints(self) -> set[str]:
        """See ports.PodFleet."""
        with self._guard:
            return {group.endpoint for group in self._groups.values() if group.wanted or group.sleeps or group.there}

    def pods(self, endpoint: str) -> Sequence[Pod]:
        """See ports.PodFleet."""
        with self._guard:
            mine = [group for (owner, _), group in sorted(self._groups.items()) if owner == endpoint]
            return [_pod(group, each) for group in mine for each in group.there]

    def wanted(self, endpoint: str, target: str) -> int:
        """See ports.PodFleet."""
        group = self._groups.get((endpoint, target))
        return group.wanted if group is not None else 0

    def scale(self, endpoint: str, target: str, replicas: int) -> None:
        """See ports.PodFleet."""
        with self._guard:
            group = self._groups.get((endpoint, target))
            if group is not None:
                group.wanted = replicas

    def address(self, endpoint: str, target: str) -> str:
        """See ports.PodFleet. There is no address that stands for all of them here."""
        return ""

    def roll(self, endpoint: str) -> None:
        """Replaces the pods of an endpoint one after the other: a new one is ready before an old one ends."""
        with self._guard:
            for group in self._groups.values():
                if group.endpoint == endpoint:
                    group.roll = [each for each in group.there if not each.ending]

    def close(self) -> None:
        """See ports.PodFleet. These pods end with the server."""
        self._stopped.set()
        self._thread.join()

    # --- the thread: it alone starts and ends processes

    def _run(self) -> None:
        while not self._stopped.wait(TICK_S):
            try:
                self._tick()
            except Exception:
                log.exception("pods cannot be looked after")
        with self._guard:
            processes = [each for group in self._groups.values() for each in group.there]
        for each in processes:
            each.process.terminate()
        end = time.monotonic() + STOP_S
        for each in processes:
            try:
                each.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()

    def _tick(self) -> None:
        with self._guard:
            groups = list(self._groups.items())
        for key, group in groups:
            self._reap(group)
            self._check(group)
            with self._guard:
                self._adjust(group)
                if not group.there and not group.wanted and not group.sleeps:
                    self._groups.pop(key, None)

    def _reap(self, group: _Group) -> None:
        for each in [each for each in group.there if each.process.poll() is not None]:
            with self._guard:
                group.there.remove(each)
                group.roll = [other for other in group.roll if other is not each]
            shutil.rmtree(each.order.folder, ignore_errors=True)
            if not each.ending:
                group.restarts += 1
                wait = group.crashes.crashed(time.monotonic())
                group.not_before = time.monotonic() + wait
                group.message = f"a process ended by itself: {_how(each.process.returncode)}"
                log.error("a pod's process is gone", pod=each.name, how=_how(each.process.returncode), restart_s=wait)

    def _check(self, group: _Group) -> None:
        for each in group.there:
            if not each.ready and not each.ending:
                each.ready = _is_ready(each.order.port)

    def _adjust(self, group: _Group) -> None:
        """Starts what is missing, ends what is too many; what is to be replaced only when a new one is ready."""
        going = [each for each in group.there if not each.ending]
        fresh = [each for each in going if each not in group.roll]
        target = group.wanted + (1 if group.roll and group.wanted else 0)
        if len(going) < target and time.monotonic() >= group.not_before:
            group.there.append(self._start(group))
            return
        if group.roll and len(going) >= target and all(each.ready for each in fresh):
            self._end(group.roll.pop(0))
        elif not group.roll and len(going) > group.wanted:
            self._end(next((each for each in going if not each.ready), going[0]))

    def _start(self, group: _Group) -> _Process:
        self._number += 1
        name = f"{group.endpoint.rpartition('/')[2]}-{group.target}-{self._number}"
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        order = PodOrder(group.endpoint, group.target, _free_port(), folder)
        command, environment = self._command(order)
        with (folder / "pod.log").open("ab") as output:
            process = subprocess.Popen(
                [*_dies_with_us(), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment)
            )
        log.info("a pod is started", pod=name, pid=process.pid, port=order.port)
        return _Process(order, name, process)

    def _end(self, each: _Process) -> None:
        each.ending = True
        each.process.send_signal(signal.SIGTERM)


def _pod(group: _Group, each: _Process) -> Pod:
    state = PodState.ENDING if each.ending else PodState.READY if each.ready else PodState.RUNNING
    message = "" if each.ready else group.message or "its process is starting"
    node = socket.gethostname()
    return Pod(each.name, group.target, state, f"{LOOPBACK}:{each.order.port}", node, message, group.restarts)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/v2/health/ready", timeout=0.5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _dies_with_us() -> list[str]:
    """By the thread that starts it, which lives as long as the server."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
