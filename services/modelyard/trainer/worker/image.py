"""Training on pictures from a dataset version to a model file, whatever the task: what the worker's main calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, ResourceExhausted
from modelyard.formats.checkpoint import read_checkpoint, read_state, unpack_torch
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.model import ModelCard, Normalization, PictureInput, read_model, write_model
from modelyard.formats.provenance import code_version
from modelyard.recipes.build_image import IMAGENET_NORMALIZATION, classifier_of, has_imagenet, load_matching
from modelyard.recipes.catalogue import licence_of
from modelyard.recipes.recipe import Hyperparameters, Recipe, recipe_document
from modelyard.trainer.worker.data import Pictures, Targets, open_examples
from modelyard.trainer.worker.examples import Examples, with_balance
from modelyard.trainer.worker.frameworks import device_of, engine_of
from modelyard.trainer.worker.group import ALONE, Group
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.precision import open_device
from modelyard.trainer.worker.processors import training_threads
from modelyard.trainer.worker.resume import no_room
from modelyard.trainer.worker.run import CANCELLED, Hooks, Outcome, Setup
from modelyard.trainer.worker.scoring import measured_normalization
from modelyard.trainer.worker.tasks.pictures import PictureTask, picture_task


@dataclass(frozen=True)
class ImageTrainingSpec:
    """What is to be trained.

    recipe: with its input filled in. resume: a checkpoint to go on from, of an earlier attempt or of another job on the same
    data. warm_start: a model file whose weights it starts from; its head is replaced when classes differ. max_training_time_s:
    from the start of this function, `elapsed_s` of earlier attempts included; None: no limit. device: auto, cpu or cuda;
    memory_bytes: of decoded pictures, see open_examples;
    precision, deterministic: see worker.precision. dataset_version: its resource name, for the model card. group: who trains it
    together; all of them call `run_image_training`, its lead writes. batch_limit: most examples a step, 0 as the recipe says.
    pause_s, stretch, clock: see run.Setup.
    """

    reader: Pictures
    recipe: Recipe
    resume: Path | None = None
    warm_start: Path | None = None
    max_training_time_s: float | None = None
    elapsed_s: float = 0.0
    dataset_version: str = ""
    device: str = "auto"
    checkpoint_every_s: float = 30.0
    memory_bytes: int = 0
    precision: str = "auto"
    deterministic: bool = False
    group: Group = ALONE
    batch_limit: int = 0
    pause_s: float | None = None
    stretch: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class TrainResult:
    """What came out. reason: COMPLETED, TIME_LIMIT, EARLY_STOPPED, STOPPED, DIVERGED or CANCELLED (then model_path is None).
    metrics: validation metrics of the model. recipe: what was really run (a batch that was halved, for example)."""

    reason: str
    metrics: dict[str, float]
    steps: int
    epochs: float
    best_step: int
    train_seconds: float
    examples_per_second: float
    model_path: Path | None
    card: ModelCard | None
    checkpoints: dict[str, Path]
    recipe: Recipe
    parameter_count: int
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class Start:
    """The network a run starts with, how its input is normalized, whether its weights were trained before, and their licence."""

    module: nn.Module
    normalization: Normalization
    pretrained: bool
    notes: tuple[tuple[str, str], ...] = field(default=())
    licence: str = ""


def run_image_training(spec: ImageTrainingSpec, hooks: Hooks, workdir: Path) -> TrainResult:
    """Trains and writes workdir/model.zip; checkpoints go to workdir too. See trainer.worker.loop.train for how it ends.

    Raises InvalidArgument, FailedPrecondition, ResourceExhausted or DataLoss with the reasons of `train`, `read_model` and
    `read_checkpoint`, and WARM_START_MISMATCH, CHECKPOINT_MISMATCH, NO_INPUT or NO_CLASSES.
    """
    began = spec.clock()
    task = picture_task(spec.recipe.task)
    picture, classes = _checked(spec, task)
    torch.set_num_threads(training_threads())
    torch.set_flush_denormal(True)  # numbers too small to matter cost a CPU a hundred times the time
    settings, framework = spec.recipe.hyperparameters, spec.recipe.framework
    engine = engine_of(framework)
    torch.manual_seed(settings.seed)
    deterministic = spec.deterministic or settings.deterministic
    device = open_device(device_of(framework, spec.device), deterministic=deterministic, local_rank=spec.group.local_rank)

    def cancelled() -> bool:
        return hooks.should_stop() == "cancel"

    def targets(reader: Pictures, usage: str) -> Targets:
        return task.targets(reader, usage, picture)

    seed, memory = spec.recipe.hyperparameters.seed, spec.memory_bytes
    opened = open_examples(spec.reader, picture, seed, memory_bytes=memory, should_stop=cancelled, targets=targets)
    try:
        with opened as (training, validation):
            if settings.balanced_sampling:
                training = with_balance(training)
            start = _start(spec, task, picture, classes, training)
            for name, message in start.notes:
                hooks.on_event({"step": 0, "epoch": 0.0, "note": name, "message": message})
            setup = _setup(spec, task, start, training, validation, workdir, device, spec.clock() - began)
            outcome = train(setup, hooks, read_checkpoint(spec.resume) if spec.resume else None, engine)
    except Cancelled:
        return _cancelled(spec)
    return _result(spec, start, outcome, picture, classes, workdir)


def _checked(spec: ImageTrainingSpec, task: PictureTask) -> tuple[PictureInput, tuple[str, ...]]:
    spec.recipe.validate()
    classes = _answered(spec.reader)
    if len(classes) < task.fewest_classes:
        message = f"the dataset version has {len(classes)} classes; {task.task} needs at least {task.fewest_classes}"
        raise FailedPrecondition("NO_CLASSES", message, field="dataset_version", value=len(classes))
    if spec.recipe.input is None:
        raise InvalidArgument("NO_INPUT", "the recipe has no input size; height, width and channels are needed", field="recipe")
    return spec.recipe.input, classes


def _answered(reader: Pictures) -> tuple[str, ...]:
    """What the model's answers are of: key points where those are looked for, else classes."""
    described = reader.descriptor
    return described.answered if isinstance(described, DatasetDescriptor) else tuple(described.classes)


def _start(
    spec: ImageTrainingSpec, task: PictureTask, picture: PictureInput, classes: tuple[str, ...], training: Examples
) -> Start:
    recipe = spec.recipe
    loads = spec.resume is None and spec.warm_start is None
    module = task.build(recipe, picture, len(classes), recipe.weights if loads else "")
    if spec.resume is not None:
        state = read_state(spec.resume)
        norm = state["normalization"]
        licence = licence_of(recipe.architecture, recipe.weights) if state["pretrained"] else ""
        return Start(module, Normalization(tuple(norm["mean"]), tuple(norm["std"])), bool(state["pretrained"]), licence=licence)
    if spec.warm_start is not None:
        return _warm(spec.warm_start, module, recipe, picture, classes)
    return _fresh(module, recipe, picture, training)


def _fresh(module: nn.Module, recipe: Recipe, picture: PictureInput, training: Examples) -> Start:
    if recipe.weights == "imagenet" and has_imagenet(recipe.architecture):
        norm = IMAGENET_NORMALIZATION
        licence = licence_of(recipe.architecture, recipe.weights)
        return Start(module, Normalization(norm.mean[: picture.channels], norm.std[: picture.channels]), True, licence=licence)
    notes: tuple[tuple[str, str], ...] = ()
    if recipe.weights:
        message = f"there are no {recipe.weights} weights for {recipe.architecture} in this installation: it trains from nothing"
        notes = (("WEIGHTS_ABSENT", message),)
    return Start(module, measured_normalization(training.sample(2000).pictures.numpy()), False, notes)


def _warm(path: Path, module: nn.Module, recipe: Recipe, picture: PictureInput, classes: tuple[str, ...]) -> Start:
    """Takes the weights of an earlier model; the head too when it tells the same classes apart."""
    model = read_model(path)
    card = model.card
    if card.architecture != recipe.architecture or card.input is None or card.input.channels != picture.channels:
        channels = card.input.channels if card.input else 0
        message = (
            f"the model to start from is {card.architecture} with {channels} channels; "
            f"the recipe is {recipe.architecture} with {picture.channels}: they must be the same"
        )
        raise InvalidArgument("WARM_START_MISMATCH", message, field="warm_start_model_version", value=card.architecture)
    head = {id(each) for each in classifier_of(module).parameters()}
    heads = {name for name, each in module.named_parameters() if id(each) in head} if card.classes != classes else set()
    load_matching(module, {name: value for name, value in unpack_torch(model.tensors()).items() if name not in heads})
    norm = card.normalization or Normalization((0.5,) * picture.channels, (0.5,) * picture.channels)
    note = ("HEAD_REPLACED", "the classes differ from those of the model it starts from: the last layer starts fresh")
    return Start(module, norm, True, (note,) if heads else (), str(card.details.get("licence", "")))


def _setup(
    spec: ImageTrainingSpec,
    task: PictureTask,
    start: Start,
    training: Examples,
    validation: Examples,
    workdir: Path,
    device: torch.device,
    spent_s: float,
) -> Setup:
    picture, classes = spec.recipe.input, len(_answered(spec.reader))
    if picture is None:
        raise AssertionError("checked before")
    return Setup(
        module=start.module,
        train=training,
        validation=validation,
        settings=spec.recipe.hyperparameters,
        normalization=start.normalization,
        workdir=workdir,
        classes=classes,
        learning=task.learning(spec.recipe, picture, classes, training),
        pretrained=start.pretrained,
        flip=task.flip(training.sample(4000)),
        limit_s=spec.max_training_time_s,
        elapsed_s=spec.elapsed_s + spent_s,
        device=str(device),
        checkpoint_every_s=spec.checkpoint_every_s,
        precision=spec.precision,
        group=spec.group,
        batch_limit=spec.batch_limit,
        pause_s=spec.pause_s,
        stretch=spec.stretch,
        clock=spec.clock,
        policy=spec.recipe.policy,
    )


def _result(
    spec: ImageTrainingSpec, start: Start, outcome: Outcome, picture: PictureInput, classes: tuple[str, ...], workdir: Path
) -> TrainResult:
    settings = as_it_ran(spec.recipe.hyperparameters, outcome)
    recipe = replace(spec.recipe, hyperparameters=settings)
    count = sum(each.numel() for each in start.module.parameters())
    card = path = None
    if outcome.reason != CANCELLED and spec.group.lead:
        path = workdir / "model.zip"
        card = _card(spec, start, outcome, picture, classes, recipe, count)
        write_weights(path, card, outcome)
    return train_result(outcome, path, card, recipe, count)


def train_result(
    outcome: Outcome,
    path: Path | None,
    card: ModelCard | None,
    recipe: Recipe,
    count: int,
    metrics: dict[str, float] | None = None,
) -> TrainResult:
    """What came out of a loop. count: parameters; metrics: the loop's where they are left out."""
    return TrainResult(
        reason=outcome.reason,
        metrics=outcome.metrics if metrics is None else metrics,
        steps=outcome.step,
        epochs=outcome.epochs,
        best_step=outcome.best_step,
        train_seconds=outcome.train_seconds,
        examples_per_second=outcome.examples_per_second,
        model_path=path,
        card=card,
        checkpoints=outcome.checkpoints,
        recipe=recipe,
        parameter_count=count,
        peak_memory_bytes=outcome.peak_memory_bytes,
    )


def write_weights(path: Path, card: ModelCard, outcome: Outcome) -> None:
    """Writes the model file. Raises ResourceExhausted DISK_FULL."""
    try:
        write_model(path, card, outcome.weights)
    except OSError as error:
        if not no_room(error):
            raise
        message = f"there is no room for the model file ({error.strerror}); the job's checkpoints stay: make room, then resume it"
        raise ResourceExhausted("DISK_FULL", message, file=path.name) from error


def as_it_ran(settings: Hyperparameters, outcome: Outcome) -> Hyperparameters:
    """The settings with what the run found or had to change by itself in place."""
    changed = replace(settings, batch_size=outcome.batch_size, auto_batch_size=False, auto_base_lr=False)
    return replace(changed, base_lr=outcome.base_lr) if settings.auto_base_lr and outcome.base_lr else changed


def _card(
    spec: ImageTrainingSpec,
    start: Start,
    outcome: Outcome,
    picture: PictureInput,
    classes: tuple[str, ...],
    recipe: Recipe,
    count: int,
) -> ModelCard:
    origin: Mapping[str, Any] = {"version": spec.dataset_version, "digest": spec.reader.descriptor.digest}
    return ModelCard(
        kind="torch",
        task=spec.recipe.task,
        architecture=recipe.architecture,
        classes=classes,
        input=picture,
        normalization=start.normalization,
        metrics=outcome.metrics,
        parameter_count=count,
        recipe=recipe_document(recipe),
        dataset=origin,
        details={
            "pretrained": start.pretrained,
            "licence": start.licence,
            "best_step": outcome.best_step,
            "processes": spec.group.size,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            **outcome.facts,
            "modelyard": code_version(),
        },
    )


def _cancelled(spec: ImageTrainingSpec) -> TrainResult:
    return TrainResult(CANCELLED, {}, 0, 0.0, 0, spec.elapsed_s, 0.0, None, None, {}, spec.recipe, 0)
