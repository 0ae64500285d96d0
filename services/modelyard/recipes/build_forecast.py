"""Forecasters of series (torch): every channel by the same rule, from its own past alone.

A window is told from its level (the mean of its last season) in units of its spread, so that growth and another scale do not
count. `modelyard:forecast_linear` is one linear map from the window to what comes (Zeng et al. 2023, https://arxiv.org/abs/2205.13504,
show how strong that is), fitted by ridge regression in one go. `modelyard:forecast_hits` adds to it what two small networks see
in the window at several resolutions (after Challu et al. 2023, N-HiTS, https://arxiv.org/abs/2201.12886), learned from where the
linear map ends. `modelyard:seasonal_naive` repeats the last season. All answer an interval beside, whose widths are quantiles of
residuals on validation windows (split conformal prediction, Lei et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.formats.forecasts import Span

LINEAR: Final = "modelyard:forecast_linear"
HITS: Final = "modelyard:forecast_hits"
NAIVE: Final = "modelyard:seasonal_naive"
ARCHITECTURES: Final = (LINEAR, HITS, NAIVE)
WIDTH: Final = 64
FLOOR: Final = 1e-3
"""Least spread of a window as a share of its level's size."""

Floats = npt.NDArray[np.float64]


class ForecastModel(nn.Module):
    """series float32 [N, context, channels], NaN where missing, to forecast, lower and upper, each [N, horizon, channels]."""

    def __init__(self, architecture: str, span: Span) -> None:
        super().__init__()
        self.architecture, self.span = architecture, span
        places = span.context - span.period + np.arange(span.horizon) % span.period
        self.season = _fixed(places.astype(np.int64))
        self.low, self.high = _fixed(np.zeros(span.horizon, np.float32)), _fixed(np.zeros(span.horizon, np.float32))
        self.linear = nn.Linear(span.context, span.horizon) if architecture != NAIVE else None
        self.blocks = nn.ModuleList([_Block(span, pool) for pool in _pools(span)] if architecture == HITS else [])

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        window, level, spread = self.normal(series.permute(0, 2, 1))
        said = self.said(window)
        made = (said, said + self.low, said + self.high)
        forecast, lower, upper = ((level + spread * each).permute(0, 2, 1) for each in made)
        return forecast, lower, upper

    def normal(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows [N, channels, context] in spreads from their level, the levels and the spreads [N, channels, 1]. A missing
        reading is taken as the mean of the window."""
        known = ~torch.isnan(window)
        count = known.sum(2, keepdim=True).clamp(min=1).to(window.dtype)
        mean = torch.where(known, window, 0.0).sum(2, keepdim=True) / count
        filled = torch.where(known, window, mean)
        level = filled[:, :, self.span.context - self.span.period :].mean(2, keepdim=True)
        off = filled - mean
        spread = torch.sqrt((off * off).mean(2, keepdim=True)) + FLOOR * level.abs() + 1e-9
        return (filled - level) / spread, level, spread

    def said(self, window: Tensor) -> Tensor:
        """What comes, in spreads from the level: [..., horizon]."""
        if self.linear is None:
            return window[..., self.season]
        said: Tensor = self.linear(window)
        for block in self.blocks:
            said = said + block(window)
        return said

    @torch.no_grad()
    def set_linear(self, weight: Floats, bias: Floats) -> None:
        """weight [horizon, context], bias [horizon]."""
        if self.linear is None:
            raise AssertionError("the naive forecast has no weights")
        self.linear.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        self.linear.bias.copy_(torch.from_numpy(bias.astype(np.float32)))

    @torch.no_grad()
    def set_interval(self, low: Floats, high: Floats) -> None:
        """By how much, in spreads, the interval's ends lie from the forecast: [horizon] each."""
        self.low.copy_(torch.from_numpy(low.astype(np.float32)))
        self.high.copy_(torch.from_numpy(high.astype(np.float32)))


class _Block(nn.Module):
    """Looks at windows [N, channels, context] at a resolution, and says knots of what comes, between which it is a
    straight line. Adds nothing until it has learned."""

    def __init__(self, span: Span, pool: int) -> None:
        super().__init__()
        self.pool, self.taken = pool, span.context // pool * pool
        knots = max(1, -(-span.horizon // pool))
        last = nn.Linear(WIDTH, knots)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(self.taken // pool, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), last)
        places = np.linspace(0, knots - 1, span.horizon)
        between = np.maximum(0.0, 1 - np.abs(places[None] - np.arange(knots)[:, None]))
        self.between = _fixed(between.astype(np.float32))

    def forward(self, window: Tensor) -> Tensor:
        recent = window[..., window.shape[-1] - self.taken :]
        pooled = recent.reshape(window.shape[0], window.shape[1], self.taken // self.pool, self.pool).mean(3)
        said: Tensor = self.network(pooled) @ self.between
        return said


@dataclass(frozen=True)
class Ridge:
    """A fitted linear map: weight [horizon, context], bias [horizon]."""

    weight: Floats
    bias: Floats

    def said(self, windows: Floats) -> Floats:
        """For windows [M, context]: [M, horizon]."""
        return np.asarray(windows @ self.weight.T + self.bias)


def ridge(windows: Floats, wanted: Floats, penalty: float) -> Ridge:
    """The linear map of windows [M, context] to [M, horizon] with the least squares and a penalty on the weights (not the
    bias), `penalty` a reading's mean square each window."""
    centre, middle = windows.mean(axis=0), wanted.mean(axis=0)
    x, y = windows - centre, wanted - middle
    size = x.shape[1]
    unit = float(np.square(windows).mean()) * len(windows)
    weight = np.linalg.solve(x.T @ x + (penalty * unit + 1e-9) * np.eye(size), x.T @ y).T
    return Ridge(weight, middle - weight @ centre)


def build_forecast(architecture: str, span: Span) -> ForecastModel:
    """A forecaster that knows nothing yet. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture not in ARCHITECTURES:
        message = f"architecture is {architecture!r}; {', '.join(ARCHITECTURES)} is right"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    return ForecastModel(architecture, span)


def _pools(span: Span) -> list[int]:
    return [pool for pool in (1, 4) if span.context // pool >= 2]


def _fixed(value: npt.NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value)), requires_grad=False)
