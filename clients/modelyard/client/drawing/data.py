"""A dataset version, findings about it, and examples, drawn. Pictures come along as data: nothing is loaded."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modelyard.client.drawing.charts import bars, trace_chart
from modelyard.client.drawing.layout import badge, card, facts, table
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, moment, reason_word, task_word, usage_word
from modelyard.client.names import short
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2, example_view_pb2

MOST_BARS: Final = 30
TINY: Final = 96
_SHOWN: Final = ("image/jpeg", "image/png", "image/webp", "image/gif")
_SEVERITIES: Final[Mapping[int, tuple[str, str]]] = {
    dataset_pb2.Finding.SEVERITY_ERROR: ("Error", "bad"),
    dataset_pb2.Finding.SEVERITY_WARNING: ("Warning", "wait"),
    dataset_pb2.Finding.SEVERITY_INFO: ("Info", "off"),
}


def version_card(version: dataset_pb2.DatasetVersion) -> Markup:
    """What a dataset version holds: usages, classes, columns, and what was decided on the way."""
    frozen = version.frozen_test
    rows = [
        ("Dataset version", h("code", short(version.name))),
        ("Task", task_word(version.task)),
        ("Examples", ", ".join(f"{usage_word(each.usage)} {count(each.example_count)}" for each in version.counts)),
        ("Classes", f"{len(version.classes)}" if version.classes else ""),
        ("Digest", h("code", version.digest)),
        ("Made from", h("code", short(version.base_version)) if version.base_version else ""),
        ("Tags", ", ".join(version.tags)),
        (
            "Test set",
            f"frozen by {short(frozen.dataset_version)}, {count(frozen.example_count)} examples"
            if frozen.dataset_version
            else "",
        ),
        ("Evaluations on its test", count(version.test_evaluation_count) if version.test_evaluation_count else ""),
        ("Description", version.description),
        ("Made", moment(version.status.create_time)),
    ]
    return card("Data", facts(rows), class_bars(version), _columns(version), _said(version.notes), id="data")


def class_bars(version: dataset_pb2.DatasetVersion) -> Markup | None:
    """Examples of each class, over all usages."""
    totals = [0] * len(version.classes)
    for each in version.counts:
        for at, value in enumerate(each.class_counts[: len(totals)]):
            totals[at] += value
    if not any(totals):
        return None
    found = sorted(zip(version.classes, totals, strict=True), key=lambda pair: -pair[1])
    more = h("p", f"and {len(found) - MOST_BARS} more classes", cls="muted small") if len(found) > MOST_BARS else None
    shown = bars("Examples by class", [(name, float(value), count(value)) for name, value in found[:MOST_BARS]])
    return h("div", h("h3", "Classes"), shown, more)


def _columns(version: dataset_pb2.DatasetVersion) -> Markup | None:
    if not version.columns:
        return None
    rows = [[column.name, dataset_pb2.Column.Role.Name(column.role).removeprefix("ROLE_").lower()] for column in version.columns]
    shown = table(["Column", "Role"], rows, caption="Columns")
    return h("details", h("summary", f"{len(rows)} columns"), shown)


def _said(notes: Sequence[str]) -> Markup | None:
    return h("div", h("h3", "What was decided"), h("ul", [h("li", note) for note in notes])) if notes else None


def findings_card(findings: Iterable[dataset_pb2.Finding]) -> Markup | None:
    """What was found in the data, the worst first."""
    rows = [
        [badge(*_SEVERITIES.get(one.severity, ("Info", "off"))), reason_word(one.kind), one.message, one.action]
        for one in sorted(findings, key=lambda one: -one.severity)
    ]
    if not rows:
        return None
    return card("What was found in the data", table(["", "Kind", "Found", "What to do"], rows, caption="Findings"), id="findings")


def views_grid(views: dataset_service_pb2.ViewExamplesResponse, words: Mapping[str, Sequence[str]] | None = None) -> Markup:
    """Examples in a grid, those of a table as rows. words: lines below each, by its id; else its label and usage."""
    shown = list(views.examples)
    if shown and shown[0].cells:
        return rows_table(shown)
    colours = dict(zip(views.classes, views.class_colours, strict=False))
    tiles = []
    for one in shown:
        lines = (words or {}).get(one.example.example_id) or [label_words(one), usage_word(one.example.usage)]
        said = h("span", [h("span", line) for line in lines if line], h("span", one.example.path, cls="muted small"), cls="words")
        tiles.append(h("li", _drawn(one, colours, lines[0] if lines else ""), said))
    wide = " wide" if any(one.traces for one in shown) else ""
    return h("ul", tiles, cls=f"tiles{wide}")


def _drawn(one: example_view_pb2.ExampleView, colours: Mapping[str, str], words: str) -> list[Markup]:
    if one.traces:
        steps = max(one.steps, 1)
        ranges = [(interval.start / steps, interval.end / steps) for interval in one.intervals]
        return [trace_chart(trace.name, trace.low, trace.high, ranges=ranges) for trace in one.traces[:2]]
    if not one.content or one.media_type not in _SHOWN:
        return []
    tiny = "tiny" if 0 < max(one.width, one.height) <= TINY else None
    image = h("img", src=data_address(one.media_type, one.content), alt=f"{words}: {one.example.path}", cls=tiny)
    mask = h("img", src=data_address("image/png", one.mask), alt="", cls="over") if one.mask else None
    return [h("span", image, mask, marks(one, colours), cls="frame")]


def data_address(media_type: str, content: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def marks(one: example_view_pb2.ExampleView, colours: Mapping[str, str]) -> Markup | None:
    """Boxes and outlines over a picture."""
    if not one.marks or not one.width:
        return None
    shapes = []
    for mark in one.marks:
        colour = colours.get(mark.label, "#1f5fd0")
        for ring in mark.rings:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(ring.points[::2], ring.points[1::2], strict=True))
            shapes.append(h("polygon", points=points, stroke=colour))
        if not mark.rings:
            width, height = max(mark.right - mark.left, 0), max(mark.bottom - mark.top, 0)
            shapes.append(
                h("rect", x=f"{mark.left:.1f}", y=f"{mark.top:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", stroke=colour)
            )
        for x, y, seen in zip(mark.keypoints[::3], mark.keypoints[1::3], mark.keypoints[2::3], strict=True):
            if seen:
                shapes.append(h("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{max(one.width, one.height) / 90:.1f}", fill=colour))
    return h("svg", shapes, viewBox=f"0 0 {one.width} {one.height}", cls="over", aria_hidden="true")


def label_words(one: example_view_pb2.ExampleView) -> str:
    """Its class, its classes, or what is marked in it: "platelets × 3"."""
    if one.example.label:
        return one.example.label
    if one.labels:
        return ", ".join(one.labels)
    found: dict[str, int] = {}
    for name in [mark.label for mark in one.marks] + [interval.label for interval in one.intervals]:
        found[name] = found.get(name, 0) + 1
    return ", ".join(label if number == 1 else f"{label} × {number}" for label, number in found.items())


def rows_table(shown: Sequence[example_view_pb2.ExampleView]) -> Markup:
    """Rows of a table."""
    columns = ["Row", "Usage", *(cell.column for cell in shown[0].cells)]
    rows = [
        [
            one.example.path or one.example.example_id[:12],
            usage_word(one.example.usage),
            *(h("span", "missing", cls="muted small") if cell.missing else cell.value for cell in one.cells),
        ]
        for one in shown
    ]
    return table(columns, rows, caption="Rows")
