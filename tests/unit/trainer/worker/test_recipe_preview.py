"""What a preview's worker makes of each kind of data, without servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.formats.model import PictureInput
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.policy import check_policy, named_policy
from modelyard.recipes.recipe import Hyperparameters, Recipe, recipe_document
from modelyard.recipes.steps import Step
from modelyard.trainer.domain.recipe_preview import PreviewSpec
from modelyard.trainer.worker.preview import previewed, spread_over
from modelyard.trainer.worker.preview_page import LARGEST_SIDE, Previewed, page_html, side_for
from modelyard.trainer.worker.preview_pictures import Shown, _changed
from modelyard.trainer.worker.series import run_series_training
from tests.support.datasets import file_store, open_reader, publish_table
from tests.support.shapes import publish_shapes
from tests.support.tables import credit_table
from tests.support.waves import publish_series, publish_sounds

COUNTS = {"train": 12, "validation": 4, "test": 4}
STRONG = Hyperparameters(augmentation="strong")


def seen(folder: Path, publish: Callable[[Any], Blob], recipe: Recipe, examples: int = 3, variants: int = 2) -> Previewed:
    store = file_store(folder / "artifacts")
    descriptor = publish(store)
    spec = PreviewSpec("projects/p/datasets/d/versions/V001", descriptor, recipe_document(recipe), {}, examples, variants)
    stages: list[str] = []
    made = previewed(open_reader(store, descriptor), spec, lambda stage, done, total: stages.append(stage))
    assert stages
    return made


@pytest.mark.parametrize("task", ["object_detection", "semantic_segmentation", "image_multilabel"])
@pytest.mark.parametrize("level", ["none", "standard", "strong"])
def test_marked_pictures(tmp_path: Path, task: str, level: str) -> None:
    architecture = "modelyard:micronet" if task == "image_multilabel" else "modelyard:pyramid_micro"
    recipe = Recipe("r", task, architecture, PictureInput(64, 64, 3), Hyperparameters(augmentation=level))
    made = seen(tmp_path, lambda store: publish_shapes(store, task, COUNTS), recipe)
    assert len(made.drawings) == 3
    for each in made.drawings:
        differ = {each.before, *each.after}
        assert len(differ) == (1 if level == "none" else 3)
    assert page_html(made).count("data:image/png") == 9


def test_sounds(tmp_path: Path) -> None:
    recipe = Recipe("r", "audio_classification", "modelyard:dscnn", PictureInput(40, 48, 1), STRONG)
    made = seen(tmp_path, lambda store: publish_sounds(store, COUNTS), recipe)
    assert len({each for drawing in made.drawings for each in (drawing.before, *drawing.after)}) == 9


def test_a_mixed_picture_is_shown_beside_what_it_mostly_is(tmp_path: Path) -> None:
    """Mixed half and half or otherwise: what comes of a dark picture is never the brighter one of the two."""
    values = np.array([[[[0]]], [[[100]]], [[[150]]], [[[255]]]], np.uint8)
    shown = Shown(torch.from_numpy(np.tile(values, (1, 8, 8, 1))), torch.tensor([0, 1, 0, 1]))
    recipe = Recipe(
        "r",
        "image_classification",
        "modelyard:micronet",
        PictureInput(8, 8, 1),
        Hyperparameters(augmentation="none", mixup=0.3),
    )
    setup = SimpleNamespace(policy=(), flip=False, classes=2, learning=None)
    scaling = (torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    run = SimpleNamespace(setup=setup, settings=recipe.hyperparameters, scaling=scaling, step=0)
    shares = []
    for step in range(12):
        pixels, _ = _changed(run, recipe.task, shown, step, 2)
        means = pixels.reshape(4, -1).mean(axis=1)
        assert means[0] <= 128 <= means[3] + 1
        shares.append(means[0])
    assert max(shares) > 3  # some were mixed


def test_series_are_drawn_and_trained_with_copies(tmp_path: Path) -> None:
    recipe = replace(
        find_recipe("minirocket", "series_classification"), augmentation=named_policy("series_classification", "strong")
    )
    made = seen(tmp_path, lambda store: publish_series(store, COUNTS), recipe)
    assert page_html(made).count("<svg") == 9
    store = file_store(tmp_path / "more")
    reader = open_reader(store, publish_series(store, {"train": 24, "validation": 12, "test": 4}))
    results = [
        run_series_training(reader, each, tmp_path / "m.zip", {}, lambda what, done, total: None)
        for each in (recipe, replace(recipe, augmentation=()))
    ]
    assert results[0].card.details["copies"] == 8
    assert results[0].card.details["learned_from"] == ["train"]
    assert "copies" not in results[1].card.details
    assert results[1].card.details["learned_from"] == ["train", "validation"]
    assert results[0].metrics["val_accuracy"] >= 0.7


def rows(store: Any, columns: dict[str, Any] | None = None) -> Blob:
    return publish_table(store, columns or credit_table(), "good", task="tabular_classification", drop=("level", "limit"))


def test_rows_without_steps_are_shown_as_they_always_were_encoded(tmp_path: Path) -> None:
    made = seen(tmp_path, rows, find_recipe("linear", "tabular_classification"))
    assert made.columns_before == ("amount", "purpose", "town", "age")
    assert made.columns_after[:3] == ("amount", "age", "amount missing")
    assert made.columns_after[-2:] == ("town: target 0", "town: share")
    assert made.width == len(made.columns_after)
    assert all(len(row.after) == made.width for row in made.rows)


def test_rows_and_what_was_learned(tmp_path: Path) -> None:
    steps = (
        Step("impute", {"by": "constant", "value": "7"}, ("amount",)),
        Step("encode", {"rare": 60}, ("purpose",)),
        Step("text", {"buckets": 300}, ("town",)),
    )
    columns = {**credit_table(), "town": ["<script>alert(1)</script>" * 9] * 300}
    recipe = replace(find_recipe("lightgbm", "tabular_classification"), features=steps)
    made = seen(tmp_path, lambda store: rows(store, columns), recipe)
    assert "amount: missing becomes 7" in made.learned
    assert len(made.columns_after) == 200
    assert made.width > 300
    page = page_html(made)
    assert "<script>" not in page
    assert f"({made.width} numbers, 200 shown)" in page


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no examples with usage train"):
        seen(
            tmp_path,
            lambda store: publish_table(
                store, credit_table(20), "good", task="tabular_classification", usage=["test"] * 20, drop=("level", "limit")
            ),
            find_recipe("linear", "tabular_classification"),
        )


def test_pages_stay_small() -> None:
    assert side_for(4) == LARGEST_SIDE
    assert side_for(64 * 9) ** 2 * 3 * 64 * 9 <= 10 * 1024 * 1024
    assert spread_over(1000, 5).tolist() == [0, 250, 500, 749, 999]
    assert spread_over(2, 5).tolist() == [0, 1]
    assert np.array_equal(spread_over(0, 5), [])


def test_steps_are_told_on_the_page() -> None:
    steps = check_policy([Step("rotate", {"degrees": 20.0})], "image_classification")
    page = page_html(Previewed("t", Recipe("r", "image_classification", "modelyard:micronet", augmentation=steps)))
    assert "<li>rotate (degrees 20)</li>" in page


def test_a_network_of_series_is_changed_alike_whatever_part_is_held(tmp_path: Path) -> None:
    from types import SimpleNamespace

    import torch

    from modelyard.recipes.augment import Held
    from modelyard.trainer.worker.examples import Batch, places_of
    from modelyard.trainer.worker.tasks.arrays import ArrayClassification

    recipe = replace(find_recipe("inceptiontime-small", "series_classification"), hyperparameters=STRONG)
    assert recipe.policy == named_policy("series_classification", "strong")
    setup = SimpleNamespace(policy=recipe.policy)
    run: Any = SimpleNamespace(setup=setup, settings=recipe.hyperparameters, scaling=(torch.zeros(1),), step=7)
    series, labels = torch.randn(6, 30, 2), torch.arange(6)
    whole, _ = ArrayClassification().ready(run, Batch(series, labels), None)
    places = places_of(6, 1, 2)
    part, _ = ArrayClassification().ready(run, Batch(series[places], labels[places]), Held(6, places))
    assert torch.equal(part, whole[places])
    assert not torch.equal(whole, series)
    run.setup = SimpleNamespace(policy=())
    assert torch.equal(ArrayClassification().ready(run, Batch(series, labels), None)[0], series)
