"""Pictures with what is in them and what a detector found, one over the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import percent
from modelyard.console.parts.examples import picture
from modelyard.dataset.v1 import dataset_service_pb2, example_view_pb2
from modelyard.evaluator.v1 import evaluator_pb2


def found_tiles(
    content: str,
    views: dataset_service_pb2.ViewExamplesResponse,
    found: Mapping[str, evaluator_pb2.ExampleScore],
    threshold: float,
    address: Callable[[str], str],
) -> Markup:
    """What was marked (whole lines) and what was found with a score of `threshold` or more (dashed), in the classes' colours."""
    colours = dict(zip(views.classes, views.class_colours, strict=False))
    tiles = [_tile(content, one, found.get(one.example.example_id), colours, threshold, address) for one in views.examples]
    about = h(
        "p", f"Whole lines: what is there. Dashed: what was found, {percent(threshold, 0)} sure or more.", cls="small muted"
    )
    return h("div", about, h("div", tiles, cls="grid-pictures large below"))


def _tile(
    content: str,
    one: example_view_pb2.ExampleView,
    said: evaluator_pb2.ExampleScore | None,
    colours: Mapping[str, str],
    threshold: float,
    address: Callable[[str], str],
) -> Markup:
    boxes = [box for box in said.boxes if box.score >= threshold] if said is not None else []
    found = Counter(box.label for box in boxes)
    shown = ", ".join(f"{number} {label}" for label, number in sorted(found.items()))
    words = f"there: {said.label or 'nothing'}; found: {shown or 'nothing'}" if said is not None else ""
    return h(
        "a",
        h("span", picture(content, one, colours, 512), _over(one, boxes, colours), cls="frame"),
        h("span", h("span", words), cls="words"),
        href=address(one.example.example_id),
        cls="picture told",
    )


def _over(
    one: example_view_pb2.ExampleView, boxes: Sequence[evaluator_pb2.FoundBox], colours: Mapping[str, str]
) -> Markup | None:
    if not boxes or not one.width:
        return None
    size = max(one.width, one.height) / 22
    shapes = []
    for box in boxes:
        left, top, right, bottom = box.box
        place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{right - left:.1f}", "height": f"{bottom - top:.1f}"}
        shapes.append(h("rect", **place, stroke=colours.get(box.label, "#1f5fd0"), cls="found"))
        shapes.append(h("text", percent(box.score, 0), x=f"{left:.1f}", y=f"{bottom - 2:.1f}", style=f"font-size:{size:.1f}px"))
    return h("svg", shapes, viewBox=f"0 0 {one.width} {one.height}", cls="over", aria_hidden="true")
