"""Writes a forecaster as one ONNX graph: `series` float32 [N, context, channels] in; `forecast`, `lower`, `upper` out."""

from __future__ import annotations

import numpy as np
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.worker.export import MOST_EXAMPLES, Graph
from modelyard.exporter.worker.torch_graph import onnx_graph
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.dataset import TEST, TRAIN, USAGES, VALIDATION, DatasetReader
from modelyard.formats.forecasts import OUTPUTS, Span, origins, plan, seen, tracks
from modelyard.formats.model import ModelFile
from modelyard.formats.series import SERIES
from modelyard.recipes.build_forecast import ForecastModel, build_forecast


def served_forecast(file: ModelFile) -> ForecastModel:
    """The model of a model file, ready to answer. Raises InvalidArgument BAD_MODEL."""
    card = file.card
    model = build_forecast(card.architecture, Span(*(int(card.details[name]) for name in ("context", "horizon", "period"))))
    try:
        model.load_state_dict(unpack_torch(file.tensors()), strict=True)
    except RuntimeError as error:
        message = f"the weights do not fit {card.architecture}: {str(error)[:300]}"
        raise InvalidArgument("BAD_MODEL", message, field="weights.safetensors", architecture=card.architecture) from error
    return model.eval()


def untrained_forecast(architecture: str, reader: DatasetReader) -> ForecastModel:
    """A forecaster of the size that training would give it."""
    return build_forecast(architecture, plan(tracks(reader, (TRAIN, VALIDATION)))).eval()


def forecast_graph_of(model: ForecastModel, reader: DatasetReader, source: Source, recipe: str) -> Graph:
    """The graph of a forecaster with real windows, and as many with gaps. Raises FailedPrecondition NO_EXAMPLES."""
    span, channels = model.span, max(1, len(reader.descriptor.channels))
    series = _examples(reader, span)
    card = BundleCard(
        task="forecasting",
        inputs=(TensorSpec(SERIES, "FP32", (-1, span.context, channels)),),
        outputs=tuple(TensorSpec(name, "FP32", (-1, span.horizon, channels)) for name in OUTPUTS),
        source=source,
        recipe=recipe,
    )
    with torch.inference_mode():
        answers = model(torch.from_numpy(series))
    expected = {name: each.contiguous().numpy() for name, each in zip(OUTPUTS, answers, strict=True)}
    data = onnx_graph(model, {SERIES: torch.zeros(2, span.context, channels)}, *OUTPUTS)
    return Graph(data, {SERIES: series}, expected, card, "torch")


def _examples(reader: DatasetReader, span: Span) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Windows before the latest origins of each usage, the test's first; then the same with every seventh reading missing."""
    parts: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    found = tracks(reader, USAGES)
    each = max(1, MOST_EXAMPLES // max(1, len(found)))
    for usage in (TEST, VALIDATION, TRAIN):
        if sum(map(len, parts)) >= MOST_EXAMPLES // 4:
            break
        parts += [seen(track, origins(track, usage, span, each), span)[SERIES] for track in found]
    whole = np.concatenate(parts)[:MOST_EXAMPLES] if parts else np.empty((0, span.context, 1), np.float32)
    if not len(whole):
        message = f"no series has {span.context + span.horizon} readings in a row to prove the export on"
        raise FailedPrecondition("NO_EXAMPLES", message)
    gaps = whole.copy()
    gaps[:, ::7] = np.nan
    return np.concatenate([whole, gaps])
