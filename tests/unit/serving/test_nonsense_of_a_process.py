"""A version's process that was taken over, or broke, can hurt its own callers only: whatever it says, the server goes on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.serving.adapters import worker_process
from modelyard.serving.adapters.batched_model import BatchedModel
from modelyard.serving.adapters.model_process import ProcessComputer
from modelyard.serving.adapters.worker_process import WorkerOrder, WorkerProcess, start_worker
from modelyard.serving.domain.batching import BatchLimits
from modelyard.serving.domain.channel import CALL, DONE, ENDED, ENTRY, Kind
from modelyard.serving.domain.cpu_budget import CpuBudget
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.proven_model import Facts, LoadOptions
from modelyard.serving.ports import Answer, Tensor

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
CARD = BundleCard(
    "tabular_classification",
    (TensorSpec("x", "FP32", (-1, 1)),),
    (TensorSpec("probabilities", "FP32", (-1, 2)),),
    Source(),
    classes=("a", "b"),
)
FACTS = Facts(1, 1, 8, "", 1e-5)


@dataclass
class Played:
    """A process that the test plays: what is sent to `theirs` is what it says."""

    channel: socket.socket
    theirs: socket.socket
    pid: int = 0
    killed: int = 0

    def kill(self) -> None:
        self.killed += 1
        self.theirs.close()

    def has_ended(self) -> bool:
        return False

    def ended(self, timeout_s: float) -> str:
        return "its process was ended by SIGKILL"

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()


def played() -> Played:
    return Played(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))


def model_of(child: Any) -> BatchedModel:
    def no_other() -> WorkerProcess:
        raise Unavailable("MODEL_CRASHED", "there is no other")

    worker, statistics = WorkerProcess(child, CARD, FACTS), VersionStatistics()
    computer = ProcessComputer(worker, no_other, statistics, 60.0, "m")
    return BatchedModel(CARD, FACTS, computer, CpuBudget(1), BatchLimits(8, 1000, 10), statistics)


async def told(say: Callable[[Played, WorkerProcess], None]) -> tuple[Answer | ModelyardError, Played]:
    """What a caller gets when its process says something else than it should."""
    child = played()
    model = model_of(child)
    worker = model._computer._worker  # type: ignore[attr-defined]
    assert worker is not None
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    model.submit([Tensor("x", "FP32", (1, 1), b"\0\0\0\0")], 1, None, ended.set_result)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    say(child, worker)
    try:
        return await asyncio.wait_for(ended, 5), child
    finally:
        model.close()
        child.close()


def done(entries: list[tuple[int, int, int]], slot: int = 1, number: int = 1) -> Callable[[Played, WorkerProcess], None]:
    def say(child: Played, worker: WorkerProcess) -> None:
        arena = next(arena for arena in worker._arenas if arena is not None)
        for place, entry in enumerate(entries):
            ENTRY.pack_into(arena.view, (1 + place) * ENTRY.size, *entry)
        child.theirs.send(DONE.pack(Kind.DONE, slot, 0, 0, number, 1, 2, 3))

    return say


@pytest.mark.parametrize(
    "entries",
    [
        [(0, 0, 2**63), (0, 0, 5)],
        [(0, 2**63, 8), (0, 0, 5)],
        [(0, 2**16 - 4, 8), (0, 0, 5)],
        [(0, 0, 9), (0, 0, 5)],
        [(0, 0, 8), (0, 0, 2**15)],
        [(0, 0, 8), (0, 64, 0)],
        [(0, 0, 0), (0, 0, 0)],
    ],
)
async def test_outputs_that_cannot_be(entries: list[tuple[int, int, int]]) -> None:
    answer, _ = await told(done(entries))
    assert isinstance(answer, Unavailable)
    assert answer.reason == "MODEL_CRASHED"


async def test_an_answer_to_nobody() -> None:
    answer, child = await told(done([(0, 0, 8), (0, 0, 5)], number=77))
    assert isinstance(answer, Unavailable)
    assert child.killed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=300)
    | st.builds(lambda kind, rest: bytes((kind,)) + rest, st.sampled_from([int(kind) for kind in Kind]), st.binary(max_size=80))
)
def test_messages_of_any_kind(message: bytes) -> None:
    def say(child: Played, worker: WorkerProcess) -> None:
        child.theirs.send(message)
        if not child.killed:
            child.theirs.close()

    answer, _ = asyncio.run(told(say))
    assert isinstance(answer, ModelyardError)


@pytest.mark.parametrize("needed", [0, 2**33, 2**63])
async def test_more_memory_than_anybody_needs(needed: int) -> None:
    def say(child: Played, worker: WorkerProcess) -> None:
        child.theirs.send(ENDED.pack(Kind.TOO_SMALL, 0, 0, 0, 1, needed))

    answer, child = await told(say)
    assert isinstance(answer, Unavailable)
    assert child.killed


async def test_a_larger_arena_is_given_and_the_call_made_again() -> None:
    calls: list[tuple[int, ...]] = []

    def say(child: Played, worker: WorkerProcess) -> None:
        child.theirs.settimeout(5)
        calls.append(CALL.unpack(child.theirs.recv(100)))
        child.theirs.send(ENDED.pack(Kind.TOO_SMALL, 0, 0, 0, 1, 1 << 20))
        asyncio.get_running_loop().call_later(0.1, again, child)

    def again(child: Played) -> None:
        message, fds, _, _ = socket.recv_fds(child.theirs, 100, 1)
        os.close(fds[0])
        calls.append(CALL.unpack(message))
        child.theirs.close()

    await told(say)
    assert calls[1][-1] >= 1 << 20
    assert calls[1][3:4] == calls[0][3:4]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x10",
        b"\x10{}",
        b"\x10null",
        b'\x10{"threads": 1, "calls": 300, "most_rows": 1, "note": "", "row_s": 0.1, "memory_bytes": 1}',
        b'\x10{"threads": true, "calls": 1, "most_rows": 1, "note": "", "row_s": 0.1, "memory_bytes": 1}',
        b'\x10{"threads": 1, "calls": 1, "most_rows": 0, "note": "", "row_s": 0.1, "memory_bytes": 1}',
        b"\x11nonsense",
        b"\xff" * 100,
    ],
)
def test_facts_that_cannot_be(said: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    child = played()

    class Zygote:
        def fork(self, order: object) -> Played:
            if said:
                child.theirs.send(said)
            else:
                child.theirs.close()
            return child

    with pytest.raises(Unavailable) as refused:
        start_worker(Zygote(), WorkerOrder(tmp_path / "m.zip", LoadOptions()), CARD)  # type: ignore[arg-type]
    assert refused.value.reason == "MODEL_CRASHED"
    assert child.killed
    assert worker_process.MOST_ARENA < 2**40
