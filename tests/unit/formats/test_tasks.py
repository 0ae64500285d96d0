"""The table of tasks agrees with what the services do."""

from __future__ import annotations

import pytest

from modelyard.evaluator.worker.tasks import SCORINGS
from modelyard.exporter.domain.form import PRECISIONS_OF, Form, check_form, form_for
from modelyard.formats.dataset import TASKS as DATASET_TASKS
from modelyard.formats.tasks import EVERY_METRIC, TASKS, metrics_of, task_of
from modelyard.recipes.catalogue import DatasetFacts, candidates, catalogue


def test_a_task_that_can_be_learned_is_scored_and_has_recipes() -> None:
    assert set(SCORINGS) == set(TASKS)
    for name in TASKS:
        assert len(catalogue(name)) >= 2
        assert name in DATASET_TASKS


@pytest.mark.parametrize("name", list(TASKS))
def test_every_form_of_a_task_is_one_of_the_exporters(name: str) -> None:
    task = task_of(name)
    for format, precisions in task.forms.items():
        for precision in precisions:
            check_form(Form(format, precision), name)
        assert set(precisions) <= set(PRECISIONS_OF[format])
    assert form_for(name, Form("edge", "int8")).format == ("edge" if "edge" in task.forms else "onnx")
    assert "fp32" in task.forms["onnx"]


def test_classifiers_of_pictures_are_made_in_every_form() -> None:
    assert task_of("image_classification").forms == PRECISIONS_OF


def test_a_task_that_nothing_learns_allows_nothing() -> None:
    task = task_of("instance_segmentation")
    assert (task.metrics, dict(task.forms), task.compressed) == ((), {}, False)
    assert "no model learns" in task.why_not


def test_the_metric_that_decides_is_one_of_the_metrics() -> None:
    for name in TASKS:
        assert task_of(name).paired in metrics_of(name)
    assert len(set(EVERY_METRIC)) == len(EVERY_METRIC)


@pytest.mark.parametrize(("task", "height", "width"), [("object_detection", 480, 640), ("semantic_segmentation", 360, 480)])
def test_where_things_are_is_asked_of_the_whole_picture(task: str, height: int, width: int) -> None:
    for recipe in candidates(DatasetFacts(task, 300, 3, height, width, 3), imagenet=True):
        recipe.validate()
        assert recipe.input is not None
        assert recipe.input.height % 32 == recipe.input.width % 32 == 0
        assert recipe.input.width / recipe.input.height == pytest.approx(width / height, rel=0.15)
        assert recipe.hyperparameters.max_epochs * (300 // recipe.hyperparameters.batch_size) >= 1000


def test_without_weights_no_recipe_needs_them() -> None:
    names = [recipe.name for recipe in candidates(DatasetFacts("object_detection", 300, 3, 480, 640, 3), imagenet=False)]
    assert names == ["detector-pyramid", "detector-micro"]


def test_small_pictures_are_not_enlarged_and_long_ones_are_cut_to_two_to_one() -> None:
    small, long = (
        candidates(DatasetFacts("object_detection", 300, 3, *size, 3), imagenet=False)[0].input
        for size in ((64, 64), (100, 2000))
    )
    assert small is not None
    assert long is not None
    assert (small.height, small.width) == (64, 64)
    assert long.width / long.height <= 2.1


@pytest.mark.parametrize(("milliseconds", "columns"), [(300, 48), (1000, 48), (1500, 96), (60_000, 240)])
def test_sounds_have_columns_for_their_length(milliseconds: int, columns: int) -> None:
    recipe = candidates(DatasetFacts("audio_classification", 300, 10, 0, milliseconds, 1))[0]
    assert recipe.input is not None
    assert (recipe.input.height, recipe.input.width, recipe.input.channels) == (40, columns, 1)
