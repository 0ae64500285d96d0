"""Detection of anomalies in recordings, from data to served answers, without servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.gate import Demands, Evidence, Floor, Verdict, decide
from modelyard.evaluator.worker.scoring import evaluate
from modelyard.exporter.domain.form import Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import measure_candidates
from modelyard.exporter.worker.export import export_model
from modelyard.formats.bundle import Source
from modelyard.formats.model import read_card
from modelyard.formats.sensors import recordings, watch_of
from modelyard.recipes.catalogue import DatasetFacts, candidates
from modelyard.recipes.recipe import Recipe
from modelyard.serving.handlers.proven_model import LoadOptions, load_proven
from modelyard.trainer.worker.sensors import run_sensor_training
from tests.support.datasets import file_store, open_reader
from tests.support.machines import STEPS, WRONG, machine, publish_machines

COUNTS = {"train": 12, "validation": 4, "test": 8}
SOURCE = Source("projects/p/models/m/versions/V001")
RECIPES = {each.name: each for each in candidates(DatasetFacts("anomaly_detection", 12, 1))}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr("modelyard.trainer.worker.sensors.training_threads", lambda: 1)
    yield
    torch.set_num_threads(threads)


def quick(name: str) -> Recipe:
    recipe = RECIPES[name]
    return replace(recipe, tabular=replace(recipe.tabular, max_steps=200))


def trained(store: Any, descriptor: Any, recipe: Recipe, folder: Path) -> Path:
    """The bundle of a detector; fails where learning or exporting does."""
    reader = open_reader(store, descriptor)
    run_sensor_training(reader, recipe, folder / "model.zip", {}, lambda *_: None)
    export_model(folder / "model.zip", reader, folder / "m.bundle", SOURCE, lambda _: None)
    reader.close()
    return folder / "m.bundle"


def scored(store: Any, bundle: Path, descriptor: Any) -> EvaluationResult:
    spec = EvaluationSpec("x", store.put_file(bundle), "v", descriptor, "ab" * 32, "anomaly_detection", ("validation", "test"))
    return evaluate(spec, store, bundle.parent, lambda *_: None)


def value(result: EvaluationResult, name: str) -> float:
    test = result.usage("test")
    assert test is not None
    metric = test.score.metric(name)
    assert metric is not None, name
    return metric.value


# The forest sees each channel alone, and this fault is of two together: it must do better than chance, not more.
LEAST = {"sensor-forest": 0.15, "sensor-autoencoder": 0.6}


@pytest.mark.parametrize(("name", "least"), [(name, LEAST.get(name, 0.8)) for name in RECIPES])
def test_a_fault_that_no_channel_shows_alone_is_found_on_machines_never_seen(name: str, least: float, tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_machines(store, COUNTS)
    bundle = trained(store, descriptor, quick(name), tmp_path)
    card = read_card(tmp_path / "model.zip")
    assert card.details["reference"] >= card.details["steps"]  # machines differ in level, so each is held against its own past
    result = scored(store, bundle, descriptor)
    assert value(result, "f1") > least
    assert 0 <= value(result, "range_f1") <= 1
    if least > 0.6:
        assert value(result, "detection_delay") < 40
        assert value(result, "false_alarm_rate") < 0.1
        test = result.usage("test")
        assert test is not None
        assert decide(Evidence(test), Demands((Floor("f1", 0.5),))).verdict is Verdict.DEPLOY
        assert decide(Evidence(test), Demands((Floor("f1", 0.999999),))).verdict is Verdict.BACK_TO_DATA


def test_what_is_served_says_what_was_scored_and_refuses_what_is_no_window(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_machines(store, COUNTS)
    bundle = trained(store, descriptor, quick("sensor-hotelling"), tmp_path)
    proven = load_proven(bundle, LoadOptions(cores=1, most_rows=8))
    try:
        watch = watch_of({each.name: each.shape for each in proven.bundle.card.inputs})
        values = machine(1, np.random.default_rng(99), wrong=True)
        ends = np.array([WRONG[0], WRONG[1]])
        answers = proven.model.run(dict(watch.inputs(values, ends)))
        assert answers["state"].tolist() == ["normal", "anomaly"]
        assert answers["score"].shape == (2, 1)
        broken = values.copy()
        broken[:, 2] = np.nan  # a sensor that went silent: the others still tell
        told = proven.model.run(dict(watch.inputs(broken, ends)))
        assert np.isfinite(told["score"]).all()
        assert told["state"].tolist() == ["normal", "anomaly"]
        good = watch.inputs(values, ends)
        for wrong in (
            {**good, "series": good["series"][:, :-1]},
            {"series": good["series"]},
            {**good, "series": good["series"].astype(np.float64)},
        ):
            with pytest.raises(InvalidArgument):
                proven.model.run(wrong)
    finally:
        proven.model.close()


def test_without_a_labelled_anomaly_the_threshold_keeps_the_stated_rate_of_false_alarms(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_machines(store, COUNTS, wrong=())
    bundle = trained(store, descriptor, quick("sensor-hotelling"), tmp_path)
    card = read_card(tmp_path / "model.zip")
    assert card.details["threshold_rule"] == "1 percent false alarms on validation recordings"
    assert card.metrics["val_false_alarm_rate"] <= 0.01
    result = scored(store, bundle, descriptor)
    test = result.usage("test")
    assert test is not None
    assert [each.name for each in test.score.metrics] == ["balanced_accuracy", "false_alarm_rate"]
    assert value(result, "false_alarm_rate") < 0.05
    decision = decide(Evidence(test), Demands())
    assert decision.verdict is Verdict.DEPLOY
    assert any("only false alarms can be judged" in reason for reason in decision.reasons)


def test_a_detector_that_calls_everything_anomalous_is_not_let_through(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_machines(store, COUNTS)
    reader = open_reader(store, descriptor)
    result = run_sensor_training(reader, quick("sensor-hotelling"), tmp_path / "model.zip", {}, lambda *_: None)
    from modelyard.formats.model import read_model, write_model

    file = read_model(tmp_path / "model.zip")
    write_model(tmp_path / "model.zip", result.card, {**file.tensors(), "threshold": np.array([1e-6], np.float32)})
    export_model(tmp_path / "model.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None)
    reader.close()
    found = scored(store, tmp_path / "m.bundle", descriptor)
    assert value(found, "recall") == 1.0
    assert value(found, "balanced_accuracy") == pytest.approx(0.5)
    test = found.usage("test")
    assert test is not None
    assert decide(Evidence(test), Demands()).verdict is not Verdict.DEPLOY


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_machines(store, COUNTS))
    for name in ("sensor-autoencoder", "sensor-forest"):
        files = []
        for path in ("a.zip", "b.zip"):
            run_sensor_training(reader, quick(name), tmp_path / path, {}, lambda *_: None)
            files.append((tmp_path / path).read_bytes())
        assert files[0] == files[1], name
    reader.close()


def test_nothing_of_the_test_recordings_is_learned(tmp_path: Path) -> None:
    """Other test recordings, the same model."""
    store = file_store(tmp_path / "artifacts")
    files = []
    for number, counts in enumerate((COUNTS, {**COUNTS, "test": 3})):
        reader = open_reader(store, publish_machines(store, counts))
        run_sensor_training(reader, quick("sensor-hotelling"), tmp_path / f"{number}.zip", {}, lambda *_: None)
        files.append((tmp_path / f"{number}.zip").read_bytes())
        reader.close()
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("counts", "steps", "reason"),
    [({"test": 4}, STEPS, "NO_TRAINING_EXAMPLES"), ({"train": 4}, 6, "RECORDINGS_TOO_SHORT")],
)
def test_what_cannot_be_learned_is_said(counts: dict[str, int], steps: int, reason: str, tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_machines(store, counts, steps=steps, wrong=()))
    with pytest.raises(FailedPrecondition) as caught:
        run_sensor_training(reader, quick("sensor-hotelling"), tmp_path / "m.zip", {}, lambda *_: None)
    assert caught.value.reason == reason
    reader.close()


def test_without_normal_readings_nothing_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = file_store(tmp_path / "artifacts")
    monkeypatch.setattr("tests.support.machines.WRONG", (0, STEPS))
    reader = open_reader(store, publish_machines(store, {"test": 1, "train": 1}))  # the second goes wrong, all along
    assert next(recordings(reader, "train")).anomalous.all()
    with pytest.raises(FailedPrecondition) as caught:
        run_sensor_training(reader, quick("sensor-hotelling"), tmp_path / "m.zip", {}, lambda *_: None)
    assert caught.value.reason == "NO_NORMAL_DATA"
    reader.close()


def test_recordings_with_other_channels_are_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    bundle = trained(store, publish_machines(store, COUNTS), quick("sensor-hotelling-small"), tmp_path)
    from tests.support.machines import publish_recordings

    other = publish_recordings(
        store, "anomaly_detection", [np.zeros((STEPS, 2))], ["test"], ("a", "b"), ("anomaly",), intervals=[[]]
    )
    with pytest.raises(ModelyardError) as caught:
        scored(store, bundle, other)
    assert caught.value.reason == "CHANNELS_DIFFER"


def test_every_recipe_is_measured_untrained_and_made_in_onnx_alone(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_machines(store, {"train": 4}))
    found = measure_candidates(list(RECIPES.values()), reader, tmp_path, Target("cpu-1core", threads=1, local=True), seconds=0.05)
    assert [each.recipe_id for each in found if each.latency is None] == []
    run_sensor_training(reader, quick("sensor-hotelling"), tmp_path / "m.zip", {}, lambda *_: None)
    with pytest.raises(InvalidArgument, match="exported as onnx fp32 only"):
        export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None, Form("litert", "int8"))
    reader.close()
