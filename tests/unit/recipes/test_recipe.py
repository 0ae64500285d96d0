"""Ranges of hyperparameters, each named with its path, its value and what is right."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.catalogue import IMAGE_RECIPES
from modelyard.recipes.recipe import Hyperparameters, PictureInput, recipe_document

WRONG: dict[str, tuple[Any, ...]] = {
    "max_epochs": (0, 10_001, 1.5, True),
    "max_steps": (-1, 100_000_001),
    "batch_size": (0, 65_537),
    "optimizer": ("lion", ""),
    "base_lr": (0, -1.0, 100.5, math.nan, math.inf, "fast"),
    "momentum": (1.0, -0.1),
    "weight_decay": (-0.1, 11),
    "schedule": ("linear",),
    "step_size": (0,),
    "gamma": (0.0, 1.0),
    "plateau_patience": (0,),
    "warmup_steps": (-1,),
    "early_stopping_patience": (-1,),
    "label_smoothing": (1.0, -0.1),
    "augmentation": ("heavy",),
    "mixup": (-0.1, 10.1),
    "ema_decay": (-0.1, 1.0),
    "class_weights": (1,),
    "balanced_sampling": (1,),
    "frozen": (0.96, -0.1),
    "backbone_lr": (0.0, 1.5),
    "seed": (-1, 2**63),
    "beta2": (1.0, -0.1),
    "clip_norm": (-0.1, 1_000_001),
    "accumulation_steps": (0, 1025),
    "power": (0.0, 10.1),
    "plateau_steps": (-1, 100_000_001),
    "auto_base_lr": (1,),
    "auto_batch_size": (1,),
    "deterministic": (1,),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_is_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        replace(Hyperparameters(), **{name: value}).validate()
    assert caught.value.reason == "INVALID_HYPERPARAMETER"
    assert [violation.field for violation in caught.value.violations] == [f"hyperparameters.{name}"]
    assert repr(value) in caught.value.message
    assert "is right" in caught.value.message


def test_every_field_has_a_range() -> None:
    assert {each.name for each in fields(Hyperparameters)} == set(WRONG)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Hyperparameters(base_lr=0, batch_size=0).validate()
    assert {each.field for each in caught.value.violations} == {"hyperparameters.base_lr", "hyperparameters.batch_size"}


@given(
    st.builds(
        Hyperparameters,
        max_epochs=st.integers(1, 10_000),
        batch_size=st.integers(1, 65_536),
        base_lr=st.floats(1e-9, 100),
        momentum=st.floats(0, 0.999),
        gamma=st.floats(0.001, 0.999),
        seed=st.integers(0, 2**63 - 1),
    )
)
def test_what_is_in_range_passes(settings: Hyperparameters) -> None:
    settings.validate()


@pytest.mark.parametrize(
    ("picture", "field"),
    [
        (PictureInput(7, 32, 3), "input_height"),
        (PictureInput(32, 1025, 3), "input_width"),
        (PictureInput(32, 32, 4), "input_channels"),
    ],
)
def test_a_wrong_input_is_named(picture: PictureInput, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        replace(IMAGE_RECIPES[0], input=picture).validate()
    assert caught.value.violations[0].field == field


def test_unknown_weights_are_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        replace(IMAGE_RECIPES[0], weights="coco").validate()
    assert caught.value.violations[0].field == "weights"


def test_with_changes_leaves_what_is_none() -> None:
    recipe = IMAGE_RECIPES[0].with_changes(base_lr=0.5, batch_size=None)
    assert recipe.hyperparameters.base_lr == 0.5
    assert recipe.hyperparameters.batch_size == IMAGE_RECIPES[0].hyperparameters.batch_size


def test_a_document_holds_the_settings_that_apply() -> None:
    document = recipe_document(IMAGE_RECIPES[0])
    assert document["hyperparameters"]["base_lr"] == IMAGE_RECIPES[0].hyperparameters.base_lr
    assert "tabular" not in document
