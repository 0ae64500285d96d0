"""From what a request leaves open to a whole recipe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.catalogue import candidates, catalogue
from modelyard.recipes.recipe import PictureInput, recipe_document
from modelyard.trainer.domain.recipe import RecipeRequest, like, recipe_from, resolve_recipe, resolve_resumed, settings_of
from tests.support.trainer_fakes import facts_of_pictures, facts_of_rows


def resolve(facts: Any = None, **asked: Any) -> Any:
    return resolve_recipe(RecipeRequest(**asked), facts or facts_of_pictures())


def refused(**asked: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        resolve(**asked)
    return caught.value


def test_nothing_asked_gives_the_most_accurate_candidate() -> None:
    assert resolve() == candidates(facts_of_pictures())[0]


def test_an_id_gives_that_recipe_fitted_to_the_data() -> None:
    recipe = resolve(recipe_id="micronet")
    assert recipe.architecture == "modelyard:micronet"
    assert recipe.input == PictureInput(28, 28, 1)


def test_what_is_asked_outweighs_what_the_data_suggest() -> None:
    recipe = resolve(
        recipe_id="tinynet", input_height=32, input_channels=3, hyperparameters={"base_lr": 0.5, "seed": 9, "max_epochs": 3}
    )
    assert recipe.input == PictureInput(32, 32, 3)
    assert (recipe.hyperparameters.base_lr, recipe.hyperparameters.seed, recipe.hyperparameters.max_epochs) == (0.5, 9, 3)


def test_a_suggestion_sent_back_as_it_is_resolves_to_itself() -> None:
    for facts in (facts_of_pictures(height=96, width=96, channels=3), facts_of_rows()):
        for recipe in candidates(facts, imagenet=True):
            picture = recipe.input or PictureInput(0, 0, 0)
            asked = RecipeRequest(
                recipe.name,
                recipe.task,
                recipe.architecture,
                picture.height,
                picture.width,
                picture.channels,
                recipe.weights,
                {name: value for name, value in settings_of(recipe).items() if (name, value) != ("max_steps", 0)},
            )
            assert resolve_recipe(asked, facts) == recipe


def test_any_classifier_of_timm_can_be_named_by_its_architecture() -> None:
    recipe = resolve(architecture="timm:resnet18")
    assert (recipe.name, recipe.architecture, recipe.weights) == ("timm:resnet18", "timm:resnet18", "")
    assert recipe.input == PictureInput(28, 28, 1)
    assert resolve(recipe_id="timm:resnet18", architecture="timm:resnet18") == recipe


def test_an_architecture_of_the_catalogue_is_its_recipe() -> None:
    assert resolve(architecture="modelyard:tinynet").name == "tinynet"


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        ({"recipe_id": "nonesuch"}, "UNKNOWN_RECIPE", "recipe_id"),
        ({"recipe_id": "lightgbm"}, "UNKNOWN_RECIPE", "recipe_id"),
        ({"architecture": "lightgbm"}, "UNKNOWN_ARCHITECTURE", "architecture"),
        ({"architecture": "timm:../etc"}, "UNKNOWN_ARCHITECTURE", "architecture"),
        ({"recipe_id": "tinynet", "architecture": "timm:resnet18"}, "ARCHITECTURE_MISMATCH", "architecture"),
        ({"task": "tabular_regression"}, "TASK_MISMATCH", "task"),
        ({"input_height": 7}, "INVALID_RECIPE", "input_height"),
        ({"input_height": 32, "input_width": 5000}, "INVALID_RECIPE", "input_width"),
        ({"input_channels": 4}, "INVALID_RECIPE", "input_channels"),
        ({"weights": "coco"}, "INVALID_RECIPE", "weights"),
        ({"framework": "jax"}, "INVALID_RECIPE", "framework"),
        ({"framework": "tensorflow", "architecture": "timm:resnet18"}, "INVALID_RECIPE", "framework"),
        ({"framework": "tensorflow", "hyperparameters": {"frozen": 0.5}}, "INVALID_HYPERPARAMETER", "hyperparameters.frozen"),
        ({"hyperparameters": {"base_lr": -1}}, "INVALID_HYPERPARAMETER", "hyperparameters.base_lr"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(asked: dict[str, Any], reason: str, field: str) -> None:
    error = refused(**asked)
    assert error.reason == reason
    assert [each.field for each in error.violations] == [f"training_job.recipe.{field}"]
    assert f"training_job.recipe.{field}" in error.message


def test_a_table_takes_only_the_hyperparameters_that_mean_something_there() -> None:
    recipe = resolve(facts_of_rows(), recipe_id="lightgbm", hyperparameters={"max_steps": 50, "base_lr": 0.2})
    assert (recipe.tabular.max_steps, recipe.tabular.base_lr) == (50, 0.2)
    error = refused(facts=facts_of_rows(), recipe_id="lightgbm", hyperparameters={"batch_size": 32, "momentum": 0.5})
    assert error.reason == "HYPERPARAMETER_NOT_USED"
    assert [each.field.rpartition(".")[2] for each in error.violations] == ["batch_size", "momentum"]
    assert "max_steps" in error.message


def test_a_table_takes_no_picture_size() -> None:
    assert refused(facts=facts_of_rows(), input_height=32).reason == "INVALID_RECIPE"


def test_the_ranges_of_a_tabular_recipe_count_too() -> None:
    error = refused(facts=facts_of_rows(), recipe_id="lightgbm", hyperparameters={"base_lr": 50.0})
    assert [each.field for each in error.violations] == ["training_job.recipe.hyperparameters.base_lr"]


@pytest.mark.parametrize("recipe", catalogue(), ids=lambda recipe: f"{recipe.task}-{recipe.name}")
def test_a_recipe_survives_json(recipe: Any) -> None:
    assert recipe_from(json.loads(json.dumps(recipe_document(recipe)))) == recipe


def test_numbers_that_lost_their_point_in_json_are_what_they_were() -> None:
    document = recipe_document(resolve(hyperparameters={"base_lr": 1.0}))
    document["hyperparameters"]["base_lr"] = 1
    rate = recipe_from(document).hyperparameters.base_lr
    assert isinstance(rate, float)


def test_going_on_changes_hyperparameters_and_nothing_else() -> None:
    source = resolve(recipe_id="tinynet", hyperparameters={"max_epochs": 5, "seed": 4})
    changed = resolve_resumed(RecipeRequest(hyperparameters={"max_epochs": 9, "base_lr": 0.01}), source)
    assert (changed.hyperparameters.max_epochs, changed.hyperparameters.base_lr, changed.hyperparameters.seed) == (9, 0.01, 4)
    assert (changed.architecture, changed.input) == (source.architecture, source.input)


@pytest.mark.parametrize(
    "asked",
    [
        {"recipe_id": "micronet"},
        {"architecture": "timm:resnet18"},
        {"input_height": 64},
        {"input_channels": 3},
        {"framework": "tensorflow"},
    ],
)
def test_going_on_with_another_model_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resolve_resumed(RecipeRequest(**asked), resolve(recipe_id="tinynet"))
    assert caught.value.reason == "ARCHITECTURE_MISMATCH"


def test_a_request_that_names_no_model_takes_the_earlier_ones() -> None:
    earlier = resolve(recipe_id="micronet", input_height=40)
    assert resolve_recipe(like(earlier, RecipeRequest()), facts_of_pictures()).input == PictureInput(40, 40, 1)
    assert like(earlier, RecipeRequest(recipe_id="tinynet")).recipe_id == "tinynet"


def test_a_framework_is_asked_for_and_never_chosen() -> None:
    assert all(recipe.framework == "torch" for recipe in candidates(facts_of_pictures()))
    asked = resolve(recipe_id="micronet", framework="tensorflow")
    named = resolve(recipe_id="micronet-keras")
    assert asked.framework == named.framework == "tensorflow"
    assert resolve(architecture="modelyard:micronet").framework == "torch"
    assert resolve_recipe(like(named, RecipeRequest()), facts_of_pictures()).framework == "tensorflow"
    assert resolve(recipe_id="micronet-keras", framework="torch").framework == "torch"
