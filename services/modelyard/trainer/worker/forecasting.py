"""Training of a forecaster from a dataset version to a model file.

A linear map is fitted in one go, its penalty chosen on the validation windows; a network goes on from there, and is kept only as
far as it does better on them. Residuals on validation windows give the interval. Last the linear map is fitted again to training
and validation readings together, for the latest readings tell most. The test part takes part in nothing.
"""

from __future__ import annotations

import copy
import time
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
from modelyard.formats.forecasts import COVERAGE, Track, coming, naive_error, origins, plan, seen, tracks
from modelyard.formats.model import ModelCard, write_model
from modelyard.formats.provenance import code_version
from modelyard.formats.series import SERIES
from modelyard.recipes.build_forecast import HITS, NAIVE, ForecastModel, Ridge, build_forecast, ridge
from modelyard.recipes.recipe import Recipe, recipe_document
from modelyard.trainer.worker.processors import training_threads

OnStage = Callable[[str, int, int], None]
PENALTIES: Final = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
"""Of the linear map's weights, as a share of what a reading explains."""
MOST_WINDOWS: Final = 20_000
FEW_RESIDUALS: Final = 100
"""Validation windows from which on their residuals alone give the interval."""
BATCH: Final = 64
RATE: Final = 1e-3
EVERY: Final = 50
PATIENCE: Final = 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ForecastResult:
    """What came out. metrics: val_mase_error (the MASE) of the validation windows, before the last fit."""

    card: ModelCard
    metrics: Mapping[str, float]
    parameter_count: int


@dataclass(frozen=True)
class Windows:
    """Windows of all series and channels in spreads from their level: what is seen [M, context], what comes [M, horizon], how
    large a spread is [M] in multiples of the error of the seasonal naive forecast (NaN where that has none)."""

    seen: Floats
    coming: Floats
    unit: Floats

    def __len__(self) -> int:
        return len(self.seen)


def run_forecast_training(
    reader: DatasetReader,
    recipe: Recipe,
    path: Path,
    dataset: Mapping[str, str],
    on_stage: OnStage,
    deadline: float | None = None,
) -> ForecastResult:
    """Learns and writes the model file at `path`. on_stage(what, done, total) may raise what ends the run. deadline: monotonic
    seconds at which a network stops learning.

    Raises FailedPrecondition NO_TRAINING_EXAMPLES, NO_WINDOWS; InvalidArgument SERIES_TOO_SHORT, HORIZON_TOO_LONG,
    CONTEXT_TOO_LONG, UNKNOWN_ARCHITECTURE.
    """
    torch.set_num_threads(training_threads())
    settings = recipe.tabular
    on_stage("reading series", 0, 4)
    found = tracks(reader, (TRAIN, VALIDATION))
    if not any(track.of(TRAIN) for track in found):
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")
    span = plan(found, settings.horizon or 0, settings.context_length or 0)
    torch.manual_seed(settings.seed)
    model = build_forecast(recipe.architecture, span)
    train, validation = (windows(model, found, usage, settings.seed) for usage in (TRAIN, VALIDATION))
    if not len(train):
        message = (
            f"no series has {span.context + span.horizon} readings in a row to learn from, without a missing one in what comes"
        )
        raise FailedPrecondition("NO_WINDOWS", message, context=span.context, horizon=span.horizon)
    on_stage("fitting the linear map", 1, 4)
    penalty = 0.0
    if recipe.architecture != NAIVE:
        penalty, fitted = _best_ridge(train, validation, settings.weight_decay)
        model.set_linear(fitted.weight, fitted.bias)
    if recipe.architecture == HITS:
        _learn(model, train, validation, recipe, on_stage, deadline)
    on_stage("measuring the interval", 3, 4)
    metrics = _metrics(model, validation if len(validation) else train)
    model.set_interval(*_interval(_residuals(model, train), _residuals(model, validation)))
    if recipe.architecture != NAIVE and len(validation):
        both = Windows(
            *(np.concatenate([getattr(each, name) for each in (train, validation)]) for name in ("seen", "coming", "unit"))
        )
        left = Windows(both.seen, both.coming - _beside(model, both), both.unit)
        again = ridge(left.seen, left.coming, penalty)
        model.set_linear(again.weight, again.bias)
    count = sum(each.numel() for each in model.parameters())
    card = ModelCard(
        kind="torch",
        task="forecasting",
        architecture=recipe.architecture,
        metrics=metrics,
        parameter_count=count,
        recipe=recipe_document(recipe),
        dataset=dataset,
        details={
            "context": span.context,
            "horizon": span.horizon,
            "period": span.period,
            "channels": found[0].values.shape[1],
            "channel_names": list(reader.descriptor.channels),
            "penalty": penalty,
            "seed": settings.seed,
            "coverage": COVERAGE,
            "torch": torch.__version__,
            "modelyard": code_version(),
        },
    )
    tensors = {name.removeprefix("x/"): value for name, value in pack_torch(model.state_dict(), "x").items()}
    write_model(path, card, tensors)
    return ForecastResult(card, metrics, count)


@torch.inference_mode()
def windows(model: ForecastModel, found: Sequence[Track], usage: str, seed: int) -> Windows:
    """The windows of a usage; of more than MOST_WINDOWS a draw. Those with a gap in what comes are left out."""
    span = model.span
    placed = [(track, origins(track, usage, span)) for track in found]
    total = sum(len(at) for _, at in placed) * max(1, found[0].values.shape[1])
    share = min(1.0, MOST_WINDOWS / max(total, 1))
    random = np.random.default_rng(seed)
    parts = []
    for track, every in placed:
        at = every if share == 1.0 else every[random.random(len(every)) < share]
        if not len(at):
            continue
        series = torch.from_numpy(seen(track, at, span)[SERIES]).permute(0, 2, 1)
        window, level, spread = (each.double().numpy() for each in model.normal(series))
        wanted = (coming(track, at, span).transpose(0, 2, 1) - level) / spread
        unit = (spread[:, :, 0] / naive_error(track, span)).reshape(-1)
        rows = (window.reshape(-1, span.context), wanted.reshape(-1, span.horizon), unit)
        kept = ~np.isnan(rows[1]).any(axis=1)
        parts.append(tuple(each[kept] for each in rows))
    if not parts:
        return Windows(np.empty((0, span.context)), np.empty((0, span.horizon)), np.empty(0))
    return Windows(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _best_ridge(train: Windows, validation: Windows, penalty: float | None) -> tuple[float, Ridge]:
    """By the mean absolute error of the validation windows (of the last fifth of the training ones where there are none)."""
    learned, held = train, validation
    if not len(held):
        cut = max(1, len(train) * 4 // 5)
        learned, held = (
            Windows(train.seen[part], train.coming[part], train.unit[part]) for part in (slice(cut), slice(cut, None))
        )
    if penalty is not None or not len(held):
        chosen = penalty if penalty is not None else PENALTIES[4]
        return chosen, ridge(train.seen, train.coming, chosen)
    errors = [float(np.abs(ridge(learned.seen, learned.coming, each).said(held.seen) - held.coming).mean()) for each in PENALTIES]
    chosen = PENALTIES[int(np.argmin(errors))]
    return chosen, ridge(train.seen, train.coming, chosen)


def _learn(
    model: ForecastModel, train: Windows, validation: Windows, recipe: Recipe, on_stage: OnStage, deadline: float | None
) -> None:
    """Adam on the mean absolute error, from the linear map on; the best on the validation windows is kept."""
    settings = recipe.tabular
    draws = torch.Generator().manual_seed(settings.seed)
    data = [torch.from_numpy(each.astype(np.float32)) for each in (train.seen, train.coming)]
    learned = [each for each in model.blocks.parameters() if each.requires_grad]
    rate = settings.base_lr or RATE
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=1e-2)
    best, kept, since = _error(model, validation), copy.deepcopy(model.blocks.state_dict()), 0
    for step in range(settings.max_steps):
        if step % EVERY == 0:
            on_stage("learning", step, settings.max_steps)
            if deadline is not None and time.monotonic() >= deadline:
                break
        rows = torch.randint(0, len(train), (min(BATCH, len(train)),), generator=draws)
        optimizer.zero_grad()
        said = model.said(data[0][rows][:, None])[:, 0]
        loss = (said - data[1][rows]).abs().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0 and len(validation):
            error = _error(model, validation)
            since = 0 if error < best else since + 1
            if error < best:
                best, kept = error, copy.deepcopy(model.blocks.state_dict())
            if since >= PATIENCE:
                break
    if len(validation):
        model.blocks.load_state_dict(kept)


@torch.inference_mode()
def _said(model: ForecastModel, held: Windows) -> Floats:
    parts = [
        model.said(torch.from_numpy(held.seen[at : at + 1024].astype(np.float32))[:, None])[:, 0].double().numpy()
        for at in range(0, len(held), 1024)
    ]
    return np.concatenate(parts) if parts else np.empty((0, model.span.horizon))


def _beside(model: ForecastModel, held: Windows) -> Floats:
    """What the networks add to the linear map, [M, horizon]."""
    if model.linear is None or not len(model.blocks):
        return np.zeros((len(held), model.span.horizon))
    linear = Ridge(*(each.detach().double().numpy() for each in (model.linear.weight, model.linear.bias)))
    return np.asarray(_said(model, held) - linear.said(held.seen))


def _residuals(model: ForecastModel, held: Windows) -> Floats:
    return np.asarray(held.coming - _said(model, held))


def _error(model: ForecastModel, held: Windows) -> float:
    return float(np.abs(_residuals(model, held)).mean()) if len(held) else 0.0


def _interval(train: Floats, validation: Floats) -> tuple[Floats, Floats]:
    """The quantiles of residuals a step ahead, as split conformal prediction takes them. With few validation windows those of
    training help, grown by as much as the error on validation is larger."""
    held = validation
    if len(validation) < FEW_RESIDUALS:
        growth = 1.0
        if len(validation) and len(train):
            growth = max(1.0, float(np.abs(validation).mean()) / max(float(np.abs(train).mean()), 1e-12))
        held = np.concatenate([validation, growth * train])
    count = len(held)
    outside = min(1.0, np.ceil((count + 1) * (1 - (1 - COVERAGE) / 2)) / count)
    return np.quantile(held, 1 - outside, axis=0, method="lower"), np.quantile(held, outside, axis=0, method="higher")


def _metrics(model: ForecastModel, held: Windows) -> dict[str, float]:
    errors = np.abs(_residuals(model, held)).mean(axis=1) * held.unit
    known = errors[np.isfinite(errors)]
    return {"val_mase_error": float(known.mean())} if len(known) else {}
