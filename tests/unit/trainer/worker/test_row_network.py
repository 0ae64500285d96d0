"""Networks of rows in both frameworks: what they learn, how a stopped run goes on, and what the model file answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.formats.checkpoint import read_checkpoint
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import ModelCard, ModelFile, dump_tensors, read_model
from modelyard.recipes.build_mlp import build_mlp
from modelyard.recipes.build_tabular import model_from, network_layers
from modelyard.recipes.catalogue import DatasetFacts, candidates, find_recipe
from modelyard.recipes.features import check_features
from modelyard.recipes.recipe import FRAMEWORKS, MLP, TENSORFLOW, Recipe, recipe_document
from modelyard.recipes.steps import Step
from modelyard.trainer.domain.recipe import RecipeRequest, recipe_from, resolve_recipe, settings_of
from modelyard.trainer.worker.group import Group
from modelyard.trainer.worker.image import ImageTrainingSpec, TrainResult
from modelyard.trainer.worker.row_network import run_row_network
from modelyard.trainer.worker.tabular import load_rows, score
from tests.support.datasets import file_store, open_reader, publish_table
from tests.support.small_training import KeptHooks
from tests.support.tables import TARGETS, credit_table

KERAS_IS_HERE = importlib.util.find_spec("tensorflow") is not None  # not imported here: see runtime.tensorflow_import
SETTINGS: dict[str, Any] = {"max_epochs": 12, "batch_size": 16, "base_lr": 3e-3, "warmup_steps": 5, "deterministic": True}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr("modelyard.trainer.worker.row_network.training_threads", lambda: 1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    if request.param == TENSORFLOW and not KERAS_IS_HERE:
        pytest.skip("tensorflow is not installed")
    return str(request.param)


def reader_of(folder: Path, target: str = "good", columns: dict[str, list[Any]] | None = None, **options: Any) -> DatasetReader:
    store = file_store(folder / "artifacts")
    task = "tabular_regression" if target == "limit" else "tabular_classification"
    drop = [name for name in TARGETS if name != target]
    return open_reader(store, publish_table(store, columns or credit_table(), target, task=task, drop=drop, **options))


def recipe_of(framework: str, target: str = "good", **settings: Any) -> Recipe:
    task = "tabular_regression" if target == "limit" else "tabular_classification"
    found = find_recipe("mlp" if framework == "torch" else "mlp-keras", task)
    assert found.framework == framework
    return found.with_changes(**{**SETTINGS, **settings})


def trained(folder: Path, spec: ImageTrainingSpec, hooks: KeptHooks | None = None) -> TrainResult:
    folder.mkdir(exist_ok=True)
    return run_row_network(spec, hooks or KeptHooks(), folder)


@pytest.mark.parametrize(
    ("target", "metric", "least"), [("good", "roc_auc", 0.8), ("level", "accuracy", 0.55), ("limit", "r2", 0.5)]
)
def test_learns_from_numbers_text_and_gaps(tmp_path: Path, framework: str, target: str, metric: str, least: float) -> None:
    """The file answers as the network did: its own metrics are those of the answers that are computed from its layers."""
    reader, hooks = reader_of(tmp_path, target), KeptHooks()
    result = trained(tmp_path, ImageTrainingSpec(reader, recipe_of(framework, target)), hooks)
    assert (result.reason, result.epochs) == ("COMPLETED", 12)
    assert result.model_path is not None
    file = read_model(result.model_path)
    assert (file.card.kind, file.card.architecture, file.card.target) == ("mlp", MLP, target)
    assert file.card.details.get("framework", "torch") == framework
    model = model_from(file)
    assert len(model.layers) == 3
    assert score(model, load_rows(reader, "test"))[metric] >= least
    again = score(model, load_rows(reader, "validation"))
    assert again == pytest.approx(dict(result.metrics))
    told = [event["metrics"] for event in hooks.events if event.get("metrics")]
    primary, name = ("val_r2", "r2") if target == "limit" else ("val_accuracy", "accuracy")
    assert max(each[primary] for each in told) == pytest.approx(again[name], abs=1e-5)


@pytest.mark.parametrize("target", ["good", "limit"])
def test_what_was_stopped_goes_on_bit_for_bit(tmp_path: Path, framework: str, target: str) -> None:
    """In the middle of an epoch, with a running mean and a cut gradient, and random numbers drawn in between."""
    reader = reader_of(tmp_path, target)
    spec = ImageTrainingSpec(reader, recipe_of(framework, target, max_epochs=4, ema_decay=0.9, clip_norm=1.0))
    whole = trained(tmp_path / "whole", spec)
    hooks = KeptHooks(lambda asked: "stop" if asked > whole.steps // 4 + 2 else "continue")
    stopped = trained(tmp_path / "broken", spec, hooks)
    assert stopped.reason == "STOPPED"
    assert whole.steps // 4 < stopped.steps < whole.steps // 2
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(hooks.checkpoints["last"][-1])
    assert read_checkpoint(kept).state["framework"] == framework
    torch.rand(7)
    again = trained(tmp_path / "broken", replace(spec, resume=kept))
    assert (again.steps, again.best_step, again.metrics) == (whole.steps, whole.best_step, whole.metrics)
    first, second = (read_model(tmp_path / name / "model.zip").tensors() for name in ("whole", "broken"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.skipif(not KERAS_IS_HERE, reason="tensorflow is not installed")
@pytest.mark.parametrize("target", ["level", "limit"])
def test_both_frameworks_start_alike_and_take_the_same_first_steps(tmp_path: Path, target: str) -> None:
    reader, losses, weights = reader_of(tmp_path, target), [], []
    for name in FRAMEWORKS:
        recipe = recipe_of(
            name, target, optimizer="sgd", momentum=0.0, weight_decay=0.01, base_lr=0.05, max_steps=4, ema_decay=0.0
        )
        hooks = KeptHooks()
        result = trained(tmp_path / name, ImageTrainingSpec(reader, recipe), hooks)
        losses.append(hooks.events[-1]["loss"])
        weights.append(read_model(result.model_path).tensors())  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert all(np.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])


@pytest.mark.skipif(not KERAS_IS_HERE, reason="tensorflow is not installed")
def test_the_keras_form_answers_as_the_network_it_was_made_from() -> None:
    from modelyard.trainer.worker.keras_engine import KerasNetwork
    from modelyard.trainer.worker.keras_form import keras_form

    torch.manual_seed(3)
    module = build_mlp(MLP, width=11, outputs=4).eval()
    form, x = keras_form(module, 11), torch.randn(9, 11)
    with torch.inference_mode():
        wanted, found = module(x), KerasNetwork(form, module)(x)
    assert float((wanted - found).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))
    weights = form.weights()
    assert all(np.array_equal(weights[name], value.numpy()) for name, value in module.state_dict().items())
    assert weights.keys() == module.state_dict().keys()


def test_a_feature_pipeline_is_learned_behind(tmp_path: Path, framework: str) -> None:
    reader = reader_of(tmp_path)
    given = (Step("impute", {"by": "mean"}, ("amount",)), Step("scale", {"by": "log"}, ("amount",)))
    steps = check_features(given, reader.descriptor.columns, target="good")
    result = trained(tmp_path, ImageTrainingSpec(reader, replace(recipe_of(framework), features=steps)))
    assert result.model_path is not None
    file = read_model(result.model_path)
    assert file.card.details["features"]["steps"]
    assert score(model_from(file), load_rows(reader, "test"))["roc_auc"] > 0.75


def test_without_rows_to_validate_some_are_held_out(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, "limit", usage=["train"] * 270 + ["test"] * 30)
    result = trained(tmp_path, ImageTrainingSpec(reader, recipe_of("torch", "limit")))
    assert set(result.metrics) == {"val_r2", "val_loss"}
    assert result.metrics["val_r2"] > 0.3


def test_it_starts_from_an_earlier_model_of_the_same_columns(tmp_path: Path, framework: str) -> None:
    reader = reader_of(tmp_path, "limit")
    first = trained(tmp_path / "first", ImageTrainingSpec(reader, recipe_of("torch", "limit")))
    assert first.model_path is not None
    one = recipe_of(framework, "limit", max_steps=1, base_lr=1e-6, ema_decay=0.0)
    spec = ImageTrainingSpec(reader, one, warm_start=first.model_path)
    again = trained(tmp_path / "again", spec)
    assert again.metrics["r2"] == pytest.approx(first.metrics["r2"], abs=1e-3), "whoever trained it"
    fewer = credit_table()
    del fewer["age"]
    (tmp_path / "other").mkdir()
    other = reader_of(tmp_path / "other", "limit", fewer)
    with pytest.raises(InvalidArgument) as caught:
        trained(tmp_path / "again", replace(spec, reader=other))
    assert caught.value.reason == "WARM_START_MISMATCH"


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("good", {"augmentation": "standard"}),
        ("good", {"mixup": 0.2}),
        ("limit", {"label_smoothing": 0.1}),
        ("limit", {"class_weights": True}),
        ("limit", {"balanced_sampling": True}),
    ],
)
def test_settings_that_rows_do_not_have_are_refused_by_name(target: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        recipe_of("torch", target, **settings).validate()
    assert caught.value.reason == "INVALID_HYPERPARAMETER"
    assert [each.field for each in caught.value.violations] == [f"hyperparameters.{next(iter(settings))}"]


def test_a_request_finds_it_and_its_document_comes_back() -> None:
    facts = DatasetFacts("tabular_regression", 300)
    recipe = resolve_recipe(RecipeRequest(recipe_id="mlp", framework=TENSORFLOW, hyperparameters={"max_epochs": 7}), facts)
    assert (recipe.framework, recipe.hyperparameters.max_epochs, recipe.tabular, recipe.input) == (TENSORFLOW, 7, None, None)
    assert recipe_from(recipe_document(recipe)) == recipe
    assert not {"augmentation", "mixup", "class_weights"} & set(settings_of(recipe)), "nor does the advisor propose them"
    assert {"base_lr", "weight_decay"} <= set(settings_of(recipe))


def test_what_no_framework_trains_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=f"{MLP} for tables, not lightgbm"):
        replace(find_recipe("lightgbm", "tabular_classification"), framework=TENSORFLOW).validate()
    with pytest.raises(InvalidArgument, match="frozen"):
        recipe_of(TENSORFLOW, frozen=0.5).validate()
    with pytest.raises(InvalidArgument) as caught:
        build_mlp("modelyard:other", width=3, outputs=1)
    assert caught.value.reason == "UNKNOWN_ARCHITECTURE"
    assert all(each.architecture != MLP for each in candidates(DatasetFacts("tabular_classification", 300, 2))), "only when asked"


def test_bad_data_end_in_a_reason(tmp_path: Path, framework: str) -> None:
    one_class = credit_table()
    one_class["good"] = ["yes"] * len(one_class["good"])
    (tmp_path / "one").mkdir()
    with pytest.raises(ModelyardError) as caught:
        trained(tmp_path, ImageTrainingSpec(reader_of(tmp_path / "one", "good", one_class), recipe_of(framework)))
    assert caught.value.reason == "ONE_CLASS"
    with pytest.raises(FailedPrecondition) as refused:
        trained(tmp_path, ImageTrainingSpec(reader_of(tmp_path), recipe_of(framework), group=Group(0, 2)))
    assert refused.value.reason == "ONE_PROCESS_ONLY"


def test_a_rate_far_too_high_ends_in_a_reason(tmp_path: Path, framework: str) -> None:
    wild = recipe_of(framework, "limit", optimizer="sgd", base_lr=100.0, schedule="constant", warmup_steps=0, ema_decay=0.0)
    with pytest.raises(FailedPrecondition) as caught:
        trained(tmp_path, ImageTrainingSpec(reader_of(tmp_path, "limit"), wild))
    assert caught.value.reason == "DIVERGED"


def test_a_file_whose_layers_do_not_fit_is_refused(tmp_path: Path) -> None:
    state = {name: value.numpy() for name, value in build_mlp(MLP, width=3, outputs=2).state_dict().items()}
    layers = network_layers(state, {})
    assert [each.weight.shape for each in layers] == [(128, 3), (64, 128), (1, 64)]
    for wrong in ({**state, "head.weight": state["head.weight"][:, :5]}, {**state, "more": state["head.bias"]}, {}):
        with pytest.raises(InvalidArgument) as caught:
            network_layers(wrong, {})
        assert caught.value.reason == "BAD_MODEL"
    card = ModelCard("mlp", "tabular_classification", MLP, ("a", "b"))
    with pytest.raises(InvalidArgument):
        model_from(ModelFile(card, dump_tensors({"x": np.zeros(1, np.float32)})))
