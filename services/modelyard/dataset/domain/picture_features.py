"""Pictures as vectors without a trained network: where edges run and which colours lie where.

Histograms of oriented gradients (Dalal and Triggs 2005) over two sizes of cells, each cell normalized by the energy around it,
and the colours of an 8 x 8 layout. For small pictures a linear model of random cosines of these comes close to a small
convolutional network (docs/quality.md has the figures); for photographs a pretrained network is far better
(worker/pretrained.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE = 32
"""Height and width of the pictures taken, in pixels."""

_BINS = 9
_LAYOUT = 8
_CELLS = (4, 8)
_CLIP = 0.3
_COLOUR_WEIGHT = 0.5
LENGTH = sum((SIDE // cell) ** 2 * _BINS for cell in _CELLS) + _LAYOUT * _LAYOUT * 3
"""Length of a picture's vector."""

Floats = npt.NDArray[np.float32]


def picture_features(pictures: npt.NDArray[np.uint8]) -> Floats:
    """Vectors float32 [N, LENGTH] of RGB pictures uint8 [N, SIDE, SIDE, 3]."""
    colours = pictures.astype(np.float32) / 255
    grey = np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32), dtype=np.float32)
    parts = [_histograms(grey, cell) for cell in _CELLS]
    step = SIDE // _LAYOUT
    layout = colours.reshape(len(pictures), _LAYOUT, step, _LAYOUT, step, 3).mean(axis=(2, 4))
    return np.concatenate([*parts, _COLOUR_WEIGHT * layout.reshape(len(pictures), -1)], axis=1)


def _histograms(grey: Floats, cell: int) -> Floats:
    """Energy by direction in each cell, [N, cells * cells * _BINS]; the square root of the gradient, so that strong edges do
    not drown weak ones, shared out between the two directions that it lies between."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    strength = np.sqrt(np.hypot(across, down))
    place = np.arctan2(down, across) % np.float32(np.pi) * np.float32(_BINS / np.pi)
    lower = np.floor(place).astype(np.int64)
    share = place - lower
    count, cells = len(grey), SIDE // cell
    rows = np.arange(SIDE) // cell
    at = (rows[:, None] * cells + rows[None, :]) * _BINS
    base = np.arange(count)[:, None, None] * (cells * cells * _BINS) + at[None]
    size = count * cells * cells * _BINS
    flat = np.bincount((base + lower % _BINS).ravel(), ((1 - share) * strength).ravel(), size)
    flat += np.bincount((base + (lower + 1) % _BINS).ravel(), (share * strength).ravel(), size)
    histograms = flat.astype(np.float32).reshape(count, cells, cells, _BINS)
    return _normalized(histograms).reshape(count, -1)


def _normalized(histograms: Floats) -> Floats:
    """Each cell against the energy of itself and its neighbours; no value above _CLIP."""
    energy = np.square(histograms).sum(axis=3)
    padded = np.pad(energy, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = energy.shape[1:]
    around = sum(padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    return np.minimum(histograms / np.sqrt(around + 1e-3)[..., None], _CLIP)
