"""Charts as SVG: sharp at any size, in the page's colours, with their numbers as words for who does not see them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.client.drawing.decimate import Point
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import number

WIDTH: Final = 640
HEIGHT: Final = 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 30
"""Room around what is drawn, for ticks."""


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points by rising x, and which of the page's colours (1 to 8) it has.

    `said`: what the legend says beside its name; None: its last value.
    """

    name: str
    points: Sequence[Point]
    colour: int = 1
    dashed: bool = False
    said: str | None = None


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_name: str = "step",
    logarithmic: bool = False,
    low: float | None = None,
    high: float | None = None,
    height: int = HEIGHT,
) -> Markup:
    """Curves over one axis, with a reading under the pointer (fragment.js has no part in it: console.js reads data-lines)."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return h("div", h("p", "Nothing has been measured yet.", cls="muted"), cls="chart chart-empty")
    logarithmic = logarithmic and all(y > 0 for line in drawn for _, y in line.points)
    xs = [x for line in drawn for x, _ in (line.points[0], line.points[-1])]
    ys = [y for line in drawn for _, y in line.points]
    x_axis = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    if low is not None and high is None and max(ys) <= low:
        high = low + 1  # a flat line lies on the ground
    y_axis = Axis(
        min(ys) if low is None else low, max(ys) if high is None else high, height - BOTTOM, TOP, logarithmic=logarithmic
    )
    grid = axes(x_axis, y_axis, height)
    paths = [
        h("path", d=_path(line.points, x_axis, y_axis), cls=f"line c{line.colour}" + (" dashed" if line.dashed else ""))
        if len(line.points) > 1
        else h(
            "circle",
            cx=f"{x_axis.at(line.points[0][0]):.1f}",
            cy=f"{y_axis.at(line.points[0][1]):.1f}",
            r=4,
            cls=f"dot c{line.colour}",
        )
        for line in drawn
    ]
    said = "; ".join(f"{line.name} {number(line.points[-1][1])} at {x_name} {number(line.points[-1][0])}" for line in drawn)
    reading = {
        "x": x_name,
        "scale": [x_axis.low, x_axis.high, LEFT, WIDTH - RIGHT],
        "lines": [
            {"name": line.name, "c": line.colour, "p": [[round(x, 4), float(f"{y:.5g}")] for x, y in line.points]}
            for line in drawn
        ],
    }
    svg = h(
        "svg",
        h("title", f"{title}: {said}"),
        grid,
        paths,
        h("line", cls="pointer", y1=TOP, y2=height - BOTTOM, x1=0, x2=0, visibility="hidden"),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        data_lines=json.dumps(reading, separators=(",", ":")),
    )
    return h(
        "figure", h("figcaption", h("span", title), legend(drawn)), svg, h("div", cls="reading", aria_hidden="true"), cls="chart"
    )


def axes(x_axis: Axis, y_axis: Axis, height: int) -> list[Markup]:
    """Lines and numbers at round values."""
    across = [
        part
        for tick in y_axis.ticks(4)
        for part in (
            h("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y_axis.at(tick):.1f}", y2=f"{y_axis.at(tick):.1f}", cls="grid"),
            h("text", number(tick), x=LEFT - 8, y=f"{y_axis.at(tick) + 4:.1f}", cls="tick tick-y"),
        )
    ]
    below = [
        h("text", number(tick), x=f"{x_axis.at(tick):.1f}", y=height - BOTTOM + 18, cls="tick tick-x") for tick in x_axis.ticks(6)
    ]
    return [*across, *below]


def legend(lines: Sequence[Line]) -> Markup:
    """What each colour is, with its last value."""
    return h(
        "ul",
        [
            h(
                "li",
                h("span", cls=f"swatch c{line.colour}" + (" dashed" if line.dashed else "")),
                line.name,
                " ",
                h("b", number(line.points[-1][1]) if line.said is None else line.said),
            )
            for line in lines
            if line.points
        ],
        cls="legend",
    )


def trace_chart(
    name: str, low: Sequence[float], high: Sequence[float], *, ranges: Sequence[tuple[float, float]] = (), height: int = 90
) -> Markup:
    """A channel of a sound or a series, from smallest to largest values; `ranges`: shares of its length that are marked."""
    finite = [value for value in (*low, *high) if math.isfinite(value)]
    if not finite:
        return h("p", f"{name}: no values", cls="muted")
    bottom, top = min(finite), max(finite)
    axis = Axis(bottom, top, height - 6, 6)
    step = WIDTH / max(len(low) - 1, 1)
    thin = all(a == b or a != a for a, b in zip(low, high, strict=True))
    shapes = []
    for begin, end in _runs(low):
        upper = [f"{at * step:.1f},{axis.at(high[at]):.1f}" for at in range(begin, end)]
        lower = [f"{at * step:.1f},{axis.at(low[at]):.1f}" for at in range(end - 1, begin - 1, -1)]
        shapes.append(
            h("polyline", points=" ".join(upper), cls="trace")
            if thin
            else h("polygon", points=" ".join(upper + lower), cls="wave")
        )
    marked = [
        h("rect", x=f"{WIDTH * a:.1f}", y=0, width=f"{max(WIDTH * (b - a), 1):.1f}", height=height, cls="marked")
        for a, b in ranges
    ]
    svg = h(
        "svg",
        h("title", f"{name}: {number(bottom)} to {number(top)}"),
        marked,
        shapes,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        preserveAspectRatio="none",
    )
    return h(
        "figure",
        h("figcaption", h("span", name), h("span", f"{number(bottom)} to {number(top)}", cls="small muted")),
        svg,
        cls="chart trace-chart",
    )


def bars(title: str, rows: Sequence[tuple[str, float, str]], *, most: float = 0.0) -> Markup:
    """Values by name as bars with their numbers: (name, value, words)."""
    top = most or max((value for _, value, _ in rows), default=1.0) or 1.0
    items = [
        h(
            "li",
            h("span", name, cls="bars-name", title=name),
            h("span", h("span", style=f"width:{100 * min(value / top, 1):.1f}%", cls="bars-fill"), cls="bars-room"),
            h("span", words, cls="bars-value"),
        )
        for name, value, words in rows
    ]
    return h("ul", items, cls="bars", aria_label=title)


class Axis:
    """From values to places, with ticks at round values."""

    def __init__(self, low: float, high: float, start: float, end: float, *, logarithmic: bool = False) -> None:
        if logarithmic:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12 * max(abs(high), abs(low), 1e-300):
            pad = abs(low) * 0.1 or 1.0
            low, high = low - pad, high + pad
        self.low, self.high = low, high
        self._start, self._end, self._logarithmic = start, end, logarithmic

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        place = math.log10(max(value, 1e-300)) if self._logarithmic else value
        return self._start + (place - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self, wanted: int) -> list[float]:
        """About so many round values."""
        if self._logarithmic:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            found = [10.0**power for power in powers if self.low <= power <= self.high]
            if len(found) >= 2:
                return found[:: max(len(found) // wanted, 1)]
            return [10**self.low, 10 ** ((self.low + self.high) / 2), 10**self.high]
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [round(at * step, 12) for at in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _path(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    return "M" + "L".join(f"{x_axis.at(x):.1f} {y_axis.at(y):.1f}" for x, y in points)


def _runs(values: Sequence[float]) -> list[tuple[int, int]]:
    """Stretches without a missing value."""
    found, begin = [], None
    for at, value in enumerate([*values, math.nan]):
        if math.isfinite(value) and begin is None:
            begin = at
        elif not math.isfinite(value) and begin is not None:
            found.append((begin, at))
            begin = None
    return found
