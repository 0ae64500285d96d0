"""The curves of a training: kept small, and drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from modelyard.client.drawing.charts import Line, line_chart
from modelyard.client.drawing.decimate import Curve
from modelyard.client.drawing.layout import figure, figures
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import metric_word, number

_SHARES: Final = ("accuracy", "f1", "precision", "recall", "auc", "iou", "map", "r2")


class Curves:
    """The curves of a training, kept small: loss, learning rate, speed, and each metric."""

    def __init__(self, points: Iterable[Any] = ()) -> None:
        self.loss, self.rate, self.speed = Curve(), Curve(), Curve()
        self.metrics: dict[str, Curve] = {}
        self.last: Any = None
        self.take(points)

    def take(self, points: Iterable[Any]) -> None:
        """TrainingPoints as they come; one that came before (a stream that was resumed) is left out."""
        for point in points:
            if self.last is not None and point.step < self.last.step:
                continue
            self.last = point
            if point.loss or not point.metrics:
                self.loss.add(point.step, point.loss)
            self.rate.add(point.step, point.learning_rate)
            if point.examples_per_second:
                self.speed.add(point.step, point.examples_per_second)
            for name, value in point.metrics.items():
                self.metrics.setdefault(name, Curve()).add(point.step, value)

    def _repr_html_(self) -> str:
        from modelyard.client.drawing.style import framed

        return framed(training_charts(self))


def training_charts(curves: Curves) -> Markup:
    """Loss, metrics and learning rate."""
    losses = [Line("training loss", curves.loss.points() if curves.loss.count else [], 1)]
    losses += [
        Line(metric_word(name), curve.points(), 2 + at % 7) for at, (name, curve) in enumerate(_of(curves, True)) if curve.count
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
    each = [("training loss", number(curves.loss.last[1]))] if curves.loss.last is not None else []
    each += [(metric_word(name), number(curve.last[1])) for name, curve in sorted(curves.metrics.items()) if curve.last]
    return figures(*(figure(name, value) for name, value in each))


def _of(curves: Curves, losses: bool) -> list[tuple[str, Curve]]:
    return [(name, curve) for name, curve in sorted(curves.metrics.items()) if name.endswith("loss") == losses]
