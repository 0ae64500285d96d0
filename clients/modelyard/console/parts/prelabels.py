"""A served model's word on the open tasks of a round, for people to accept or change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.client import AsyncClient, InvalidArgument, Violation
from modelyard.dataset.v1 import annotation_pb2

AT_ONCE: Final = 8
LEAST: Final = 0.3
"""Boxes that the model is less sure of are left out."""


@dataclass
class Asked:
    """How far it is: tasks asked about, of how many; pre-labels taken; classes that the schema lacks."""

    total: int = 0
    asked: int = 0
    taken: int = 0
    unknown: set[str] = field(default_factory=set)


async def prelabel(client: AsyncClient, round_name: str, endpoint: str, told: Callable[[Asked], None]) -> Asked:
    """Asks an endpoint about every open task without a pre-label. Raises what services say; InvalidArgument NO_PICTURES."""
    calls = client.annotations
    found = await calls.get_round(round_name)
    schema = await calls.get_label_schema(found.label_schema)
    known = {one.name for one in schema.classes}
    boxes = annotation_pb2.SHAPE_BOX in schema.shapes
    tasks = [one async for one in calls.list_tasks(round_name, state="open", page_size=1000) if not one.HasField("pre_label")]
    state = Asked(total=len(tasks))
    for start in range(0, len(tasks), AT_ONCE):
        part = tasks[start : start + AT_ONCE]
        contents = await asyncio.gather(*(calls.task_content(one.name) for one in part))
        if any(not one.media_type.startswith("image/") for one in contents):
            message = "a served model is asked about pictures here; `modelyard annotate import` takes pre-labels of other kinds"
            raise InvalidArgument(message, reason="NO_PICTURES", violations=(Violation("endpoint", message),))
        said = await client.predictions.predict(endpoint, image=[bytes(one.data) for one in contents])
        ready = []
        for at, task in enumerate(part):
            made = _boxes(said, at, task) if boxes and "boxes" in said.outputs else _class(said, at)
            named = {*made.answer.classes, *(one.label for one in made.answer.objects)}
            state.unknown |= named - known
            if named <= known:
                made.example_id, made.model = task.example.example_id, f"{endpoint}/{said.model_version}"
                ready.append(made)
        state.taken += await calls.import_pre_labels(round_name, ready) if ready else 0
        state.asked += len(part)
        told(state)
    return state


def _class(said: Any, at: int) -> annotation_pb2.PreLabel:
    if not said.labels or "probabilities" not in said.outputs:
        have = ", ".join(said.outputs)
        message = f"the model answers {have}; one that says a class with its probabilities, or boxes, is needed"
        raise InvalidArgument(message, reason="NO_CLASSES", violations=(Violation("endpoint", message),))
    sure = max(float(value) for value in said.rows("probabilities")[at])
    return annotation_pb2.PreLabel(answer=annotation_pb2.Answer(classes=[said.labels[at]]), confidence=sure)


def _boxes(said: Any, at: int, task: annotation_pb2.AnnotationTask) -> annotation_pb2.PreLabel:
    """Boxes within the picture; as sure as the least sure of them."""
    most = said.shapes["scores"][1]
    values, scores, labels = (said.outputs[name] for name in ("boxes", "scores", "labels"))
    sides = (task.width, task.height, task.width, task.height)
    objects: list[annotation_pb2.MarkedObject] = []
    sure = 1.0
    for place in range(at * most, (at + 1) * most):
        if scores[place] < LEAST or not labels[place]:
            continue
        shares: Sequence[float] = [min(max(float(value), 0.0), 1.0) for value in values[4 * place : 4 * place + 4]]
        if shares[2] > shares[0] and shares[3] > shares[1]:
            box = [share * side for share, side in zip(shares, sides, strict=True)]
            objects.append(annotation_pb2.MarkedObject(label=labels[place], box=box))
            sure = min(sure, float(scores[place]))
    return annotation_pb2.PreLabel(answer=annotation_pb2.Answer(objects=objects), confidence=sure)
