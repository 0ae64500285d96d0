"""Processes of versions, and how they end: with real crashes, while others are under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument, ModelyardError, ResourceExhausted, Unavailable
from modelyard.serving.adapters import memory
from modelyard.serving.adapters.batched_model import BatchedModel
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.handlers.proven_model import LoadOptions
from tests.support.bundles import mlp_bundle, picture_bundle
from tests.support.served import ask, greedy_bundle, mixing_bundle, read, rows, tensor

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
Load = Callable[..., BatchedModel]


@pytest.fixture
def loader() -> Iterator[ProcessLoader]:
    made = ProcessLoader(LoadOptions(2, 1))
    yield made
    made.close()


@pytest.fixture
def load(loader: ProcessLoader) -> Iterator[Load]:
    models: list[BatchedModel] = []

    def do(path: Path, using: ProcessLoader = loader) -> BatchedModel:
        models.append(using.load(path, model="m", version=f"V{len(models)}"))
        return models[-1]

    yield do
    for model in models:
        model.close()


def pid_of(model: BatchedModel) -> int:
    worker = model._computer._worker  # type: ignore[attr-defined]
    assert worker is not None
    return int(worker.child.pid)


async def back(model: BatchedModel, *inputs: Any) -> float:
    """Seconds until it answers again."""
    start = time.monotonic()
    while time.monotonic() - start < 30:
        with contextlib.suppress(Unavailable):
            await ask(model, *inputs)
            return time.monotonic() - start
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come back")


async def keep_asking(model: BatchedModel, until: asyncio.Event) -> list[ModelyardError]:
    """Failures of a caller that asks one request after another."""
    failures = []
    while not until.is_set():
        try:
            await ask(model, tensor("x", "FP32", rows(1)))
        except ModelyardError as error:
            failures.append(error)
            await asyncio.sleep(0.02)
    return failures


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
async def test_a_crash_takes_nothing_else_with_it(load: Load, tmp_path: Path, number: signal.Signals) -> None:
    bundle = mlp_bundle(tmp_path / "m.zip")
    crashing, other = load(bundle), load(bundle)
    over = asyncio.Event()
    callers = [asyncio.ensure_future(keep_asking(other, over)) for _ in range(3)]
    its_own = [asyncio.ensure_future(keep_asking(crashing, over)) for _ in range(3)]
    await asyncio.sleep(0.2)
    pid = pid_of(crashing)
    os.kill(pid, number)
    await asyncio.sleep(0.4)
    down = crashing.condition
    assert down.state == DeploymentState.UNHEALTHY
    assert f"its process was ended by {number.name}" in down.message
    assert await back(crashing, tensor("x", "FP32", rows(1))) < 10
    over.set()
    assert [failure for caller in await asyncio.gather(*callers) for failure in caller] == []
    told = [failure for caller in await asyncio.gather(*its_own) for failure in caller]
    assert {failure.reason for failure in told} <= {"MODEL_CRASHED", "MODEL_UNHEALTHY"}
    assert all(isinstance(failure, Unavailable) and failure.retry_after_s for failure in told)
    assert told
    assert (crashing.statistics.crashes, other.statistics.crashes) == (1, 0)
    assert crashing.condition.state == DeploymentState.READY
    assert pid_of(crashing) != pid
    assert (crashing._computer._worker.facts.calls, crashing._computer._worker.facts.threads) == (1, 1)  # type: ignore[attr-defined]


async def test_requests_that_meet_a_process_that_has_just_gone(load: Load, tmp_path: Path) -> None:
    """Whatever the moment: everybody is told, nobody waits for ever, and every token comes back."""
    model = load(mlp_bundle(tmp_path / "m.zip"))
    for number in range(3):
        await back(model, tensor("x", "FP32", rows(1)))
        asked = [asyncio.ensure_future(ask(model, tensor("x", "FP32", rows(1)))) for _ in range(20)]
        for _ in range(number):
            await asyncio.sleep(0)
        os.kill(pid_of(model), signal.SIGKILL)
        time.sleep(0.05)  # on the loop: it must not hear of the end before the requests do
        asked += [asyncio.ensure_future(ask(model, tensor("x", "FP32", rows(1)))) for _ in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {getattr(answer, "reason", "answered") for answer in answers} <= {"MODEL_CRASHED", "MODEL_UNHEALTHY", "answered"}
        assert model._budget.free == model._budget.tokens
        assert len(model._queue) == 0


async def test_a_version_comes_back_with_its_own_bytes_or_not_at_all(load: Load, tmp_path: Path) -> None:
    """What was loaded was looked at (passport, gate); what lies at its place now was not."""
    bundle = mlp_bundle(tmp_path / "m.zip")
    model = load(bundle)
    before = read((await ask(model, tensor("x", "FP32", rows(1)))).tensors[0])
    mlp_bundle(bundle, seed=7)
    os.kill(pid_of(model), signal.SIGKILL)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if "another than the one" in model.condition.message:
            break
    assert "another than the one that was loaded before" in model.condition.message
    mlp_bundle(bundle)
    await back(model, tensor("x", "FP32", rows(1)))
    np.testing.assert_array_equal(read((await ask(model, tensor("x", "FP32", rows(1)))).tensors[0]), before)


async def test_a_crash_before_the_first_request(load: Load, tmp_path: Path) -> None:
    """No loop hears of it yet; who looks at its condition has it started again."""
    model = load(mlp_bundle(tmp_path / "m.zip"))
    os.kill(pid_of(model), signal.SIGKILL)
    await asyncio.sleep(0.2)
    down = model.condition
    assert down.state == DeploymentState.UNHEALTHY
    for _ in range(100):
        await asyncio.sleep(0.1)
        if model.condition.state == DeploymentState.READY:
            break
    assert (await ask(model, tensor("x", "FP32", rows(1)))).tensors
    assert model.statistics.crashes == 1


async def test_what_runs_when_it_crashes_is_told_so(load: Load, tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    await ask(model, tensor("x", "FP32", rows(1)))
    os.kill(pid_of(model), signal.SIGSTOP)
    asked = [asyncio.ensure_future(ask(model, tensor("x", "FP32", rows(1)))) for _ in range(5)]
    await asyncio.sleep(0.1)
    os.kill(pid_of(model), signal.SIGKILL)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) and answer.reason == "MODEL_CRASHED" for answer in answers)


async def test_more_memory_than_a_model_may_use(tmp_path: Path, load: Load, loader: ProcessLoader) -> None:
    limited = ProcessLoader(LoadOptions(2, 1), memory_bytes=2 << 30)
    model, other = load(greedy_bundle(tmp_path / "g.zip"), limited), load(mlp_bundle(tmp_path / "m.zip"))
    assert float(read((await ask(model, tensor("x", "FP32", [[5.0]]))).tensors[0])[0, 0]) == 5
    with pytest.raises(Unavailable) as crashed:
        await ask(model, tensor("x", "FP32", [[2e9]]))
    assert crashed.value.reason == "MODEL_CRASHED"
    await asyncio.sleep(0.2)
    assert "its process ran out of memory" in model.condition.message
    await ask(other, tensor("x", "FP32", rows(1)))
    await back(model, tensor("x", "FP32", [[5.0]]))
    model.close()
    limited.close()


async def test_a_process_that_does_not_answer_is_ended(tmp_path: Path, load: Load) -> None:
    impatient = ProcessLoader(LoadOptions(2, 1), timeout_s=0.5)
    model = load(mlp_bundle(tmp_path / "m.zip"), impatient)
    await ask(model, tensor("x", "FP32", rows(1)))
    os.kill(pid_of(model), signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(Unavailable) as hung:
        await ask(model, tensor("x", "FP32", rows(1)))
    assert hung.value.reason == "MODEL_CRASHED"
    assert 0.4 < time.monotonic() - start < 5
    await back(model, tensor("x", "FP32", rows(1)))
    model.close()
    impatient.close()


async def test_the_zygote_dies(loader: ProcessLoader, load: Load, tmp_path: Path) -> None:
    """What runs goes on; what is loaded next gets another one."""
    first = load(mlp_bundle(tmp_path / "m.zip"))
    await ask(first, tensor("x", "FP32", rows(1)))
    before = loader.zygote.pid
    os.kill(before, signal.SIGKILL)
    await ask(first, tensor("x", "FP32", rows(1)))
    second = await asyncio.to_thread(load, mlp_bundle(tmp_path / "n.zip", seed=2))
    await ask(second, tensor("x", "FP32", rows(1)))
    assert loader.zygote.pid not in (0, before)
    await ask(first, tensor("x", "FP32", rows(1)))


SERVER = """
import sys, time
from pathlib import Path
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.handlers.proven_model import LoadOptions
loader = ProcessLoader(LoadOptions(2, 1))
models = [loader.load(Path(sys.argv[1]), model="m", version=str(number)) for number in range(2)]
print(loader.zygote.pid, *[model._computer._worker.child.pid for model in models], file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_the_server_is_killed(tmp_path: Path) -> None:
    """Nothing of it stays, not even a process that hangs."""
    command = [sys.executable, "-c", SERVER, str(mlp_bundle(tmp_path / "m.zip"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr is not None
    pids = [int(word) for word in server.stderr.readline().split()]
    assert len(pids) == 3
    os.kill(pids[2], signal.SIGSTOP)
    server.kill()
    server.wait()
    server.stderr.close()
    end = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_unloading_ends_the_process(load: Load, tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    await ask(model, tensor("x", "FP32", rows(1)))
    pid = pid_of(model)
    assert model.memory_bytes() > 1 << 20
    before = len(os.listdir("/proc/self/fd"))
    model.close()
    for _ in range(100):
        if not alive(pid):
            break
        await asyncio.sleep(0.02)
    assert not alive(pid)
    assert len(os.listdir("/proc/self/fd")) <= before - 4, "channel, status, handle and arena"


async def test_what_a_process_may(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_S3_SECRET_KEY", "not for models")
    model = load(mlp_bundle(tmp_path / "m.zip"))
    pid = pid_of(model)
    assert b"not for models" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.getpgid(pid) == pid
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) > int(Path("/proc/self/oom_score_adj").read_text())
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max core file size")).split()[4:6] == ["0", "0"]
    open_files = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    assert sum(name.startswith("socket:") for name in open_files) <= 1 + sum(
        os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in (0, 1, 2)
    ), "its own channel, and nobody else's"


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_that_answers_has_the_priority_of_loading(tmp_path: Path, threads: int) -> None:
    loader = ProcessLoader(LoadOptions(2, threads))
    model = loader.load(mlp_bundle(tmp_path / "m.zip"), model="m", version="V001")
    try:
        time.sleep(0.2)  # the thread that loaded has been joined; the system may take a moment more
        tasks = [int(entry.name) for entry in Path(f"/proc/{pid_of(model)}/task").iterdir()]
        assert len(tasks) >= threads
        assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {os.getpriority(os.PRIO_PROCESS, 0)}
    finally:
        model.close()
        loader.close()


async def test_a_model_that_is_not_batched_is_kept_busy(load: Load, tmp_path: Path) -> None:
    """The next call is there when one ends; versions that wait for cores still get theirs."""
    model, other = load(mixing_bundle(tmp_path / "m.zip")), load(mlp_bundle(tmp_path / "n.zip"))
    assert not model.batching.together
    most = 0

    async def one(value: float) -> float:
        nonlocal most
        answered = asyncio.ensure_future(ask(model, tensor("x", "FP32", [[value]])))
        await asyncio.sleep(0.002)
        most = max(most, len(model._running))
        return float(read((await answered).tensors[0])[0, 0])

    over = asyncio.Event()
    beside = asyncio.ensure_future(keep_asking(other, over))
    values = [float(number) for number in range(400)]
    assert await asyncio.gather(*[one(value) for value in values[:200]]) == values[:200]
    over.set()
    assert await beside == []
    assert await asyncio.gather(*[one(value) for value in values[200:]]) == values[200:]
    assert most <= 2 * model._calls
    assert model.statistics.executions == 400
    assert model._budget.free == model._budget.tokens, "every token came back"


async def test_arenas_grow_and_shrink(load: Load, tmp_path: Path) -> None:
    model = load(picture_bundle(tmp_path / "m.zip", size=64))
    images = np.random.default_rng(0).integers(0, 256, size=(300, 64, 64, 3)).astype(np.uint8)
    alone = read((await ask(model, tensor("image", "UINT8", images[-1:]))).tensors[0])
    many = read((await ask(model, tensor("image", "UINT8", images))).tensors[0])
    np.testing.assert_allclose(many[-1:], alone, atol=1e-6)
    worker = model._computer._worker  # type: ignore[attr-defined]
    assert worker is not None
    grown = sum(arena.size for arena in worker._arenas if arena)
    assert grown >= images.nbytes
    worker.shrink()
    await ask(model, tensor("image", "UINT8", images[:1]))
    worker.shrink()
    assert sum(arena.size for arena in worker._arenas if arena) < grown / 4
    np.testing.assert_allclose(read((await ask(model, tensor("image", "UINT8", images[-1:]))).tensors[0]), alone, atol=1e-6)


async def test_the_same_on_uvloop(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def asked() -> int:
        loader = ProcessLoader(LoadOptions(2, 1))
        model = await asyncio.to_thread(lambda: loader.load(mlp_bundle(tmp_path / "m.zip"), model="m", version="V1"))
        answers = await asyncio.gather(*[ask(model, tensor("x", "FP32", rows(1))) for _ in range(50)])
        os.kill(pid_of(model), signal.SIGKILL)
        await back(model, tensor("x", "FP32", rows(1)))
        await asyncio.to_thread(model.close)
        loader.close()
        return len(answers)

    assert await asyncio.to_thread(uvloop.run, asked()) == 50


def test_no_memory_for_one_more(loader: ProcessLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 40 << 20)
    with pytest.raises(ResourceExhausted, match=r"needs about 4\d MiB to be loaded and 40 MiB are free") as refused:
        loader.load(mlp_bundle(tmp_path / "m.zip"), model="m", version="V1")
    assert refused.value.reason == "NOT_ENOUGH_MEMORY"
    assert loader.zygote.pid == 0, "refused before anything was begun"


def test_a_bundle_with_a_broken_model_is_refused_by_the_process(loader: ProcessLoader, tmp_path: Path) -> None:
    from modelyard.formats.bundle import TestVectors, open_bundle, write_bundle

    bundle = open_bundle(mlp_bundle(tmp_path / "m.zip"))
    vectors = bundle.test_vectors()
    write_bundle(tmp_path / "n.zip", bundle.card, b"no model", TestVectors(vectors.inputs, vectors.outputs))
    with pytest.raises(InvalidArgument) as refused:
        loader.load(tmp_path / "n.zip", model="m", version="V1")
    assert refused.value.reason == "INVALID_BUNDLE"
