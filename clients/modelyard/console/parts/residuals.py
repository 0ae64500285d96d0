"""How far a regression is off: predicted against true, and the residuals as a histogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelyard.client.drawing.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, axes
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, number, percent
from modelyard.console.parts.layout import figure, figures
from modelyard.evaluator.v1 import evaluator_service_pb2

MOST_LINKS: Final = 100
"""Points that lead to their examples: those that are furthest off. All of them would be as many stops for the keyboard."""
SQUARE: Final = 420
FEW: Final = 200
"""So many points are drawn large enough to be met by a pointer; more would cover each other."""


def residual_figures(found: evaluator_service_pb2.Residuals) -> Markup:
    """The few numbers that say it."""
    lean = "it says too much on the whole" if found.mean > 0 else "it says too little on the whole"
    inside = abs(found.mean) <= 2 * found.deviation / max(found.example_count, 1) ** 0.5
    return figures(
        figure("Mean residual", number(found.mean), "within chance" if inside else lean),
        figure("Spread", number(found.deviation), "standard deviation"),
        figure("Half are within", number(found.median_absolute), f"of {count(found.example_count)} examples"),
    )


def predicted_against_true(found: evaluator_service_pb2.Residuals, address: Callable[[str], str]) -> Markup:
    """A point for each example: how far off the line it lies is how far off the model is. `address`: where an example is."""
    points = list(found.points)
    if not points:
        return h("p", "There is nothing to draw.", cls="muted")
    values = [value for one in points for value in (one.label, one.prediction)]
    low, high = min(values), max(values)
    x_axis, y_axis = Axis(low, high, LEFT, WIDTH - RIGHT), Axis(low, high, SQUARE - BOTTOM, TOP)
    furthest = {one.example_id for one in sorted(points, key=lambda one: -abs(one.prediction - one.label))[:MOST_LINKS]}

    def dot(one: evaluator_service_pb2.ResidualPoint) -> Markup:
        where = {"cx": f"{x_axis.at(one.label):.1f}", "cy": f"{y_axis.at(one.prediction):.1f}"}
        title = h("title", f"true {number(one.label)}, predicted {number(one.prediction)}")
        return h("circle", title, **where, r=3 if len(points) > FEW else 5, cls="point c1")

    few = "scatter few" if len(points) <= FEW else "scatter"
    dots = [
        h("a", dot(one), href=address(one.example_id), tabindex=-1) if one.example_id in furthest else dot(one) for one in points
    ]
    ends = {"x1": f"{x_axis.at(x_axis.low):.1f}", "y1": f"{y_axis.at(x_axis.low):.1f}"}
    ends |= {"x2": f"{x_axis.at(x_axis.high):.1f}", "y2": f"{y_axis.at(x_axis.high):.1f}"}
    perfect = h("line", **ends, cls="line c8 dashed")
    shown = f"{count(len(points))} of {count(found.example_count)} examples"
    said = f"Predicted against true, {shown}, from {number(low)} to {number(high)}"
    svg = h("svg", h("title", said), axes(x_axis, y_axis, SQUARE), perfect, dots, viewBox=f"0 0 {WIDTH} {SQUARE}", cls=few)
    words = h("figcaption", h("span", "Predicted (up) against true (right)"), h("span", "the line is perfect", cls="small muted"))
    return h("figure", words, svg, cls="chart")


def residual_histogram(found: evaluator_service_pb2.Residuals) -> Markup:
    """How many are off by how much; 0 is right."""
    edges, counts = list(found.edges), list(found.counts)
    if not counts:
        return h("p", "There is nothing to draw.", cls="muted")
    x_axis = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, float(max(counts)), HEIGHT - BOTTOM, TOP)
    bars = [
        h(
            "rect",
            h("title", f"{number(edges[at])} to {number(edges[at + 1])}: {count(held)}"),
            x=f"{x_axis.at(edges[at]):.1f}",
            width=f"{max(x_axis.at(edges[at + 1]) - x_axis.at(edges[at]) - 1, 0.5):.1f}",
            y=f"{y_axis.at(held):.1f}",
            height=f"{max(y_axis.at(0) - y_axis.at(held), 0):.1f}",
            cls="bar-column",
        )
        for at, held in enumerate(counts)
    ]
    right = None
    if edges[0] <= 0 <= edges[-1]:
        right = h("line", x1=f"{x_axis.at(0):.1f}", x2=f"{x_axis.at(0):.1f}", y1=TOP, y2=HEIGHT - BOTTOM, cls="line c8 dashed")
    above = sum(held for at, held in enumerate(counts) if edges[at] >= 0) / max(sum(counts), 1)
    said = f"Residuals from {number(edges[0])} to {number(edges[-1])}; {percent(above, 0)} of the examples in bins above 0"
    svg = h("svg", h("title", said), axes(x_axis, y_axis, HEIGHT), bars, right, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    words = h(
        "figcaption", h("span", "Residuals (predicted less true)"), h("span", "outer bins hold the rest", cls="small muted")
    )
    return h("figure", words, svg, cls="chart")
