"""A version whose model computes in a process of its own: what a crash takes with it is its own callers' requests, no more.

The process is started again by itself, later each time; docs/decisions/0016-isolation.md says why and what it costs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakSet

import structlog

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.formats.bundle import BundleCard, open_bundle
from modelyard.serving.adapters.batched_model import Batch, BatchedModel, Computed, Ended, ready
from modelyard.serving.adapters.memory import check_memory
from modelyard.serving.adapters.worker_process import WorkerOrder, WorkerProcess, start_worker
from modelyard.serving.adapters.zygote import Zygote
from modelyard.serving.domain.backoff import CrashRecord
from modelyard.serving.domain.batching import BatchLimits
from modelyard.serving.domain.channel import DONE, ENDED, Kind, error_from_json
from modelyard.serving.domain.cpu_budget import CpuBudget
from modelyard.serving.domain.drift import DriftScore, scores_from_json
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.memory import needed_bytes
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.proven_model import Facts, LoadOptions, card_digest

log = structlog.get_logger()

TICK_S: Final = 1.0
"""How often a process that is asked is looked after."""
SCORES_TICKS: Final = 5
SHRINK_TICKS: Final = 30


@dataclass(slots=True)
class _Call:
    slot: int
    batch: Batch
    rows: int
    ended: Ended
    begun: float
    is_ahead: bool


class ProcessComputer:
    """Has a process compute, and gets another when it is gone."""

    def __init__(
        self,
        worker: WorkerProcess,
        start: Callable[[], WorkerProcess],
        statistics: VersionStatistics,
        timeout_s: float,
        name: str,
    ) -> None:
        self._worker: WorkerProcess | None = worker
        self.ahead = worker.facts.calls  # each that ends finds the next
        self._start = start
        self._statistics = statistics
        self._timeout_s = timeout_s
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: dict[int, _Call] = {}
        self._crashes = CrashRecord()
        self._how = ""
        self._restart_at = 0.0
        self._ticks = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._scores: tuple[DriftScore, ...] = ()
        self._attaching = threading.Lock()
        self._closed = threading.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """See Computer."""
        with self._attaching:
            self._loop = loop
            self._calls.clear()
            self._ticking = None
            if self._worker is not None:
                loop.add_reader(self._worker.channel.fileno(), self._readable)

    def trouble(self) -> Unavailable | None:
        """See Computer."""
        if self._worker is not None:
            return None
        wait = max(0.1, round(self._restart_at - time.monotonic(), 1))
        message = f"the version cannot answer now: {self._how}; it is started again in {wait} s"
        return Unavailable("MODEL_UNHEALTHY", message, retry_after_s=wait)

    def condition(self) -> Condition:
        """See Computer. Also when nobody asked it since it died."""
        if self._loop is None:
            self._look()
        worker = self._worker
        if worker is None:
            return Condition(DeploymentState.UNHEALTHY, f"{self._how}; it is being started again")
        if self._crashes.is_unhealthy(time.monotonic()):
            count = self._crashes.recent(time.monotonic())
            return Condition(DeploymentState.UNHEALTHY, f"{self._how}; it crashed {count} times within 10 minutes")
        return ready()

    def _look(self) -> None:
        """Before it was asked for the first time no loop hears of its end; whoever wants to know its condition does."""
        with self._attaching:
            worker = self._worker
            if self._loop is None and worker is not None and worker.child.has_ended():
                self._died(worker)

    def begin(self, batch: Batch, rows: int, ended: Ended) -> None:
        """See Computer."""
        assert self._worker is not None
        assert self._loop is not None
        places = range(len(batch[0].item.inputs))
        inputs = [[request.item.inputs[place] for request in batch] for place in places]
        try:
            slot, number = self._worker.send(inputs, rows)
        except OSError:
            self._loop.call_soon(self._died, self._worker)
            self._loop.call_soon(ended, _crashed("its process is gone"))
            return
        self._calls[number] = _Call(slot, batch, rows, ended, time.monotonic(), len(self._calls) >= self._worker.facts.calls)
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def memory_bytes(self) -> int:
        """See ServedModel."""
        worker = self._worker
        return worker.memory_bytes() if worker is not None else 0

    @property
    def pid(self) -> int:
        """The number of its process; 0 while there is none."""
        worker = self._worker
        return worker.child.pid if worker is not None else 0

    def drift(self) -> tuple[DriftScore, ...]:
        """The scores that its process told last."""
        return self._scores

    def close(self) -> None:
        """See Computer. The process ends by itself when its channel closes."""
        self._closed.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            self._forget(worker)
            worker.close()

    def _readable(self) -> None:
        worker = self._worker
        if worker is None:
            return
        message = worker.receive()
        if message is None:
            return
        try:
            if not message:
                self._died(worker)
            elif message[0] == Kind.DONE:
                self._done(worker, message)
            elif message[0] == Kind.SCORES:
                self._scores = scores_from_json(bytes(message[1:]))
            else:
                self._ended(worker, message)
        except Exception:  # whatever a broken process says must end it, not the loop
            log.exception("a model's process told nonsense", model=self._name)
            worker.child.kill()

    def _done(self, worker: WorkerProcess, message: memoryview) -> None:
        _, _, _, _, number, input_ns, infer_ns, output_ns = DONE.unpack(message)
        call = self._calls[number]
        outputs = worker.outputs(call.slot)
        del self._calls[number]  # not before: whoever is in there is told when the process turns out to be broken
        call.ended(Computed(outputs, input_ns, infer_ns, output_ns))
        for view in outputs:
            view.release()
        worker.free(call.slot)

    def _ended(self, worker: WorkerProcess, message: memoryview) -> None:
        kind, _, _, _, number, needed = ENDED.unpack_from(message)
        call = self._calls[number]
        if kind == Kind.TOO_SMALL:
            worker.needs(needed)
        elif kind != Kind.WRONG:
            raise ValueError("a message of no known kind")
        del self._calls[number]
        worker.free(call.slot)
        if kind == Kind.TOO_SMALL:
            self.begin(call.batch, call.rows, call.ended)
        else:
            call.ended(error_from_json(bytes(message[ENDED.size :])))

    def _died(self, worker: WorkerProcess) -> None:
        """Its callers are told at once; another is started after a while."""
        if self._worker is not worker or self._closed.is_set():
            return
        self._worker = None
        self._forget(worker)
        worker.child.kill()
        self._statistics.crashes += 1
        now = time.monotonic()
        wait = self._crashes.crashed(now)
        self._how, self._restart_at = "its process ended", now + wait
        calls, self._calls = list(self._calls.values()), {}
        threading.Thread(target=self._start_again, args=(worker, wait), name="model-restart", daemon=True).start()
        for call in calls:
            call.ended(_crashed(self._how))

    def _start_again(self, worker: WorkerProcess, wait: float) -> None:
        """In a thread of its own: until it is back, or nobody wants it any more."""
        self._how = worker.child.ended(5)
        worker.close()
        log.error("a model's process is gone", model=self._name, how=self._how, restart_s=wait)
        while not self._closed.wait(wait):
            try:
                made = self._start()
            except ModelyardError as error:
                now = time.monotonic()
                wait = self._crashes.crashed(now)
                self._how, self._restart_at = f"it could not be started again: {error.message}", now + wait
                log.error("a model's process cannot be started", model=self._name, reason=error.reason, restart_s=wait)
                continue
            with self._attaching:
                loop = self._loop
                if loop is None or loop.is_closed():
                    self._worker = made
                else:
                    loop.call_soon_threadsafe(self._back, made)
            if self._closed.is_set() and (loop is None or loop.is_closed()):
                self.close()
            return

    def _back(self, worker: WorkerProcess) -> None:
        if self._closed.is_set():
            worker.close()
            return
        self._worker = worker
        assert self._loop is not None
        self._loop.add_reader(worker.channel.fileno(), self._readable)
        log.info("a model's process is back", model=self._name)

    def _forget(self, worker: WorkerProcess) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.remove_reader(worker.channel.fileno())

    def _tick(self) -> None:
        """Looks for a process that hangs, and does what need not be done at each call. Sleeps when nothing was asked."""
        worker, loop = self._worker, self._loop
        self._ticking = None
        if worker is None or loop is None:
            return
        now = time.monotonic()
        if any(now - call.begun > self._timeout_s * (1 + call.is_ahead) for call in self._calls.values()):
            log.error("a model does not answer; its process is ended", model=self._name, seconds=self._timeout_s)
            worker.child.kill()
        self._ticks += 1
        if self._ticks % SCORES_TICKS == 0:
            worker.ask_scores()
        if self._ticks % SHRINK_TICKS == 0:
            worker.shrink()
        if self._calls or self._ticks % SHRINK_TICKS:
            self._ticking = loop.call_later(TICK_S, self._tick)


def _crashed(how: str) -> Unavailable:
    return Unavailable("MODEL_CRASHED", f"the model crashed while it computed this request: {how}; try again", retry_after_s=1.0)


@dataclass
class ProcessLoader:
    """A ServedModelLoader that gives every version a process. `close` ends the zygote, after the models were closed.

    `timeout_s`: after which a process that does not answer is ended. `memory_bytes`: address space of one process; 0: no limit.
    """

    options: LoadOptions
    queue: int = 256
    most_bytes: int = 64 << 20
    timeout_s: float = 60.0
    memory_bytes: int = 0
    budget: CpuBudget = field(init=False)
    zygote: Zygote = field(default_factory=Zygote)
    _computers: WeakSet[ProcessComputer] = field(default_factory=WeakSet)
    _loading: dict[object, int] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.budget = CpuBudget(self.options.cores)

    def load(self, bundle: Path, *, model: str, version: str) -> BatchedModel:
        """See ServedModelLoader.load."""
        card = open_bundle(bundle).card
        order = WorkerOrder(bundle, replace(self.options, card_sha256=card_digest(card)), self.memory_bytes)
        with self._admitted(bundle.stat().st_size):
            worker = start_worker(self.zygote, order, card)
        facts, statistics = worker.facts, VersionStatistics()
        limits = BatchLimits(facts.most_rows, self.most_bytes, self.queue)
        again = partial(self._start_again, order, card, facts)
        computer = ProcessComputer(worker, again, statistics, self.timeout_s, f"{model}/{version}")
        found = {"threads": facts.threads, "calls": facts.calls, "most_rows": facts.most_rows, "note": facts.note}
        log.info("model loaded", model=model, version=version, pid=worker.child.pid, **found)
        with self._guard:
            self._computers.add(computer)
        return BatchedModel(card, facts, computer, self.budget, limits, statistics)

    def _start_again(self, order: WorkerOrder, card: BundleCard, facts: Facts) -> WorkerProcess:
        """Another process for a version: with the same bytes and the threads found at first, so that nothing else changes."""
        options = replace(order.options, threads=facts.threads, calls=facts.calls, most_rows=facts.most_rows)
        worker = start_worker(self.zygote, replace(order, options=options, gives_way=False), card)
        if worker.facts.calls == facts.calls and worker.facts.most_rows <= facts.most_rows:
            return worker
        worker.close()
        raise Unavailable("MODEL_CRASHED", "the model's process told nonsense")

    @contextmanager
    def _admitted(self, size: int) -> Iterator[None]:
        """Memory for the bundle, beside what runs and what is being loaded. Raises ResourceExhausted NOT_ENOUGH_MEMORY."""
        load = object()
        with self._guard:
            check_memory(size, [computer.pid for computer in self._computers], sum(self._loading.values()))
            self._loading[load] = needed_bytes(size)
        try:
            yield
        finally:
            with self._guard:
                del self._loading[load]

    def close(self) -> None:
        """Ends the zygote; what it made ends with the channels of the models."""
        self.zygote.close()
