"""Watches what a model sees and answers, inside its own process: counts over bins leave it, payloads never do.

It may cost SHARE of the time and no more: after each look it sleeps so much longer than the look took. With little traffic
every example is seen; with much, as many as that time allows, spread evenly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.bundle import Bundle, BundleCard
from modelyard.formats.observed_features import observed_files, observed_inputs, observed_outputs
from modelyard.formats.training_statistics import TrainingStatistics
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.drift_window import Window

log = logging.getLogger(__name__)
Array = NDArray[Any]
Tensors = Mapping[str, Array]
Clock = Callable[[], float]

SHARE: Final = 0.004
"""Most of the time that watching may take, 0 to 1: well below 1 %, so that p99 is not that of requests it made wait."""
ROWS_OF_A_CALL: Final = 32
"""Most examples of one execution: they are often of one caller, and alike."""
ROWS_AT_ONCE: Final = 64
BYTES_AT_ONCE: Final = 1 << 20
"""Examples are counted together once there are so many, or so many bytes."""
MOST_FAILURES: Final = 3


def observer_of(bundle: Bundle) -> Observer | None:
    """The observer of a bundle's model; None where the bundle brings no statistics."""
    statistics = bundle.statistics()
    return Observer(bundle.card, statistics) if statistics is not None else None


class Observer:
    """Drift of one model over a sliding window. For one thread: that which runs the model."""

    def __init__(
        self, card: BundleCard, statistics: TrainingStatistics, *, clock: Clock = time.monotonic, cpu: Clock = time.thread_time
    ) -> None:
        self._card = card
        self._features = statistics.features
        self._clock, self._cpu = clock, cpu
        self._next = clock()
        self._waiting: list[tuple[dict[str, Array], dict[str, Array], Sequence[bytes]]] = []
        self._waiting_rows = self._waiting_bytes = self._failures = 0
        self._window = Window(statistics.features, clock)

    def due(self) -> bool:
        """Whether `seen` would take note now."""
        return self._clock() >= self._next

    def seen(self, inputs: Tensors, outputs: Tensors, files: Sequence[bytes] = ()) -> None:
        """Takes note of an execution, or does not, where too little time has gone by. Never raises.

        Arrays are as the model took and gave them (prepared inputs, the card's outputs), the batch first; what is kept is copied.
        `files`: where pictures came as files, those, in the order of the batch.
        """
        if not self.due():
            return
        begin = self._cpu()
        try:
            self._keep(inputs, outputs, files)
            if self._waiting_rows >= ROWS_AT_ONCE or self._waiting_bytes >= BYTES_AT_ONCE:
                self._count()
        except Exception:
            self._failed()
        self._next = max(self._next, self._clock() + (self._cpu() - begin) * (1 / SHARE - 1))

    def scores(self) -> tuple[DriftScore, ...]:
        """One score a feature, the strongest first; features of which nothing was seen are left out."""
        try:
            self._count()
        except Exception:
            self._failed()
        return self._window.scores()

    def _keep(self, inputs: Tensors, outputs: Tensors, files: Sequence[bytes]) -> None:
        rows = len(next(iter(inputs.values())))
        chosen = np.linspace(0, rows - 1, min(rows, ROWS_OF_A_CALL)).astype(np.int64)
        taken, given = ({name: values[chosen] for name, values in side.items()} for side in (inputs, outputs))
        self._waiting.append((taken, given, [files[at] for at in chosen] if len(files) == rows else ()))
        self._waiting_rows += len(chosen)
        self._waiting_bytes += sum(values.nbytes for side in (taken, given) for values in side.values())

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._waiting_rows = self._waiting_bytes = 0
        if not waiting:
            return
        inputs, outputs = (_joined([each[side] for each in waiting]) for side in (0, 1))  # type: ignore[misc]
        found = {**observed_inputs(self._card, inputs), **observed_outputs(self._card, outputs)}
        files = [file for each in waiting for file in each[2]]
        if files:
            found |= observed_files(files)
        counts = [feature.count(found[feature.key]) if feature.key in found else None for feature in self._features]
        self._window.add(counts, len(next(iter(found.values()), ())))

    def _failed(self) -> None:
        """Watching must not fail a prediction: after a few failures it ends for good."""
        self._waiting.clear()
        self._failures += 1
        log.warning("drift: an execution could not be observed", exc_info=True)
        if self._failures >= MOST_FAILURES:
            self._next = float("inf")


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
