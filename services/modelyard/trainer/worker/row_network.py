"""Training of a network of rows from a dataset version to a model file, by the loop that pictures have and in either framework.

Rows become numbers as for a linear model; what a pipeline makes of them, and what the target does in a category, is learned from
training rows alone, as for the other models of tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import read_checkpoint, unpack_torch
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.formats.model import ModelCard, Normalization, read_model
from modelyard.formats.provenance import code_version
from modelyard.recipes.build_image import load_matching
from modelyard.recipes.build_mlp import RowNetwork, build_mlp
from modelyard.recipes.build_tabular import TableEncoding, TableModel, card_parts, model_from, network_layers
from modelyard.recipes.recipe import recipe_document
from modelyard.recipes.tabular import NETWORK
from modelyard.trainer.worker.data import hold_out
from modelyard.trainer.worker.examples import HeldExamples, with_balance
from modelyard.trainer.worker.frameworks import device_of, engine_of
from modelyard.trainer.worker.image import ImageTrainingSpec, TrainResult, as_it_ran, train_result, write_weights
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.order import Order
from modelyard.trainer.worker.precision import open_device
from modelyard.trainer.worker.processors import training_threads
from modelyard.trainer.worker.run import CANCELLED, Hooks, Outcome, Setup
from modelyard.trainer.worker.tabular import (
    Rows,
    check_learnable,
    check_same_inputs,
    encode_for_fit,
    load_rows,
    score,
    with_features,
)
from modelyard.trainer.worker.tasks.arrays import ArrayClassification, ArrayRegression

_NOT_SCALED = Normalization((0.0,), (1.0,))
"""Rows are scaled by their encoding."""


@dataclass(frozen=True)
class _Target:
    """Of a regression: what its numbers are less, and over. 0 and 1 for classes."""

    mean: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True)
class _Start:
    """An earlier model of the same columns and classes: its encoding and target are kept, its weights taken."""

    encoding: TableEncoding
    target: _Target
    weights: Mapping[str, Tensor]


def run_row_network(spec: ImageTrainingSpec, hooks: Hooks, workdir: Path) -> TrainResult:
    """Trains and writes workdir/model.zip; see trainer.worker.image.run_image_training, whose contract it has.

    Raises what run_tabular_training raises of the data, InvalidArgument WARM_START_MISMATCH, and what the loop raises.
    """
    began = spec.clock()
    spec.recipe.validate()
    reader, settings, framework = spec.reader, spec.recipe.hyperparameters, spec.recipe.framework
    if not isinstance(reader, DatasetReader):
        raise AssertionError("rows come from a dataset version")
    if spec.group.shared:
        raise FailedPrecondition("ONE_PROCESS_ONLY", "a network of rows trains in one process", value=spec.group.size)
    engine = engine_of(framework)
    torch.set_num_threads(training_threads())
    torch.manual_seed(settings.seed)
    deterministic = spec.deterministic or settings.deterministic
    device = open_device(device_of(framework, spec.device), deterministic=deterministic, local_rank=spec.group.local_rank)
    train_rows, validation_rows = with_features(
        spec.recipe.features, reader, load_rows(reader, TRAIN), load_rows(reader, VALIDATION)
    )
    check_learnable(train_rows, reader.descriptor)
    warm = None
    if spec.warm_start is not None and spec.resume is None:
        warm = _to_start_from(spec.warm_start, spec.recipe.architecture, train_rows, tuple(reader.descriptor.classes))
    encoding, training, validation, target = _examples(train_rows, validation_rows, settings.seed, warm)
    if settings.balanced_sampling:
        training = with_balance(training)  # type: ignore[assignment]
    module = build_mlp(spec.recipe.architecture, width=training.pictures.shape[1], outputs=train_rows.classes or 1)
    if warm is not None:
        load_matching(module, warm.weights)
    setup = Setup(
        module=module,
        train=training,
        validation=validation,
        settings=settings,
        normalization=_NOT_SCALED,
        workdir=workdir,
        classes=train_rows.classes or 1,
        learning=ArrayClassification() if train_rows.classes else ArrayRegression(),
        pretrained=warm is not None,
        limit_s=spec.max_training_time_s,
        elapsed_s=spec.elapsed_s + spec.clock() - began,
        device=str(device),
        checkpoint_every_s=spec.checkpoint_every_s,
        precision=spec.precision,
        batch_limit=spec.batch_limit,
        pause_s=spec.pause_s,
        stretch=spec.stretch,
        clock=spec.clock,
    )
    outcome = train(setup, hooks, read_checkpoint(spec.resume) if spec.resume else None, engine)
    return _result(spec, module, outcome, encoding, target, validation_rows, workdir)


def _examples(
    train_rows: Rows, validation_rows: Rows, seed: int, warm: _Start | None
) -> tuple[TableEncoding, HeldExamples, HeldExamples, _Target]:
    """The encoding, rows and targets to train on and to validate on (a tenth is held out where there are none), and what the
    numbers of a regression are scaled by."""
    if warm is not None:
        encoding, numbers, target = warm.encoding, warm.encoding.apply(train_rows.columns), warm.target
    else:
        target = _Target() if train_rows.classes else _Target(float(train_rows.y.mean()), float(train_rows.y.std()) or 1.0)
        # What the target does in a category is among the numbers: in spreads, as whatever else enters the network.
        fitted = train_rows if train_rows.classes else replace(train_rows, y=(train_rows.y - target.mean) / target.spread)
        encoding, numbers = encode_for_fit(fitted, seed, linear=True)
    training = HeldExamples(torch.from_numpy(numbers), _targets(train_rows, target))
    if len(validation_rows):
        shown = encoding.apply(validation_rows.columns)
        return encoding, training, HeldExamples(torch.from_numpy(shown), _targets(validation_rows, target)), target
    strata = training.labels if train_rows.classes else torch.zeros(len(training), dtype=torch.int64)
    stay, away = hold_out(strata, seed)
    return encoding, training.subset(stay, Order(len(stay))), training.subset(away, Order(len(away))), target


def _targets(rows: Rows, target: _Target) -> Tensor:
    """Class indices int64 [N], or scaled numbers float32 [N, 1]."""
    if rows.classes:
        return torch.from_numpy(np.asarray(rows.y, np.int64))
    return torch.from_numpy(((rows.y - target.mean) / target.spread).astype(np.float32)[:, None])


def _to_start_from(path: Path, architecture: str, rows: Rows, classes: tuple[str, ...]) -> _Start:
    """Raises InvalidArgument WARM_START_MISMATCH for another network, other columns or other classes."""
    file = read_model(path)
    if file.card.architecture != architecture:
        message = f"the model to start from is {file.card.architecture}; the recipe is {architecture}: they must be the same"
        raise InvalidArgument("WARM_START_MISMATCH", message, field="warm_start_model_version", value=file.card.architecture)
    model = model_from(file)
    check_same_inputs(model, rows, classes)
    target = _Target(*(float(file.card.details[name]) for name in ("target_mean", "target_spread")))
    return _Start(model.encoding, target, unpack_torch(file.tensors()))


def _result(
    spec: ImageTrainingSpec,
    module: RowNetwork,
    outcome: Outcome,
    encoding: TableEncoding,
    target: _Target,
    validation: Rows,
    workdir: Path,
) -> TrainResult:
    reader = spec.reader
    if not isinstance(reader, DatasetReader):
        raise AssertionError("checked before")
    recipe = replace(spec.recipe, hyperparameters=as_it_ran(spec.recipe.hyperparameters, outcome))
    count = sum(each.numel() for each in module.parameters())
    card = path = None
    metrics = outcome.metrics
    if outcome.reason != CANCELLED:
        path = workdir / "model.zip"
        described = reader.descriptor
        columns, features = card_parts(encoding, [column.name for column in described.features])
        details = {"target_mean": target.mean, "target_spread": target.spread}
        model = TableModel(encoding, tuple(described.classes), layers=network_layers(outcome.weights, details))
        if len(validation):  # by the names that every model of a table has
            metrics = score(model, validation)
        card = ModelCard(
            kind=NETWORK,
            task=recipe.task,
            architecture=recipe.architecture,
            classes=tuple(described.classes),
            columns=columns,
            target=described.target,
            metrics=metrics,
            parameter_count=count,
            recipe=recipe_document(recipe),
            dataset={"version": spec.dataset_version, "digest": described.digest},
            details={
                **details,
                "best_step": outcome.best_step,
                "peak_memory_bytes": outcome.peak_memory_bytes,
                **outcome.facts,
                "modelyard": code_version(),
                **features,
            },
        )
        write_weights(path, card, outcome)
    return train_result(outcome, path, card, recipe, count, metrics)
