"""The compression planner: walks the roads of domain/compression.py and keeps what it measured on each artifact.

`walk` knows roads, limits and a workbench that makes and measures; it needs no torch. `TorchBench` is the workbench: it changes
the model as a road says, has it converted and proven, asks the artifact the validation examples, and measures its latency.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import Cancelled, ModelyardError
from modelyard.core.latency import Latency
from modelyard.exporter.domain.compression import (
    EQUALIZED,
    MIXED,
    PRUNED,
    QAT,
    CompressionLimits,
    CompressionStep,
    Road,
    check_measurable,
    chosen,
    eligible,
    fallback,
    finished,
    judged,
    measured_figures,
    measured_loss,
    metric_name,
    roads,
    taken,
    worth_trying,
)
from modelyard.exporter.domain.form import INT8
from modelyard.formats.tasks import task_of

if TYPE_CHECKING:
    from modelyard.exporter.worker.calibration import CalibrationSet
    from modelyard.exporter.worker.finetune import Examples
    from modelyard.formats.bundle import Source
    from modelyard.formats.dataset import DatasetReader
    from modelyard.formats.model import PictureInput
    from modelyard.recipes.build_image import ServedImageModel

log = logging.getLogger(__name__)

Array = NDArray[Any]

MOST_EXAMPLES: Final = 5000
"""Validation examples that each artifact is asked, at most."""
ASKED_AT_ONCE: Final = 64
CHEAP_S: Final = 15.0
"""What a road without training is taken to need before the first was walked; then what they took so far."""
PRUNING_PART: Final = 0.6
"""Part of the training time that the training after pruning gets; quantization-aware training gets the rest."""


@dataclass(frozen=True)
class Made:
    """An artifact: its bundle, the size of the model file in it, and what its activations need of RAM (0: not known)."""

    path: Path
    size_bytes: int
    ram_bytes: int = 0


class Workbench(Protocol):
    """What makes and measures."""

    def make(self, road: Road, listener: Listener) -> Made:
        """The artifact of a road; raises ModelyardError where there is none."""
        ...

    def answers(self, made: Made) -> Array:
        """What it says of the validation examples: [N, outputs]."""
        ...

    def latency(self, made: Made) -> Latency | None:
        """Its latency on the target; None where that cannot be measured."""
        ...


@dataclass(frozen=True)
class Listener:
    """on_progress(what is done, fraction 0 to 1, seconds left at most); should_stop is asked between and inside roads."""

    on_progress: Callable[[str, float, float], None] = lambda stage, fraction, eta_s: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Plan:
    """What is wanted. precision: "" for any. truth: of the validation examples [N]. training_s: most time one road may train.
    figures: the workbench's answers are figures of pictures (worker.picture_figures), which need no truth beside them."""

    format: str
    precision: str
    limits: CompressionLimits
    task: str
    truth: Array
    training_s: float = 300.0
    accelerator: str = ""
    unmeasured_reason: str = ""
    seed: int = 0
    figures: bool = False


@dataclass(frozen=True)
class Compressed:
    """The artifact that was taken with its step, and the trail of all that was tried.

    accepted: False where every road failed; then it is the float model, which the last step of the trail says.
    """

    path: Path
    step: CompressionStep
    trail: tuple[CompressionStep, ...]
    accepted: bool


@dataclass
class _Walk:
    plan: Plan
    bench: Workbench
    listener: Listener
    roads: tuple[Road, ...]
    clock: Callable[[], float]
    trail: list[CompressionStep] = field(default_factory=list)
    made: list[Made | None] = field(default_factory=list)
    float_answers: Array | None = None
    cheap_s: list[float] = field(default_factory=list)
    fraction: float = 0.0


def walk(plan: Plan, bench: Workbench, listener: Listener, *, clock: Callable[[], float] = time.monotonic) -> Compressed:
    """Walks the roads, cheapest first, until the rules say that it ends.

    A road that cannot be walked has its reason in the trail and the next one is tried; only the float model must succeed. Raises
    FailedPrecondition LATENCY_UNMEASURED or NO_EXAMPLES, what making the float model raises, and Cancelled. Artifacts that were
    not taken are deleted.
    """
    check_measurable(plan.limits, plan.unmeasured_reason)
    found = roads(plan.format, plan.precision, plan.limits, plan.accelerator, plan.task)
    state = _Walk(plan, bench, listener, found, clock)
    for number, road in enumerate(found):
        if listener.should_stop():
            raise Cancelled("CANCELLED", "the compression was cancelled")
        if worth_trying(road, state.trail, plan.limits):
            _try(state, number, road)
            if finished(state.trail, plan.limits):
                break
    return _ended(state)


def _try(state: _Walk, number: int, road: Road) -> None:
    began = state.clock()
    try:
        step, made = _measured(state, number, road)
    except Cancelled:
        raise
    except ModelyardError as error:
        if number == 0:
            raise
        step, made = _failed(road, f"not accepted: {error.message}"), None
    state.trail.append(step)
    state.made.append(made)
    log.info("%s: %s", step.road, step.message)
    if not road.trains:
        state.cheap_s.append(state.clock() - began)


def _measured(state: _Walk, number: int, road: Road) -> tuple[CompressionStep, Made]:
    made = state.bench.make(road, _inside(state, number, road))
    answers = state.bench.answers(made)
    if state.float_answers is None:
        state.float_answers = answers
    plan = state.plan
    if plan.figures:
        metric, loss = measured_figures(task_of(plan.task).paired, state.float_answers, answers, seed=plan.seed)
    else:
        name = metric_name(plan.limits, plan.task)
        metric, loss = measured_loss(name, plan.truth, state.float_answers, answers, seed=plan.seed)
    counts = eligible(road, plan.format, plan.precision)
    latency = state.bench.latency(made) if counts and not plan.unmeasured_reason else None
    step = _step(road, made.size_bytes, latency, metric=metric, loss=loss, ram_bytes=made.ram_bytes)
    return judged(step, plan.limits, counts=counts), made


def _step(road: Road, size: int = 0, latency: Latency | None = None, **figures: Any) -> CompressionStep:
    form = road.form
    return CompressionStep(road.name, form.format, form.precision, road.quantization, size, latency, **figures)


def _failed(road: Road, message: str) -> CompressionStep:
    form = road.form
    return CompressionStep(road.name, form.format, form.precision, road.quantization, message=message)


def _inside(state: _Walk, number: int, road: Road) -> Listener:
    """A listener for one road, whose progress is a part of the whole; the roads after it count as if all had to be walked."""
    costs = [_cost(state, each) for each in state.roads]
    before, after, total = sum(costs[:number]), sum(costs[number + 1 :]), sum(costs)

    def on_progress(stage: str, fraction: float, eta_s: float) -> None:
        if state.listener.should_stop():
            raise Cancelled("CANCELLED", "the compression was cancelled")
        state.fraction = max(state.fraction, (before + fraction * costs[number]) / total)
        state.listener.on_progress(f"{road.name}: {stage}", state.fraction, eta_s + after)

    on_progress("make", 0.0, costs[number])
    return Listener(on_progress, state.listener.should_stop)


def _cost(state: _Walk, road: Road) -> float:
    cheap = sum(state.cheap_s) / len(state.cheap_s) if state.cheap_s else CHEAP_S
    return cheap + (state.plan.training_s if road.trains else 0.0)


def _ended(state: _Walk) -> Compressed:
    number = chosen(state.trail, state.plan.limits)
    kept = state.made[number or 0]
    if kept is None:
        raise AssertionError("an accepted step has an artifact")
    for other in state.made:
        if other is not None and other is not kept:
            other.path.unlink(missing_ok=True)
    if number is None:
        state.trail.append(fallback(state.trail, skipped_training=state.plan.limits.skip_training))
        return Compressed(kept.path, state.trail[-1], tuple(state.trail), accepted=False)
    state.trail[number] = taken(state.trail[number])
    return Compressed(kept.path, state.trail[number], tuple(state.trail), accepted=True)


# The workbench


@dataclass(frozen=True)
class Context:
    """What the roads start from.

    model: the trained one. measure(path): latency on the target, None where nobody can. The rest goes into every bundle's card.
    """

    model: ServedImageModel
    picture: PictureInput
    reader: DatasetReader
    workdir: Path
    source: Source
    measure: Callable[[Path], Latency | None]
    plan: Plan
    classes: tuple[str, ...] = ()
    recipe: str = ""
    licence: str = ""


def compress(context: Context, listener: Listener | None = None) -> Compressed:
    """Walks the roads of a trained network; raises what `walk` does. The rules: docs/decisions/0011-compression-planner.md."""
    bench = PictureBench(context) if context.plan.figures else TorchBench(context)
    return walk(context.plan, bench, listener or Listener())


def validation_examples(reader: DatasetReader, picture: PictureInput, seed: int = 0) -> Examples:
    """The examples that the loss is measured on: those for validation (at most MOST_EXAMPLES), else as many for training."""
    from modelyard.exporter.worker.finetune import Examples
    from modelyard.formats.dataset import TRAIN, VALIDATION

    usage = VALIDATION if len(reader.indices(VALIDATION)) else TRAIN
    positions = reader.indices(usage)
    rows = np.sort(np.random.default_rng(seed).permutation(len(positions))[:MOST_EXAMPLES])
    pictures = reader.decode(positions[rows], picture.height, picture.width, picture.channels)
    return Examples(pictures, reader.labels(usage)[rows])


class TorchBench:
    """Makes artifacts of a trained classifier."""

    def __init__(self, context: Context, validation: Examples | None = None) -> None:
        self._context = context
        self._validation = validation or validation_examples(context.reader, context.picture, context.plan.seed)
        self._train: Examples | None = None
        self._calibration: CalibrationSet | None = None
        self._made = 0

    def make(self, road: Road, listener: Listener) -> Made:
        """Changes the model, converts, proves and writes it."""
        from dataclasses import replace

        from modelyard.exporter.worker.edge import footprint
        from modelyard.exporter.worker.export import write_export
        from modelyard.formats.bundle import open_bundle

        context, form = self._context, road.form
        model = self._changed(road, listener)
        if road.means == MIXED:
            form = replace(form, float_layers=self._float_layers(model))
        self._made += 1
        path = context.workdir / f"road-{self._made}.bundle"
        listener.on_progress("convert", 1.0, CHEAP_S)
        write_export(
            model,
            context.reader,
            path,
            form,
            context.source,
            picture=context.picture,
            calibration=self._drawn(),
            quantization_method=road.quantization,
            classes=context.classes,
            recipe=context.recipe,
            licence=context.licence,
        )
        bundle = open_bundle(path)
        return Made(path, bundle.model_size, footprint(bundle.model_files()).ram_bytes)

    def answers(self, made: Made) -> Array:
        """Probabilities of the validation pictures."""
        from modelyard.formats.bundle import open_bundle
        from modelyard.runtime.latency import usable_cores
        from modelyard.runtime.model import load_model

        model = load_model(open_bundle(made.path), threads=usable_cores())
        pictures = self._validation.pictures
        name = model.card.outputs[0].name
        try:
            parts = [
                model.run({"image": pictures[start : start + ASKED_AT_ONCE]})[name]
                for start in range(0, len(pictures), ASKED_AT_ONCE)
            ]
        finally:
            model.close()
        return np.concatenate(parts)

    def latency(self, made: Made) -> Latency | None:
        """On the target."""
        return self._context.measure(made.path)

    def _changed(self, road: Road, listener: Listener) -> ServedImageModel:
        from modelyard.exporter.worker.equalize import equalized

        model = self._context.model
        if road.means in (EQUALIZED, MIXED):
            return equalized(model)
        if road.means == QAT:
            return self._aware(model, self._context.plan.training_s, listener)
        return self._pruned(road, listener) if road.means == PRUNED else model

    def _aware(self, model: ServedImageModel, seconds: float, listener: Listener) -> ServedImageModel:
        from modelyard.exporter.worker.qat import quantization_aware

        return quantization_aware(
            model,
            self._examples(),
            seconds=seconds,
            seed=self._context.plan.seed,
            on_progress=lambda fraction, eta_s: listener.on_progress("train with rounding", fraction, eta_s),
            should_stop=listener.should_stop,
        )

    def _pruned(self, road: Road, listener: Listener) -> ServedImageModel:
        from modelyard.exporter.worker import finetune
        from modelyard.exporter.worker.pruning import prune_channels

        plan = self._context.plan
        part = PRUNING_PART if road.form.precision == INT8 else 1.0
        heard = finetune.Listener(
            lambda fraction, eta_s: listener.on_progress("train what is left", part * fraction, eta_s), listener.should_stop
        )
        budget = finetune.Budget(part * plan.training_s, seed=plan.seed)
        pruned = prune_channels(self._context.model, self._examples(), road.channels, budget, heard)
        return self._aware(pruned, (1 - part) * plan.training_s, listener) if road.form.precision == INT8 else pruned

    def _float_layers(self, model: ServedImageModel) -> tuple[str, ...]:
        from modelyard.exporter.worker.sensitivity import layers_that_hurt

        return layers_that_hurt(model, self._examples(), seed=self._context.plan.seed)

    def _examples(self) -> Examples:
        from modelyard.exporter.worker.finetune import Examples
        from modelyard.formats.dataset import AUDIO, TRAIN

        if self._train is None:
            picture, reader = self._context.picture, self._context.reader
            pictures = reader.pictures(TRAIN, picture.height, picture.width, picture.channels)
            self._train = Examples(pictures, reader.labels(TRAIN), reader.descriptor.kind == AUDIO)
        return self._train

    def _drawn(self) -> CalibrationSet:
        from modelyard.exporter.worker.calibration import draw

        if self._calibration is None:
            self._calibration = draw(self._context.reader, self._context.picture, seed=self._context.plan.seed)
        return self._calibration


MOST_PICTURES: Final = 500
"""Validation pictures of which figures are taken, at most: these answers are large."""


class PictureBench(TorchBench):
    """Makes artifacts of networks whose answers are many things, and gives one figure a picture (worker.picture_figures)."""

    def __init__(self, context: Context) -> None:
        from modelyard.exporter.worker.finetune import Examples
        from modelyard.formats.dataset import TRAIN, VALIDATION

        reader, picture = context.reader, context.picture
        self._usage = VALIDATION if len(reader.indices(VALIDATION)) else TRAIN
        positions = reader.indices(self._usage)
        self._rows = np.sort(np.random.default_rng(context.plan.seed).permutation(len(positions))[:MOST_PICTURES])
        pictures = reader.decode(positions[self._rows], picture.height, picture.width, picture.channels)
        super().__init__(context, Examples(pictures, np.zeros(len(self._rows), np.int64)))

    def answers(self, made: Made) -> Array:
        """Figures of the validation pictures [N]."""
        from modelyard.exporter.worker.picture_figures import picture_figures
        from modelyard.formats.bundle import open_bundle
        from modelyard.runtime.latency import usable_cores
        from modelyard.runtime.model import load_model

        model = load_model(open_bundle(made.path), threads=usable_cores())
        reader, found = self._context.reader, []
        try:
            for start in range(0, len(self._rows), ASKED_AT_ONCE):
                part = slice(start, start + ASKED_AT_ONCE)
                said = model.run({"image": self._validation.pictures[part]})
                found.append(picture_figures(reader, self._usage, self._rows[part], said))
        finally:
            model.close()
        return np.concatenate(found) if found else np.empty(0)
