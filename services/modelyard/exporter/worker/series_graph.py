"""Writes a classifier of series as one ONNX graph: `series` float32 [N, steps, channels] in, probabilities [N, classes] out."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.exporter.domain.form import INT8
from modelyard.exporter.worker import to_onnx
from modelyard.exporter.worker.convert import JUDGED, WORTH
from modelyard.exporter.worker.parity import run_graph
from modelyard.exporter.worker.ranges import METHODS, ranges_by, seen_ranges
from modelyard.exporter.worker.torch_graph import onnx_graph
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.model import ModelFile
from modelyard.formats.series import SERIES
from modelyard.recipes.build_inception import SIZES, ServedInception, build_inception, without_norms
from modelyard.recipes.build_series import RocketModel, build_series

PROBABILITIES = "probabilities"
_ENTRY: Final = ("IsNaN", "Where", "Sub", "Div", "Mul")
"""Operators that values enter by; the network itself has none of these."""


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
    network = ServedInception(without_norms(model.module)).eval() if isinstance(model, ServedInception) else model
    return onnx_graph(network, {SERIES: torch.zeros(2, model.steps, channels)}, PROBABILITIES)


def integer_series(model: ServedSeries, channels: int, calibration: NDArray[np.float32]) -> bytes:
    """The same in 8-bit integers, ranges from calibration series [N, steps, channels]: chosen as those of pictures are. How
    values enter (the mean for missing ones, their scale) stays in floating point.

    Raises InvalidArgument UNSUPPORTED_FORM for a model that is no network.
    """
    if not isinstance(model, ServedInception):
        message = (
            "MiniRocket is exported as onnx fp32 only: its features count how often a sum exceeds a number; networks of series "
            "(recipe inceptiontime, inceptiontime-small) are made in int8"
        )
        raise InvalidArgument("UNSUPPORTED_FORM", message, field="precision", precision=INT8)
    graph = to_onnx.simplified(onnx.load_from_string(series_graph(model, channels)))
    seen, judged = seen_ranges(graph, calibration), {SERIES: calibration[:JUDGED]}
    wanted = run_graph(graph.SerializeToString(), judged)
    best, least = b"", np.inf
    for method in METHODS:
        made = to_onnx.integers(graph, ranges_by(method, seen), float_operators=_ENTRY)
        data = made.SerializeToString(deterministic=True)
        error = float(np.abs(run_graph(data, judged) - wanted).mean()) * (WORTH if method == METHODS[0] else 1.0)
        if error < least:
            best, least = data, error
    return best


def predict_series(model: ServedSeries, series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of series [N, steps, channels], as torch computes them."""
    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(series[at : at + 64])).numpy() for at in range(0, len(series), 64)])
