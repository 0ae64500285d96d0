"""A trained classifier whose plain int8 fails: the same function, with channels of wildly different size.

Channels between two layers with a ReLU or a mean between them may be multiplied by any positive factor when the next layer
divides by it: the float answers stay. One scale for the whole activation then holds only the largest channels, and one scale for
an output's weights only those that meet the small ones. That is what unbounded activation ranges do to int8, in every format.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.formats.model import ModelFile, read_model, write_model

FACTOR = 1000.0
"""What the large channels are multiplied with: the others then round to nothing."""

EVERY = 8
"""One channel in so many is large."""

SMALL_NETWORKS = ("modelyard:tinynet", "modelyard:micronet")

Arrays = dict[str, npt.NDArray[Any]]


def make_failing_model_file(
    model_path: Path, out_path: Path, pictures: npt.NDArray[np.uint8], factor: float = FACTOR, *, streams: bool = False
) -> Path:
    """Writes a model file with the answers of `model_path` (a trained tinynet or micronet) whose plain int8 fails.

    pictures uint8 [N, H, W, C]: the answers on them are compared, and must agree to 1e-3. streams: also rescales what the
    residual blocks add to, which no equalization of two layers in a row undoes.
    """
    file = read_model(model_path)
    assert file.card.architecture in SMALL_NETWORKS, f"{file.card.architecture} is none of {SMALL_NETWORKS}"
    tensors = {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in file.tensors().items()}
    generator = np.random.default_rng(0)
    for norm, consumer in chains(tensors):
        _rescale(tensors, (norm,), (consumer,), factor, generator)
    for norms, consumers in residual_streams(tensors) if streams else ():
        _rescale(tensors, norms, consumers, factor, generator)
    kept = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in tensors.items()}
    card = replace(file.card, details={**file.card.details, "changed": "channels rescaled so that plain int8 fails"})
    write_model(out_path, card, kept)
    _same_answers(file, read_model(out_path), pictures)
    return out_path


def chains(tensors: Arrays) -> list[tuple[str, str]]:
    """Batch norm and the layer that alone takes its answer: inside each residual block, and before the head."""
    blocks = sorted({name.partition(".first.")[0] for name in tensors if ".first." in name})
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("features."))
    return [(f"{block}.first.1", f"{block}.second.0") for block in blocks] + [(f"features.{last}.1", "head")]


def residual_streams(tensors: Arrays) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Around each residual block: the batch norms that are added up, and the layers that take the sum."""
    blocks = sorted({int(name.split(".")[1]) for name in tensors if ".first." in name})
    return [
        ((f"features.{at - 1}.1", f"features.{at}.second.1"), (f"features.{at}.first.0", f"features.{at + 1}.0")) for at in blocks
    ]


def _rescale(
    tensors: Arrays, norms: tuple[str, ...], consumers: tuple[str, ...], factor: float, generator: np.random.Generator
) -> None:
    channels = len(tensors[f"{norms[0]}.weight"])
    factors = np.where(generator.permutation(channels) < max(1, channels // EVERY), factor, 1.0)
    for norm in norms:
        tensors[f"{norm}.weight"] = tensors[f"{norm}.weight"] * factors
        tensors[f"{norm}.bias"] = tensors[f"{norm}.bias"] * factors
    for consumer in consumers:
        weight = tensors[f"{consumer}.weight"]
        tensors[f"{consumer}.weight"] = weight / factors.reshape(1, -1, *(1,) * (weight.ndim - 2))


def _same_answers(before: ModelFile, after: ModelFile, pictures: npt.NDArray[np.uint8]) -> None:
    from modelyard.exporter.worker.picture_graph import predict, served_model

    difference = np.abs(predict(served_model(before), pictures) - predict(served_model(after), pictures)).max()
    assert difference < 1e-3, f"the answers differ by {difference}"
