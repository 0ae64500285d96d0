"""The training loop: what it learns, how it ends, what it keeps, and that it goes on exactly."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from modelyard.formats.checkpoint import read_checkpoint, read_state
from modelyard.recipes.augment import Held
from modelyard.recipes.build_image import scale_and_shift
from modelyard.recipes.recipe import OPTIMIZERS, SCHEDULES, Hyperparameters
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.probing import rate_from
from modelyard.trainer.worker.run import Instruction, Outcome, Run
from modelyard.trainer.worker.scoring import evaluate
from modelyard.trainer.worker.tasks.classification import Classification
from tests.support.small_training import SMALL, KeptHooks, Ticks, examples, small_setup


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def restored(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return read_checkpoint(path)


def stop_after(steps: int, how: Instruction) -> Any:
    return lambda asked: how if asked > steps else "continue"


def test_it_learns_and_says_how_far_it_is(tmp_path: Path) -> None:
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, replace(SMALL, max_epochs=8)), hooks)
    assert (outcome.reason, outcome.step, outcome.epochs) == ("COMPLETED", 48, 8)
    assert outcome.metrics["val_accuracy"] > 0.9
    validations = [event for event in hooks.events if event["metrics"]]
    assert [event["step"] for event in validations] == [6, 12, 18, 24, 30, 36, 42, 48]
    assert validations[-1]["loss"] < validations[0]["loss"]
    assert validations[-1]["eta_s"] == 0
    assert all(event["examples_per_second"] > 0 for event in validations)
    assert max(event["metrics"]["val_accuracy"] for event in validations) == outcome.metrics["val_accuracy"]


@pytest.mark.parametrize(("optimizer", "schedule"), list(zip((*OPTIMIZERS, "sgd"), SCHEDULES, strict=True)))
def test_every_optimizer_and_every_schedule_lowers_the_loss(tmp_path: Path, optimizer: str, schedule: str) -> None:
    rate = 0.05 if optimizer == "sgd" else 2e-3
    settings = replace(SMALL, optimizer=optimizer, schedule=schedule, base_lr=rate, step_size=12, gamma=0.5)
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, settings), hooks)
    losses = [event["metrics"]["val_loss"] for event in hooks.events if event["metrics"]]
    assert outcome.metrics["val_accuracy"] > 0.6
    assert min(losses) < 0.95 * math.log(3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path, optimizer: str) -> None:
    """Cancelled in the middle of the third epoch and gone on in a new process's stead: same weights, same best, same rate."""
    settings = replace(SMALL, optimizer=optimizer, base_lr=1e-3, schedule="reduce_on_plateau", plateau_patience=1)
    whole = train(small_setup(tmp_path, settings), KeptHooks())
    first = KeptHooks(stop_after(15, "cancel"))
    assert train(small_setup(tmp_path, settings), first).reason == "CANCELLED"
    torch.rand(7)
    np.random.rand(3)
    resume = restored(tmp_path / "kept", first.checkpoints["last"][-1])
    assert 12 < resume.state["step"] < 18
    again = train(small_setup(tmp_path, settings), KeptHooks(), resume)
    assert (again.reason, again.step, again.best_step, again.metrics) == ("COMPLETED", 24, whole.best_step, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, schedule="one_cycle"),
        replace(SMALL, schedule="polynomial", power=2.0, warmup_steps=8),
        replace(SMALL, schedule="cosine", accumulation_steps=4, clip_norm=0.5, deterministic=True),
        replace(SMALL, schedule="reduce_on_plateau", plateau_steps=6, class_weights=True),
    ],
)
def test_every_kind_of_run_goes_on_bit_equal(tmp_path: Path, settings: Hyperparameters) -> None:
    whole = train(small_setup(tmp_path, settings), KeptHooks())
    first = KeptHooks(stop_after(15, "cancel"))
    train(small_setup(tmp_path, settings), first)
    resume = restored(tmp_path / "kept", first.checkpoints["last"][-1])
    assert resume.state["step"] % 6, "in the middle of an epoch"
    again = train(small_setup(tmp_path, settings), KeptHooks(), resume)
    assert (again.best_step, again.metrics) == (whole.best_step, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


@pytest.mark.parametrize("schedule", ["reduce_on_plateau", "cosine"])
def test_a_run_that_was_stopped_and_gone_on_from_equals_one_that_was_not(tmp_path: Path, schedule: str) -> None:
    """Stopping validates in the middle of an epoch, which the unbroken run does not do: nothing of that may stay."""
    settings = replace(SMALL, schedule=schedule, plateau_patience=1, early_stopping_patience=0, ema_decay=0.9)
    whole = train(small_setup(tmp_path, settings), KeptHooks())
    for steps in (8, 15, 21):
        first = KeptHooks(stop_after(steps, "stop"))
        assert train(small_setup(tmp_path, settings), first).reason == "STOPPED"
        resume = restored(tmp_path / "kept", first.checkpoints["last"][-1])
        again = train(small_setup(tmp_path, settings), KeptHooks(), resume)
        assert (again.step, again.best_step, again.metrics) == (whole.step, whole.best_step, whole.metrics)
        assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_the_mean_of_the_weights_and_mixed_pictures_go_on_bit_equal_too(tmp_path: Path) -> None:
    settings = replace(SMALL, ema_decay=0.9, mixup=0.3)
    whole = train(small_setup(tmp_path, settings), KeptHooks())
    first = KeptHooks(stop_after(15, "cancel"))
    train(small_setup(tmp_path, settings), first)
    resume = restored(tmp_path / "kept", first.checkpoints["last"][-1])
    again = train(small_setup(tmp_path, settings), KeptHooks(), resume)
    assert (again.best_step, again.metrics) == (whole.best_step, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_a_policy_goes_on_bit_equal_too(tmp_path: Path) -> None:
    """Every step of it is a function of the seed and the step: also the draws and the mixing."""
    from modelyard.recipes.policy import FORMS, check_policy
    from modelyard.recipes.steps import Step

    every = tuple(Step(name, {"probability": 0.5}) for name in FORMS["image_classification"])
    policy = check_policy(every, "image_classification")
    settings = replace(SMALL, augmentation="custom")
    whole = train(small_setup(tmp_path, settings, policy=policy), KeptHooks())
    first = KeptHooks(stop_after(15, "cancel"))
    train(small_setup(tmp_path, settings, policy=policy), first)
    resume = restored(tmp_path / "kept", first.checkpoints["last"][-1])
    again = train(small_setup(tmp_path, settings, policy=policy), KeptHooks(), resume)
    assert (again.best_step, again.metrics) == (whole.best_step, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)
    plain = train(small_setup(tmp_path, replace(SMALL, augmentation="none")), KeptHooks())
    assert any(not np.array_equal(whole.weights[name], plain.weights[name]) for name in whole.weights)


def test_the_model_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    setup = small_setup(tmp_path, replace(SMALL, ema_decay=0.9, max_epochs=6))
    whole = train(setup, KeptHooks())
    last = read_checkpoint(whole.checkpoints["last"])
    own, mean = last.group("weights"), last.group("average")
    assert own.keys() == mean.keys() == whole.weights.keys()
    assert any(not np.array_equal(own[name], mean[name]) for name in own)
    best = read_checkpoint(whole.checkpoints["best"])
    assert all(np.array_equal(whole.weights[name], best.group("average")[name]) for name in own)
    setup.module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in whole.weights.items()})
    scaling = scale_and_shift(setup.normalization.mean, setup.normalization.std)
    assert evaluate(setup.module, setup.validation, scaling) == whole.metrics


def test_a_mean_that_begins_later_begins_with_the_weights(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["last"])
    again = train(small_setup(tmp_path, replace(SMALL, max_epochs=8, ema_decay=0.9)), KeptHooks(), resume)
    assert again.reason == "COMPLETED"
    assert again.metrics["val_accuracy"] >= whole.metrics["val_accuracy"]


def test_dropout_too_goes_on_where_it_was(tmp_path: Path) -> None:
    def setup() -> Any:
        made = small_setup(tmp_path)
        cast(Any, made.module).head = nn.Sequential(nn.Dropout(0.5), cast(Any, made.module).head)
        return made

    whole = train(setup(), KeptHooks())
    first = KeptHooks(stop_after(9, "cancel"))
    train(setup(), first)
    torch.manual_seed(99)
    again = train(setup(), KeptHooks(), restored(tmp_path / "kept", first.checkpoints["last"][-1]))
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    one, two, other = (train(small_setup(tmp_path, replace(SMALL, seed=seed, max_epochs=1)), KeptHooks()) for seed in (3, 3, 4))
    assert all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert not np.array_equal(one.weights["head.weight"], other.weights["head.weight"])


def test_a_run_that_had_ended_ends_again_when_its_worker_was_lost(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["last"])
    again = train(small_setup(tmp_path), KeptHooks(), resume)
    assert (again.reason, again.step, again.metrics) == ("COMPLETED", 24, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_more_epochs_and_another_rate_go_on_from_the_last(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["last"])
    hooks = KeptHooks()
    again = train(small_setup(tmp_path, replace(SMALL, max_epochs=8, base_lr=1e-3)), hooks, resume)
    assert (again.reason, again.step, again.epochs) == ("COMPLETED", 48, 8)
    assert hooks.events[0]["step"] > 24
    assert 0.2e-3 < hooks.events[0]["learning_rate"] < 0.5e-3  # more than half of the new cosine is behind it


def test_another_optimizer_goes_on_from_the_best(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["best"])
    assert resume.state["step"] == whole.best_step
    again = train(small_setup(tmp_path, replace(SMALL, max_epochs=6, optimizer="sgd", base_lr=0.01)), KeptHooks(), resume)
    assert again.reason == "COMPLETED"
    assert again.metrics["val_accuracy"] >= whole.metrics["val_accuracy"]


def test_another_optimizer_says_that_it_begins_without_moments(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume, hooks = read_checkpoint(whole.checkpoints["last"]), KeptHooks()
    train(small_setup(tmp_path, replace(SMALL, max_epochs=5, optimizer="sgd")), hooks, resume)
    assert hooks.notes == ["OPTIMIZER_REPLACED"]
    same = KeptHooks()
    train(small_setup(tmp_path, replace(SMALL, max_epochs=5)), same, resume)
    assert same.notes == []


def test_going_on_with_nothing_left_says_so(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["last"])
    with pytest.raises(FailedPrecondition) as caught:
        train(small_setup(tmp_path, replace(SMALL, max_epochs=3)), KeptHooks(), resume)
    assert caught.value.reason == "NOTHING_TO_TRAIN"
    assert caught.value.violations[0].field == "hyperparameters.max_epochs"


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    whole = train(small_setup(tmp_path, replace(SMALL, max_epochs=1)), KeptHooks())
    resume = read_checkpoint(whole.checkpoints["last"])
    with pytest.raises(FailedPrecondition) as caught:
        train(_other_network(tmp_path), KeptHooks(), resume)
    assert caught.value.reason == "CHECKPOINT_MISMATCH"


def _other_network(tmp_path: Path) -> Any:
    from modelyard.recipes.build_image import build

    return small_setup(tmp_path, module=build("modelyard:tinynet", classes=3, channels=1, height=16, width=16))


def test_the_time_limit_gives_an_annealed_model(tmp_path: Path) -> None:
    """Each look at the clock takes 0.1 s: far too slow for 100 epochs in 60 s, so the schedule is fitted to the limit."""
    settings = replace(SMALL, max_epochs=100, base_lr=1e-3)
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, settings, limit_s=60.0, clock=Ticks(0.1), report_every_s=0.0), hooks)
    assert outcome.reason == "TIME_LIMIT"
    assert 50 < outcome.train_seconds < 63
    assert 0 < outcome.step < 600
    assert hooks.events[-1]["learning_rate"] < 0.05 * settings.base_lr
    assert hooks.events[-1]["metrics"]
    assert outcome.checkpoints["last"].is_file()


class Machine(Classification):
    """A clock that a run moves on: a step takes `step_s(seconds so far)`, a validation `validation_s`."""

    def __init__(self, step_s: Callable[[float], float], validation_s: float = 0.0) -> None:
        super().__init__()
        self.now, self.step_s, self.validation_s, self.scored = 0.0, step_s, validation_s, 0

    def __call__(self) -> float:
        return self.now

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        self.now += self.step_s(self.now)
        return super().ready(run, batch, held)

    def evaluate(self, run: Run) -> dict[str, float]:
        self.now += self.validation_s / 2  # twice a validation: training examples are scored, too
        self.scored += 1
        return super().evaluate(run)


def limited(tmp_path: Path, machine: Machine, settings: Hyperparameters) -> tuple[Outcome, dict[int, float]]:
    """A run of 100 s by the machine's clock: what came out, and the factors on the learning rate by steps."""
    hooks = KeptHooks()
    setup = small_setup(
        tmp_path, settings, limit_s=100.0, clock=machine, report_every_s=0.0, checkpoint_every_s=1e9, learning=machine
    )
    outcome = train(setup, hooks)
    return outcome, {event["step"]: event["learning_rate"] / settings.base_lr for event in hooks.events if "loss" in event}


def never_rises(rates: dict[int, float]) -> bool:
    return all(later <= earlier + 1e-9 for earlier, later in pairwise(rates.values()))


def test_a_machine_that_becomes_faster_makes_more_steps_and_anneals_over_them(tmp_path: Path) -> None:
    """A step takes 2 s for half of the time, then 0.2 s: most of the steps come in the second half, and share the schedule."""
    machine = Machine(lambda now: 2.0 if now < 50 else 0.2)
    outcome, rates = limited(tmp_path, machine, replace(SMALL, max_epochs=1000, warmup_steps=0))
    assert outcome.reason == "TIME_LIMIT"
    assert outcome.step == pytest.approx(25 + 250, rel=0.05)
    assert 97 < outcome.train_seconds < 101
    assert never_rises(rates)
    half = [rate for step, rate in rates.items() if step <= outcome.step // 2][-1]
    assert half > 0.3, "half of the steps are made: a rate planned for the slow half would be below 0.2"
    assert rates[outcome.step] < 0.01


def test_a_machine_that_becomes_slower_is_annealed_when_the_time_is_up(tmp_path: Path) -> None:
    machine = Machine(lambda now: 0.2 if now < 80 else 2.0)
    outcome, rates = limited(tmp_path, machine, replace(SMALL, max_epochs=1000, warmup_steps=0))
    assert outcome.step == pytest.approx(400 + 10, rel=0.05)
    assert 95 < outcome.train_seconds < 102
    assert never_rises(rates)
    assert rates[outcome.step] < 0.01


def test_what_a_faster_machine_has_room_for_ends_at_what_was_asked(tmp_path: Path) -> None:
    """The limit took steps away at first, and gives them back."""
    machine = Machine(lambda now: 2.0 if now < 20 else 0.1)
    outcome, rates = limited(tmp_path, machine, replace(SMALL, max_epochs=20, warmup_steps=0))
    assert (outcome.reason, outcome.step) == ("COMPLETED", 120)
    assert rates[120] < 0.01


def test_under_a_limit_validations_of_short_epochs_take_a_tenth_of_the_time(tmp_path: Path) -> None:
    """An epoch of 6 steps takes 1.2 s, its validation 1 s: validating each would leave 55 of 100 s to training."""
    machine = Machine(lambda now: 0.2, validation_s=1.0)
    outcome, rates = limited(tmp_path, machine, replace(SMALL, max_epochs=1000, warmup_steps=0))
    assert outcome.step * 0.2 > 85
    assert 7 <= machine.scored // 2 <= 12
    assert rates[outcome.step] < 0.01
    patient = Machine(lambda now: 0.2, validation_s=1.0)
    waiting, _ = limited(tmp_path, patient, replace(SMALL, max_epochs=1000, early_stopping_patience=900))
    assert patient.scored // 2 >= waiting.step // 6, "who counts epochs without progress looks at each"


def test_a_limit_that_is_over_still_gives_a_model(tmp_path: Path) -> None:
    outcome = train(small_setup(tmp_path, limit_s=10.0, elapsed_s=20.0), KeptHooks())
    assert (outcome.reason, outcome.step) == ("TIME_LIMIT", 1)
    assert outcome.weights
    assert outcome.train_seconds > 20


def test_a_limit_that_does_not_bind_changes_nothing(tmp_path: Path) -> None:
    free, limited = (train(small_setup(tmp_path, limit_s=limit), KeptHooks()) for limit in (None, 3600.0))
    assert limited.reason == "COMPLETED"
    assert all(np.array_equal(free.weights[name], limited.weights[name]) for name in free.weights)


def test_max_steps_ends_it(tmp_path: Path) -> None:
    outcome = train(small_setup(tmp_path, replace(SMALL, max_steps=8)), KeptHooks())
    assert (outcome.reason, outcome.step) == ("COMPLETED", 8)
    assert outcome.metrics


def test_stop_keeps_the_model_and_cancel_only_a_checkpoint(tmp_path: Path) -> None:
    stopped = train(small_setup(tmp_path), KeptHooks(stop_after(10, "stop")))
    assert (stopped.reason, stopped.step) == ("STOPPED", 9)  # asked once more at the end of the first epoch
    assert stopped.metrics
    hooks = KeptHooks(stop_after(3, "cancel"))
    cancelled = train(small_setup(tmp_path), hooks)
    assert (cancelled.reason, cancelled.weights) == ("CANCELLED", {})
    assert restored(tmp_path / "kept", hooks.checkpoints["last"][-1]).state["step"] == 3


def test_early_stopping_waits_for_patience(tmp_path: Path) -> None:
    settings = replace(SMALL, max_epochs=50, early_stopping_patience=2, base_lr=1e-9, weight_decay=0.0, augmentation="none")
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, settings, train=16), hooks)
    assert outcome.reason == "EARLY_STOPPED"
    scores = [(event["metrics"]["val_accuracy"], -event["metrics"]["val_loss"]) for event in hooks.events if event["metrics"]]
    assert len(scores) < 50
    assert scores.index(max(scores)) == len(scores) - 3


def test_a_loss_that_is_no_number_before_anything_was_kept_fails(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        train(
            small_setup(tmp_path, replace(SMALL, base_lr=100.0, optimizer="sgd", warmup_steps=0), module=Exploding(0)),
            KeptHooks(),
        )
    assert caught.value.reason == "DIVERGED"
    assert caught.value.violations[0].field == "hyperparameters.base_lr"


def test_a_loss_that_is_no_number_later_keeps_the_best(tmp_path: Path) -> None:
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, module=Exploding(8)), hooks)
    assert (outcome.reason, outcome.best_step) == ("DIVERGED", 6)
    assert all(np.isfinite(value).all() for value in outcome.weights.values())
    assert hooks.notes == ["DIVERGED"]
    assert restored(tmp_path / "kept", hooks.checkpoints["best"][-1]).state["step"] == 6, "to be gone on from"


class Exploding(nn.Module):
    """Gives numbers for some training steps, then none."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.head = nn.Linear(256, 3)
        self.left = steps

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        logits: Tensor = self.head(x.flatten(1))
        return logits * (math.nan if self.left < 0 else 1.0)


class Greedy(Exploding):
    """Has memory for a few examples at a time."""

    def __init__(self, most: int) -> None:
        super().__init__(10**6)
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return super().forward(x)


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path) -> None:
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, module=Greedy(5)), hooks)
    assert hooks.notes == ["BATCH_HALVED", "BATCH_HALVED"]
    assert (outcome.reason, outcome.batch_size, outcome.step, outcome.epochs) == ("COMPLETED", 4, 96, 4)


def test_memory_that_holds_not_even_two_examples_fails(tmp_path: Path) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        train(small_setup(tmp_path, module=Greedy(0)), KeptHooks())
    assert caught.value.reason == "OUT_OF_MEMORY"


def test_a_batch_of_one_that_a_norm_cannot_learn_from_is_named(tmp_path: Path) -> None:
    module = Exploding(99)
    module.head = nn.Sequential(nn.Linear(256, 3), nn.BatchNorm1d(3))  # type: ignore[assignment]
    with pytest.raises(InvalidArgument) as caught:
        train(small_setup(tmp_path, replace(SMALL, batch_size=1), module=module), KeptHooks())
    assert (caught.value.reason, caught.value.violations[0].field) == ("BATCH_TOO_SMALL", "hyperparameters.batch_size")


def test_no_training_examples_and_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        train(small_setup(tmp_path, train=0), KeptHooks())
    assert caught.value.reason == "NO_TRAINING_EXAMPLES"
    with pytest.raises(InvalidArgument) as wrong:
        train(small_setup(tmp_path, replace(SMALL, base_lr=0.0)), KeptHooks())
    assert wrong.value.violations[0].field == "hyperparameters.base_lr"


def test_without_validation_examples_the_newest_weights_are_kept(tmp_path: Path) -> None:
    outcome = train(small_setup(tmp_path, validation=examples(0)), KeptHooks())
    assert (outcome.reason, outcome.best_step, outcome.metrics) == ("COMPLETED", 24, {})


def test_checkpoints_come_in_time_and_hold_what_they_say(tmp_path: Path) -> None:
    hooks = KeptHooks()
    setup = small_setup(tmp_path, checkpoint_every_s=0.0)
    outcome = train(setup, hooks)
    assert len(hooks.checkpoints["last"]) >= 4
    assert 1 <= len(hooks.checkpoints["best"]) <= 5
    state = read_state(outcome.checkpoints["last"])
    assert (state["step"], state["epoch"], state["position"]) == (24, 4, 0)
    assert Hyperparameters(**state["settings"]) == setup.settings
    assert asdict(setup.normalization) == {name: tuple(value) for name, value in state["normalization"].items()}
    quiet = KeptHooks()
    train(small_setup(tmp_path), quiet)
    assert [len(each) for each in quiet.checkpoints.values()] == [1, 1]


def test_frozen_layers_stay_as_loaded_and_the_head_moves(tmp_path: Path) -> None:
    settings = replace(SMALL, max_epochs=1, frozen=0.5, backbone_lr=0.1)
    setup = small_setup(tmp_path, settings, pretrained=True)
    before = {name: value.clone() for name, value in setup.module.state_dict().items()}
    outcome = train(setup, KeptHooks())
    moved = [name for name, value in outcome.weights.items() if not np.array_equal(value, before[name].numpy())]
    assert "head.weight" in moved
    assert "features.0.0.weight" not in moved
    assert "features.0.1.running_mean" not in moved
    fresh = train(small_setup(tmp_path, settings), KeptHooks())
    assert not np.array_equal(fresh.weights["features.0.0.weight"], before["features.0.0.weight"].numpy())


def test_class_weights_raise_the_rare_class(tmp_path: Path) -> None:
    """With 2 of 3 classes rare, unweighted training on pure noise answers the frequent one; weights bring the others back."""
    rare = examples(96)
    keep = torch.cat([torch.nonzero(rare.labels == 0)[:, 0], torch.nonzero(rare.labels > 0)[:4, 0]])
    few = type(rare)(torch.randint(0, 256, (len(keep), 16, 16, 1), dtype=torch.uint8), rare.labels[keep])
    answers = []
    for weighted in (False, True):
        settings = replace(SMALL, class_weights=weighted, max_epochs=2, augmentation="none")
        setup = small_setup(tmp_path, settings, train=1)
        outcome = train(replace(setup, train=few, validation=few), KeptHooks())
        answers.append(outcome.metrics["val_loss"])
    assert answers[1] > answers[0]


def test_a_batch_in_parts_makes_the_steps_of_the_whole_batch(tmp_path: Path) -> None:
    """Without batch norms, whose statistics are those of a part, the gradients are the same but for the order of sums."""
    ended = []
    for parts in (1, 4):
        module = Exploding(10**6)
        torch.manual_seed(3)
        module.head = nn.Linear(256, 3)
        settings = replace(
            SMALL, max_epochs=2, accumulation_steps=parts, class_weights=True, optimizer="sgd", label_smoothing=0.1
        )
        ended.append(train(small_setup(tmp_path, settings, module=module), KeptHooks()))
    whole, in_parts = ended
    for name, value in whole.weights.items():
        np.testing.assert_allclose(value, in_parts.weights[name], rtol=1e-4, atol=1e-6)
    assert whole.step == in_parts.step


def test_a_gradient_is_cut_at_its_norm(tmp_path: Path) -> None:
    moved = []
    for norm in (0.0, 1e-4):
        module = Exploding(10**6)
        torch.manual_seed(3)
        module.head = nn.Linear(256, 3)
        before = module.head.weight.detach().numpy().copy()
        settings = replace(SMALL, max_steps=1, optimizer="sgd", momentum=0.0, base_lr=1.0, warmup_steps=0, weight_decay=0.0)
        outcome = train(small_setup(tmp_path, replace(settings, clip_norm=norm), module=module), KeptHooks())
        moved.append(float(np.linalg.norm(outcome.weights["head.weight"] - before)))
    assert moved[0] > 1e-3
    assert moved[1] <= 1e-4 * 1.01


def test_the_training_examples_are_scored_beside_the_validation_examples(tmp_path: Path) -> None:
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, replace(SMALL, max_epochs=6)), hooks)
    last = [event for event in hooks.events if event["metrics"]][-1]["metrics"]
    assert set(last) == {"val_accuracy", "val_loss", "train_accuracy", "train_loss"}
    assert set(outcome.metrics) == {"val_accuracy", "val_loss"}
    assert last["train_accuracy"] > 0.8


def test_a_disk_without_room_costs_checkpoints_but_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.trainer.worker import resume

    full = OSError(errno.ENOSPC, "No space left on device")
    left = [2]  # the first two writes fit
    write = resume.write_checkpoint

    def filling(path: Path, checkpoint: Any) -> None:
        if left[0] <= 0:
            raise full
        left[0] -= 1
        write(path, checkpoint)

    monkeypatch.setattr(resume, "write_checkpoint", filling)
    hooks = KeptHooks()
    outcome = train(small_setup(tmp_path, checkpoint_every_s=0.0, clock=lambda: 0.0), hooks)
    assert outcome.reason == "COMPLETED"
    assert outcome.weights
    assert "CHECKPOINT_NOT_SAVED" in hooks.notes
    assert len(hooks.checkpoints["last"]) == 1, "what was saved before stays"
    monkeypatch.setattr(resume, "write_checkpoint", _refusing)
    with pytest.raises(OSError, match="read-only"):
        train(small_setup(tmp_path), KeptHooks())


def _refusing(path: Path, checkpoint: Any) -> None:
    raise OSError(errno.EROFS, "read-only")


def test_a_loss_that_never_moves_is_said(tmp_path: Path) -> None:
    hooks = KeptHooks()
    settings = replace(SMALL, base_lr=1e-12, max_epochs=12, optimizer="sgd", weight_decay=0.0, augmentation="none")
    train(small_setup(tmp_path, settings, module=Dead()), hooks)
    assert hooks.notes == ["LOSS_UNMOVED"]
    moving = KeptHooks()
    train(small_setup(tmp_path, replace(SMALL, max_epochs=8)), moving)
    assert moving.notes == []


class Dead(Exploding):
    """Answers the same whatever it sees."""

    def __init__(self) -> None:
        super().__init__(10**6)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


@pytest.mark.parametrize("wrong", [1e-7, 50.0])
def test_a_rate_that_the_run_finds_learns_whatever_the_recipe_said(tmp_path: Path, wrong: float) -> None:
    hooks = KeptHooks()
    settings = replace(SMALL, base_lr=wrong, auto_base_lr=True, max_epochs=6)
    outcome = train(small_setup(tmp_path, settings), hooks)
    assert hooks.notes == ["LR_CHOSEN"]
    assert hooks.events[0]["chosen"] == {"base_lr": outcome.base_lr}
    assert 1e-4 < outcome.base_lr < 0.3
    assert outcome.metrics["val_accuracy"] > 0.8


def test_a_range_test_leaves_no_trace_in_the_run(tmp_path: Path) -> None:
    found = train(small_setup(tmp_path, replace(SMALL, auto_base_lr=True)), KeptHooks())
    given = train(small_setup(tmp_path, replace(SMALL, base_lr=found.base_lr)), KeptHooks())
    assert all(np.array_equal(found.weights[name], given.weights[name]) for name in found.weights)


def test_a_run_that_found_its_settings_goes_on_with_them(tmp_path: Path) -> None:
    settings = replace(SMALL, auto_base_lr=True, auto_batch_size=True, batch_size=4)
    whole = train(small_setup(tmp_path, settings, train=400), KeptHooks())
    assert whole.batch_size == 16, "20 steps an epoch are left"
    first = KeptHooks(stop_after(30, "cancel"))
    train(small_setup(tmp_path, settings, train=400), first)
    resume, hooks = restored(tmp_path / "kept", first.checkpoints["last"][-1]), KeptHooks()
    again = train(small_setup(tmp_path, settings, train=400), hooks, resume)
    assert hooks.notes == [], "nothing is looked for twice"
    assert (again.batch_size, again.base_lr, again.metrics) == (whole.batch_size, whole.base_lr, whole.metrics)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_the_largest_batch_is_the_largest_that_fits(tmp_path: Path) -> None:
    settings = replace(SMALL, auto_batch_size=True, batch_size=4, max_epochs=1)
    outcome = train(small_setup(tmp_path, settings, train=400, module=Greedy(8)), KeptHooks())
    assert outcome.batch_size == 8


def test_a_range_test_takes_where_the_loss_falls_fastest() -> None:
    rates = np.geomspace(1e-6, 10, 120)
    fall = 1 / (1 + (rates / 1e-3) ** 2)
    found = rate_from(rates, 2.0 * fall + 0.2 + (rates / 3) ** 2)
    assert 3e-4 < found < 3e-2
    assert rate_from(rates, np.full(120, 2.0)) == 0.0
    assert rate_from(rates[:5], np.full(5, 2.0)) == 0.0
    assert rate_from(rates, np.linspace(2, 9, 120)) == 0.0


def test_a_run_in_stretches_makes_the_steps_of_an_unbroken_one(tmp_path: Path) -> None:
    """Paused by its own clock, gone on with under what is left of the limit: the same steps, the same weights, no step twice."""
    settings = replace(SMALL, max_epochs=6)
    for name in ("whole", *map(str, range(20))):
        (tmp_path / name).mkdir()
    whole = train(small_setup(tmp_path / "whole", settings, limit_s=1e6), KeptHooks())
    assert (whole.reason, whole.step) == ("COMPLETED", 36)
    steps, spent, start, ended = [], 0.0, None, whole
    for at in range(20):
        pause = {"pause_s": 12.0} if at < 19 else {}
        setup = small_setup(tmp_path / str(at), settings, limit_s=1e6 - spent, clock=Ticks(0.1), stretch=True, **pause)
        ended = train(setup, hooks := KeptHooks(), start)
        steps += [event["step"] for event in hooks.events if event.get("metrics")]
        spent += ended.train_seconds
        if ended.reason != "STOPPED":
            break
        assert ended.train_seconds == pytest.approx(12.0, rel=0.15), "a pause comes when it is due, validation included"
        start = read_checkpoint(ended.checkpoints["last"])
    assert 0 < at < 19
    assert (ended.reason, ended.step) == ("COMPLETED", 36)
    assert steps == sorted(steps)
    assert ended.metrics["val_loss"] == pytest.approx(whole.metrics["val_loss"], abs=1e-6)


def test_the_schedule_of_a_stretch_is_that_of_the_whole_time(tmp_path: Path) -> None:
    """Limited to a part of its epochs: the rate falls on over the pause, and is near its lowest when the time is up."""
    settings = replace(SMALL, max_epochs=100, warmup_steps=0)
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    first = KeptHooks()
    setup = small_setup(tmp_path / "1", settings, limit_s=60.0, pause_s=30.0, clock=Ticks(0.1), stretch=True, report_every_s=0.0)
    paused = train(setup, first)
    assert paused.reason == "STOPPED"
    start, left = read_checkpoint(paused.checkpoints["last"]), 60.0 - paused.train_seconds
    second = KeptHooks()
    ended = train(
        small_setup(tmp_path / "2", settings, limit_s=left, clock=Ticks(0.1), stretch=True, report_every_s=0.0), second, start
    )
    assert ended.reason == "TIME_LIMIT"
    assert paused.train_seconds + ended.train_seconds == pytest.approx(60.0, rel=0.05)
    rates = [event["learning_rate"] for hooks in (first, second) for event in hooks.events if "learning_rate" in event]
    assert all(later <= earlier * 1.001 for earlier, later in pairwise(rates))
    half = [event["learning_rate"] for event in first.events if "learning_rate" in event][-1]
    assert 0.2 * settings.base_lr < half < 0.8 * settings.base_lr, "in the middle it is not annealed yet"
    assert rates[-1] < 0.1 * settings.base_lr
