"""The service starts without what only its workers need."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import modelyard.trainer.__main__, modelyard.trainer.rpc.servicer, modelyard.trainer.handlers.completion
from modelyard.trainer.domain.recipe import RecipeRequest, resolve_recipe
from modelyard.recipes.catalogue import DatasetFacts
resolve_recipe(RecipeRequest(), DatasetFacts("image_classification", 500, 5, 128, 128, 3))
print(sorted({"torch", "torchvision", "timm", "lightgbm", "sklearn", "pyarrow"} & set(sys.modules)))
"""


def test_starting_and_choosing_a_recipe_loads_no_learning_library() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
