"""A version whose model computes in this process: for tiny devices, and to measure what a process of its own costs.

A model that crashes takes the server with it. docs/decisions/0016-isolation.md says when to choose it (MODELYARD_ISOLATION=none).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable
from modelyard.formats.bundle import Bundle
from modelyard.serving.adapters.batched_model import Batch, BatchedModel, Computed, Ended, ready
from modelyard.serving.domain.batching import BatchLimits
from modelyard.serving.domain.cpu_budget import CpuBudget
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.endpoint import Condition
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.execution import Execution, Observe
from modelyard.serving.handlers.proven_model import LoadOptions, ProvenModel, load_proven

log = structlog.get_logger()


class ThreadComputer:
    """Computes in threads of this process, which all versions share."""

    ahead = 0

    def __init__(self, proven: ProvenModel, threads: ThreadPoolExecutor, observe: Observe | None) -> None:
        self._execution = Execution(proven.model, observe)
        self._memory = proven.facts.memory_bytes
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """See Computer."""
        self._loop = loop

    def trouble(self) -> Unavailable | None:
        """Nothing that could be told."""
        return None

    def condition(self) -> Condition:
        """READY."""
        return ready()

    def begin(self, batch: Batch, rows: int, ended: Ended) -> None:
        """See Computer."""
        self._threads.submit(self._compute, batch, rows, ended)

    def _compute(self, batch: Batch, rows: int, ended: Ended) -> None:
        outcome: Computed | ModelyardError
        try:
            start = time.perf_counter_ns()
            parts = [[request.item.inputs[place] for request in batch] for place in range(len(batch[0].item.inputs))]
            joined = [(part[0].datatype, b"".join([tensor.data for tensor in part])) for part in parts]
            inputs = self._execution.read(rows, joined)
            read = time.perf_counter_ns()
            answers = self._execution.run(inputs)
            computed = time.perf_counter_ns()
            outputs = self._execution.write(answers)
            outcome = Computed(outputs, read - start, computed - read, time.perf_counter_ns() - computed)
        except InvalidArgument as error:
            outcome = error
        except Exception:  # MemoryError, and whatever is our own fault: the caller must not wait for ever
            log.exception("a model failed")
            outcome = Unavailable("MODEL_CRASHED", "the model failed on this request", retry_after_s=1.0)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(ended, outcome)

    def memory_bytes(self) -> int:
        """What loading it added to this process, as far as can be told."""
        return self._memory

    def drift(self) -> tuple[DriftScore, ...]:
        """See ServedModel."""
        return self._execution.scores()

    def close(self) -> None:
        """See Computer."""
        self._execution.close()


@dataclass
class InProcessLoader:
    """A ServedModelLoader. `queue`: requests that may wait for a version; `most_bytes`: of a call made of several requests.

    `observe` makes what watches a version's tensors. `close` ends it with all its threads, after the models were closed.
    """

    options: LoadOptions
    queue: int = 256
    most_bytes: int = 64 << 20
    observe: Callable[[Bundle], Observe | None] = lambda _: None
    budget: CpuBudget = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.budget = CpuBudget(self.options.cores)
        self._threads = ThreadPoolExecutor(self.options.cores, thread_name_prefix="model")

    def load(self, bundle: Path, *, model: str, version: str) -> BatchedModel:
        """See ServedModelLoader.load."""
        proven = load_proven(bundle, self.options)
        limits = BatchLimits(proven.facts.most_rows, self.most_bytes, self.queue)
        computer = ThreadComputer(proven, self._threads, self.observe(proven.bundle))
        log.info("model loaded", model=model, version=version, threads=proven.facts.threads, most_rows=proven.facts.most_rows)
        return BatchedModel(proven.bundle.card, proven.facts, computer, self.budget, limits, VersionStatistics())

    def close(self) -> None:
        """Ends the threads after what has begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)
