"""Followers in processes of their own, and what they say."""

from __future__ import annotations

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


@dataclass
class FollowerProcess:
    """A follower; `log` is what it wrote."""

    process: subprocess.Popen[bytes]
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


def started(folder: Path, *arguments: str, port: int = 0, **settings: str) -> FollowerProcess:
    """A follower with its data in a folder; does not wait."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    environment = {**os.environ, **LIGHT, "MODELYARD_DATA_DIR": str(folder), **settings}
    command = [sys.executable, "-m", "modelyard.serving", "--port", str(port), *arguments]
    log = folder / "follower.log"
    with log.open("ab") as file:
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


def until(what: Callable[[], object], seconds: float = 40.0, every_s: float = 0.1) -> None:
    """Waits until something holds; fails where it does not."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(every_s)
