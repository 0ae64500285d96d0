"""Tasks of pictures from data to served answers, without servers: trained, exported, evaluated, loaded as serving does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.worker.scoring import evaluate
from modelyard.exporter.domain.form import Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import untrained_graph
from modelyard.exporter.worker.export import export_model, write_proven
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.checkpoint import read_checkpoint
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import PictureInput
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.runtime.model import load_model
from modelyard.serving.handlers.proven_model import LoadOptions, load_proven
from modelyard.trainer.worker.image import ImageTrainingSpec, TrainResult, run_image_training
from tests.support.datasets import file_store, open_reader
from tests.support.shapes import SIDE, publish_shapes
from tests.support.small_training import KeptHooks

COUNTS = {"train": 100, "validation": 20, "test": 40}
SETTINGS = Hyperparameters(max_epochs=12, batch_size=10, base_lr=4e-3, warmup_steps=10, augmentation="light", ema_decay=0.9)
TASKS = {
    "object_detection": ("modelyard:pyramid_micro", "map_50", 0.6),
    "semantic_segmentation": ("modelyard:pyramid_micro", "mean_iou", 0.6),
    "image_multilabel": ("modelyard:micronet", "mean_average_precision", 0.8),
}
SOURCE = Source("projects/p/models/m/versions/V001")


@dataclass
class Made:
    """A trained model of a task, and what it is made of."""

    task: str
    store: ArtifactStore
    descriptor: Blob
    reader: DatasetReader
    trained: TrainResult
    folder: Path

    def bundle(self, precision: str = "fp32", format: str = "onnx") -> Path:
        path = self.folder / f"{format}-{precision}.bundle"
        if not path.exists():
            assert self.trained.model_path is not None
            export_model(self.trained.model_path, self.reader, path, SOURCE, lambda _: None, Form(format, precision))
        return path

    def scored(self, bundle: Path) -> EvaluationResult:
        names = ("train", "validation", "test")
        spec = EvaluationSpec("x", self.store.put_file(bundle), "v", self.descriptor, "ab" * 32, self.task, names)
        return evaluate(spec, self.store, self.folder, lambda *_: None)


def recipe_of(task: str, **changes: Any) -> Recipe:
    return Recipe("r", task, TASKS[task][0], PictureInput(SIDE, SIDE, 3), replace(SETTINGS, **changes))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Beside other tests two threads wait for each other more than they compute."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelyard.trainer.worker.image.training_threads", lambda: 1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(TASKS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    task = request.param
    folder = tmp_path_factory.mktemp(task)
    store = file_store(folder / "artifacts", "evaluator")
    descriptor = publish_shapes(store, task, COUNTS)
    reader = open_reader(store, descriptor)
    trained = run_image_training(ImageTrainingSpec(reader, recipe_of(task)), KeptHooks(), folder)
    yield Made(task, store, descriptor, reader, trained, folder)
    reader.close()


def value(result: EvaluationResult, name: str, usage: str = "test") -> float:
    part = result.usage(usage)
    assert part is not None
    metric = part.score.metric(name)
    assert metric is not None, [each.name for each in part.score.metrics]
    assert metric.lower <= metric.value <= metric.upper
    return metric.value


def test_the_exported_bytes_do_what_was_learned(made: Made) -> None:
    _, main, least = TASKS[made.task]
    result = made.scored(made.bundle())
    assert value(result, main) > least
    test = result.usage("test")
    assert test is not None
    assert test.paired[0].gain > 0
    assert test.paired[0].p_value < 0.001
    assert test.baseline_does
    assert {one.label for one in test.score.classes} >= {"disc", "square"}
    rows = pq.read_table(made.store.path(result.predictions), filters=[("usage", "=", "test")])
    assert rows.num_rows == COUNTS["test"]
    assert float(np.mean(rows["score"].to_pylist())) == pytest.approx(value(result, test.paired[0].metric), abs=1e-6)
    assert all(0 <= one.loss <= 1 for one in result.worst_examples)


def test_the_training_graph_and_the_exported_bytes_agree(made: Made) -> None:
    card = open_bundle(made.bundle()).card
    assert card.parity is not None
    assert card.parity.label_agreement > 0.99
    assert card.task == made.task


def test_eight_bits_lose_little(made: Made) -> None:
    _, main, _ = TASKS[made.task]
    whole, small = (value(made.scored(made.bundle(precision)), main) for precision in ("fp32", "int8"))
    assert small > whole - 0.1
    assert open_bundle(made.bundle("int8")).model_size < open_bundle(made.bundle()).model_size


def test_serving_proves_the_bundle_and_answers_with_names(made: Made) -> None:
    proven = load_proven(made.bundle(), LoadOptions(cores=1, most_rows=4))
    try:
        positions = made.reader.indices("test")[:4]
        files = np.array([made.reader.picture(int(place)) for place in positions], dtype=object)
        answers = proven.model.run({"image": files})
        assert {spec.name for spec in proven.bundle.card.served_outputs} == set(answers)
        for spec in proven.bundle.card.served_outputs:
            assert answers[spec.name].shape == (4, *spec.shape[1:])
        if made.task == "object_detection":
            assert set(answers["labels"].ravel().tolist()) <= {"disc", "square", ""}
            assert ((answers["labels"] == "") == (answers["scores"] == 0)).all()
            assert (np.diff(answers["scores"], axis=1) <= 0).all()
        if made.task == "image_multilabel":
            assert all(set(json.loads(text)) <= {"disc", "square"} for text in answers["labels"])
    finally:
        proven.model.close()


def test_forms_that_do_not_hold_are_refused_with_the_reason(made: Made) -> None:
    for form in (Form("edge", "int8"), Form("savedmodel", "fp32")):
        assert made.trained.model_path is not None
        with pytest.raises(InvalidArgument, match=f"a model for {made.task} is exported as onnx") as caught:
            export_model(made.trained.model_path, made.reader, made.folder / "no.bundle", SOURCE, lambda _: None, form)
        assert caught.value.reason == "UNSUPPORTED_FORM"
    assert not (made.folder / "no.bundle").exists()


@pytest.mark.parametrize(
    ("format", "precision"), [("onnx", "dynamic_int8"), ("openvino", "fp32"), ("litert", "fp32"), ("litert", "int8")]
)
def test_other_forms_answer_as_the_float_one(made: Made, format: str, precision: str) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    if format == "litert":
        pytest.importorskip("ai_edge_litert")
    _, main, _ = TASKS[made.task]
    found, whole = (value(made.scored(path), main) for path in (made.bundle(precision, format), made.bundle()))
    assert found == pytest.approx(whole, abs=0.05)


def test_an_untrained_candidate_can_be_measured(made: Made) -> None:
    recipe = recipe_of(made.task)
    path = made.folder / "untrained.bundle"
    write_proven(untrained_graph(recipe, made.reader, Target("cpu", local=True)), path)
    model = load_model(open_bundle(path))
    model.run({"image": np.zeros((1, SIDE, SIDE, 3), np.uint8)})
    model.close()


def test_a_run_that_goes_on_gives_what_the_whole_run_gives(made: Made, tmp_path: Path) -> None:
    """Bit for bit on a processor, whatever the task."""
    recipe = recipe_of(made.task, max_epochs=2)
    weights = []
    for folder, stops in ((tmp_path / "whole", 0), (tmp_path / "parts", 9)):
        folder.mkdir()
        hooks = KeptHooks(lambda asked, stops=stops: "stop" if stops and asked > stops else "continue")  # type: ignore[misc]
        result = run_image_training(ImageTrainingSpec(made.reader, recipe, deterministic=True), hooks, folder)
        if stops:
            assert result.reason == "STOPPED"
            kept = folder / "kept.checkpoint"
            kept.write_bytes(hooks.checkpoints["last"][-1])
            again = ImageTrainingSpec(made.reader, recipe, resume=kept, deterministic=True)
            result = run_image_training(again, KeptHooks(), folder)
        assert result.reason == "COMPLETED"
        weights.append(read_checkpoint(result.checkpoints["last"]).group("weights"))
    torch.use_deterministic_algorithms(False)
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


# Data that are hard


@pytest.mark.parametrize("task", list(TASKS))
def test_one_picture_is_enough_to_learn_from(task: str, tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_shapes(store, task, {"train": 1}))
    result = run_image_training(ImageTrainingSpec(reader, recipe_of(task, max_epochs=2)), KeptHooks(), tmp_path)
    assert result.reason == "COMPLETED"
    reader.close()


def test_no_box_at_all_is_said(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_shapes(store, "object_detection", {"train": 8}, most=0))
    with pytest.raises(FailedPrecondition, match="box with an area") as caught:
        run_image_training(ImageTrainingSpec(reader, recipe_of("object_detection")), KeptHooks(), tmp_path)
    assert caught.value.reason == "NO_OBJECTS"
    reader.close()
