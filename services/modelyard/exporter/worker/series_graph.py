"""Writes a classifier of series as one ONNX graph: `series` float32 [N, steps, channels] in, probabilities [N, classes] out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.exporter.worker.torch_graph import onnx_graph
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.model import ModelFile
from modelyard.formats.series import SERIES
from modelyard.recipes.build_inception import SIZES, ServedInception, build_inception
from modelyard.recipes.build_series import RocketModel, build_series

PROBABILITIES = "probabilities"


ServedSeries = RocketModel | ServedInception


def untrained_series(architecture: str, *, steps: int, channels: int, classes: int, seed: int = 0) -> ServedSeries:
    """A classifier of series that knows nothing yet. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture in SIZES:
        return ServedInception(build_inception(architecture, steps=steps, channels=channels, classes=classes))
    return build_series(architecture, steps=steps, channels=channels, classes=classes, seed=seed)


def served_series(file: ModelFile) -> ServedSeries:
    """The model of a model file, ready to answer. Raises InvalidArgument BAD_MODEL."""
    card = file.card
    steps, channels, seed = (int(card.details.get(name, 0)) for name in ("steps", "channels", "seed"))
    model = untrained_series(card.architecture, steps=steps, channels=channels, classes=len(card.classes), seed=seed)
    inner = model.module if isinstance(model, ServedInception) else model
    try:
        inner.load_state_dict(unpack_torch(file.tensors()), strict=True)
    except RuntimeError as error:
        message = f"the weights do not fit {card.architecture}: {str(error)[:300]}"
        raise InvalidArgument("BAD_MODEL", message, field="weights.safetensors", architecture=card.architecture) from error
    return model.eval()


def series_card(model: ServedSeries, channels: int, classes: tuple[str, ...], source: Source, recipe: str) -> BundleCard:
    """The card of a bundle, without its files and parity."""
    return BundleCard(
        task="series_classification",
        inputs=(TensorSpec(SERIES, "FP32", (-1, model.steps, channels)),),
        outputs=(TensorSpec(PROBABILITIES, "FP32", (-1, len(classes))),),
        source=source,
        recipe=recipe,
        classes=classes,
    )


def series_graph(model: ServedSeries, channels: int) -> bytes:
    """The ONNX file, batch size open."""
    return onnx_graph(model, {SERIES: torch.zeros(2, model.steps, channels)}, PROBABILITIES)


def predict_series(model: ServedSeries, series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of series [N, steps, channels], as torch computes them."""
    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(series[at : at + 64])).numpy() for at in range(0, len(series), 64)])
