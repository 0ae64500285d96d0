"""Prometheus metrics per model and version, read when somebody asks from what each version counts anyway.

A version that is unloaded leaves no series behind. Beside our own names stand the counters that dashboards for Triton read
(nv_inference_*); docs/decisions/0019-drift.md says why. The number of series is bounded: buckets are fixed, and of a version's
features the MOST_FEATURES that changed most are shown.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from modelyard.serving.domain.drift import DriftScore, Level
from modelyard.serving.domain.version_statistics import LATENCY_BOUNDS_MS, VersionStatistics
from modelyard.serving.handlers.registry import Registry

LABELS: Final = ("model", "version")
LATENCY_STEP: Final = 4
"""Of the 64 bins of the latency every fourth: each bucket ends at 2.44 times the one before."""
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MOST_FEATURES: Final = 50
LONGEST_LABEL: Final = 200
SECOND_NS: Final = 1e9
MICROSECOND_NS: Final = 1000

COUNTERS: Final[Mapping[str, str]] = {
    "modelyard_model_examples": "Examples answered.",
    "modelyard_model_executions": "Calls of the model; fewer than requests where they were batched.",
    "modelyard_model_crashes": "Times that the model's process ended by itself.",
    "modelyard_model_queue_seconds": "Time that requests waited before the model began, summed.",
}
GAUGES: Final[Mapping[str, str]] = {
    "modelyard_model_ready": "1 when the version answers, 0 while it loads, has failed, or is unhealthy.",
    "modelyard_model_memory_bytes": "Memory that the model's process holds.",
    "modelyard_model_drift_examples": "Most examples that one of its drift scores is about.",
}
TRITON: Final[Mapping[str, str]] = {
    "nv_inference_request_success": "Requests answered (the name that Triton has for it).",
    "nv_inference_count": "Examples answered (Triton's name).",
    "nv_inference_exec_count": "Calls of the model (Triton's name).",
    "nv_inference_request_duration_us": "Time of requests, summed, in microseconds (Triton's name).",
    "nv_inference_queue_duration_us": "Time that requests waited, summed, in microseconds (Triton's name).",
    "nv_inference_compute_input_duration_us": "Time that inputs took, summed, in microseconds (Triton's name).",
    "nv_inference_compute_infer_duration_us": "Time that the model took, summed, in microseconds (Triton's name).",
    "nv_inference_compute_output_duration_us": "Time that outputs took, summed, in microseconds (Triton's name).",
}


@dataclass(frozen=True)
class Reading:
    """A version at one moment. `statistics` is None while it is not in memory."""

    model: str
    version: str
    ready: bool
    statistics: VersionStatistics | None = None
    memory_bytes: int = 0
    drift: tuple[DriftScore, ...] = ()

    @property
    def labels(self) -> tuple[str, str]:
        """Values of LABELS."""
        return (self.model[:LONGEST_LABEL], self.version[:LONGEST_LABEL])


def readings(registry: Registry) -> list[Reading]:
    """Every version of every model as it is now."""
    return [_reading(entry.model, entry.version, entry.is_ready, entry.loaded) for entry in registry.entries()]


def _reading(model: str, version: str, ready: bool, loaded: Any) -> Reading:
    if loaded is None:
        return Reading(model, version, ready)
    return Reading(model, version, ready, loaded.statistics, loaded.memory_bytes(), loaded.drift())


def families(found: Iterable[Reading]) -> Iterator[Metric]:
    """The metrics of some versions."""
    every = list(found)
    loaded = [(each, each.statistics) for each in every if each.statistics is not None]
    yield _requests(loaded)
    yield _compute(loaded)
    yield _latency(loaded)
    yield _batches(loaded)
    yield from _drift(every)
    yield from _plain(every, loaded)
    yield from _as_triton(loaded)


Loaded = list[tuple[Reading, VersionStatistics]]


def _requests(loaded: Loaded) -> Metric:
    text = "Requests by outcome: success, failure (the server's or the model's fault), rejected (the caller's fault, or no room)."
    family = CounterMetricFamily("modelyard_model_requests", text, labels=(*LABELS, "outcome"))
    for reading, counts in loaded:
        outcomes = {"success": counts.successes, "failure": counts.failures, "rejected": counts.rejected}
        for outcome, value in outcomes.items():
            family.add_metric((*reading.labels, outcome), value)
    return family


def _compute(loaded: Loaded) -> Metric:
    text = "Time that requests were worked on, summed: input (made ready for the model), infer (the model), output."
    family = CounterMetricFamily("modelyard_model_compute_seconds", text, labels=(*LABELS, "phase"))
    for reading, counts in loaded:
        phases = {"input": counts.compute_input_ns, "infer": counts.compute_infer_ns, "output": counts.compute_output_ns}
        for phase, value in phases.items():
            family.add_metric((*reading.labels, phase), value / SECOND_NS)
    return family


def _latency(loaded: Loaded) -> Metric:
    text = "Time of answered requests, from the request read to the answer made."
    family = HistogramMetricFamily("modelyard_model_request_seconds", text, labels=LABELS)
    bounds = [str(bound / 1000) for bound in LATENCY_BOUNDS_MS[LATENCY_STEP - 1 :: LATENCY_STEP]]
    for reading, counts in loaded:
        sums = list(accumulate(counts.latencies))
        steps = [*sums[LATENCY_STEP - 1 : len(LATENCY_BOUNDS_MS) : LATENCY_STEP], sums[-1]]
        family.add_metric(reading.labels, list(zip([*bounds, "+Inf"], steps, strict=True)), counts.success_ns / SECOND_NS)
    return family


def _batches(loaded: Loaded) -> Metric:
    text = "Examples of one call of the model."
    family = HistogramMetricFamily("modelyard_model_batch_examples", text, labels=LABELS)
    for reading, counts in loaded:
        sizes = {rows: sums[0] for rows, sums in list(counts.batches.items())}
        steps = [(str(float(bound)), sum(n for rows, n in sizes.items() if rows <= bound)) for bound in BATCH_BOUNDS]
        total = sum(sizes.values())
        family.add_metric(reading.labels, [*steps, ("+Inf", total)], sum(rows * n for rows, n in sizes.items()))
    return family


def _drift(every: list[Reading]) -> Iterator[Metric]:
    text = "Population stability index against the training data: 0.1 is some change, 0.25 a strong one."
    score = GaugeMetricFamily("modelyard_model_drift_score", text, labels=(*LABELS, "feature", "direction"))
    text = "Inputs and outputs that changed, by how much: some, strong."
    level = GaugeMetricFamily("modelyard_model_drifted_features", text, labels=(*LABELS, "level"))
    for reading in every:
        for key, value in _shown(reading.drift).items():
            score.add_metric((*reading.labels, *key), value)
        for wanted in (Level.SOME, Level.STRONG) if reading.drift else ():
            level.add_metric((*reading.labels, wanted.lower()), sum(each.level is wanted for each in reading.drift))
    return iter((score, level))


def _shown(drift: tuple[DriftScore, ...]) -> dict[tuple[str, str], float]:
    """The first of them (the strongest come first) that say something."""
    told = [each for each in drift if each.level is not Level.TOO_FEW][:MOST_FEATURES]
    return {(each.feature[:LONGEST_LABEL], each.direction.lower()): each.score for each in told}


def _plain(every: list[Reading], loaded: Loaded) -> Iterator[Metric]:
    """One number a version each."""
    counters = {name: CounterMetricFamily(name, text, labels=LABELS) for name, text in COUNTERS.items()}
    gauges = {name: GaugeMetricFamily(name, text, labels=LABELS) for name, text in GAUGES.items()}
    for reading in every:
        gauges["modelyard_model_ready"].add_metric(reading.labels, float(reading.ready))
    for reading, counts in loaded:
        counted = (counts.examples, counts.executions, counts.crashes, counts.queue_ns / SECOND_NS)
        for family, value in zip(counters.values(), counted, strict=True):
            family.add_metric(reading.labels, value)
        gauges["modelyard_model_memory_bytes"].add_metric(reading.labels, reading.memory_bytes)
        if reading.drift:
            most = max(each.examples for each in reading.drift)
            gauges["modelyard_model_drift_examples"].add_metric(reading.labels, most)
    yield from counters.values()
    yield from gauges.values()


def _as_triton(loaded: Loaded) -> Iterator[Metric]:
    """Counters without `_total`, as Triton writes them; of no type, since the text format would add it to a counter."""
    made = {name: Metric(name, text, "unknown") for name, text in TRITON.items()}
    failed = Metric("nv_inference_request_failure", "Requests not answered, by reason (Triton's name).", "unknown")
    for reading, counts in loaded:
        labels = dict(zip(LABELS, reading.labels, strict=True))
        for family, value in zip(made.values(), _triton_values(counts), strict=True):
            family.add_sample(family.name, labels, value)
        for reason, value in (("BACKEND", counts.failures), ("REJECTED", counts.rejected)):
            failed.add_sample(failed.name, {**labels, "reason": reason}, value)
    yield from made.values()
    yield failed


def _triton_values(counts: VersionStatistics) -> tuple[int, ...]:
    times = (counts.success_ns, counts.queue_ns, counts.compute_input_ns, counts.compute_infer_ns, counts.compute_output_ns)
    return (counts.successes, counts.examples, counts.executions, *(value // MICROSECOND_NS for value in times))


# Where Prometheus finds them


class ModelCollector:
    """A collector of prometheus_client over the servers of this process (one, but in tests)."""

    def __init__(self) -> None:
        self._registries: weakref.WeakSet[Registry] = weakref.WeakSet()
        self._lock = threading.Lock()

    def watch(self, registry: Registry) -> None:
        """From now on its versions are among the metrics, for as long as it lives."""
        with self._lock:
            self._registries.add(registry)

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on what is loaded."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called at every look of Prometheus, from any thread."""
        with self._lock:
            registries = list(self._registries)
        found = {reading.labels: reading for registry in registries for reading in readings(registry)}
        return families(found.values())


COLLECTOR: Final = ModelCollector()
REGISTRY.register(COLLECTOR)


def exposition() -> bytes:
    """All metrics of this process in Prometheus's text format (CONTENT_TYPE_LATEST)."""
    return generate_latest(REGISTRY)
