"""Ranges of hyperparameters, as the contract's comments state them."""

from __future__ import annotations

import math

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.trainer.domain.hyperparameters import RULES, check_hyperparameters, settled
from modelyard.trainer.v1 import trainer_pb2 as pb

RIGHT = {
    "max_epochs": (1, 10_000),
    "max_steps": (1, 100_000_000),
    "batch_size": (1, 65_536),
    "optimizer": ("sgd", "nadam"),
    "base_lr": (1e-9, 100),
    "momentum": (0, 0.999),
    "weight_decay": (0, 10),
    "schedule": ("constant", "reduce_on_plateau"),
    "step_size": (1, 10),
    "gamma": (0.001, 0.999),
    "plateau_patience": (1, 5),
    "warmup_steps": (0, 500),
    "early_stopping_patience": (0, 20),
    "label_smoothing": (0, 0.999),
    "augmentation": ("none", "standard"),
    "mixup": (0, 0.2, 10),
    "ema_decay": (0, 0.999),
    "seed": (0, 2**53 - 1),
    "beta2": (0, 0.9999),
    "clip_norm": (0, 1.0),
    "accumulation_steps": (1, 1024),
    "class_weights": (True, False),
    "balanced_sampling": (True, False),
    "deterministic": (True,),
    "power": (0.5, 10),
    "plateau_steps": (0, 1000),
    "auto_batch_size": (True, False),
    "auto_base_lr": (True, False),
    "frozen": (0, 0.95),
    "backbone_lr": (0.01, 1),
    "horizon": (1, 64),
    "context_length": (2, 512),
}
WRONG = {
    "max_epochs": (0, 10_001, -1, 1.5, True),
    "max_steps": (0, 100_000_001),
    "batch_size": (0, 65_537),
    "optimizer": ("lion", ""),
    "base_lr": (0, -1e-3, 100.1, math.nan, math.inf, "fast"),
    "momentum": (-0.1, 1),
    "weight_decay": (-0.1, 10.1),
    "schedule": ("linear",),
    "step_size": (0,),
    "gamma": (0, 1),
    "plateau_patience": (0,),
    "warmup_steps": (-1,),
    "early_stopping_patience": (-1,),
    "label_smoothing": (-0.1, 1),
    "augmentation": ("heavy",),
    "mixup": (-0.1, 10.1),
    "ema_decay": (-0.1, 1),
    "seed": (-1, 2**53),
    "beta2": (-0.1, 1),
    "clip_norm": (-1, math.inf),
    "accumulation_steps": (0, 1025),
    "class_weights": (1, "yes"),
    "balanced_sampling": (1, "yes"),
    "deterministic": (0,),
    "power": (0, 11),
    "plateau_steps": (-1,),
    "auto_batch_size": ("auto",),
    "auto_base_lr": (1,),
    "frozen": (-0.1, 1),
    "backbone_lr": (0, 1.1),
    "horizon": (0, 65, 1.5),
    "context_length": (1, 513),
}


def test_every_hyperparameter_of_the_contract_has_a_rule() -> None:
    assert {each.name for each in pb.Hyperparameters.DESCRIPTOR.fields} == set(RULES) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_values_within_the_range_pass(name: str, value: object) -> None:
    check_hyperparameters({name: value}, "training_job.recipe.hyperparameters")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_values_out_of_the_range_are_named_with_what_is_right(name: str, value: object) -> None:
    path = f"training_job.recipe.hyperparameters.{name}"
    with pytest.raises(InvalidArgument) as caught:
        check_hyperparameters({name: value}, "training_job.recipe.hyperparameters")
    error = caught.value
    assert error.reason == "INVALID_HYPERPARAMETER"
    assert [each.field for each in error.violations] == [path]
    assert path in error.message
    assert repr(value) in error.message
    assert RULES[name].right in error.message
    assert error.values["name"] == path


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_hyperparameters({"gamma": 1, "seed": 3, "base_lr": 0}, "h")
    assert [each.field for each in caught.value.violations] == ["h.gamma", "h.base_lr"]


def test_what_the_run_is_to_find_cannot_be_given_too() -> None:
    for auto, name, value in (("auto_batch_size", "batch_size", 8), ("auto_base_lr", "base_lr", 0.1)):
        with pytest.raises(InvalidArgument) as caught:
            check_hyperparameters({auto: True, name: value}, "h")
        assert [each.field for each in caught.value.violations] == [f"h.{name}"]
        check_hyperparameters({auto: False, name: value}, "h")


def test_a_value_that_is_given_ends_its_search() -> None:
    assert settled({"base_lr": 0.1, "seed": 1}) == {"base_lr": 0.1, "seed": 1, "auto_base_lr": False}
    assert settled({"auto_batch_size": True}) == {"auto_batch_size": True}
