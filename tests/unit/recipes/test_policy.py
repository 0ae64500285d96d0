"""Augmentation policies as data: completed, named ones spelt out, and what is wrong named by its place."""

from __future__ import annotations

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.policy import ALL_FORMS, FORMS, NAMED, check_policy, named_policy, policy_shown
from modelyard.recipes.steps import Step, steps_from, version_of

TASKS = tuple(FORMS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMED)
def test_named_policies_are_right_for_their_task(task: str, name: str) -> None:
    steps = named_policy(task, name)
    assert check_policy(steps, task) == steps
    assert check_policy([Step("policy", {"name": name})], task) == steps
    assert bool(steps) == (name != "none")


@pytest.mark.parametrize("task", TASKS)
def test_every_step_has_a_default_that_is_right(task: str) -> None:
    checked = check_policy([Step(name) for name in FORMS[task]], task)
    assert [step.do for step in checked] == list(FORMS[task])


def test_named_policies_grow_from_light_to_strong() -> None:
    versions = {version_of(named_policy("image_classification", name)) for name in NAMED}
    assert len(versions) == len(NAMED)
    assert policy_shown(named_policy("image_classification", "light"))["augmentation_policy"].endswith(
        "shift; flip (only_safe yes)"
    )


@pytest.mark.parametrize(
    ("step", "task", "field", "words"),
    [
        (Step("flipp"), "image_classification", "recipe.augmentation[0]", "did you mean 'flip'?"),
        (Step("flip", {"probability": 1.5}), "image_classification", "recipe.augmentation[0].flip.probability", "at most 1"),
        (Step("flip", {"probability": -0.1}), "image_classification", "recipe.augmentation[0].flip.probability", "at least 0"),
        (Step("flip", {"direction": "up"}), "image_classification", "recipe.augmentation[0].flip.direction", "horizontal"),
        (Step("mixup"), "object_detection", "recipe.augmentation[0]", "is not for object_detection"),
        (Step("jitter"), "image_classification", "recipe.augmentation[0]", "is not for image_classification"),
        (Step("rotate"), "series_classification", "recipe.augmentation[0]", "is not for series_classification"),
        (Step("cutout", {"share": 0.0}), "image_classification", "recipe.augmentation[0].cutout.share", "above 0"),
        (Step("background", {"least": 40.0}), "audio_classification", "recipe.augmentation[0].background.least", "above most"),
        (Step("flip", {}, ("age",)), "image_classification", "recipe.augmentation[0].columns", "only features have columns"),
        (Step("flip"), "tabular_classification", "recipe.augmentation", "the task is tabular_classification"),
        (Step("policy", {"name": "heavy"}), "image_classification", "recipe.augmentation[0].policy.name", "one of none, light"),
    ],
)
def test_what_is_wrong_is_named(step: Step, task: str, field: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_policy([step], task)
    assert caught.value.reason == "INVALID_AUGMENTATION"
    assert caught.value.violations[0].field == field
    assert words in caught.value.message


def test_whole_numbers_in_json_are_the_numbers_that_are_meant() -> None:
    read = steps_from([{"rotate": {"degrees": 10, "probability": 1}}], ALL_FORMS)
    assert check_policy(read, "image_classification") == check_policy([Step("rotate", {"degrees": 10.0})], "image_classification")
