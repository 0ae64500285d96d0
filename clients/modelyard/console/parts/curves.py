"""A training's curves on a page."""

from __future__ import annotations

from typing import Final

from modelyard.console.parts.charts import Line, line_chart
from modelyard.console.parts.decimate import Curve
from modelyard.console.parts.layout import figure, figures
from modelyard.console.parts.live import Curves
from modelyard.console.parts.markup import Markup, h
from modelyard.console.parts.words import metric_word, number

_SHARES: Final = ("accuracy", "f1", "precision", "recall", "auc", "iou", "map", "r2")


def training_charts(curves: Curves) -> Markup:
    """Loss, metrics and learning rate."""
    losses = [Line("training loss", curves.loss.points() if curves.loss.count else [], 1)]
    losses += [
        Line(metric_word(name), curve.points(), 2 + at) for at, (name, curve) in enumerate(_of(curves, True)) if curve.count
    ]
    shares = [
        Line(metric_word(name), curve.points(), at % 8 + 1) for at, (name, curve) in enumerate(_of(curves, False)) if curve.count
    ]
    rate = [Line("learning rate", curves.rate.points() if curves.rate.count else [], 3)]
    all_shares = all(any(word in name for word in _SHARES) for name, _ in _of(curves, False))
    if curves.loss.count <= 1 and all(curve.count <= 1 for curve in curves.metrics.values()):
        return _only_point(curves)
    return h(
        "div",
        line_chart("Loss", losses),
        line_chart("Validation", shares, high=1.0 if all_shares and shares else None) if shares else None,
        line_chart("Learning rate", rate, height=150),
        cls="halves",
    )


def _only_point(curves: Curves) -> Markup:
    """Trees are grown at once and report once: figures instead of a curve of one point."""
    each = [figure("training loss", number(curves.loss.last[1]))] if curves.loss.last is not None else []
    each += [figure(metric_word(name), number(curve.last[1])) for name, curve in sorted(curves.metrics.items()) if curve.last]
    return figures(*each)


def _of(curves: Curves, losses: bool) -> list[tuple[str, Curve]]:
    return [(name, curve) for name, curve in sorted(curves.metrics.items()) if name.endswith("loss") == losses]
