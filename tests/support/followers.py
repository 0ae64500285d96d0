"""Followers in processes of their own, and what they say."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.real_servers import free_port
from tests.support.triton import triton

LIGHT = {"MODELYARD_ISOLATION": "none", "MODELYARD_INFERENCE_THREADS": "1", "OMP_NUM_THREADS": "1"}


# What all of them import is imported once; each is a process of its own all the same.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["modelyard.serving.__main__", "modelyard.serving.follower_server", "onnxruntime", "cryptography"])


class Forked:
    """The part of subprocess.Popen that tests need, of a follower that was forked."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self._process = FORKED.Process(target=_run, args=(arguments, environment, str(log)))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("follower", seconds or 0)
        return self._process.exitcode


def _run(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """A follower, in a fresh process."""
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from modelyard.serving.__main__ import main

    sys.exit(main(arguments))


@dataclass
class FollowerProcess:
    """A follower; `log` is what it wrote."""

    process: subprocess.Popen[bytes] | Forked
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def health(self) -> str:
        """As its probe sees it: SERVING, NOT_SERVING, or "" where nobody answers."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return ""
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def is_serving(self) -> bool:
        return self.health() == "SERVING"

    def version(self, model: str, named: str = "") -> str:
        """Which version of a model answers; "" when none does."""
        try:
            with triton.InferenceServerClient(self.address) as client:
                x = triton.InferInput("x", [1, 4], "FP32")
                x.set_data_from_numpy(np.ones((1, 4), np.float32))
                return str(client.infer(model, [x], model_version=named).get_response().model_version)
        except triton.InferenceServerException:
            return ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def started(folder: Path, *arguments: str, port: int = 0, forked: bool = True, **settings: str) -> FollowerProcess:
    """A follower with its data in a folder; does not wait. `forked`: from a process that has imported everything already."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    environment = {**os.environ, **LIGHT, "MODELYARD_DATA_DIR": str(folder), **settings}
    log = folder / "follower.log"
    given = ["--port", str(port), *arguments]
    if forked:
        return FollowerProcess(Forked(given, environment, log), port, log)
    with log.open("ab") as file:
        command = [sys.executable, "-m", "modelyard.serving", *given]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    return FollowerProcess(process, port, log)


@contextmanager
def follower(folder: Path, *arguments: str, port: int = 0, **settings: str) -> Iterator[FollowerProcess]:
    """A follower for the length of a test."""
    made = started(folder, *arguments, port=port, **settings)
    try:
        yield made
    finally:
        made.stop()


def until(what: Callable[[], object], seconds: float = 90.0, every_s: float = 0.1) -> None:
    """Waits until something holds; fails where it does not."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(every_s)
