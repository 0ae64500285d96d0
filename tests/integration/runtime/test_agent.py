"""The measuring agent: a real one in another process, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from modelyard.agent.v1 import agent_pb2 as pb
from modelyard.agent.v1 import agent_pb2_grpc as rpc
from modelyard.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelyardError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from modelyard.core.latency import Latency
from modelyard.runtime import agent
from modelyard.runtime.measure_remote import measure_on
from tests.support.runtime_bundles import runtime_bundle

TOKEN = "a token of enough letters"


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    address: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent in a process of its own, on a free port."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "token").write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "modelyard.runtime.agent", "--address", "127.0.0.1:0", "--token-file", str(folder / "token")]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen([*command, "--max-bytes", "200000"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Running(process, f"127.0.0.1:{said['port']}")
        process.terminate()
        assert process.wait(20) == 0
    assert not list(folder.glob("modelyard-agent-*")), "nothing of a bundle stays"


@pytest.mark.parametrize("form", ["onnx", "litert-int8"])
def test_a_bundle_is_measured_over_there(running: Running, tmp_path: Path, form: str) -> None:
    path = runtime_bundle(tmp_path / "m.bundle", form)
    found = measure_on(running.address, TOKEN, path, target="edge-arm64", seconds=0.1, threads=1)
    assert 0 < found.p50_ms <= found.p99_ms
    assert (found.target, found.threads) == ("edge-arm64", 1)
    assert found.hardware
    assert found.memory_bytes > 0


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
def test_who_does_not_know_the_token_is_refused(running: Running, tmp_path: Path, token: str) -> None:
    with pytest.raises(PermissionDenied) as caught:
        measure_on(running.address, token, runtime_bundle(tmp_path / "m", "onnx"), target="x")
    assert caught.value.reason == "WRONG_TOKEN"


def test_a_bad_bundle_is_named(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidArgument, match="not a readable zip") as caught:
        measure_on(running.address, TOKEN, path, target="x")
    assert caught.value.reason == "INVALID_BUNDLE"


def test_a_large_bundle_is_refused_before_it_is_sent(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 200_001)
    with pytest.raises(ResourceExhausted, match="at most 200000 bytes") as caught:
        measure_on(running.address, TOKEN, path, target="x")
    assert caught.value.reason == "BUNDLE_TOO_LARGE"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seconds": 61.0}, "BAD_SECONDS"),
        ({"seconds": -1.0}, "BAD_SECONDS"),
        ({"seconds": float("nan")}, "BAD_SECONDS"),
        ({"threads": -1}, "BAD_THREADS"),
        ({"threads": 257}, "BAD_THREADS"),
        ({"target": ""}, "BAD_TARGET"),
        ({"target": "--threads"}, "BAD_TARGET"),
        ({"target": "a\nb"}, "BAD_TARGET"),
    ],
)
def test_wrong_options_are_named(running: Running, tmp_path: Path, options: dict[str, float], reason: str) -> None:
    path = runtime_bundle(tmp_path / "m", "onnx")
    with pytest.raises(InvalidArgument) as caught:
        measure_on(running.address, TOKEN, path, **({"target": "x"} | options))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "NO_OPTIONS"),
        ([pb.MeasureRequest(chunk=b"x")], "NO_OPTIONS"),
        ([pb.MeasureRequest(options=pb.MeasureOptions(target="x", size_bytes=9))], "WRONG_SIZE"),
        (
            [pb.MeasureRequest(options=pb.MeasureOptions(target="x", size_bytes=9)), pb.MeasureRequest(chunk=b"0123456789")],
            "WRONG_SIZE",
        ),
        (
            [
                pb.MeasureRequest(options=pb.MeasureOptions(target="x", size_bytes=9)),
                pb.MeasureRequest(options=pb.MeasureOptions()),
            ],
            "NO_CHUNK",
        ),
        ([pb.MeasureRequest(options=pb.MeasureOptions(target="x"))], "BAD_SIZE_BYTES"),
    ],
)
def test_streams_that_are_none(running: Running, messages: list[pb.MeasureRequest], reason: str) -> None:
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError) as caught:
        rpc.MeasureServiceStub(channel).Measure(iter(messages), metadata=[("authorization", f"Bearer {TOKEN}")], timeout=20)
    assert dict(caught.value.trailing_metadata())["modelyard-reason"] == reason


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        measure_on("127.0.0.1:1", TOKEN, runtime_bundle(tmp_path / "m", "onnx"), target="x")
    assert caught.value.reason == "AGENT_UNREACHABLE"


class Held:
    """A measurement that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, path: Path, target: str, seconds: float, threads: int) -> Latency:
        self.begun.set()
        assert self.go.wait(20)
        return Latency(1, 2, 3, 4, threads, target, "held")


def test_one_at_a_time(tmp_path: Path) -> None:
    """Another caller is told that it is busy, waits, and is served when the first is done."""
    held, path = Held(), runtime_bundle(tmp_path / "m", "onnx")
    server, port = agent.start("127.0.0.1:0", "", measure=held)
    address, answers, waits = f"127.0.0.1:{port}", [], []
    first = threading.Thread(target=lambda: answers.append(measure_on(address, "", path, target="first")))
    first.start()
    assert held.begun.wait(20)
    with pytest.raises(ResourceExhausted) as caught:
        measure_on(address, "", path, target="second", timeout_s=1)
    assert caught.value.reason == "AGENT_BUSY"

    def let_go(seconds: float) -> None:
        waits.append(seconds)
        held.go.set()
        first.join(20)

    assert measure_on(address, "", path, target="second", sleep=let_go).target == "second"
    assert (len(waits), [answer.target for answer in answers]) == (1, ["first"])
    server.stop(0).wait()


def test_an_answer_that_takes_too_long(tmp_path: Path) -> None:
    held = Held()
    server, port = agent.start("127.0.0.1:0", "", measure=held)
    with pytest.raises(DeadlineExceeded):
        measure_on(f"127.0.0.1:{port}", "", runtime_bundle(tmp_path / "m", "onnx"), target="x", timeout_s=0.5)
    held.go.set()
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("address", "reason"),
    [("0.0.0.0:0", "TOKEN_NEEDED"), ("[::]:0", "TOKEN_NEEDED"), ("device.lan:0", "TOKEN_NEEDED"), ("8971", "BAD_ADDRESS")],
)
def test_without_a_token_only_loopback(address: str, reason: str) -> None:
    with pytest.raises(ModelyardError) as caught:
        agent.start(address, "")
    assert caught.value.reason == reason


def test_a_port_that_is_taken() -> None:
    server, port = agent.start("127.0.0.1:0", "")
    with pytest.raises(Unavailable, match="another process has the port"):
        agent.start(f"127.0.0.1:{port}", "")
    server.stop(0).wait()


@pytest.mark.parametrize("content", [b"", b"short", b"a token with\na second line in it", b"\xff" * 20])
def test_tokens_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        agent.read_token(path)
    assert caught.value.reason == "BAD_TOKEN"


def test_the_agent_needs_no_torch_and_no_service() -> None:
    code = "import sys, modelyard.runtime.agent as _; print({'torch', 'sqlalchemy', 'dbos'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
