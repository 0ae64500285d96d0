"""The catalogue, and what of it suits a dataset version."""

from __future__ import annotations

from modelyard.core.names import DATASET_VERSION
from modelyard.recipes.catalogue import catalogue
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.recipe import suggested
from modelyard.trainer.ports import Datasets


def list_recipes(task: str) -> tuple[Recipe, ...]:
    """The recipes of a task ("" for all), the most accurate first."""
    return catalogue(task)


def suggest_recipes(datasets: Datasets, dataset_version: str, *, sizes: bool = False) -> tuple[Recipe, ...]:
    """The recipes that suit a dataset version, filled in for it, the most accurate first; sizes: some at several
    inputs. Raises as `Datasets` does."""
    DATASET_VERSION.parse(dataset_version, "dataset_version")
    return suggested(datasets.get_version(dataset_version).facts, sizes=sizes)
