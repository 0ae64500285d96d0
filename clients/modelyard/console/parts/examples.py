"""Examples drawn: pictures with boxes, outlines and masks, waveforms, series, rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelyard.client.drawing.charts import trace_chart
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, spoken, usage_word
from modelyard.console.content import mask_address, picture_address
from modelyard.console.parts.layout import facts, table
from modelyard.dataset.v1 import dataset_service_pb2, example_view_pb2

TINY = 96
Address = Callable[[str], str]


def gallery(content: str, views: dataset_service_pb2.ViewExamplesResponse, address: Address) -> Markup:
    """Examples in a grid, or of a table in a table; `address` is where each is shown large."""
    shown = list(views.examples)
    if shown and shown[0].cells:
        return rows_table(shown, address)
    colours = dict(zip(views.classes, views.class_colours, strict=False))
    if shown and shown[0].traces:
        return h("div", [_trace_tile(one, address) for one in shown], cls="grid-traces")
    large = " large" if any(one.marks or one.masked for one in shown) else ""
    return h("div", [picture_tile(content, one, colours, address) for one in shown], cls=f"grid-pictures{large}")


def picture_tile(content: str, one: example_view_pb2.ExampleView, colours: Mapping[str, str], address: Address) -> Markup:
    """A small picture with what is marked in it."""
    words = label_words(one)
    return h(
        "a",
        h("span", picture(content, one, colours, 256), cls="frame"),
        h("span", h("span", words or _file(one)), h("span", _usage(one), cls="muted"), cls="words"),
        href=address(one.example.example_id),
        cls="picture",
        id=f"x-{one.example.example_id}",
    )


def picture(
    content: str, one: example_view_pb2.ExampleView, colours: Mapping[str, str], size: int, *, names: bool = False
) -> list[Any]:
    """The picture, what is painted over it, and boxes and outlines."""
    example_id = one.example.example_id
    tiny = "tiny" if 0 < max(one.width, one.height) <= TINY else None
    said = f"{label_words(one) or 'picture'}, {one.example.path}"
    image = h("img", src=picture_address(content, example_id, size), alt=said, loading="lazy", cls=tiny)
    mask = (
        h("img", src=mask_address(content, example_id, max(size, 256)), alt="", loading="lazy", cls=tiny) if one.masked else None
    )
    return [image, mask, _marks(one, colours, names)]


def _marks(one: example_view_pb2.ExampleView, colours: Mapping[str, str], names: bool) -> Markup | None:
    if not one.marks or not one.width:
        return None
    shapes: list[Any] = []
    for mark in one.marks:
        colour = colours.get(mark.label, "#1f5fd0")
        for ring in mark.rings:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(ring.points[::2], ring.points[1::2], strict=True))
            shapes.append(h("polygon", points=points, stroke=colour, style=f"fill:{colour}"))
        if not mark.rings:
            box = {"x": f"{mark.left:.1f}", "y": f"{mark.top:.1f}"}
            size = {"width": f"{max(mark.right - mark.left, 0):.1f}", "height": f"{max(mark.bottom - mark.top, 0):.1f}"}
            shapes.append(h("rect", **box, **size, stroke=colour))
        for x, y, seen in zip(mark.keypoints[::3], mark.keypoints[1::3], mark.keypoints[2::3], strict=True):
            if seen:
                radius = f"{max(one.width, one.height) / 90:.1f}"
                shapes.append(h("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, fill=colour))
        if names:
            size_ = f"font-size:{max(one.width, one.height) / 45:.1f}px"
            shapes.append(h("text", mark.label, x=f"{mark.left:.1f}", y=f"{max(mark.top - 3, 10):.1f}", style=size_))
    return h("svg", shapes, viewBox=f"0 0 {one.width} {one.height}", cls="over", aria_hidden="true")


def label_words(one: example_view_pb2.ExampleView) -> str:
    """Its class, its classes, or what is marked in it: "platelets × 3"."""
    if one.example.label:
        return one.example.label
    if one.labels:
        return ", ".join(one.labels)
    found: dict[str, int] = {}
    for mark in one.marks:
        found[mark.label] = found.get(mark.label, 0) + 1
    for interval in one.intervals:
        found[interval.label] = found.get(interval.label, 0) + 1
    return ", ".join(label if number == 1 else f"{label} × {number}" for label, number in found.items())


def _trace_tile(one: example_view_pb2.ExampleView, address: Address) -> Markup:
    ranges = [(interval.start / max(one.steps, 1), interval.end / max(one.steps, 1)) for interval in one.intervals]
    charts = [trace_chart(trace.name, trace.low, trace.high, ranges=ranges) for trace in one.traces[:2]]
    more = h("p", f"and {len(one.traces) - 2} more channels", cls="small muted") if len(one.traces) > 2 else None
    return h(
        "a",
        h(
            "h3",
            label_words(one) or _file(one),
            " ",
            h("span", " · ".join(part for part in (_usage(one), length_words(one)) if part), cls="small muted"),
        ),
        *charts,
        more,
        href=address(one.example.example_id),
        cls="card",
    )


def length_words(one: example_view_pb2.ExampleView) -> str:
    """How long it is: 1.2 s, 500 steps."""
    if one.rate:
        seconds = one.steps / one.rate
        return f"{seconds:.2f} s" if seconds < 60 else spoken(seconds)
    return f"{count(one.steps)} steps" if one.steps else ""


def rows_table(shown: Sequence[example_view_pb2.ExampleView], address: Address) -> Markup:
    """Rows of a table."""
    columns = [cell.column for cell in shown[0].cells]
    numeric = [at + 2 for at in range(len(columns)) if all(_is_number(one.cells[at]) for one in shown)]
    rows = [
        [
            h("a", one.example.path or one.example.example_id, href=address(one.example.example_id)),
            _usage(one) or "—",
            *(h("span", "missing", cls="muted small") if cell.missing else cell.value for cell in one.cells),
        ]
        for one in shown
    ]
    return table(["row", "usage", *columns], rows, caption="Rows", numeric=numeric)


def look(content: str, one: example_view_pb2.ExampleView, colours: Mapping[str, str]) -> Markup:
    """One example, large, with all that is known of it."""
    if one.cells:
        return h("div", facts((cell.column, "missing" if cell.missing else cell.value) for cell in one.cells), known(one))
    if one.traces:
        ranges = [(interval.start / max(one.steps, 1), interval.end / max(one.steps, 1)) for interval in one.intervals]
        charts = [trace_chart(trace.name, trace.low, trace.high, ranges=ranges, height=110) for trace in one.traces]
        sound = (
            h("audio", controls=True, preload="none", src=picture_address(content, one.example.example_id, 0))
            if one.rate
            else None
        )
        return h("div", h("div", *charts, sound), known(one), cls="look")
    shape = f"aspect-ratio:{one.width}/{one.height}" if one.width and one.height else None
    return h("div", h("div", picture(content, one, colours, 0, names=True), cls="frame", style=shape), known(one), cls="look")


def known(one: example_view_pb2.ExampleView) -> Markup:
    """Facts of an example."""
    rows: list[tuple[str, object]] = [
        ("Label", label_words(one) or "none"),
        ("Usage", usage_word(one.example.usage)),
        ("File", one.example.path),
        ("Size", f"{one.width} × {one.height} pixels" if one.width else length_words(one)),
        ("Rate", f"{one.rate:g} Hz" if one.rate else ""),
        ("Id", h("code", one.example.example_id)),
    ]
    rows += [(name, value) for name, value in sorted(one.attributes.items())]
    return facts(rows)


def _usage(one: example_view_pb2.ExampleView) -> str:
    """Its usage; nothing where nobody has split it yet."""
    return usage_word(one.example.usage) if one.example.usage else ""


def _file(one: example_view_pb2.ExampleView) -> str:
    """The name of its file."""
    return one.example.path.rpartition("/")[2]


def _is_number(cell: example_view_pb2.CellView) -> bool:
    if cell.missing:
        return True
    try:
        float(cell.value)
    except ValueError:
        return False
    return True
