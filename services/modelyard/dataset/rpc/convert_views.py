"""Examples to look at: messages and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelyard.dataset.domain.colours import class_colours
from modelyard.dataset.ports import ExampleLook, Look
from modelyard.dataset.rpc.convert import example_message
from modelyard.dataset.v1 import dataset_service_pb2 as messages
from modelyard.dataset.v1 import example_view_pb2 as pb
from modelyard.formats.annotations import Mark
from modelyard.formats.dataset import DatasetDescriptor

_CONTENTS: Final = {
    messages.ViewExamplesRequest.CONTENT_PREVIEW: "preview",
    messages.ViewExamplesRequest.CONTENT_ORIGINAL: "original",
}


def look_of(request: messages.ViewExamplesRequest) -> Look:
    """How much is wanted, with the defaults in."""
    default = Look()
    return Look(_CONTENTS.get(request.content, ""), request.max_size or default.size, request.max_points or default.points)


def view_message(looks: Sequence[ExampleLook], descriptor: DatasetDescriptor) -> messages.ViewExamplesResponse:
    """Examples and the colours of their classes."""
    colours = class_colours(len(descriptor.classes), descriptor.palette)
    return messages.ViewExamplesResponse(
        examples=[_view(look) for look in looks], class_colours=colours, classes=descriptor.classes
    )


def _view(look: ExampleLook) -> pb.ExampleView:
    return pb.ExampleView(
        example=example_message(look.row),
        media_type=look.media_type,
        content=look.content,
        width=look.width,
        height=look.height,
        marks=[_mark(mark) for mark in look.annotation.marks],
        labels=look.annotation.labels,
        attributes=dict(look.annotation.attributes),
        masked=look.masked,
        mask=look.mask,
        cells=[pb.CellView(column=column, value=value or "", missing=value is None) for column, value in look.cells],
        traces=[pb.TraceView(name=trace.name, low=trace.low, high=trace.high) for trace in look.traces],
        intervals=[pb.IntervalView(start=one.start, end=one.end, label=one.label) for one in look.annotation.intervals],
        steps=look.steps,
        rate=look.rate,
    )


def _mark(mark: Mark) -> pb.MarkView:
    left, top, right, bottom = mark.box
    rings = [pb.RingView(points=ring) for ring in mark.polygons]
    return pb.MarkView(label=mark.label, left=left, top=top, right=right, bottom=bottom, rings=rings, keypoints=mark.keypoints)
