"""Training of a detector of anomalies from a dataset version to a model file: from normal readings alone.

What is labelled anomalous in training recordings is left out of what the detector learns. Labels serve for two choices only, made
on the training and validation recordings together: whether machines are held against their own past (formats/sensors.py), and the
threshold. The test recordings take part in nothing.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.checkpoint import pack_torch
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.formats.model import ModelCard, write_model
from modelyard.formats.provenance import code_version
from modelyard.formats.sensors import REFERENCE, Inputs, Recording, Watch, recordings, usual_watch
from modelyard.formats.series import SERIES
from modelyard.recipes.build_sensors import (
    FLOOR,
    HOTELLING_SMALL,
    AutoEncoder,
    Forest,
    Hotelling,
    SensorModel,
    build_sensors,
)
from modelyard.recipes.recipe import Recipe, recipe_document
from modelyard.trainer.worker.processors import training_threads

OnStage = Callable[[str, int, int], None]
FALSE_ALARMS: Final = 0.01
"""Where no anomaly is labelled: the share of normal readings (of validation recordings, if there are some) that may be called
anomalous. The threshold is chosen so."""
MOST_WINDOWS: Final = 20_000
MOST_OF_ONE: Final = 500
"""Windows that are learned from, in all and of one recording: each recording counts the same, however long."""
AT_ONCE: Final = 512
BATCH: Final = 64
RATE: Final = 2e-3
EVERY: Final = 50

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SensorResult:
    """What came out. metrics: of the validation recordings (of the training ones where there are none)."""

    card: ModelCard
    metrics: Mapping[str, float]
    parameter_count: int


@dataclass(frozen=True)
class Judged:
    """A recording's readings that were judged: scores and marks [J]."""

    scores: Floats
    anomalous: Bools


@dataclass(frozen=True)
class Task:
    """What a run learns from, and how it is told of time."""

    train: Sequence[Recording]
    validation: Sequence[Recording]
    recipe: Recipe
    on_stage: OnStage
    deadline: float | None

    @property
    def every(self) -> list[Recording]:
        """Both."""
        return [*self.train, *self.validation]


def run_sensor_training(
    reader: DatasetReader,
    recipe: Recipe,
    path: Path,
    dataset: Mapping[str, str],
    on_stage: OnStage,
    deadline: float | None = None,
) -> SensorResult:
    """Learns and writes the model file at `path`. on_stage(what, done, total) may raise what ends the run. deadline: monotonic
    seconds at which an autoencoder stops learning.

    Raises FailedPrecondition NO_TRAINING_EXAMPLES, NO_NORMAL_DATA, RECORDINGS_TOO_SHORT; InvalidArgument UNKNOWN_ARCHITECTURE.
    """
    torch.set_num_threads(training_threads())
    on_stage("reading recordings", 0, 4)
    task = Task(list(recordings(reader, TRAIN)), list(recordings(reader, VALIDATION)), recipe, on_stage, deadline)
    if not task.train:
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")
    on_stage("choosing what to hold readings against", 1, 4)
    watch = choose_watch(task)
    model = fitted(task, watch, recipe.architecture)
    on_stage("choosing the threshold", 3, 4)
    judged = [judge(model, each) for each in task.every]
    threshold, rule = choose_threshold(judged, len(task.train))
    model.threshold.data.fill_(threshold)
    metrics = _metrics(judged[len(task.train) :] or judged, threshold)
    count = sum(each.numel() for each in model.parameters())
    card = ModelCard(
        kind="torch",
        task="anomaly_detection",
        architecture=recipe.architecture,
        classes=reader.descriptor.classes,
        metrics=metrics,
        parameter_count=count,
        recipe=recipe_document(recipe),
        dataset=dataset,
        details={
            "steps": watch.window,
            "reference": watch.reference,
            "channels": model.shape.channels,
            "channel_names": list(reader.descriptor.channels),
            "seed": recipe.tabular.seed,
            "threshold": threshold,
            "threshold_rule": rule,
            "torch": torch.__version__,
            "modelyard": code_version(),
        },
    )
    tensors = {name.removeprefix("x/"): value for name, value in pack_torch(model.state_dict(), "x").items()}
    write_model(path, card, tensors)
    return SensorResult(card, metrics, count)


def choose_watch(task: Task) -> Watch:
    """Whether a window is held against its machine's past or against all training: by which the small detector tells labelled
    anomalies apart better; where none are labelled, against its past if the recordings' levels differ by more than they spread.
    Raises FailedPrecondition RECORDINGS_TOO_SHORT."""
    lengths = np.array([each.steps for each in task.train], np.int64)
    against_all, against_past = (usual_watch(lengths, referenced=referenced) for referenced in (False, True))
    if against_all is None:
        message = f"the training recordings have {int(np.median(lengths))} readings (median); at least 8 are needed"
        raise FailedPrecondition("RECORDINGS_TOO_SHORT", message, steps=int(np.median(lengths)))
    usable = [each for each in task.every if against_past and not each.anomalous[: against_past.reference].any()]
    if against_past is None or len(usable) < 0.5 * len(task.every):
        return against_all
    if not any(each.anomalous.any() for each in task.every):
        return against_past if len(task.train) > 1 and _levels_differ(task.train) else against_all
    return max((against_past, against_all), key=lambda watch: _best(task, watch))


def _best(task: Task, watch: Watch) -> float:
    """The best F1 that the small detector has with a watch; 0 where it cannot learn."""
    try:
        model = fitted(task, watch, HOTELLING_SMALL)
    except FailedPrecondition:
        return 0.0
    judged = [each for each in (judge(model, one) for one in task.every) if len(each.scores)]
    return best_f1(judged)[0] if judged else 0.0


def _levels_differ(train: Sequence[Recording]) -> bool:
    """Whether the means of recordings are further apart than readings within them, in the median channel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        means = np.stack([np.nanmean(each.values, axis=0) for each in train])
        within = np.sqrt(np.nanmean([np.nanvar(each.values, axis=0) for each in train], axis=0))
        ratio = np.nanstd(means, axis=0) / np.where(within > 0, within, np.nan)
    return bool(np.nanmedian(ratio) > 1) if np.isfinite(ratio).any() else False


def fitted(task: Task, watch: Watch, architecture: str) -> SensorModel:
    """A detector that has learned the normal windows of the training recordings. Raises FailedPrecondition NO_NORMAL_DATA."""
    channels = task.train[0].values.shape[1]
    model = build_sensors(architecture, watch, channels)
    random = np.random.default_rng(task.recipe.tabular.seed)
    _set_scale(model, task.train)
    most = max(1, min(MOST_OF_ONE, MOST_WINDOWS // len(task.train)))
    drawn = [_normal(model, each, most, random) for each in task.train]
    kept = [each for each in drawn if len(each)]
    if not kept:
        message = (
            f"no training recording has {watch.window} normal readings in a row"
            f"{f' after its first {watch.reference}' if watch.reference else ''}; a detector learns from normal readings alone"
        )
        raise FailedPrecondition("NO_NORMAL_DATA", message, window=watch.window, reference=watch.reference)
    windows = torch.cat(kept)
    weights = torch.cat([torch.full((len(each),), 1.0 / (len(kept) * len(each))) for each in kept])
    detector = model.detector
    if isinstance(detector, Hotelling):
        detector.fit(windows, weights)
    elif isinstance(detector, Forest):
        detector.fit(windows, task.recipe.tabular.seed)
    elif isinstance(detector, AutoEncoder):
        _learn(detector, windows, weights, task)
    return model.eval()


@torch.no_grad()
def _set_scale(model: SensorModel, train: Sequence[Recording]) -> None:
    """Level and spread of the normal training readings, each recording counting the same; the least spread in a reference."""
    normal = [each.values[~each.anomalous] for each in train]
    normal = [each for each in normal if len(each)] or [each.values for each in train]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel without a single value
        centre = np.nan_to_num(np.nanmean([np.nanmean(each, axis=0) for each in normal], axis=0))
        spread = np.sqrt(np.nan_to_num(np.nanmean([np.nanmean(np.square(each - centre), axis=0) for each in normal], axis=0)))
        within = np.sqrt(np.nan_to_num(np.nanmean([np.nanvar(each, axis=0) for each in normal], axis=0)))
    steady = np.maximum(np.abs(centre) * 1e-6, 1e-9)
    model.centre.copy_(torch.from_numpy(centre.astype(np.float32)))
    model.scale.copy_(torch.from_numpy(np.where(spread > steady, spread, 1.0).astype(np.float32)))
    model.floor.copy_(
        torch.from_numpy(np.where(within > steady, FLOOR * within, np.where(spread > steady, spread, 1.0)).astype(np.float32))
    )


@torch.inference_mode()
def _normal(model: SensorModel, recording: Recording, most: int, random: np.random.Generator) -> torch.Tensor:
    """Scaled windows of a recording without an anomalous reading, at most so many, evenly drawn: float32 [M, W, C]."""
    watch = model.shape.watch
    ends = watch.ends(recording.steps)
    if not len(ends):
        return torch.empty(0, watch.window, model.shape.channels)
    before = np.concatenate([[0], np.cumsum(recording.anomalous)])
    ends = ends[before[ends] == before[ends - watch.window]]
    if len(ends) > most:
        ends = np.sort(random.choice(ends, most, replace=False))
    parts = [_scaled(model, watch.inputs(recording.values, ends[at : at + AT_ONCE])) for at in range(0, len(ends), AT_ONCE)]
    return torch.cat(parts).clone() if parts else torch.empty(0, watch.window, model.shape.channels)


def _scaled(model: SensorModel, inputs: Inputs) -> torch.Tensor:
    return model.scaled(*_tensors(inputs))


def _tensors(inputs: Inputs) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs[name]) for name in (SERIES, REFERENCE) if name in inputs]


def _learn(network: AutoEncoder, windows: torch.Tensor, weights: torch.Tensor, task: Task) -> None:
    """Adam over batches in which every recording is as likely; the rate falls to nothing along a cosine."""
    settings = task.recipe.tabular
    draws = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    for each in network.modules():
        if isinstance(each, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            each.reset_parameters()
    learned = [each for name, each in network.named_parameters() if name != "spread"]
    for weight in learned:
        weight.requires_grad_(True)
    rate = settings.base_lr or RATE
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=settings.weight_decay or 1e-4)
    for step in range(settings.max_steps):
        if step % EVERY == 0:
            task.on_stage("learning to rebuild windows", step, settings.max_steps)
            if task.deadline is not None and time.monotonic() >= task.deadline:
                break
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / settings.max_steps))
        some = windows[torch.multinomial(weights, min(BATCH, len(windows)), replacement=True, generator=draws)]
        optimizer.zero_grad()
        loss = network.left(some.clamp(-10.0, 10.0)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
    for weight in learned:
        weight.requires_grad_(False)
    with torch.no_grad():
        total = sum(
            torch.einsum(
                "m,mtc->c", weights[at : at + AT_ONCE] / windows.shape[1], network.left(windows[at : at + AT_ONCE]).square()
            )
            for at in range(0, len(windows), AT_ONCE)
        )
        network.spread.copy_(torch.sqrt(torch.as_tensor(total)).clamp(min=1e-4))


@torch.inference_mode()
def judge(model: SensorModel, recording: Recording) -> Judged:
    """What a detector says of a recording, as evaluations take it."""
    watch = model.shape.watch
    ends = watch.ends(recording.steps)
    parts = [model(*_tensors(watch.inputs(recording.values, ends[at : at + AT_ONCE]))) for at in range(0, len(ends), AT_ONCE)]
    scores = torch.cat(parts).reshape(-1).numpy() if parts else np.empty(0)
    return Judged(
        watch.by_reading(scores, recording.steps), recording.anomalous[watch.first :] if len(ends) else np.empty(0, bool)
    )


def choose_threshold(judged: Sequence[Judged], training: int) -> tuple[float, str]:
    """The score from which on a reading is called anomalous, and the rule in words; the first `training` are of training."""
    used = [each for each in judged if len(each.scores)]
    if not used:
        raise FailedPrecondition(
            "RECORDINGS_TOO_SHORT", "no recording is long enough to be judged beyond what it is held against"
        )
    if any(each.anomalous.any() for each in used) and not all(each.anomalous.all() for each in used):
        f1, threshold = best_f1(used)
        return max(threshold, 1e-6), f"best F1 ({f1:.3f}) of training and validation recordings, each counting the same"
    held_out = [each for each in judged[training:] if (~each.anomalous).any()]
    normal = [each.scores[~each.anomalous] for each in held_out or used]
    scores, weights = np.concatenate(normal), np.concatenate([np.full(len(each), 1 / max(1, len(each))) for each in normal])
    order = np.argsort(-scores, kind="stable")
    above = np.cumsum(weights[order]) / weights.sum()
    place = min(int(np.searchsorted(above, FALSE_ALARMS, side="right")), len(order) - 1)
    kind = "validation" if held_out else "training"
    return max(
        float(scores[order[place]]) * (1 + 1e-6), 1e-6
    ), f"{100 * FALSE_ALARMS:g} percent false alarms on {kind} recordings"


def best_f1(judged: Sequence[Judged]) -> tuple[float, float]:
    """The best F1 of the readings and the threshold that gives it, each recording counting the same."""
    scores = np.concatenate([each.scores for each in judged])
    marks = np.concatenate([each.anomalous for each in judged])
    weights = np.concatenate([np.full(len(each.scores), 1 / len(each.scores)) for each in judged])
    order = np.argsort(-scores, kind="stable")
    right, called = np.cumsum((weights * marks)[order]), np.cumsum(weights[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are called together
    f1 = np.where(last, 2 * right / (called + (weights * marks).sum()), 0.0)
    best = int(f1.argmax())
    lower = scores[order[best + 1]] if best + 1 < len(order) else scores[order[best]]
    return float(f1[best]), float((scores[order[best]] + lower) / 2)


def _metrics(judged: Sequence[Judged], threshold: float) -> dict[str, float]:
    """val_f1, val_recall where anomalies are labelled, val_false_alarm_rate, of all readings together."""
    if not any(len(each.scores) for each in judged):
        return {}
    called = np.concatenate([each.scores >= threshold for each in judged])
    marks = np.concatenate([each.anomalous for each in judged])
    found: dict[str, float] = {"val_false_alarm_rate": float(called[~marks].mean()) if (~marks).any() else 0.0}
    if marks.any():
        found["val_f1"] = float(2 * (called & marks).sum() / max(1, called.sum() + marks.sum()))
        found["val_recall"] = float(called[marks].mean())
    return found
