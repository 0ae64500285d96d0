"""One contract for every framework: how a run tells its progress, stops, goes on, keeps to its time and bears what goes wrong."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import read_checkpoint, unpack_torch
from modelyard.formats.model import PictureInput, read_model
from modelyard.recipes.build_image import build
from modelyard.recipes.recipe import FRAMEWORKS, IN_TENSORFLOW, TENSORFLOW, Hyperparameters, Recipe, recipe_document
from modelyard.trainer.worker.image import ImageTrainingSpec, run_image_training
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.run import Engine, Instruction
from tests.support.small_training import SMALL, KeptHooks, SmallDataset, Ticks, small_setup

if importlib.util.find_spec("tensorflow") is None:  # not imported here: see runtime.tensorflow_import
    pytest.skip("tensorflow is not installed", allow_module_level=True)

STEADY = replace(SMALL, deterministic=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=FRAMEWORKS)
def engine(request: pytest.FixtureRequest) -> Engine:
    from modelyard.trainer.worker.frameworks import engine_of

    return engine_of(request.param)


@pytest.fixture
def keras() -> Engine:
    from modelyard.trainer.worker.frameworks import engine_of

    return engine_of(TENSORFLOW)


def setup(tmp_path: Path, settings: Hyperparameters = STEADY, **changes: Any) -> Any:
    """As small_setup, with the smaller of the networks for keywords, which both frameworks train."""
    torch.manual_seed(settings.seed)
    module = build("modelyard:dscnn_micro", classes=3, channels=1, height=16, width=16)
    return small_setup(tmp_path, settings, **{"module": module, **changes})


def restored(tmp_path: Path, data: bytes) -> Any:
    (tmp_path / "kept").write_bytes(data)
    return read_checkpoint(tmp_path / "kept")


def stop_after(steps: int, how: Instruction) -> KeptHooks:
    return KeptHooks(lambda asked: how if asked > steps else "continue")


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_it_learns_and_says_how_far_it_is(tmp_path: Path, engine: Engine) -> None:
    hooks = KeptHooks()
    outcome = train(setup(tmp_path, replace(STEADY, max_epochs=10)), hooks, engine=engine)
    assert (outcome.reason, outcome.step, outcome.epochs) == ("COMPLETED", 60, 10)
    assert outcome.metrics["val_accuracy"] > 0.8
    told = [event for event in hooks.events if event["metrics"]]
    assert [event["step"] for event in told] == list(range(6, 61, 6))
    assert told[-1]["loss"] < told[0]["loss"]
    assert told[-1]["eta_s"] == 0
    assert all(event["examples_per_second"] > 0 for event in told)
    assert set(told[0]["metrics"]) == {"val_accuracy", "val_loss", "train_accuracy", "train_loss"}
    assert set(hooks.checkpoints) == {"last", "best"}


@pytest.mark.parametrize("optimizer", ["sgd", "nadam"])
def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path, engine: Engine, optimizer: str) -> None:
    """Cancelled in the middle of the second epoch; augmentation, running mean and rounding to a norm go on too."""
    settings = replace(STEADY, optimizer=optimizer, base_lr=1e-3, max_epochs=3, ema_decay=0.9, clip_norm=1.0, mixup=0.2)
    whole = train(setup(tmp_path, settings), KeptHooks(), engine=engine)
    first = stop_after(9, "cancel")
    assert train(setup(tmp_path, settings), first, engine=engine).reason == "CANCELLED"
    torch.rand(7)
    resume = restored(tmp_path, first.checkpoints["last"][-1])
    assert 6 < resume.state["step"] < 12
    assert resume.state["framework"] == engine.name
    again = train(setup(tmp_path, settings), KeptHooks(), resume, engine)
    assert (again.reason, again.step, again.best_step, again.metrics) == ("COMPLETED", 18, whole.best_step, whole.metrics)
    assert same(whole.weights, again.weights)


def test_stop_keeps_the_model_and_what_goes_on_equals_an_unbroken_run(tmp_path: Path, engine: Engine) -> None:
    settings = replace(STEADY, schedule="reduce_on_plateau", plateau_patience=1, class_weights=True)
    whole = train(setup(tmp_path, settings), KeptHooks(), engine=engine)
    first = stop_after(8, "stop")
    stopped = train(setup(tmp_path, settings), first, engine=engine)
    assert stopped.reason == "STOPPED"
    assert 6 < stopped.step < 12, "in the middle of an epoch"
    assert stopped.weights
    again = train(setup(tmp_path, settings), KeptHooks(), restored(tmp_path, first.checkpoints["last"][-1]), engine)
    assert (again.step, again.best_step, again.metrics) == (whole.step, whole.best_step, whole.metrics)
    assert same(whole.weights, again.weights)


def test_it_goes_on_with_another_rate_and_another_optimizer(tmp_path: Path, engine: Engine) -> None:
    first = train(setup(tmp_path, replace(STEADY, max_epochs=2)), KeptHooks(), engine=engine)
    resume = read_checkpoint(first.checkpoints["best"])
    hooks = KeptHooks()
    changed = replace(STEADY, max_epochs=4, base_lr=1e-3, optimizer="rmsprop")
    again = train(setup(tmp_path, changed), hooks, resume, engine)
    assert (again.reason, again.step) == ("COMPLETED", 24)
    assert hooks.notes == ["OPTIMIZER_REPLACED"]


def test_the_time_limit_gives_an_annealed_model(tmp_path: Path, engine: Engine) -> None:
    settings = replace(STEADY, max_epochs=100, base_lr=1e-3)
    hooks = KeptHooks()
    limited = setup(tmp_path, settings, limit_s=60.0, clock=Ticks(0.2), report_every_s=0.0)
    outcome = train(limited, hooks, engine=engine)
    assert outcome.reason == "TIME_LIMIT"
    assert 45 < outcome.train_seconds < 66
    assert hooks.events[-1]["learning_rate"] < 0.1 * settings.base_lr


def test_what_cannot_be_trained_is_refused(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(InvalidArgument) as caught:
        train(setup(tmp_path, replace(STEADY, base_lr=-1.0)), KeptHooks(), engine=engine)
    assert caught.value.reason == "INVALID_HYPERPARAMETER"
    whole = train(setup(tmp_path, replace(STEADY, max_steps=2)), KeptHooks(), engine=engine)
    resume = read_checkpoint(whole.checkpoints["last"])
    other = build("modelyard:micronet", classes=3, channels=1, height=16, width=16)
    with pytest.raises(FailedPrecondition) as refused:
        train(setup(tmp_path, module=other), KeptHooks(), resume, engine)
    assert refused.value.reason == "CHECKPOINT_MISMATCH"
    wider = build("modelyard:dscnn", classes=3, channels=1, height=16, width=16)
    with pytest.raises(FailedPrecondition) as refused:
        train(setup(tmp_path, module=wider), KeptHooks(), resume, engine)
    assert refused.value.reason == "CHECKPOINT_MISMATCH"


def test_a_rate_far_too_high_ends_in_a_reason(tmp_path: Path, engine: Engine) -> None:
    """Decay throws the weights to the other side, each step further: after some twenty the loss is no number."""
    wild = replace(STEADY, optimizer="sgd", base_lr=100.0, weight_decay=1.0, schedule="constant", warmup_steps=0, max_epochs=40)
    with pytest.raises(FailedPrecondition) as caught:  # no validation gave a number, so there is no best to keep
        train(setup(tmp_path, wild), KeptHooks(), engine=engine)
    assert caught.value.reason == "DIVERGED"
    assert caught.value.violations[0].field == "hyperparameters.base_lr"


def test_a_full_disk_costs_checkpoints_but_not_the_run(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.trainer.worker import resume

    def full(path: Path, checkpoint: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "write_checkpoint", full)
    hooks = KeptHooks()
    outcome = train(setup(tmp_path, replace(STEADY, max_steps=3), checkpoint_every_s=0.0), hooks, engine=engine)
    assert outcome.reason == "COMPLETED"
    assert outcome.weights
    assert "CHECKPOINT_NOT_SAVED" in hooks.notes


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    error: Exception = torch.OutOfMemoryError("out of memory")
    if engine.name == TENSORFLOW:
        error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    step, fails = type(engine).step, [True]

    def failing(self: Any, run: Any, batch: Any) -> Any:
        if fails.pop() if fails else False:
            raise error
        return step(self, run, batch)

    monkeypatch.setattr(type(engine), "step", failing)
    hooks = KeptHooks()
    outcome = train(setup(tmp_path, replace(STEADY, max_epochs=1)), hooks, engine=engine)
    assert (outcome.batch_size, outcome.step) == (8, 12)
    assert hooks.notes == ["BATCH_HALVED"]


# What holds between the frameworks


@pytest.mark.parametrize("architecture", IN_TENSORFLOW)
def test_the_keras_form_answers_as_the_network_it_was_made_from(architecture: str, keras: Engine) -> None:
    from modelyard.trainer.worker.keras_engine import KerasNetwork
    from modelyard.trainer.worker.keras_form import keras_form

    torch.manual_seed(3)
    module = build(architecture, classes=4, channels=1, height=40, width=48)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as if trained: statistics and scales of every kind
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, -1, 1)
            nn.init.uniform_(layer.bias, -1, 1)
    module.eval()
    form = keras_form(module, 40, 48, 1)
    x = torch.randn(3, 1, 40, 48)
    with torch.inference_mode():
        wanted = module(x)
        found = KerasNetwork(form, module)(x)
    assert float((wanted - found).abs().max()) < 1e-4 * max(1.0, float(wanted.abs().max()))
    weights = form.weights()
    assert {name: value.shape for name, value in weights.items()} == {
        name: tuple(value.shape) for name, value in module.state_dict().items()
    }
    assert all(np.array_equal(weights[name], value.numpy()) for name, value in module.state_dict().items())


def test_both_start_alike_and_take_the_same_first_steps(tmp_path: Path) -> None:
    """The same seed: the same weights, batches, augmentation and loss. Digits part soon, the first steps agree."""
    from modelyard.trainer.worker.frameworks import engine_of

    settings = replace(STEADY, optimizer="sgd", momentum=0.0, weight_decay=0.01, base_lr=0.05, max_steps=4, label_smoothing=0.1)
    losses, weights = [], []
    for name in FRAMEWORKS:
        hooks = KeptHooks()
        outcome = train(setup(tmp_path, settings, clock=Ticks(1e-4)), hooks, engine=engine_of(name))
        losses.append(hooks.events[-1]["loss"])
        weights.append(outcome.weights)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name in weights[0]:
        if not name.endswith(("num_batches_tracked", "running_var")):  # torch divides a variance by n - 1
            assert np.allclose(weights[0][name], weights[1][name], atol=2e-4), name


def test_a_checkpoint_of_another_framework_is_refused(tmp_path: Path, keras: Engine) -> None:
    outcome = train(setup(tmp_path, replace(STEADY, max_steps=2)), KeptHooks())
    with pytest.raises(FailedPrecondition) as caught:
        train(setup(tmp_path), KeptHooks(), read_checkpoint(outcome.checkpoints["last"]), keras)
    assert caught.value.reason == "CHECKPOINT_MISMATCH"
    assert "warm_start_model_version" in caught.value.message


def test_layers_without_a_keras_form_are_named(tmp_path: Path, keras: Engine) -> None:
    strange = build("modelyard:dscnn_micro", classes=3, channels=1, height=16, width=16)
    strange.features[2] = nn.Hardswish()  # type: ignore[index, union-attr]
    with pytest.raises(InvalidArgument, match=r"features\.2, a Hardswish"):
        train(setup(tmp_path, module=strange), KeptHooks(), engine=keras)


RECIPE = Recipe(
    name="micronet-keras",
    task="image_classification",
    architecture="modelyard:micronet",
    input=PictureInput(16, 16, 1),
    hyperparameters=replace(SMALL, max_epochs=6),
    framework=TENSORFLOW,
)


def test_the_model_file_is_as_torch_would_have_written_it(tmp_path: Path) -> None:
    """Whatever comes after training reads it without knowing who trained it; a run in torch starts from it."""
    spec = ImageTrainingSpec(SmallDataset(), RECIPE, device="cpu", dataset_version="projects/p/datasets/d/versions/V001")
    result = run_image_training(spec, KeptHooks(), tmp_path)
    assert result.metrics["val_accuracy"] > 0.8
    assert result.model_path is not None
    model = read_model(result.model_path)
    assert model.card.kind == "torch"
    assert model.card.recipe["framework"] == TENSORFLOW
    assert model.card.details["framework"] == TENSORFLOW
    assert model.card.details["forms_differ_by"] < 1e-3
    module = build(model.card.architecture, classes=3, channels=1, height=16, width=16)
    module.load_state_dict(unpack_torch(model.tensors()), strict=True)
    (tmp_path / "again").mkdir()
    warm = replace(spec, recipe=replace(RECIPE, framework="torch"), warm_start=result.model_path, max_training_time_s=0.001)
    again = run_image_training(warm, KeptHooks(), tmp_path / "again")
    assert again.metrics["val_accuracy"] > 0.8, "one step from there"


def test_what_tensorflow_does_not_train_is_refused_before_it_runs() -> None:
    RECIPE.validate()
    wrong = {
        "framework": replace(RECIPE, architecture="timm:mobilenetv3_small_050"),
        "weights": replace(RECIPE, weights="imagenet"),
    }
    for field, recipe in wrong.items():
        with pytest.raises(InvalidArgument) as caught:
            recipe.validate()
        assert (caught.value.reason, caught.value.violations[0].field) == ("INVALID_RECIPE", field)
    with pytest.raises(InvalidArgument, match="torch, tensorflow"):
        replace(RECIPE, framework="jax").validate()
    with pytest.raises(InvalidArgument) as caught:
        RECIPE.with_changes(accumulation_steps=2, auto_base_lr=True).validate()
    assert len(caught.value.violations) == 2
    assert "framework" not in recipe_document(replace(RECIPE, framework="torch")), "earlier fingerprints stay"
    assert recipe_document(RECIPE)["framework"] == TENSORFLOW
