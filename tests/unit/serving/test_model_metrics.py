"""Prometheus metrics of models: read from what they count, gone when they are unloaded, bounded."""

from __future__ import annotations

import gc
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelyard.core.rpc.shell import CALLS
from modelyard.pipeline.rpc import metrics as pipeline_metrics
from modelyard.serving.domain.drift import Direction, DriftScore, Level
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.version_statistics import LATENCY_BOUNDS_MS, Timing, VersionStatistics
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.rpc.metrics import COLLECTOR, MOST_FEATURES, ModelCollector, exposition

ALERTS = Path(__file__).resolve().parents[3] / "deploy" / "prometheus" / "modelyard-alerts.yaml"
DASHBOARD = Path(__file__).resolve().parents[3] / "deploy" / "grafana" / "modelyard-serving.json"


class FakeModel:
    """As much of a ServedModel as metrics read."""

    def __init__(self, drift: tuple[DriftScore, ...] = ()) -> None:
        self.statistics = VersionStatistics()
        self.condition = Condition(DeploymentState.READY)
        self.scores = drift
        self.closed = False

    def memory_bytes(self) -> int:
        return 123_456

    def drift(self) -> tuple[DriftScore, ...]:
        return self.scores

    def close(self) -> None:
        self.closed = True


def registry_with(model: Any, name: str = "digits", version: str = "V001") -> Registry:
    registry = Registry()
    registry.put(Entry(name, version, datetime.now(UTC), Condition(DeploymentState.READY), model))
    return registry


def scraped(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus reads: every sample by its name and labels."""
    collector, prometheus = ModelCollector(), CollectorRegistry()
    collector.watch(registry)
    prometheus.register(collector)
    text = generate_latest(prometheus).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    labels = {"model": "digits", "version": "V001", **labels}
    return found[name, tuple(sorted(labels.items()))]


def busy_model() -> FakeModel:
    model = FakeModel((DriftScore("image.brightness", Direction.INPUT, 0.31, 800, Level.STRONG, "note"),))
    timing = Timing(2_000_000, 100_000, 3_000_000, 50_000, 4)
    for milliseconds in (1, 5, 200):
        model.statistics.succeeded(milliseconds * 1_000_000, 2, timing)
    model.statistics.failed(1_000_000)
    model.statistics.rejected += 2
    model.statistics.executed(timing)
    model.statistics.executed(Timing(batch_rows=600))
    model.statistics.crashes = 1
    return model


def test_what_a_version_did() -> None:
    found = scraped(registry_with(busy_model()))
    assert value(found, "modelyard_model_requests_total", outcome="success") == 3
    assert value(found, "modelyard_model_requests_total", outcome="failure") == 1
    assert value(found, "modelyard_model_requests_total", outcome="rejected") == 2
    assert value(found, "modelyard_model_examples_total") == 6
    assert value(found, "modelyard_model_executions_total") == 2
    assert value(found, "modelyard_model_crashes_total") == 1
    assert value(found, "modelyard_model_queue_seconds_total") == pytest.approx(0.006)
    assert value(found, "modelyard_model_compute_seconds_total", phase="infer") == pytest.approx(0.009)
    assert value(found, "modelyard_model_memory_bytes") == 123_456
    assert value(found, "modelyard_model_ready") == 1


def test_latency_and_batch_histograms() -> None:
    found = scraped(registry_with(busy_model()))
    assert value(found, "modelyard_model_request_seconds_count") == 3
    assert value(found, "modelyard_model_request_seconds_sum") == pytest.approx(0.206)
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in found.items()
        if name == "modelyard_model_request_seconds_bucket"
    )
    assert buckets[-1] == (float("inf"), 3)
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    for bound, count in buckets:
        assert count == sum(seconds <= bound for seconds in (0.001, 0.005, 0.2))
    assert buckets[-2][0] == pytest.approx(LATENCY_BOUNDS_MS[-1] / 1000)
    assert value(found, "modelyard_model_batch_examples_bucket", le="4.0") == 1
    assert value(found, "modelyard_model_batch_examples_bucket", le="512.0") == 1
    assert value(found, "modelyard_model_batch_examples_bucket", le="+Inf") == 2
    assert value(found, "modelyard_model_batch_examples_sum") == 604


def test_drift() -> None:
    found = scraped(registry_with(busy_model()))
    assert value(found, "modelyard_model_drift_score", feature="image.brightness", direction="input") == 0.31
    assert value(found, "modelyard_model_drifted_features", level="strong") == 1
    assert value(found, "modelyard_model_drifted_features", level="some") == 0
    assert value(found, "modelyard_model_drift_examples") == 800


def test_a_score_of_too_few_examples_is_not_told() -> None:
    model = FakeModel((DriftScore("age", Direction.INPUT, 0.9, 3, Level.TOO_FEW),))
    found = scraped(registry_with(model))
    assert not [name for name, _ in found if name == "modelyard_model_drift_score"]


def test_tritons_names() -> None:
    found = scraped(registry_with(busy_model()))
    assert value(found, "nv_inference_request_success") == 3
    assert value(found, "nv_inference_request_failure", reason="REJECTED") == 2
    assert value(found, "nv_inference_count") == 6
    assert value(found, "nv_inference_exec_count") == 2
    assert value(found, "nv_inference_queue_duration_us") == 6000
    assert value(found, "nv_inference_compute_infer_duration_us") == 9000


def test_a_version_that_is_unloaded_leaves_nothing() -> None:
    registry = registry_with(busy_model())
    registry.remove("digits", "V001")
    assert scraped(registry) == {}


def test_a_version_that_could_not_be_loaded() -> None:
    registry = Registry()
    registry.put(Entry("digits", "V001", datetime.now(UTC), Condition(DeploymentState.FAILED, "why")))
    assert scraped(registry) == {("modelyard_model_ready", (("model", "digits"), ("version", "V001"))): 0}


def test_the_number_of_series_is_bounded() -> None:
    scores = tuple(DriftScore(f"column {at}", Direction.INPUT, 1 / (at + 1), 500, Level.NONE) for at in range(5000))
    found = scraped(registry_with(FakeModel(scores)))
    assert len([name for name, _ in found if name == "modelyard_model_drift_score"]) == MOST_FEATURES
    assert len(found) < 150


def test_names_of_columns_are_escaped() -> None:
    name = 'a"b\\c\nd{}'
    model = FakeModel((DriftScore(name, Direction.INPUT, 0.5, 500, Level.STRONG),))
    found = scraped(registry_with(model))
    assert value(found, "modelyard_model_drift_score", feature=name, direction="input") == 0.5


def test_every_metric_of_the_process_is_in_the_exposition() -> None:
    registry = registry_with(busy_model(), name="exposed")
    COLLECTOR.watch(registry)
    CALLS.labels("/test/Test", "OK").inc(0)
    text = exposition().decode()
    assert 'modelyard_model_ready{model="exposed",version="V001"} 1.0' in text
    assert "modelyard_rpc_calls_total" in text
    del registry
    gc.collect()
    assert "exposed" not in exposition().decode()


def test_counters_only_grow() -> None:
    model = busy_model()
    registry = registry_with(model)
    before = scraped(registry)
    model.statistics.succeeded(7_000_000, 1, Timing())
    after = scraped(registry)
    assert before.keys() == after.keys()
    counted = [key for key in before if key[0].endswith(("_total", "_count", "_bucket", "_sum")) or key[0].startswith("nv_")]
    assert all(after[key] >= before[key] for key in counted)
    assert any(after[key] > before[key] for key in counted)


def exported_names() -> set[str]:
    """Every metric that the services export, by the names that queries use."""
    CALLS.labels("/test/Test", "OK").inc(0)
    text = exposition().decode()
    known = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    known |= {name for name, _ in scraped(registry_with(busy_model()))}
    return known | {family.name for gauge in (pipeline_metrics.DRIFTED, pipeline_metrics.LOSS) for family in gauge.collect()}


def named_in(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"\b(?:modelyard|nv)_[a-z0-9_]+", query)}


def test_the_dashboard_names_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) >= 10
    assert named_in(queries) - exported_names() == set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_alerts_ask_for_metrics_that_there_are_and_say_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    queries = [rule["expr"] for rule in rules]
    assert named_in(queries) - exported_names() == set()
    assert all(named_in([query]) or query.startswith("up{") for query in queries)
    assert all(rule["labels"]["severity"] in ("warning", "critical") for rule in rules)
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in rules)
