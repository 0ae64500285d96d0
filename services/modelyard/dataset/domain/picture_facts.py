"""What is measured of each picture: light, contrast, sharpness, information, colour. Numpy only; one picture at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FACTS: Final = ("dark", "bright", "contrast", "blur", "entropy", "colour")
"""Names of the facts, in the order of `facts_of`: the grey level (0 to 1) that 99 of 100 pixels are below; the one that 95 of 100
are above; the deviation of grey levels (0 to 1); how little a further blur changes the edges (0 sharp to 1 blurred, NaN of small
or flat pictures); bits of information in the histogram of grey levels (0 to 8); the mean spread between the colours of a pixel
(0 to 1)."""

LOOKED_AT = 256
"""The longer side at which a picture is looked at, in pixels; smaller ones as they are."""

_LEAST_SIDE = 48
_WINDOW = 9
_FLAT = 0.004

Floats = npt.NDArray[np.float32]


def looked_at_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which a picture of this size is looked at, 1 or more."""
    longer = max(width, height)
    if longer <= LOOKED_AT:
        return width, height
    return max(1, round(width * LOOKED_AT / longer)), max(1, round(height * LOOKED_AT / longer))


def facts_of(picture: npt.NDArray[np.uint8]) -> Floats:
    """The facts, float32 [len(FACTS)], of an RGB picture uint8 [H, W, 3]."""
    grey = np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32) / 255, dtype=np.float32)
    counts = np.bincount(np.minimum(grey * 256, 255).astype(np.int64).ravel(), minlength=256)
    below = np.cumsum(counts) / grey.size
    shares = counts[counts > 0] / grey.size
    spread = picture.max(axis=2) - picture.min(axis=2)
    contrast = float(grey.std())
    return np.array(
        [
            np.searchsorted(below, 0.99) / 255,
            np.searchsorted(below, 0.05) / 255,
            contrast,
            blur_of(grey) if min(grey.shape) >= _LEAST_SIDE and contrast > _FLAT else np.nan,
            -(shares * np.log2(shares)).sum(),
            spread.mean() / 255,
        ],
        np.float32,
    )


def blur_of(grey: Floats) -> float:
    """How blurred a picture is, 0 (sharp) to 1: the share of the variation between neighbours that stays when it is blurred again
    (Crete, Dolmiere, Ladret and Nicolas 2007, "The blur effect"), the worse of both directions. grey float32 [H, W], at least
    10 pixels each way."""
    return max(_blur_down(grey), _blur_down(grey.T))


def _blur_down(grey: Floats) -> float:
    sums = np.cumsum(np.pad(grey, ((_WINDOW // 2 + 1, _WINDOW // 2), (0, 0)), mode="edge"), axis=0, dtype=np.float64)
    again = (sums[_WINDOW:] - sums[:-_WINDOW]) / _WINDOW
    variation = np.abs(np.diff(grey, axis=0))
    kept = np.maximum(0, variation - np.abs(np.diff(again, axis=0)))
    whole = float(variation.sum())
    return (whole - float(kept.sum())) / whole if whole > 0 else 1.0
