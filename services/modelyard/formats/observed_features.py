"""What is watched of a model's inputs and outputs: a few numbers or words an example, computed alike in training and serving.

Columns of a table are watched as they are; of a picture its light and sharpness; of any other tensor its elements where they are
few, else its mean, spread and ends. Of a classifier's answer the class, how sure it is, and its entropy.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.dataset_descriptor import IMAGE_MULTILABEL, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from modelyard.formats.sounds import is_sound

if TYPE_CHECKING:
    from modelyard.formats.bundle_card import BundleCard

Array = NDArray[Any]
FeatureKey = tuple[str, str]
"""Direction and name."""
Observed = dict[FeatureKey, Array]
"""By feature one value an example: numbers [N] (NaN: missing), or text [N] of dtype object ("": missing)."""

INPUT: Final = "INPUT"
OUTPUT: Final = "OUTPUT"
IMAGE: Final = "image"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
MISSING_TEXT: Final = ""

MOST_ELEMENTS: Final = 32
"""A tensor with more elements an example is watched as a whole."""
CROP: Final = 96
"""Sharpness is measured on at most this many pixels a side, from the middle: shrinking would sharpen what is blurred."""
GRID: Final = 64
"""Light is measured on about this many pixels a side, evenly spread."""
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
BLANK: Final = 1e-12


def observed_inputs(card: BundleCard, inputs: Mapping[str, Array]) -> Observed:
    """Features of prepared inputs (runtime.inputs.prepared): the first axis of each is the example."""
    found: Observed = {}
    columns: dict[str, list[str]] = {}
    for column in card.columns:
        columns.setdefault(column.input, []).append(column.name)
    for spec in card.inputs:
        if spec.name not in inputs:
            continue
        if spec.name == IMAGE and card.picture is not None:
            found |= picture_features(inputs[IMAGE])
        else:
            found |= _tensor_features(INPUT, spec.name, inputs[spec.name], columns.get(spec.name, []))
    return found


def observed_outputs(card: BundleCard, outputs: Mapping[str, Array]) -> Observed:
    """Features of a model's answers."""
    if card.task == OBJECT_DETECTION:
        return box_features(outputs)
    if card.task == SEMANTIC_SEGMENTATION:
        return mask_features(outputs, card.classes)
    if card.classes and PROBABILITIES in outputs and card.task != IMAGE_MULTILABEL:
        return answer_features(outputs[PROBABILITIES], card.classes)
    found: Observed = {}
    for spec in card.outputs:
        if spec.name in outputs:
            found |= _tensor_features(OUTPUT, spec.name, outputs[spec.name], [])
    return found


def box_features(outputs: Mapping[str, Array]) -> Observed:
    """Of boxes found: how many with a score of 0.3 or more, the highest score, the class of the surest (as its index; -1:
    none)."""
    scores = np.asarray(outputs["scores"], np.float64)
    found = {"count": (scores >= 0.3).sum(axis=1), "top_score": scores.max(axis=1), "top_class": outputs["classes"][:, 0]}
    return {(OUTPUT, f"boxes.{name}"): np.asarray(values, np.float64) for name, values in found.items()}


def mask_features(outputs: Mapping[str, Array], classes: Sequence[str]) -> Observed:
    """Of masks: the share of the pixels of each class, of the first MOST_ELEMENTS of them."""
    pixels = np.asarray(outputs["mask"])[:, ::2, ::2]
    shares = {name: (pixels == index).mean(axis=(1, 2)) for index, name in enumerate(classes[:MOST_ELEMENTS])}
    return {(OUTPUT, f"mask.{name}"): np.asarray(values, np.float64) for name, values in shares.items()}


def answer_features(probabilities: Array, classes: Sequence[str]) -> Observed:
    """Of probabilities [N, classes]: the most probable class, its probability, and the entropy in nats."""
    known = np.asarray(probabilities, np.float64)
    labels = np.array(classes, dtype=object)[known.argmax(axis=1)]
    entropy = -(known * np.log(np.maximum(known, BLANK))).sum(axis=1)
    return {
        (OUTPUT, LABEL): labels,
        (OUTPUT, "probabilities.top"): known.max(axis=1),
        (OUTPUT, "probabilities.entropy"): entropy,
    }


def picture_features(pictures: Array) -> Observed:
    """Of decoded pictures uint8 [N, H, W, C]; all values but sharpness are 0 to 1."""
    height, width, channels = pictures.shape[1:]
    spread = pictures[:, :: max(1, height // GRID), :: max(1, width // GRID)].astype(np.float32) / 255
    grey = spread @ LUMA if channels == 3 else spread[..., 0]
    found = {
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "sharpness": _sharpness(pictures),
    }
    if channels == 3:
        found |= {f"{name}": spread[..., at].mean(axis=(1, 2)) for at, name in enumerate(("red", "green", "blue"))}
        most = spread.max(axis=3)
        found["saturation"] = ((most - spread.min(axis=3)) / np.maximum(most, 1 / 255)).mean(axis=(1, 2))
    return {(INPUT, f"{IMAGE}.{name}"): np.asarray(values, np.float64) for name, values in found.items()}


def _sharpness(pictures: Array) -> Array:
    """Variance of the Laplacian of the middle, a known measure of focus (Pech-Pacheco and others, 2000); 0 for a blank one."""
    height, width = pictures.shape[1:3]
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    middle = pictures[:, top : top + CROP, left : left + CROP].astype(np.float32)
    grey = (middle @ LUMA if middle.shape[3] == 3 else middle[..., 0]) / 255
    if min(grey.shape[1:]) < 3:
        return np.zeros(len(grey))
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    return np.asarray(laplacian.var(axis=(1, 2)), np.float64)


def file_features(widths: Sequence[float], heights: Sequence[float]) -> Observed:
    """Of picture files as they came: pixels, and the longer side over the shorter."""
    width, height = np.asarray(widths, np.float64), np.asarray(heights, np.float64)
    aspect = np.maximum(width, height) / np.minimum(width, height)
    return {(INPUT, f"{IMAGE}.pixels"): width * height, (INPUT, f"{IMAGE}.aspect"): aspect}


def observed_files(files: Sequence[bytes]) -> Observed:
    """The same, from the headers of JPEG or PNG files that were decoded before."""
    from PIL import Image

    sizes = []
    for file in files:
        if is_sound(file):
            return {}  # a spectrogram has one size
        with Image.open(io.BytesIO(file)) as picture:
            sizes.append(picture.size)
    return file_features([width for width, _ in sizes], [height for _, height in sizes])


def _tensor_features(direction: str, name: str, tensor: Array, columns: Sequence[str]) -> Observed:
    """Each element under its column's name, or `name[3]`; of a large tensor what sums it up."""
    rows = tensor.reshape(len(tensor), -1)
    size = rows.shape[1]
    if len(columns) == size or size <= MOST_ELEMENTS:
        names = list(columns) if len(columns) == size else [name] if size == 1 else [f"{name}[{at}]" for at in range(size)]
        return {(direction, each): _values(rows[:, at]) for at, each in enumerate(names)}
    if rows.dtype == object:
        return {}
    numbers = rows.astype(np.float64)
    summed = {"mean": numbers.mean(axis=1), "spread": numbers.std(axis=1), "least": numbers.min(axis=1)}
    summed["most"] = numbers.max(axis=1)
    return {(direction, f"{name}.{what}"): values for what, values in summed.items()}


def _values(column: Array) -> Array:
    return column if column.dtype == object else column.astype(np.float64)
