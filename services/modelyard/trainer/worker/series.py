"""Training of a classifier of series from a dataset version to a model file: MiniRocket and a ridge regression, in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.checkpoint import pack_torch
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.formats.model import ModelCard, write_model
from modelyard.formats.provenance import code_version
from modelyard.formats.series import fitted_series, usual_steps
from modelyard.recipes.augment_series import changed_series, copies_of
from modelyard.recipes.build_series import Fitted, RocketModel, build_series, features_of, fit
from modelyard.recipes.recipe import Recipe, recipe_document
from modelyard.trainer.worker.processors import training_threads

OnStage = Callable[[str, int, int], None]
FEW = 1000
"""With fewer training series those for validation are learned from too: leaving out one by one needs none of its own."""
MOST_EXAMPLES = 8000
"""Series that the regression is fitted to; of more a draw: its work grows with their square."""


@dataclass(frozen=True)
class SeriesResult:
    """What came out. metrics: val_accuracy and val_loss, on validation examples, or (FEW, or none of those) left out one by
    one."""

    card: ModelCard
    metrics: Mapping[str, float]
    parameter_count: int


def run_series_training(
    reader: DatasetReader, recipe: Recipe, path: Path, dataset: Mapping[str, str], on_stage: OnStage
) -> SeriesResult:
    """Fits and writes the model file at `path`. on_stage(what, done, total) may raise what ends the run.

    Raises FailedPrecondition NO_TRAINING_EXAMPLES, NO_CLASSES; InvalidArgument UNKNOWN_ARCHITECTURE.
    """
    torch.set_num_threads(training_threads())
    classes, settings = reader.descriptor.classes, recipe.tabular
    if len(classes) < 2:
        message = f"the dataset version has {len(classes)} classes; series_classification needs at least 2"
        raise FailedPrecondition("NO_CLASSES", message, field="dataset_version", value=len(classes))
    on_stage("reading series", 0, 3)
    steps = usual_steps(reader)
    train, labels = _examples(reader, TRAIN, steps, settings.seed)
    if not len(train):
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")
    copies = copies_of(recipe.augmentation)
    few = len(train) < FEW and not copies
    if few:
        more, known = _examples(reader, VALIDATION, steps, settings.seed)
        train, labels = np.concatenate([train, more]), np.concatenate([labels, known])
    on_stage("features of the series", 1, 3)
    channels = train.shape[2]
    model = build_series(recipe.architecture, steps=steps, channels=channels, classes=len(classes), seed=settings.seed)
    model.choose_biases(torch.from_numpy(train), settings.seed)
    features = features_of(model, train)
    on_stage("fitting", 2, 3)
    fitted = fit(model, features, labels, settings.weight_decay)
    if copies:
        fitted = _fitted_again(model, train, labels, recipe, fitted, on_stage)
    # With changed copies the validation series are kept for validating: leaving one out would leave its copies in.
    metrics = _left_out(fitted) if few else _validated(model, reader, steps, fitted)
    count = sum(each.numel() for each in model.parameters())
    card = ModelCard(
        kind="torch",
        task="series_classification",
        architecture=recipe.architecture,
        classes=classes,
        metrics=metrics,
        parameter_count=count,
        recipe=recipe_document(recipe),
        dataset=dataset,
        details={
            "steps": steps,
            "channels": channels,
            "channel_names": list(reader.descriptor.channels),
            "seed": settings.seed,
            "penalty": fitted.penalty,
            "left_out_accuracy": fitted.accuracy,
            "learned_from": [TRAIN, VALIDATION] if few else [TRAIN],
            **({"copies": copies} if copies else {}),
            "torch": torch.__version__,
            "modelyard": code_version(),
        },
    )
    write_model(path, card, _tensors(model))
    return SeriesResult(card, metrics, count)


def _fitted_again(
    model: RocketModel,
    train: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    recipe: Recipe,
    first: Fitted,
    on_stage: OnStage,
) -> Fitted:
    """Fitted to the series and changed copies of them. The penalty is that of the series alone, times how many there are now:
    leaving out a series whose copies stay would tell nothing. So are the figures."""
    copies = min(copies_of(recipe.augmentation), MOST_EXAMPLES // len(train))
    all_features = [features_of(model, train)]
    for copy in range(copies):
        on_stage(f"features of changed copies, {copy + 1} of {copies}", 2, 3)
        all_features.append(features_of(model, changed_series(train, recipe.augmentation, recipe.tabular.seed * 1000 + copy)))
    temperature = model.temperature.clone()
    many = fit(model, np.concatenate(all_features), np.tile(labels, len(all_features)), first.penalty * len(all_features))
    with torch.no_grad():
        model.temperature.copy_(temperature)
    return Fitted(many.penalty, first.accuracy, first.loss)


def _tensors(model: RocketModel) -> Any:
    return {name.removeprefix("x/"): value for name, value in pack_torch(model.state_dict(), "x").items()}


def _examples(reader: DatasetReader, usage: str, steps: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    labels = np.asarray(reader.labels(usage), np.int64)
    places = np.arange(len(labels))
    if len(places) > MOST_EXAMPLES:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST_EXAMPLES, replace=False))
    return fitted_series(reader, usage, places, steps), labels[places]


def _left_out(fitted: Fitted) -> dict[str, float]:
    return {"val_accuracy": fitted.accuracy, "val_loss": fitted.loss}


def _validated(model: RocketModel, reader: DatasetReader, steps: int, fitted: Fitted) -> dict[str, float]:
    series, labels = _examples(reader, VALIDATION, steps, 0)
    if not len(labels):
        return _left_out(fitted)
    with torch.inference_mode():
        parts = [model(torch.from_numpy(series[at : at + 64])).numpy() for at in range(0, len(series), 64)]
    likely = np.concatenate(parts)
    own = np.maximum(likely[np.arange(len(labels)), labels], 1e-7)
    return {"val_accuracy": float((likely.argmax(axis=1) == labels).mean()), "val_loss": float(-np.log(own).mean())}
