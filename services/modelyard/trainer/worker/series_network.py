"""Training of a network of series from a dataset version to a model file, by the loop that pictures have: its checkpoints and
limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import read_checkpoint, unpack_torch
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.formats.model import ModelCard, Normalization, read_model
from modelyard.formats.provenance import code_version
from modelyard.formats.series import fitted_series, usual_steps
from modelyard.recipes.build_image import load_matching
from modelyard.recipes.build_inception import InceptionModel, build_inception
from modelyard.recipes.recipe import recipe_document
from modelyard.trainer.worker.data import hold_out
from modelyard.trainer.worker.examples import HeldExamples
from modelyard.trainer.worker.image import ImageTrainingSpec, TrainResult, as_it_ran, train_result, write_weights
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.order import Order
from modelyard.trainer.worker.precision import open_device
from modelyard.trainer.worker.processors import training_threads
from modelyard.trainer.worker.run import CANCELLED, Hooks, Outcome, Setup
from modelyard.trainer.worker.tasks.arrays import ArrayClassification

_NOT_SCALED = Normalization((0.0,), (1.0,))
"""The network scales its series itself."""


def run_series_network(spec: ImageTrainingSpec, hooks: Hooks, workdir: Path) -> TrainResult:
    """Trains and writes workdir/model.zip; see trainer.worker.image.run_image_training, whose contract it has.

    Raises FailedPrecondition NO_CLASSES, NO_TRAINING_EXAMPLES; InvalidArgument WARM_START_MISMATCH; what the loop raises.
    """
    began = spec.clock()
    spec.recipe.validate()
    reader, settings = spec.reader, spec.recipe.hyperparameters
    if not isinstance(reader, DatasetReader):
        raise AssertionError("series come from a dataset version")
    classes, channels = tuple(reader.descriptor.classes), max(1, len(reader.descriptor.channels))
    if len(classes) < 2:
        message = f"the dataset version has {len(classes)} classes; series_classification needs at least 2"
        raise FailedPrecondition("NO_CLASSES", message, field="dataset_version", value=len(classes))
    torch.set_num_threads(training_threads())
    torch.manual_seed(settings.seed)
    deterministic = spec.deterministic or settings.deterministic
    device = open_device(spec.device, deterministic=deterministic, local_rank=spec.group.local_rank)
    steps = usual_steps(reader)
    training, validation = _examples(reader, steps, settings.seed)
    module = build_inception(spec.recipe.architecture, steps=steps, channels=channels, classes=len(classes))
    module.measure(training.pictures.numpy())
    if spec.warm_start is not None and spec.resume is None:
        _warm(spec.warm_start, module, spec.recipe.architecture, classes)
    setup = Setup(
        module=module,
        train=training,
        validation=validation,
        settings=settings,
        normalization=_NOT_SCALED,
        workdir=workdir,
        classes=len(classes),
        learning=ArrayClassification(),
        pretrained=spec.warm_start is not None,
        limit_s=spec.max_training_time_s,
        elapsed_s=spec.elapsed_s + spec.clock() - began,
        device=str(device),
        checkpoint_every_s=spec.checkpoint_every_s,
        precision=spec.precision,
        group=spec.group,
        batch_limit=spec.batch_limit,
        clock=spec.clock,
        policy=spec.recipe.policy,
    )
    outcome = train(setup, hooks, read_checkpoint(spec.resume) if spec.resume else None)
    return _result(spec, module, outcome, classes, workdir)


def _examples(reader: DatasetReader, steps: int, seed: int) -> tuple[HeldExamples, HeldExamples]:
    """Training and validation series; without any to validate, a tenth is held out for it."""
    found = []
    for usage in (TRAIN, VALIDATION):
        labels = np.asarray(reader.labels(usage), np.int64)
        series = fitted_series(reader, usage, np.arange(len(labels)), steps)
        found.append(HeldExamples(torch.from_numpy(series), torch.from_numpy(labels)))
    training, validation = found
    if not len(training):
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")
    if len(validation):
        return training, validation
    stay, away = hold_out(training.labels, seed)
    return training.subset(stay, Order(len(stay))), training.subset(away, Order(len(away)))


def _warm(path: Path, module: InceptionModel, architecture: str, classes: tuple[str, ...]) -> None:
    """Takes the weights of an earlier model; the head too when it tells the same classes apart."""
    model = read_model(path)
    if model.card.architecture != architecture:
        message = f"the model to start from is {model.card.architecture}; the recipe is {architecture}: they must be the same"
        raise InvalidArgument("WARM_START_MISMATCH", message, field="warm_start_model_version", value=model.card.architecture)
    keep = model.card.classes == classes
    state = unpack_torch(model.tensors())
    load_matching(module, {name: value for name, value in state.items() if keep or not name.startswith("head.")})


def _result(
    spec: ImageTrainingSpec, module: InceptionModel, outcome: Outcome, classes: tuple[str, ...], workdir: Path
) -> TrainResult:
    recipe = replace(spec.recipe, hyperparameters=as_it_ran(spec.recipe.hyperparameters, outcome))
    count = sum(each.numel() for each in module.parameters())
    card = path = None
    if outcome.reason != CANCELLED and spec.group.lead:
        path = workdir / "model.zip"
        card = ModelCard(
            kind="torch",
            task=recipe.task,
            architecture=recipe.architecture,
            classes=classes,
            metrics=outcome.metrics,
            parameter_count=count,
            recipe=recipe_document(recipe),
            dataset={"version": spec.dataset_version, "digest": spec.reader.descriptor.digest},
            details={
                "steps": module.steps,
                "channels": len(module.centre),
                "best_step": outcome.best_step,
                "processes": spec.group.size,
                "peak_memory_bytes": outcome.peak_memory_bytes,
                "torch": torch.__version__,
                "modelyard": code_version(),
            },
        )
        write_weights(path, card, outcome)
    return train_result(outcome, path, card, recipe, count)
