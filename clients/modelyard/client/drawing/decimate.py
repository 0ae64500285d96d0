"""Curves as few points as can be seen: what is drawn of 100,000 points is what they look like."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass
class Curve:
    """Keeps a curve that grows as at most `2 * limit` points: the first lowest and highest point of each stretch of equal number.

    When there are too many stretches, each two become one, so a point costs the same however many came before it, and no peak is
    lost. `add` wants x that does not fall; what is not finite is left out (`gaps` counts it).
    """

    limit: int = 400
    last: Point | None = None
    gaps: int = 0
    count: int = 0
    _stride: int = 1
    _low: list[Point] = field(default_factory=list)
    _high: list[Point] = field(default_factory=list)
    _filled: int = 0

    def add(self, x: float, y: float) -> None:
        """The next point."""
        if not (math.isfinite(x) and math.isfinite(y)):
            self.gaps += 1
            return
        point = (x, y)
        self.last, self.count = point, self.count + 1
        if not self._low or self._filled == self._stride:
            if len(self._low) == self.limit:
                self._halve()
            if not self._low or self._filled == self._stride:
                self._low.append(point)
                self._high.append(point)
                self._filled = 1
                return
        self._filled += 1
        if y < self._low[-1][1]:
            self._low[-1] = point
        if y > self._high[-1][1]:
            self._high[-1] = point

    def points(self) -> list[Point]:
        """The points to draw, in their order; the last one is always among them."""
        out: list[Point] = []
        for low, high in zip(self._low, self._high, strict=True):
            pair = (low,) if low == high else (low, high) if low[0] <= high[0] else (high, low)
            out.extend(pair)
        if self.last is not None and out[-1] != self.last:
            out.append(self.last)
        return out

    def _halve(self) -> None:
        pairs = range(0, len(self._low), 2)
        odd = len(self._low) % 2
        self._low = [min(self._low[at : at + 2], key=lambda point: point[1]) for at in pairs]
        self._high = [max(self._high[at : at + 2], key=lambda point: point[1]) for at in pairs]
        self._filled = self._stride if odd else 2 * self._stride
        self._stride *= 2
