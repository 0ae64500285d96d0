"""The serving service in a process of its own, with exports of given bundles; and callers that ask it from another process.

    python -m tests.support.serving_process FOLDER PORT SETTINGS SLOW BUNDLE...

SETTINGS: JSON of ServingSettings. SLOW: JSON, by version the seconds that each of its answers takes longer. Bundle n is export
x{n} of version V00{n}, which gate x{n} lets through.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.client import Client, ModelyardClientError
from modelyard.core.errors import ModelyardError
from modelyard.serving.ports import Answer, Done, ServedModel, Tensor
from modelyard.serving.v1 import serving_pb2
from tests.support.real_servers import free_port

READY = "ready"
"""The line by which it tells that it answers."""


@dataclass
class SlowModel:
    """A served model whose answers come later."""

    model: ServedModel
    seconds: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def later(result: Answer | ModelyardError) -> None:
            if isinstance(result, Answer):  # its memory is lent
                kept = tuple(Tensor(one.name, one.datatype, one.shape, bytes(one.data)) for one in result.tensors)
                result = Answer(kept, result.timing)
            loop.call_later(self.seconds, done, result)

        return self.model.submit(inputs, rows, deadline, later)


@dataclass
class SlowLoader:
    """Loads with another loader; some versions answer more slowly."""

    loader: Any
    slow: dict[str, float]

    def load(self, bundle: Path, *, model: str, version: str) -> Any:
        loaded = self.loader.load(bundle, model=model, version=version)
        return SlowModel(loaded, self.slow[version]) if version in self.slow else loaded

    def close(self) -> None:
        self.loader.close()


def main(folder: Path, port: int, settings: dict[str, Any], slow: dict[str, float], bundles: list[Path]) -> None:
    """Serves until SIGTERM."""
    from modelyard.core.platform import open_platform
    from modelyard.core.rpc.loop import SWITCH_S, new_event_loop
    from modelyard.serving import bootstrap
    from modelyard.serving.served_models import model_loader
    from modelyard.serving.settings import ServingSettings
    from tests.support.hosted import hosted
    from tests.support.passports import trusted_key
    from tests.support.serving_fakes import FakeGates
    from tests.support.serving_server import StoredExports

    wanted = ServingSettings(data_dir=folder, port=port, **settings)
    platform = open_platform(wanted, "serving")
    exports = StoredExports(platform.artifacts, FakeGates(), trusted_key(folder))
    for number, bundle in enumerate(bundles, start=1):
        exports.add(f"x{number}", f"V{number:03d}", bundle)
    loader: Any = SlowLoader(model_loader(wanted), slow)
    service = bootstrap.build(platform, exports=exports, gates=exports.gates, loader=loader)
    sys.setswitchinterval(SWITCH_S)
    with hosted(platform, [service], new_event_loop):
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM})


@dataclass
class Server:
    """A server of its own process."""

    process: subprocess.Popen[bytes]
    address: str

    def kill(self) -> None:
        """kill -9, at once."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As an administrator does."""
        self.process.terminate()
        self.process.wait(60)

    def descendants(self) -> list[int]:
        """Process ids below it, the newest last."""
        parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
        found = {self.process.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return sorted(found - {self.process.pid})
            found |= more


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@contextmanager
def server(folder: Path, bundles: Sequence[Path], *, slow: dict[str, float] | None = None, **settings: Any) -> Iterator[Server]:
    """A server over the data of a folder, from the moment it answers; ended in any case."""
    port = free_port()
    arguments = [str(folder), str(port), json.dumps(settings), json.dumps(slow or {}), *map(str, bundles)]
    with tempfile.NamedTemporaryFile(prefix="serving-", suffix=".log") as log:
        command = [sys.executable, "-m", "tests.support.serving_process", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        made = Server(process, f"127.0.0.1:{port}")
        try:
            _wait_ready(process, Path(log.name))
            yield made
        finally:
            if process.poll() is None:
                made.stop()


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """What it logs goes to a file: a pipe that nobody reads would be full one day, and the server stand still."""
    while process.poll() is None:
        if READY in log.read_text().splitlines():
            return
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text()[-4000:]}")


@dataclass(frozen=True)
class Asked:
    """One request: when it began (time.time()), how long it took, who answered, and what went wrong."""

    began: float
    ms: float
    version: str
    error: str


@dataclass
class Callers:
    """Callers that ask all the time, from a process of their own."""

    process: subprocess.Popen[bytes]
    asked: list[Asked] = field(default_factory=list)

    def stop(self) -> list[Asked]:
        """All that was asked, oldest first."""
        if not self.asked:
            out, _ = self.process.communicate(b"stop\n", timeout=60)
            self.asked = sorted((Asked(*row) for row in json.loads(out)), key=lambda one: one.began)
        return self.asked


@contextmanager
def callers(address: str, endpoint: str, count: int = 8, pause_s: float = 0.002) -> Iterator[Callers]:
    """`count` callers of an endpoint, each asking again `pause_s` after its answer, without a retry; they have begun."""
    command = [sys.executable, "-c", _CALLERS, address, endpoint, str(count), str(pause_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    made = Callers(process)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


_CALLERS = """
import asyncio, json, struct, sys, threading, time
import grpc
from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

address, endpoint, count, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
rows, going = [], True

def stop():
    global going
    sys.stdin.readline()
    going = False

async def caller(stub, number):
    while going:
        request = oip.ModelInferRequest(model_name=endpoint, id=f"{number}-{time.time_ns()}")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(struct.pack("<4f", 1, 2, 3, 4))
        began, version, error = time.time(), "", ""
        start = time.perf_counter()
        try:
            version = (await stub.ModelInfer(request, timeout=30)).model_version
        except grpc.RpcError as problem:
            error = f"{problem.code().name}: {problem.details()}"
        rows.append((began, 1000 * (time.perf_counter() - start), version, error))
        if len(rows) == count:
            print("begun", flush=True)
        await asyncio.sleep(pause)

async def main():
    threading.Thread(target=stop, daemon=True).start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(*(caller(stub, number) for number in range(count)))
    print(json.dumps(rows))

asyncio.run(main())
"""


def p99(asked: Sequence[Asked]) -> float:
    """Milliseconds; 0 of nothing."""
    times = sorted(one.ms for one in asked if not one.error)
    return times[min(len(times) - 1, int(0.99 * len(times)))] if times else 0.0


@dataclass(frozen=True)
class Served:
    """An endpoint of a server."""

    server: Server
    client: Client
    endpoint: str

    def deploy(self, number: int, percent: int | None = None) -> serving_pb2.Deployment:
        """Serves bundle `number`."""
        names = {"export": f"x{number}", "gate_decision": f"x{number}"}
        return self.client.endpoints.create_deployment(self.endpoint, percent=percent, **names)  # type: ignore[arg-type]

    def get(self) -> serving_pb2.Endpoint:
        """The endpoint as it stands."""
        return self.client.endpoints.get_endpoint(self.endpoint)

    def shares(self) -> dict[str, int]:
        """Percent by version."""
        return {share.deployment: share.percent for share in self.get().traffic}

    def record(self) -> list[serving_pb2.DeploymentEvent]:
        """Oldest first."""
        return list(self.client.endpoints.list_deployment_events(self.endpoint))[::-1]

    def kinds(self) -> list[int]:
        """What happened, oldest first."""
        return [event.kind for event in self.record()]

    def callers(self, count: int = 8) -> AbstractContextManager[Callers]:
        """Callers of this endpoint."""
        return callers(self.server.address, self.endpoint, count)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Until it comes true; what is away for a moment counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except ModelyardClientError as error:
            if error.code != "UNAVAILABLE":
                raise
        assert time.monotonic() < end, f"it did not come true within {seconds} s"
        time.sleep(0.05)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        json.loads(sys.argv[3]),
        json.loads(sys.argv[4]),
        [Path(each) for each in sys.argv[5:]],
    )
