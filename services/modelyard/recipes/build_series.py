"""A classifier of series (torch): MiniRocket's features and a linear map, fitted in one go.

MiniRocket (Dempster, Schmidt and Webb 2021, https://arxiv.org/abs/2012.08791): 84 fixed kernels of nine weights (six of -1, three
of
2) at several dilations; of each result the share of places where it exceeds a bias, for biases that are quantiles of results on
training series. On top a ridge regression of the classes, its penalty chosen by the leave-one-out error that its eigenvalues give
(Rifkin and Lippert 2007), and a temperature that makes scores probabilities (Guo et al. 2017). Nothing is iterated: seconds on a
CPU.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument

FEATURES = {"modelyard:minirocket": 9996, "modelyard:minirocket_small": 1008}
"""About how many features each architecture has."""

KERNELS = 84
LENGTH = 9
MOST_DILATIONS = 32
PENALTIES = tuple(10.0**power for power in range(-3, 7))
TEMPERATURES = tuple(float(value) for value in np.geomspace(0.02, 5.0, 60))
_GOLDEN = (5**0.5 + 1) / 2

Floats = npt.NDArray[np.float64]


class RocketModel(nn.Module):
    """float32 [N, steps, channels], NaN where a value is missing, to probabilities [N, classes]."""

    def __init__(self, steps: int, channels: int, classes: int, *, features: int, seed: int = 0) -> None:
        super().__init__()
        plan = _dilations(steps, features)
        self.dilations = tuple(plan)
        self.steps = steps
        random = np.random.default_rng(seed)
        self.kernels = nn.ParameterList([_fixed(_kernels(channels, random)) for _ in plan])
        self.biases = nn.ParameterList([_fixed(np.zeros((KERNELS, count), np.float32)) for count in plan.values()])
        total = KERNELS * sum(plan.values())
        self.centre, self.scale = _fixed(np.zeros(channels, np.float32)), _fixed(np.ones(channels, np.float32))
        self.mean, self.spread = _fixed(np.zeros(total, np.float32)), _fixed(np.ones(total, np.float32))
        self.linear = nn.Linear(total, classes)
        self.temperature = _fixed(np.ones(1, np.float32))

    def forward(self, series: Tensor) -> Tensor:
        scores = self.linear((self.features(series) - self.mean) / self.spread)
        return torch.softmax(scores / self.temperature, dim=1)

    def features(self, series: Tensor) -> Tensor:
        """Shares of places above each bias: float32 [N, features]."""
        found = []
        for place, convolved in enumerate(self._convolved(series)):
            biases = self.biases[place]
            found.append((convolved[:, :, None, :] > biases[None, :, :, None]).to(series.dtype).mean(3).flatten(1))
        return torch.cat(found, 1)

    def _convolved(self, series: Tensor) -> list[Tensor]:
        """The kernels' results by dilation, float32 [N, KERNELS, steps]."""
        known = torch.where(torch.isnan(series), self.centre, series)
        x = ((known - self.centre) / self.scale).permute(0, 2, 1)
        return [
            nn.functional.conv1d(x, kernels, padding=LENGTH // 2 * dilation, dilation=dilation)
            for kernels, dilation in zip(self.kernels, self.dilations, strict=True)
        ]

    @torch.no_grad()
    def choose_biases(self, series: Tensor, seed: int = 0) -> None:
        """Sets centre, scale and biases by training series [N, steps, channels]."""
        known = series.reshape(-1, series.shape[2]).double().numpy()
        centre = np.nan_to_num(np.nanmean(known, axis=0)) if len(known) else np.zeros(known.shape[1])
        spread = np.nan_to_num(np.nanstd(known, axis=0), nan=1.0)
        self.centre.copy_(torch.from_numpy(centre.astype(np.float32)))
        self.scale.copy_(torch.from_numpy(np.where(spread > 1e-9, spread, 1.0).astype(np.float32)))
        random = np.random.default_rng(seed)
        quantile = 0
        for place in range(len(self.dilations)):
            count = self.biases[place].shape[1]
            shares = ((quantile + 1 + np.arange(KERNELS * count)) * _GOLDEN % 1.0).reshape(KERNELS, count)
            quantile += KERNELS * count
            chosen = torch.from_numpy(random.integers(0, len(series), KERNELS))
            wanted = np.empty((KERNELS, count), np.float32)
            some, which = torch.unique(chosen, return_inverse=True)
            results = self._convolved(series[some])[place].numpy()
            for kernel in range(KERNELS):
                wanted[kernel] = np.quantile(results[int(which[kernel]), kernel], shares[kernel])
            self.biases[place].copy_(torch.from_numpy(wanted))


@dataclass(frozen=True)
class Fitted:
    """What fitting found: the penalty chosen, and the leave-one-out accuracy (0 to 1) and loss (nats) with it."""

    penalty: float
    accuracy: float
    loss: float


def build_series(architecture: str, *, steps: int, channels: int, classes: int, seed: int = 0) -> RocketModel:
    """A model that knows nothing yet. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture not in FEATURES:
        message = f"architecture is {architecture!r}; {', '.join(FEATURES)} is right"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    return RocketModel(steps, channels, classes, features=FEATURES[architecture], seed=seed)


def fit(model: RocketModel, features: Floats, labels: npt.NDArray[np.int64], penalty: float | None = None) -> Fitted:
    """Fits the linear map to features [N, F] and class indices [N]; penalty: chosen when None."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-8, spread, 1.0)
    x = (features - mean) / spread
    classes = model.linear.out_features
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    offset = targets.mean(axis=0)
    values, vectors = np.linalg.eigh(x @ x.T)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ (targets - offset)
    best: tuple[float, float, Floats] | None = None
    for each in PENALTIES if penalty is None else (penalty,):
        left_out = _left_out(values, vectors, turned, targets - offset, each) + offset
        error = float(np.square(left_out - targets).mean())
        if best is None or error < best[0]:
            best = error, each, left_out
    if best is None:
        raise AssertionError("there is always a penalty")
    _, chosen, left_out = best
    weights = x.T @ (vectors @ (turned / (values + chosen)[:, None]))
    temperature, loss = _temperature(left_out, labels)
    with torch.no_grad():
        for parameter, value in (
            (model.mean, mean),
            (model.spread, spread),
            (model.linear.weight, weights.T),
            (model.linear.bias, offset),
            (model.temperature, np.array([temperature])),
        ):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
    return Fitted(chosen, float((left_out.argmax(axis=1) == labels).mean()), loss)


def features_of(model: RocketModel, series: npt.NDArray[np.float32], batch: int = 64) -> Floats:
    """Features of series [N, steps, channels] as float64 [N, F]."""
    with torch.inference_mode():
        parts = [
            model.features(torch.from_numpy(series[at : at + batch])).double().numpy() for at in range(0, len(series), batch)
        ]
    return np.concatenate(parts) if parts else np.empty((0, model.linear.in_features))


def _left_out(values: Floats, vectors: Floats, turned: Floats, targets: Floats, penalty: float) -> Floats:
    """What the regression without each example says of it [N, classes]: its answer, less its own part in it."""
    inverse = 1.0 / (values + penalty)
    own = np.square(vectors) @ inverse
    return np.asarray(targets - (vectors @ (turned * inverse[:, None])) / np.maximum(own, 1e-12)[:, None])


def _temperature(scores: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The temperature with the smallest cross entropy of softmax(scores / temperature), and that.

    Against targets of (n + 1) / (n + 2) (Platt 1999): n right answers out of n do not mean that the next one is certain.
    """
    best = min(TEMPERATURES, key=lambda each: _cross_entropy(scores / each, labels, 1 / (len(labels) + 2)))
    return best, _cross_entropy(scores / best, labels)


def _cross_entropy(scores: Floats, labels: npt.NDArray[np.int64], doubt: float = 0.0) -> float:
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    own = logs[np.arange(len(labels)), labels]
    others = (logs.sum(axis=1) - own) / max(1, logs.shape[1] - 1)
    return float(-((1 - doubt) * own + doubt * others).mean())


def _dilations(steps: int, features: int) -> dict[int, int]:
    """How many biases a kernel has at each dilation: dilations from 1 to what spans the series, spread by their logarithm."""
    each = max(1, features // KERNELS)
    most = min(each, MOST_DILATIONS)
    largest = np.log2(max(1.0, (steps - 1) / (LENGTH - 1)))
    places, counts = np.unique(np.floor(2 ** np.linspace(0, largest, most)).astype(int), return_counts=True)
    shares = np.maximum(1, (counts * each / most).astype(int))
    short = max(0, each - int(shares.sum()))
    shares[np.arange(short) % len(shares)] += 1
    return {int(place): int(count) for place, count in zip(places, shares, strict=True)}


def _kernels(channels: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """The 84 kernels [84, channels, 9]; of several channels each reads some (as many as a draw by the logarithm says)."""
    base = np.full((KERNELS, LENGTH), -1.0, np.float32)
    for row, places in enumerate(itertools.combinations(range(LENGTH), 3)):
        base[row, list(places)] = 2.0
    out = np.zeros((KERNELS, channels, LENGTH), np.float32)
    for row in range(KERNELS):
        most = min(channels, LENGTH)
        count = int(2 ** random.uniform(0, np.log2(most + 1)))
        out[row, random.choice(channels, max(1, min(count, most)), replace=False)] = base[row]
    return out


def _fixed(value: npt.NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value)), requires_grad=False)
