"""Watching a served model from outside: what callers send drifts, and statistics and metrics say so; its series go with it."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from modelyard.client import Client
from modelyard.formats.bundle import add_statistics, open_bundle
from modelyard.formats.observed_features import observed_inputs, observed_outputs
from modelyard.formats.training_statistics import TrainingStatistics, statistics_of
from modelyard.runtime.model import load_model
from modelyard.serving.v1 import serving_pb2
from tests.support.serving_server import serving
from tests.support.small_bundles import table_regression

DEPLOYMENT = "projects/default/endpoints/prices/deployments/V001"
Samples = dict[tuple[str, str], float]


def watched_bundle(path: Path) -> Path:
    """A model that doubles a number, trained on numbers around 0."""
    table_regression(path)
    inputs = {"x": np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)}
    model = load_model(open_bundle(path))
    observed = observed_inputs(model.card, inputs) | observed_outputs(model.card, model.run(inputs))
    model.close()
    add_statistics(path, TrainingStatistics(2000, 2000, statistics_of(observed)))
    return path


def scraped(address: str) -> Samples:
    """Samples about the model, by name and the label that tells them apart."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    own = ("feature", "outcome", "le", "phase", "level", "reason")
    found = [sample for sample in samples if sample.labels.get("model") == "prices"]
    return {(each.name, next((each.labels[key] for key in own if key in each.labels), "")): each.value for each in found}


def until(look: Callable[[], Samples], done: Callable[[Samples], bool]) -> Samples:
    deadline = time.monotonic() + 30
    while not done(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_what_callers_send_drifts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("prices")
        export, gate = world.exports.add("prices-1", "V001", watched_bundle(tmp_path / "m.bundle"))
        client.endpoints.create_deployment("prices", export=export, gate_decision=gate)

        def asked() -> Samples:
            for _ in range(20):
                client.predictions.predict("prices", tensors={"x": rng.normal(3, 1, (8, 1)).astype(np.float32)})
            return scraped(world.address)

        score = ("modelyard_model_drift_score", "x")
        found = until(asked, lambda samples: samples.get(score, 0.0) > 0.25)
        assert found[("modelyard_model_ready", "")] == 1
        assert found[("modelyard_model_requests_total", "success")] >= 20
        assert found[("modelyard_model_examples_total", "")] == 8 * found[("modelyard_model_requests_total", "success")]
        assert found[("modelyard_model_memory_bytes", "")] > 1_000_000
        assert found[("modelyard_model_drift_score", "prediction")] > 0.25
        assert found[("modelyard_model_drifted_features", "strong")] == 2
        assert found[("nv_inference_request_success", "")] >= 20

        drift = {each.feature: each for each in client.endpoints.get_deployment_statistics(DEPLOYMENT).drift}
        assert drift["x"].level == drift["prediction"].level == serving_pb2.Drift.LEVEL_STRONG
        assert drift["x"].direction == serving_pb2.Drift.DIRECTION_INPUT
        assert drift["x"].note.startswith("x above 1.")

        client.endpoints.delete_endpoint("prices")
        until(lambda: scraped(world.address), lambda samples: not samples)
