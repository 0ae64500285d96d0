"""Rounds of annotation: their names in addresses, their states, how far they are; schemas as the page's scripts take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, percent
from modelyard.console.parts.badges import badge
from modelyard.console.parts.page import Here
from modelyard.dataset.v1 import annotation_pb2

SHAPES: Final[Mapping[annotation_pb2.Shape.ValueType, tuple[str, str]]] = {
    annotation_pb2.SHAPE_CLASS: ("class", "one class for each example"),
    annotation_pb2.SHAPE_CLASSES: ("classes", "any number of classes for each example"),
    annotation_pb2.SHAPE_BOX: ("box", "boxes around objects"),
    annotation_pb2.SHAPE_POLYGON: ("polygon", "outlines of objects"),
    annotation_pb2.SHAPE_MASK: ("mask", "pixels, with a brush"),
    annotation_pb2.SHAPE_KEYPOINTS: ("keypoints", "named points of objects"),
    annotation_pb2.SHAPE_RANGE: ("range", "ranges of a recording"),
    annotation_pb2.SHAPE_TEXT: ("text", "a text"),
}
_STATES: Final[Mapping[int, tuple[str, str, str]]] = {
    annotation_pb2.AnnotationRound.STATE_OPEN: ("open", "good", "pen"),
    annotation_pb2.AnnotationRound.STATE_PAUSED: ("paused", "wait", "clock"),
    annotation_pb2.AnnotationRound.STATE_CLOSED: ("closed", "off", "check"),
}


def parts_of(name: str) -> tuple[str, str]:
    """Dataset and round of a round's full name, or of a task's."""
    parts = name.split("/")
    return parts[3], parts[5]


def round_path(here: Here, name: str, *more: str, **query: object) -> str:
    """Where a round is shown."""
    return here.path("annotation", *parts_of(name), *more, **query)


def round_state(state: int) -> Markup:
    """Whether tasks are given out."""
    words, kind, picture = _STATES.get(state, ("unknown", "off", "info"))
    return badge(words, kind, picture)


def round_progress(progress: annotation_pb2.AnnotationProgress, label: str) -> Markup:
    """Answers there are, of those wanted."""
    share = progress.answers / progress.answers_wanted if progress.answers_wanted else 0.0
    words = f"{count(progress.answers)} of {count(progress.answers_wanted)} answers"
    bar = h("div", h("div", cls="bar-fill", style=f"width:{100 * min(share, 1):.1f}%"), cls="bar")
    return h(
        "div",
        h("div", h("span", words), h("span", percent(min(share, 1), 0), cls="muted"), cls="bar-words"),
        bar,
        role="progressbar",
        aria_label=label,
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(100 * min(share, 1)),
        cls="progress",
    )


def schema_json(schema: annotation_pb2.LabelSchema) -> dict[str, Any]:
    """A schema as `static/annotate` takes it."""

    def attributes(given: Any) -> list[dict[str, Any]]:
        kinds = annotation_pb2.LabelAttribute.Kind
        return [
            {
                "name": one.name,
                "kind": kinds.Name(one.kind).removeprefix("KIND_"),
                "values": list(one.values),
                "required": one.required,
            }
            for one in given
        ]

    classes = [
        {
            "name": one.name,
            "colour": one.colour,
            "key": one.key,
            "description": one.description,
            "attributes": attributes(one.attributes),
        }
        for one in schema.classes
    ]
    return {
        "shapes": [annotation_pb2.Shape.Name(shape).removeprefix("SHAPE_") for shape in schema.shapes],
        "classes": classes,
        "attributes": attributes(schema.attributes),
        "keypoints": list(schema.keypoints),
    }
