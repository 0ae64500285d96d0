"""Recipes in JSON files with steps: read field by field, written so that reading gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.recipe_file import read_recipe, recipe_document, recipe_from
from modelyard.client import InvalidArgument

DOCUMENT = {
    "recipe_id": "lightgbm",
    "features": [
        {"columns": ["age"], "impute": {"by": "median", "indicator": True}},
        {"kind": "categorical", "encode": {"rare": 10}},
        {"columns": ["x"], "drop": {}},
        {"columns": ["when"], "date": {"parts": ["year", "hour"]}},
    ],
    "augmentation": [{"rotate": {"degrees": 10, "probability": 0}}, {"blur": {}}],
    "hyperparameters": {"seed": 3},
}


def test_steps_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(DOCUMENT))
    recipe = read_recipe(str(path))
    assert recipe.features[0].impute.by == "median"
    assert recipe.features[2].WhichOneof("step") == "drop"
    assert list(recipe.features[3].date.parts) == ["year", "hour"]
    assert recipe.augmentation[0].rotate.HasField("probability")
    assert recipe.augmentation[1].WhichOneof("step") == "blur"
    assert recipe_document(recipe) == DOCUMENT
    assert recipe_from(recipe_document(recipe)) == recipe
    recipe.features_version = "of the service"
    assert recipe_document(recipe) == DOCUMENT


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"columns": ["age"]}, "recipe.features is .*; it must be a list"),
        ([{"columns": "age", "drop": {}}], r"recipe.features\[0\].columns is \"age\"; it must be a list"),
        ([{"columns": [3], "drop": {}}], r"recipe.features\[0\].columns\[0\] is 3; it must be a text"),
        ([{"columns": ["age"], "imput": {}}], r"recipe.features\[0\].imput is no field of a recipe; did you mean impute"),
        ([{"columns": ["age"], "impute": {"by": 3}}], r"recipe.features\[0\].impute.by is 3; it must be a text"),
        ([{"columns": ["age"], "impute": {}, "scale": {}}], r"features\[0\].scale stands beside impute"),
        (["impute"], r"recipe.features\[0\] is \"impute\"; it must be an object"),
    ],
)
def test_what_is_wrong_is_named(steps: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        recipe_from({"features": steps})
