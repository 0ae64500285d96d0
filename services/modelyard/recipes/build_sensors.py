"""Detectors of anomalies in recordings of sensors (torch), learned from normal readings alone.

All take a window float32 [N, W, C] and, where machines are held against their own past, a reference [N, R, C], scale the one by
the other's mean and spread (or by those of training), and answer one score, 1 or more where something is the matter.

`modelyard:hotelling`: the mean of Hotelling's T squared over the window, of readings together with those just before them
(Hotelling 1947; with lags the dynamic form of Ku, Storer and Georgakis 1995). All directions count, so what PCA would leave to
the Q statistic is in it too. `modelyard:hotelling_small`: without lags. `modelyard:isolation_forest`: Liu, Ting and Zhou 2008,
grown by scikit-learn, over each channel's mean, spread and roughness in the window. `modelyard:autoencoder`: what a small
convolutional network cannot rebuild, each channel weighed by how well it rebuilds it when all is normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.formats.sensors import Watch

HOTELLING: Final = "modelyard:hotelling"
HOTELLING_SMALL: Final = "modelyard:hotelling_small"
FOREST: Final = "modelyard:isolation_forest"
AUTOENCODER: Final = "modelyard:autoencoder"
ARCHITECTURES: Final = (HOTELLING, HOTELLING_SMALL, FOREST, AUTOENCODER)

LIMIT: Final = 1000.0
"""Scaled readings beyond this many spreads count as this many: a broken sensor must not give infinity."""
FLOOR: Final = 0.02
"""Least spread of a channel in a reference, as a share of its usual one: after a still stretch not all is noise."""
MOST_LAGGED: Final = 64
"""Most readings of all channels that are whitened together."""
MOST_LAGS: Final = 4
SHRINKAGE: Final = 1e-3
TREES, DEPTH, DRAWN = 100, 8, 256
"""Of the isolation forest; a tree of DRAWN examples is at most DEPTH deep."""
_EULER: Final = 0.5772156649015329


@dataclass(frozen=True)
class Shape:
    """What a detector's tensors depend on."""

    architecture: str
    watch: Watch
    channels: int


class SensorModel(nn.Module):
    """series float32 [N, W, C] and reference [N, R, C] (where the watch has one), NaN where missing, to score [N, 1]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels = shape.channels
        self.shape = shape
        self.centre, self.scale, self.floor = (_fixed(np.full(channels, each, np.float32)) for each in (0.0, 1.0, 1e-6))
        self.threshold = _fixed(np.ones(1, np.float32))
        self.detector = _detector(shape)

    def forward(self, series: Tensor, reference: Tensor | None = None) -> Tensor:
        score: Tensor = self.detector(self.scaled(series, reference)) / self.threshold
        return score[:, None]

    def scaled(self, series: Tensor, reference: Tensor | None = None) -> Tensor:
        """The window in spreads from the level it is held against, 0 where a value is missing."""
        around = series - self.centre
        centre: Tensor = torch.zeros_like(self.centre)
        scale: Tensor = self.scale
        if reference is not None:
            before = reference - self.centre
            known = ~torch.isnan(before)
            count = known.sum(1, keepdim=True).clamp(min=1).to(series.dtype)
            centre = torch.where(known, before, 0.0).sum(1, keepdim=True) / count
            off = torch.where(known, before - centre, 0.0)
            scale = torch.maximum(torch.sqrt((off * off).sum(1, keepdim=True) / count), self.floor)
        away = (around - centre) / scale
        return torch.where(torch.isnan(away), 0.0, away).clamp(-LIMIT, LIMIT)


class Hotelling(nn.Module):
    """Windows [N, W, C] to the root of the mean T squared a dimension, [N]; about 1 where all is normal."""

    def __init__(self, channels: int, lags: int) -> None:
        super().__init__()
        self.lags = lags
        self.whitening = _fixed(np.eye(channels * lags, dtype=np.float32))

    def lagged(self, window: Tensor) -> Tensor:
        """Readings with those before them: [N, W - lags + 1, C * lags]."""
        steps = window.shape[1] - self.lags + 1
        return torch.cat([window[:, at : at + steps] for at in range(self.lags)], 2)

    def forward(self, window: Tensor) -> Tensor:
        apart = self.lagged(window) @ self.whitening
        return torch.sqrt((apart * apart).mean(2).mean(1))

    @torch.no_grad()
    def fit(self, windows: Tensor, weights: Tensor) -> None:
        """By scaled normal windows [M, W, C] and the weight of each [M], which sum to 1."""
        total = torch.zeros_like(self.whitening, dtype=torch.float64)
        for at in range(0, len(windows), 256):
            rows = self.lagged(windows[at : at + 256]).double()
            total += torch.einsum("m,mti,mtj->ij", weights[at : at + 256].double() / rows.shape[1], rows, rows)
        size = len(total)
        total += SHRINKAGE * torch.trace(total).clamp(min=1e-6) / size * torch.eye(size, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(total)
        self.whitening.copy_((vectors / torch.sqrt(values)).float())


class Forest(nn.Module):
    """Windows [N, W, C] to the isolation forest's score [N], above 0 to 1: 2 to the power of minus the mean depth, normed.

    The trees lie as complete ones: going down is DEPTH times looking up a feature and a split, in plain ONNX.
    """

    def __init__(self) -> None:
        super().__init__()
        inner, leaves = 2**DEPTH - 1, 2**DEPTH
        self.features = _fixed(np.zeros(TREES * inner, np.int64))
        self.splits = _fixed(np.full(TREES * inner, np.inf, np.float32))
        self.depths = _fixed(np.zeros(TREES * leaves, np.float32))
        self.inner_start = _fixed(np.arange(TREES, dtype=np.int64) * inner)
        self.leaf_start = _fixed(np.arange(TREES, dtype=np.int64) * leaves)
        self.usual = _fixed(np.ones(1, np.float32))

    @staticmethod
    def described(window: Tensor) -> Tensor:
        """Of each channel the mean, the spread and the mean step from reading to reading: [N, 3 C]."""
        mean = window.mean(1)
        off = window - mean[:, None]
        return torch.cat([mean, torch.sqrt((off * off).mean(1)), (window[:, 1:] - window[:, :-1]).abs().mean(1)], 1)

    def forward(self, window: Tensor) -> Tensor:
        found = self.described(window)
        node = torch.zeros(found.shape[0], TREES, dtype=torch.int64)
        for _ in range(DEPTH):
            place = node + self.inner_start
            value = torch.gather(found, 1, self.features[place])
            node = 2 * node + 1 + (value > self.splits[place]).to(torch.int64)
        depth = self.depths[node - (2**DEPTH - 1) + self.leaf_start]
        return torch.pow(2.0, -depth.mean(1) / self.usual)

    @torch.no_grad()
    def fit(self, windows: Tensor, seed: int) -> None:
        """By scaled normal windows [M, W, C]."""
        from sklearn.ensemble import IsolationForest

        found = torch.cat([self.described(windows[at : at + 1024]) for at in range(0, len(windows), 1024)]).numpy()
        drawn = min(DRAWN, len(found))
        grown = IsolationForest(n_estimators=TREES, max_samples=drawn, random_state=seed).fit(found)
        features, splits, depths = _complete([each.tree_ for each in grown.estimators_], grown.estimators_features_)
        for held, values in ((self.features, features), (self.splits, splits), (self.depths, depths)):
            held.copy_(torch.from_numpy(values))
        self.usual.fill_(max(_usual_depth(drawn), 1e-6))


class AutoEncoder(nn.Module):
    """Windows [N, W, C], W a multiple of 4, to the root of the weighed mean square of what is not rebuilt, [N]; about 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide, narrow = max(16, 2 * channels), max(2, channels // 2)
        self.encoder = nn.Sequential(
            nn.Conv1d(channels, wide, 5, stride=2, padding=2), nn.ReLU(), nn.Conv1d(wide, narrow, 5, stride=2, padding=2)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(narrow, wide, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose1d(wide, channels, 4, 2, 1)
        )
        self.spread = _fixed(np.ones(channels, np.float32))

    def left(self, window: Tensor) -> Tensor:
        """What is not rebuilt, [N, W, C]. Beyond 10 spreads the network sees 10: it never met more."""
        rebuilt = self.decoder(self.encoder(window.clamp(-10.0, 10.0).permute(0, 2, 1)))
        left: Tensor = window - rebuilt.permute(0, 2, 1)
        return left

    def forward(self, window: Tensor) -> Tensor:
        off = self.left(window) / self.spread
        return torch.sqrt((off * off).mean(2).mean(1))


def build_sensors(architecture: str, watch: Watch, channels: int) -> SensorModel:
    """A detector that knows nothing yet. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture not in ARCHITECTURES:
        message = f"architecture is {architecture!r}; {', '.join(ARCHITECTURES)} is right"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    return SensorModel(Shape(architecture, watch, channels))


def _detector(shape: Shape) -> nn.Module:
    if shape.architecture == FOREST:
        return Forest()
    if shape.architecture == AUTOENCODER:
        return AutoEncoder(shape.channels)
    lags = min(MOST_LAGS, max(1, MOST_LAGGED // shape.channels)) if shape.architecture == HOTELLING else 1
    return Hotelling(shape.channels, lags)


def _fixed(value: npt.NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value)), requires_grad=False)


def _usual_depth(count: float) -> float:
    """Mean depth at which one of so many is alone in a random tree (Liu, Ting and Zhou 2008, equation 1)."""
    if count <= 1:
        return 0.0
    if count <= 2:
        return 1.0
    return 2.0 * (math.log(count - 1.0) + _EULER) - 2.0 * (count - 1.0) / count


def _complete(trees: list[Any], chosen: list[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """scikit-learn's trees as complete ones of DEPTH: features, splits (right where a value is above; those below a leaf lead
    left), and the depths of the leaves. A split is rounded down to float32, so that a float32 value goes the same way."""
    inner, leaves = 2**DEPTH - 1, 2**DEPTH
    features = np.zeros((len(trees), inner), np.int64)
    splits = np.full((len(trees), inner), np.inf, np.float32)
    depths = np.zeros((len(trees), leaves), np.float32)
    for number, (tree, columns) in enumerate(zip(trees, chosen, strict=True)):
        waiting = [(0, 0, 0)]
        while waiting:
            node, place, depth = waiting.pop()
            if tree.children_left[node] < 0 or depth == DEPTH:
                for _ in range(DEPTH - depth):
                    place = 2 * place + 1
                depths[number, place - inner] = depth + _usual_depth(float(tree.n_node_samples[node]))
                continue
            features[number, place] = columns[tree.feature[node]]
            splits[number, place] = _floor32(float(tree.threshold[node]))
            waiting.append((tree.children_left[node], 2 * place + 1, depth + 1))
            waiting.append((tree.children_right[node], 2 * place + 2, depth + 1))
    return features.reshape(-1), splits.reshape(-1), depths.reshape(-1)


def _floor32(value: float) -> np.float32:
    rounded = np.float32(value)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > value else rounded
