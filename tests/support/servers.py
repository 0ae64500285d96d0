"""Real server processes for end-to-end tests: the embedded one, or every service in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from modelyard.client import Addresses, Client
from modelyard.client.access import TOKEN_FILE, remember_token

SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
READY_S = 60.0
# On a new PostgreSQL the services make DBOS's tables one after the other (core/jobs/durable.py).
FIRST_READY_S = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One server process; its output goes to a file of its own."""

    def __init__(self, module: str, port: int, environment: Mapping[str, str], log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.token_file: Path | None = None
        """Of an embedded server: clients of this process show it, once the server is ready."""
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**os.environ, **environment, "MODELYARD_PORT": str(port), "MODELYARD_DRAIN_S": "1"},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop within 30 s after SIGTERM; log:\n{self.log_tail()}") from None

    def for_commands(self) -> dict[str, str]:
        """The environment of a `modelyard ... --server` that may call this server: with its user's token."""
        own = self.token_file.read_text().strip() if self.token_file is not None else ""
        return {**os.environ, "MODELYARD_SERVER": self.address, "MODELYARD_TOKEN": own}

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def wait_ready(self, within_s: float = READY_S) -> float:
        """Wait until health says SERVING; gives the seconds it took."""
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        start = time.monotonic()
        with grpc.insecure_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() - start < within_s:
                assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log_tail()}"
                with contextlib.suppress(grpc.RpcError):
                    if health.Check(health_pb2.HealthCheckRequest(), timeout=1).status == health_pb2.HealthCheckResponse.SERVING:
                        if self.token_file is not None and self.token_file.exists():
                            remember_token(self.address, self.token_file.read_text().strip())
                        return time.monotonic() - start
                time.sleep(0.05)
        raise AssertionError(f"not ready after {within_s} s:\n{self.log_tail()}")


def start_embedded(data_dir: Path, log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """The embedded server on a free port; not waited for."""
    process = Process("modelyard.embedded", free_port(), {"MODELYARD_DATA_DIR": str(data_dir), **(environment or {})}, log)
    process.token_file = data_dir / TOKEN_FILE
    return process


class Apart:
    """Every service in a process of its own, over one PostgreSQL (a schema each) and one bucket."""

    def __init__(self, folder: Path, database_url: str, s3: Mapping[str, str]) -> None:
        self._folder = folder
        self.ports = {name: free_port() for name in SERVICES}
        self._environment = {
            "MODELYARD_DATABASE_URL": database_url,
            **s3,
            "MODELYARD_PASSPORT_TRUSTED_KEYS": str(folder / "evaluator" / "keys" / "trusted"),
            **{f"MODELYARD_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in self.ports.items()},
        }
        self.processes: dict[str, Process] = {}

    def start(self, name: str) -> Process:
        data_dir = self._folder / name
        environment = {**self._environment, "MODELYARD_DATA_DIR": str(data_dir)}
        self.processes[name] = Process(f"modelyard.{name}", self.ports[name], environment, self._folder / f"{name}.log")
        return self.processes[name]

    def start_all(self) -> None:
        for name in SERVICES:
            self.start(name)
        for process in self.processes.values():
            process.wait_ready(FIRST_READY_S)

    def stop_all(self) -> None:
        with contextlib.ExitStack() as stack:  # all of them, also when one does not stop
            for process in self.processes.values():
                stack.callback(process.stop)

    def client(self) -> Client:
        return Client(Addresses(**{name: f"127.0.0.1:{port}" for name, port in self.ports.items()}))


def worker_processes(data_dir: Path) -> list[int]:
    """Pids of living worker processes of a data folder, found by their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes()
            if b"MODELYARD_JOB=" in environment and f"MODELYARD_DATA_DIR={data_dir}".encode() in environment.split(b"\0"):
                state = (entry / "stat").read_text().rsplit(") ", 1)[1][0]
                found += [int(entry.name)] if state != "Z" else []
    return found
