"""Writes a classifier of series as one ONNX graph: `series` float32 [N, steps, channels] in, probabilities [N, classes] out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.model import ModelFile
from modelyard.formats.series import SERIES
from modelyard.recipes.build_series import RocketModel, build_series

OPSET = 18
PROBABILITIES = "probabilities"


def served_series(file: ModelFile) -> RocketModel:
    """The model of a model file, ready to answer. Raises InvalidArgument BAD_MODEL."""
    card = file.card
    steps, channels, seed = (int(card.details.get(name, 0)) for name in ("steps", "channels", "seed"))
    model = build_series(card.architecture, steps=steps, channels=channels, classes=len(card.classes), seed=seed)
    try:
        model.load_state_dict(unpack_torch(file.tensors()), strict=True)
    except RuntimeError as error:
        message = f"the weights do not fit {card.architecture}: {str(error)[:300]}"
        raise InvalidArgument("BAD_MODEL", message, field="weights.safetensors", architecture=card.architecture) from error
    return model.eval()


def series_card(model: RocketModel, channels: int, classes: tuple[str, ...], source: Source, recipe: str) -> BundleCard:
    """The card of a bundle, without its files and parity."""
    return BundleCard(
        task="series_classification",
        inputs=(TensorSpec(SERIES, "FP32", (-1, model.steps, channels)),),
        outputs=(TensorSpec(PROBABILITIES, "FP32", (-1, len(classes))),),
        source=source,
        recipe=recipe,
        classes=classes,
    )


def series_graph(model: RocketModel, channels: int) -> bytes:
    """The ONNX file, batch size open."""
    buffer = io.BytesIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (torch.zeros(2, model.steps, channels),),
                buffer,  # type: ignore[arg-type]  # this exporter writes to any binary file
                dynamo=False,
                input_names=[SERIES],
                output_names=[PROBABILITIES],
                dynamic_axes={SERIES: {0: "N"}, PROBABILITIES: {0: "N"}},
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logging.disable(before)
    data = buffer.getvalue()
    onnx.checker.check_model(data)
    return data


def predict_series(model: RocketModel, series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of series [N, steps, channels], as torch computes them."""
    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(series[at : at + 64])).numpy() for at in range(0, len(series), 64)])
