"""Sounds and series from data to served answers, without servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.worker.scoring import evaluate
from modelyard.exporter.domain.form import Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import measure_candidates
from modelyard.exporter.worker.drift_statistics import write_statistics
from modelyard.exporter.worker.export import export_model
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.model import PictureInput, read_card, read_model
from modelyard.recipes.catalogue import DatasetFacts, candidates
from modelyard.recipes.recipe import FRAMEWORKS, TENSORFLOW, Hyperparameters, Recipe
from modelyard.runtime.model import load_model
from modelyard.serving.handlers.proven_model import LoadOptions, load_proven
from modelyard.trainer.worker.image import ImageTrainingSpec, run_image_training
from modelyard.trainer.worker.series import run_series_training
from modelyard.trainer.worker.series_network import run_series_network
from tests.support.datasets import file_store, open_reader
from tests.support.small_training import KeptHooks
from tests.support.waves import NAMES, publish_series, publish_sounds, series, sound

COUNTS = {"train": 80, "validation": 20, "test": 40}
SOURCE = Source("projects/p/models/m/versions/V001")
RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    for module in ("image", "series", "series_network"):
        monkeypatch.setattr(f"modelyard.trainer.worker.{module}.training_threads", lambda: 1)
    yield
    torch.set_num_threads(threads)


def accuracy(store: object, bundle: Path, descriptor: object, task: str) -> tuple[float, EvaluationResult]:
    spec = EvaluationSpec("x", store.put_file(bundle), "v", descriptor, "ab" * 32, task, ("validation", "test"))  # type: ignore
    result = evaluate(spec, store, bundle.parent, lambda *_: None)  # type: ignore[arg-type]
    test = result.usage("test")
    assert test is not None
    metric = test.score.metric("accuracy")
    assert metric is not None
    return metric.value, result


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_keyword_spotter_for_a_microcontroller(framework: str, tmp_path: Path) -> None:
    """Learned, in eight bits under 60 KB, with what the float model knows; the endpoint takes WAV files. Whoever trained it."""
    pytest.importorskip("ai_edge_litert")
    if framework == TENSORFLOW and find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_sounds(store, COUNTS)
    reader = open_reader(store, descriptor)
    settings = Hyperparameters(max_epochs=8, batch_size=16, base_lr=5e-3, warmup_steps=5, augmentation="light")
    recipe = Recipe("r", "audio_classification", "modelyard:dscnn", PictureInput(40, 48, 1), settings, framework=framework)
    trained = run_image_training(ImageTrainingSpec(reader, recipe), KeptHooks(), tmp_path)
    assert trained.metrics["val_accuracy"] > 0.9
    assert trained.model_path is not None
    found = {}
    for form in (Form(), Form("litert", "int8"), *((Form("savedmodel"),) if framework == TENSORFLOW else ())):
        path = tmp_path / f"{form.format}.bundle"
        export_model(trained.model_path, reader, path, SOURCE, lambda _: None, form)
        write_statistics(path, reader)
        found[form.format] = accuracy(store, path, descriptor, "audio_classification")[0]
    assert found["onnx"] > 0.9
    assert found["litert"] > found["onnx"] - 0.05
    assert found.get("savedmodel", found["onnx"]) == pytest.approx(found["onnx"])
    assert open_bundle(tmp_path / "litert.bundle").model_size < 60_000
    proven = load_proven(tmp_path / "litert.bundle", LoadOptions(cores=1, most_rows=2))
    try:
        files = np.array([sound(kind, RANDOM) for kind in (0, 1, 0)], dtype=object)
        assert proven.model.run({"image": files})["label"].tolist() == ["high", "low", "high"]
        with pytest.raises(InvalidArgument) as caught:
            proven.model.run({"image": np.array([b"\x89PNG not a sound"], dtype=object)})
        assert caught.value.reason == "NOT_A_SOUND"
    finally:
        proven.model.close()
    reader.close()


@pytest.mark.parametrize(("lengths", "channels"), [((60,), 1), ((50, 60, 80), 3)])
@pytest.mark.parametrize("architecture", ["modelyard:minirocket", "modelyard:minirocket_small"])
def test_series_are_learned_and_served(lengths: tuple[int, ...], channels: int, architecture: str, tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_series(store, COUNTS, lengths=lengths, channels=channels)
    reader = open_reader(store, descriptor)
    recipe = next(each for each in candidates(DatasetFacts("series_classification", 80, 2)) if each.architecture == architecture)
    result = run_series_training(reader, recipe, tmp_path / "model.zip", {}, lambda *_: None)
    assert result.metrics["val_accuracy"] > 0.9
    path = tmp_path / "m.bundle"
    card = export_model(tmp_path / "model.zip", reader, path, SOURCE, lambda _: None)
    assert card.parity is not None
    assert card.parity.max_abs_difference < 1e-3
    assert accuracy(store, path, descriptor, "series_classification")[0] > 0.9
    proven = load_proven(path, LoadOptions(cores=1, most_rows=4))
    try:
        steps = proven.bundle.card.inputs[0].shape[1]
        asked = np.stack([series(kind, RANDOM, steps, channels) for kind in (1, 0)]).astype(np.float32)
        assert proven.model.run({"series": asked})["label"].tolist() == [NAMES[1], NAMES[0]]
    finally:
        proven.model.close()
    reader.close()


def test_a_network_of_series_is_learned_resumed_and_served(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_series(store, COUNTS, lengths=(50, 60, 80), channels=2)
    reader = open_reader(store, descriptor)
    recipes = candidates(DatasetFacts("series_classification", 80, 2))
    recipe = next(each for each in recipes if each.name == "inceptiontime-small")
    assert recipe.hyperparameters.max_epochs == 200  # few series: many passes
    short = replace(recipe, hyperparameters=replace(recipe.hyperparameters, max_epochs=6))
    hooks = KeptHooks(lambda asked: "stop" if asked > 8 else "continue")
    first = run_series_network(ImageTrainingSpec(reader, short), hooks, tmp_path)
    assert first.reason == "STOPPED"
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(hooks.checkpoints["last"][-1])
    result = run_series_network(ImageTrainingSpec(reader, short, resume=kept), KeptHooks(), tmp_path)
    assert (result.reason, result.epochs) == ("COMPLETED", 6)
    assert result.metrics["val_accuracy"] > 0.9
    path = tmp_path / "m.bundle"
    card = export_model(tmp_path / "model.zip", reader, path, SOURCE, lambda _: None)
    assert card.parity is not None
    assert card.parity.max_abs_difference < 1e-3
    assert accuracy(store, path, descriptor, "series_classification")[0] > 0.9
    small = tmp_path / "small.bundle"
    card = export_model(tmp_path / "model.zip", reader, small, SOURCE, lambda _: None, Form("onnx", "int8"))
    assert (card.precision, card.calibration.examples, card.parity.against) == ("int8", COUNTS["train"], "torch")  # type: ignore
    assert card.parity.label_agreement > 0.95  # type: ignore[union-attr]
    assert open_bundle(small).model_size < 0.5 * open_bundle(path).model_size
    assert accuracy(store, small, descriptor, "series_classification")[0] > 0.9
    proven = load_proven(small, LoadOptions(cores=1, most_rows=4))
    try:
        asked = np.stack([series(kind, RANDOM, 60, 2) for kind in (1, 0, 1)]).astype(np.float32)
        assert proven.model.run({"series": asked})["label"].tolist() == [NAMES[1], NAMES[0], NAMES[1]]
    finally:
        proven.model.close()
    result = run_series_network(ImageTrainingSpec(reader, short, warm_start=tmp_path / "model.zip"), KeptHooks(), tmp_path)
    assert result.metrics["val_accuracy"] > 0.9
    large = next(each for each in recipes if each.name == "inceptiontime")
    target = Target("cpu-1core", threads=1, local=True)
    measured = measure_candidates([large, recipe], reader, tmp_path, target, seconds=0.1)
    assert all(each.latency is not None for each in measured)
    reader.close()


def test_a_network_of_series_that_was_stopped_ends_as_the_unbroken_run(tmp_path: Path) -> None:
    """Bit for bit, changed series and the running mean of the weights too: in the middle of an epoch."""
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, COUNTS, channels=2))
    recipe = next(e for e in candidates(DatasetFacts("series_classification", 80, 2)) if e.name == "inceptiontime-small")
    settings = replace(recipe.hyperparameters, max_epochs=3, augmentation="standard", deterministic=True)
    spec = ImageTrainingSpec(reader, replace(recipe, hyperparameters=settings))
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = run_series_network(spec, KeptHooks(), tmp_path / "whole")
    hooks = KeptHooks(lambda asked: "stop" if asked > 7 else "continue")
    stopped = run_series_network(spec, hooks, tmp_path / "broken")
    assert (stopped.reason, 5 < stopped.steps < 10) == ("STOPPED", True), "80 series in batches of 16: five steps an epoch"
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(hooks.checkpoints["last"][-1])
    torch.rand(7)
    again = run_series_network(replace(spec, resume=kept), KeptHooks(), tmp_path / "broken")
    assert (again.steps, again.best_step, again.metrics) == (whole.steps, whole.best_step, whole.metrics)
    files = [read_model(tmp_path / name / "model.zip").tensors() for name in ("whole", "broken")]
    assert files[0].keys() == files[1].keys()
    assert all(np.array_equal(files[0][name], files[1][name]) for name in files[0])
    torch.use_deterministic_algorithms(False)
    reader.close()


def test_two_sizes_are_measured_and_the_small_one_is_faster(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, COUNTS, lengths=(200,)))
    recipes = candidates(DatasetFacts("series_classification", 80, 2))
    recipes = [each for each in recipes if each.tabular is not None]
    large, small = measure_candidates(recipes, reader, tmp_path, Target("cpu-1core", threads=1, local=True), seconds=0.2)
    assert large.latency is not None, large
    assert small.latency is not None, small
    assert small.latency.p50_ms < large.latency.p50_ms
    reader.close()


def test_a_fixed_penalty_is_kept_and_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, {"train": 30}))
    recipe = candidates(DatasetFacts("series_classification", 30, 2))[1]
    recipe = replace(recipe, tabular=replace(recipe.tabular, weight_decay=7.0))
    files = []
    for name in ("a.zip", "b.zip"):
        result = run_series_training(reader, recipe, tmp_path / name, {}, lambda *_: None)
        assert 0 <= result.metrics["val_accuracy"] <= 1  # by leaving out, as there is nothing to validate on
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert read_card(tmp_path / "a.zip").details["penalty"] == 7.0
    reader.close()


def test_no_training_series_is_said(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, {"test": 4}))
    recipe = candidates(DatasetFacts("series_classification", 0, 2))[0]
    with pytest.raises(FailedPrecondition, match="usage train"):
        run_series_training(reader, recipe, tmp_path / "m.zip", {}, lambda *_: None)
    reader.close()


def test_series_are_not_made_for_microcontrollers(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, {"train": 20}))
    run_series_training(
        reader, candidates(DatasetFacts("series_classification", 20, 2))[1], tmp_path / "m.zip", {}, lambda *_: None
    )
    with pytest.raises(InvalidArgument, match="exceeds a number"):
        export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None, Form("edge", "int8"))
    with pytest.raises(InvalidArgument, match="recipe inceptiontime") as caught:
        export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None, Form("onnx", "int8"))
    assert caught.value.reason == "UNSUPPORTED_FORM"
    assert not (tmp_path / "m.bundle").exists()
    reader.close()


def test_models_loaded_twice_answer_alike(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_series(store, {"train": 40}))
    run_series_training(
        reader, candidates(DatasetFacts("series_classification", 40, 2))[1], tmp_path / "m.zip", {}, lambda *_: None
    )
    export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None)
    asked = np.stack([series(0, RANDOM)]).astype(np.float32)
    answers = []
    for _ in range(2):
        model = load_model(open_bundle(tmp_path / "m.bundle"))
        answers.append(model.run({"series": asked})["probabilities"])
        model.close()
    assert np.array_equal(*answers)
    reader.close()
