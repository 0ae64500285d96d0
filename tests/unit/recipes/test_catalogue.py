"""The rules of the catalogue, on facts of datasets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modelyard.core.errors import InvalidArgument, NotFound
from modelyard.recipes.catalogue import DatasetFacts, at_sizes, candidates, catalogue, choose_input, find_recipe, fit_to_dataset
from modelyard.recipes.recipe import PictureInput


def pictures(examples: int, side: int, channels: int = 3, classes: int = 5) -> DatasetFacts:
    return DatasetFacts("image_classification", examples, classes, side, side, channels)


@pytest.mark.parametrize(
    ("height", "width", "channels", "expected"),
    [
        (8, 8, 1, PictureInput(16, 16, 1)),
        (28, 28, 1, PictureInput(28, 28, 1)),
        (32, 32, 3, PictureInput(32, 32, 3)),
        (30, 34, 3, PictureInput(32, 32, 3)),
        (128, 128, 3, PictureInput(96, 96, 3)),
        (100, 60, 3, PictureInput(64, 64, 3)),
        (480, 640, 3, PictureInput(160, 160, 3)),
        (0, 0, 0, PictureInput(16, 16, 3)),
    ],
)
def test_the_input_follows_the_pictures(height: int, width: int, channels: int, expected: PictureInput) -> None:
    assert choose_input(DatasetFacts("image_classification", 100, 2, height, width, channels)) == expected


def test_small_pictures_get_our_own_networks() -> None:
    assert [recipe.name for recipe in candidates(pictures(50_000, 28, 1))] == ["tinynet", "smallnet", "micronet"]


def test_photographs_get_the_pretrained_network_first_where_its_weights_are() -> None:
    assert [recipe.name for recipe in candidates(pictures(3000, 128), imagenet=True)] == [
        "efficientnet-lite0",
        "mobilenetv3-small-050",
        "tinynet",
        "micronet",
    ]
    assert candidates(pictures(3000, 128), imagenet=False)[0].name == "mobilenetv3-small-050"


def test_a_choice_has_the_best_for_photographs_at_three_inputs() -> None:
    found = at_sizes(pictures(3000, 128), imagenet=True)
    sides = [(recipe.name, recipe.input.height) for recipe in found if recipe.input]
    assert sides[:4] == [("efficientnet-lite0", side) for side in (96, 64, 128)] + [("mobilenetv3-small-050", 96)]
    assert at_sizes(pictures(3000, 28, 1)) == candidates(pictures(3000, 28, 1))
    tasks = DatasetFacts("tabular_classification", 100, 2)
    assert at_sizes(tasks) == candidates(tasks)


@pytest.mark.parametrize("side", [8, 28, 48, 64, 128, 640])
@pytest.mark.parametrize("examples", [2, 100, 3000, 100_000])
def test_candidates_are_complete_and_valid(side: int, examples: int) -> None:
    for recipe in candidates(pictures(examples, side), imagenet=True):
        recipe.validate()
        assert recipe.input is not None
        assert recipe.input.height >= recipe.smallest_side


def test_few_examples_get_small_batches_and_more_epochs() -> None:
    few, many = (candidates(pictures(count, 28, 1))[0].hyperparameters for count in (300, 60_000))
    assert few.batch_size == 16
    assert many.batch_size == 128
    assert few.max_epochs * (300 // few.batch_size) >= 1400
    assert many.max_epochs < few.max_epochs


def test_a_fixed_input_stays() -> None:
    recipe = find_recipe("tinynet")
    fixed = fit_to_dataset(recipe, pictures(1000, 128))
    assert fixed.input == PictureInput(96, 96, 3)
    assert fit_to_dataset(fixed, pictures(1000, 28)).input == PictureInput(96, 96, 3)


def test_the_catalogue_spans_small_to_large() -> None:
    sizes = [recipe.parameters_m for recipe in catalogue("image_classification")]
    assert len(sizes) >= 3
    assert min(sizes) <= 0.1
    assert max(sizes) <= 5
    assert len({recipe.name for recipe in catalogue("image_classification")}) == len(sizes)
    assert catalogue("tabular_classification")
    assert catalogue("tabular_regression")


def test_unknown_names_and_tasks_are_named() -> None:
    with pytest.raises(NotFound) as caught:
        find_recipe("resnet5000")
    assert (caught.value.reason, "tinynet" in caught.value.message) == ("UNKNOWN_RECIPE", True)
    with pytest.raises(InvalidArgument) as wrong:
        candidates(DatasetFacts("poetry", 10))
    assert wrong.value.reason == "NO_RECIPE"


def test_the_catalogue_imports_no_torch() -> None:
    code = (
        "import sys, modelyard.recipes.catalogue as c; c.catalogue(); sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
