"""Label Studio's JSON: tasks with the annotations of people and the predictions of models (labelstud.io, "Label Studio JSON
format").

A result says one thing: choices, rectanglelabels, polygonlabels, brushlabels, keypointlabels, timeserieslabels or textarea.
Coordinates are percent of the picture. Points of one object are joined by their `parentID`, other parts of one object (a box
and its outline) too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import label_studio_rle as brush
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.dataset.domain.label_schema import KEYPOINTS, LabelSchema
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import Box, Interval, Mark, bounds, snap

_MOST = 10_000
NO_BOX = cast(Box, ())
"""Of an object whose outline or pixels say it (answers.checked_answer)."""


@dataclass(frozen=True)
class Submitted:
    """An annotation or a prediction. who: whoever gave it; seconds it took; `score` of a prediction, 0 to 1."""

    who: str
    answer: Answer
    seconds: float = 0.0
    score: float = 0.0
    model: str = ""


@dataclass(frozen=True)
class StudioTask:
    """A task as Label Studio has it. keys: what may name its example: its id, its path, a file name."""

    id: str
    keys: tuple[str, ...]
    annotations: tuple[Submitted, ...] = ()
    predictions: tuple[Submitted, ...] = ()


@dataclass
class Wrong:
    """What was left out: where ("task 17: annotations[0].result[2].value.x"), and why."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def note(self, path: str, why: str) -> None:
        """Notes one."""
        self.found.append((path, why))


def keys_of(task: Mapping[str, Any]) -> tuple[str, ...]:
    """What may name the example of a task: `data.example_id`, the other texts of `data`, `file_upload`; the surest first."""
    data = task.get("data")
    texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, Mapping) else []
    if isinstance(data, Mapping) and isinstance(data.get("example_id"), str):
        texts = [data["example_id"], *(text for text in texts if text != data["example_id"])]
    upload = task.get("file_upload")
    return (*texts, *([upload] if isinstance(upload, str) else []))


def read_task(task: Any, number: int, schema: LabelSchema, facts: Facts, wrong: Wrong) -> StudioTask:
    """A task, without what cannot be read, which is noted in `wrong`. `number`: its place in the file, for one without an id."""
    if not isinstance(task, Mapping):
        wrong.note(f"task at {number}", f"it is {type(task).__name__}, not an object")
        return StudioTask(f"at {number}", ())
    id_ = str(task.get("id", f"at {number}"))[:80]
    where = f"task {id_}"
    read = {name: tuple(_submitted(task.get(name), name, where, schema, facts, wrong)) for name in ("annotations", "predictions")}
    if "annotations" not in task and "completions" in task:  # as versions before 1.0 called them
        read["annotations"] = tuple(_submitted(task["completions"], "completions", where, schema, facts, wrong))
    return StudioTask(id_, keys_of(task), read["annotations"], read["predictions"])


def _submitted(given: Any, name: str, where: str, schema: LabelSchema, facts: Facts, wrong: Wrong) -> Iterator[Submitted]:
    if given is None:
        return
    if not isinstance(given, Sequence) or isinstance(given, str):
        wrong.note(f"{where}: {name}", f"it is {type(given).__name__}, not a list")
        return
    for place, each in enumerate(given[:_MOST]):
        path = f"{where}: {name}[{place}]"
        if not isinstance(each, Mapping):
            wrong.note(path, f"it is {type(each).__name__}, not an object")
            continue
        if each.get("was_cancelled") is True:  # skipped
            continue
        results = each.get("result")
        if not isinstance(results, Sequence) or isinstance(results, str):
            wrong.note(f"{path}.result", "it is not a list")
            continue
        try:
            answer = _answer(results, f"{path}.result", schema, facts)
        except _Bad as error:
            wrong.note(error.path, error.why)
            continue
        yield Submitted(
            who=_who(each.get("completed_by")),
            answer=answer,
            seconds=_number_or(each.get("lead_time"), 0.0),
            score=min(max(_number_or(each.get("score"), 0.0), 0.0), 1.0),
            model=str(each.get("model_version") or "")[:200],
        )


class _Bad(Exception):
    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path, self.why = path, why


def _answer(results: Sequence[Any], path: str, schema: LabelSchema, facts: Facts) -> Answer:
    classes: list[str] = []
    intervals: list[Interval] = []
    text = ""
    marks: dict[str, Mark] = {}
    points: dict[str, dict[str, tuple[float, float, float]]] = {}
    attributes: dict[str, str] = {}
    for place, each in enumerate(results):
        at = f"{path}[{place}]"
        if not isinstance(each, Mapping):
            raise _Bad(at, f"it is {type(each).__name__}, not an object")
        kind, value = each.get("type"), each.get("value")
        if not isinstance(value, Mapping):
            raise _Bad(f"{at}.value", "it is not an object")
        key = str(each.get("parentID") or each.get("id") or f"#{place}")
        if kind == "choices":
            attribute = _attribute(each, schema)
            said = _texts(value, "choices", at)
            if attribute:
                attributes[attribute] = said[0]
            else:
                classes += said
        elif kind == "textarea":
            attribute = _attribute(each, schema)
            said = _texts(value, "text", at)
            if attribute:
                attributes[attribute] = said[0]
            else:
                text = "\n".join(said)
        elif kind == "timeserieslabels":
            intervals += [_interval(value, label, at) for label in _texts(value, kind, at)]
        elif kind in ("rectanglelabels", "polygonlabels", "brushlabels"):
            marks[key] = _joined(marks.get(key), _mark(kind, value, at, _size(each, facts, at)), at)
        elif kind == "keypointlabels":
            name = _texts(value, kind, at)[0]
            x, y = _point(value, "x", "y", at, _size(each, facts, at))
            points.setdefault(key, {})[name] = (x, y, 1.0 if value.get("hidden") is True else 2.0)
        elif kind not in ("rectangle", "polygon", "brush", "keypoint", "labels", "relation"):
            raise _Bad(f"{at}.type", f"it is {str(kind)[:40]!r}, which has no place in a label schema")
    for key, named in points.items():
        marks[key] = _with_points(marks.get(key), named, schema, path)
    return Answer(tuple(dict.fromkeys(classes)), tuple(marks.values()), tuple(intervals), text, attributes)


def _joined(known: Mark | None, more: Mark, at: str) -> Mark:
    """Two parts of one object."""
    if known is None:
        return more
    if known.label != more.label:
        raise _Bad(f"{at}.parentID", f"it joins a {more.label} to a {known.label}")
    return replace(known, box=known.box or more.box, polygons=(*known.polygons, *more.polygons), mask=known.mask or more.mask)


def _with_points(known: Mark | None, named: Mapping[str, tuple[float, float, float]], schema: LabelSchema, path: str) -> Mark:
    unknown = sorted(set(named) - set(schema.keypoints))
    if unknown:
        raise _Bad(path, f"the keypoint {unknown[0]!r} is none of {', '.join(schema.keypoints) or 'none'}")
    values = tuple(value for name in schema.keypoints for value in named.get(name, (0.0, 0.0, 0.0)))
    if known is not None:
        return replace(known, keypoints=values)
    if len(schema.classes) != 1:
        raise _Bad(path, "keypoints without a box (joined by parentID) say no class, and the label schema has several")
    box = bounds([[value for x, y, _ in named.values() for value in (x, y)]])
    return Mark(schema.classes[0].name, box, keypoints=values)


def _mark(kind: str, value: Mapping[str, Any], at: str, size: tuple[int, int]) -> Mark:
    label = _texts(value, kind, at)[0]
    width, height = size
    if kind == "rectanglelabels":
        if _number_or(value.get("rotation"), 0.0) % 360:
            raise _Bad(f"{at}.value.rotation", "turned boxes have no place in a label schema; draw an outline")
        x, y = _point(value, "x", "y", at, size)
        wide, high = _point(value, "width", "height", at, size)
        box = (x, y, snap(min(x + wide, width)), snap(min(y + high, height)))
        return Mark(label, box)
    if kind == "polygonlabels":
        points = value.get("points")
        if not isinstance(points, Sequence) or isinstance(points, str) or len(points) < 3:
            raise _Bad(f"{at}.value.points", "it is a list of three points or more")
        ring: list[float] = []
        for place, point in enumerate(points):
            if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 2:
                raise _Bad(f"{at}.value.points[{place}]", "it is a pair of numbers")
            where = f"{at}.value.points[{place}]"
            ring += [_percent(point[0], width, f"{where}[0]"), _percent(point[1], height, f"{where}[1]")]
        return Mark(label, NO_BOX, (tuple(ring),))
    rle = value.get("rle")
    if value.get("format", "rle") != "rle" or not isinstance(rle, list):
        raise _Bad(f"{at}.value.rle", "it is a list of numbers, and value.format is rle")
    try:
        mask = brush.decode(rle, height, width)
    except InvalidArgument as error:
        raise _Bad(f"{at}.value.rle", error.message) from error
    return Mark(label, NO_BOX, mask=annotations_rle.encode(mask))


def _size(each: Mapping[str, Any], facts: Facts, at: str) -> tuple[int, int]:
    """Width and height of the picture, which must be those of the example where both are known."""
    said = []
    for name, known in (("original_width", facts.width), ("original_height", facts.height)):
        value = each.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise _Bad(f"{at}.{name}", f"it is {str(value)[:40]!r}; it is the picture's size in pixels")
        if value is not None and known and value != known:
            raise _Bad(f"{at}.{name}", f"it is {value}, but the example has {known} pixels")
        if not (known or value):
            raise _Bad(f"{at}.{name}", "it is missing, and the example is no picture")
        said.append(known or int(value or 0))
    return said[0], said[1]


def _point(value: Mapping[str, Any], x: str, y: str, at: str, size: tuple[int, int]) -> tuple[float, float]:
    return _percent(value.get(x), size[0], f"{at}.value.{x}"), _percent(value.get(y), size[1], f"{at}.value.{y}")


def _percent(value: Any, pixels: int, path: str) -> float:
    number = _number_or(value, math.nan)
    if not -0.01 <= number <= 100.01:  # also when it is no number
        raise _Bad(path, f"it is {str(value)[:40]!r}; it is 0 to 100, percent of the picture")
    return snap(min(max(number, 0.0), 100.0) * pixels / 100)


def _interval(value: Mapping[str, Any], label: str, at: str) -> Interval:
    ends = [_number_or(value.get(name), math.nan) for name in ("start", "end")]
    for name, number in zip(("start", "end"), ends, strict=True):
        if not (math.isfinite(number) and number >= 0):
            raise _Bad(f"{at}.value.{name}", f"it is {str(value.get(name))[:40]!r}; it is the number of a step, 0 or more")
    start, end = int(ends[0]), math.ceil(ends[1])
    return Interval(start, max(end, start + 1), label)


def _texts(value: Mapping[str, Any], name: str, at: str) -> list[str]:
    given = value.get(name)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not texts or any(not isinstance(text, str) for text in texts):
        raise _Bad(f"{at}.value.{name}", "it is a list of one text or more")
    return list(texts)


def _attribute(each: Mapping[str, Any], schema: LabelSchema) -> str:
    """The attribute of the example that a control of that name asks for; "": none."""
    name = each.get("from_name")
    return name if isinstance(name, str) and any(name == attribute.name for attribute in schema.attributes) else ""


def _who(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("username") or value.get("id")
    text = "".join(character for character in str(value if value is not None else "unknown") if 32 < ord(character) < 127)
    return text if text.startswith("user:") else f"label-studio:{text[:150] or 'unknown'}"


def _number_or(value: Any, otherwise: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    try:
        number = float(value)
    except OverflowError:
        return otherwise
    return number if math.isfinite(number) else otherwise


# Writing


def results_of(answer: Answer, schema: LabelSchema, facts: Facts, kind: str) -> list[dict[str, Any]]:
    """What an answer says as results; `kind` of the dataset (image, audio, series, table) names the control's object."""
    found: list[dict[str, Any]] = []
    if answer.classes:
        found.append(_result("class", kind, "choices", {"choices": list(answer.classes)}, "class"))
    for number, mark in enumerate(answer.marks):
        found += _mark_results(mark, f"object-{number}", schema, facts)
    for number, each in enumerate(answer.intervals):
        steps = {"start": each.start, "end": each.end, "instant": False, "timeserieslabels": [each.label]}
        found.append(_result("range", kind, "timeserieslabels", steps, f"range-{number}"))
    if answer.text:
        found.append(_result("text", kind, "textarea", {"text": [answer.text]}, "text"))
    for name, value in sorted(answer.attributes.items()):
        found.append(_result(name, kind, "textarea", {"text": [value]}, f"attribute-{name}"))
    return found


def _mark_results(mark: Mark, id_: str, schema: LabelSchema, facts: Facts) -> list[dict[str, Any]]:
    size = {"original_width": facts.width, "original_height": facts.height, "image_rotation": 0}
    found = []
    left, top, right, bottom = mark.box
    across, down = (100 / facts.width if facts.width else 0.0), (100 / facts.height if facts.height else 0.0)
    if mark.box != _whole(mark, facts):
        box = {
            "x": left * across,
            "y": top * down,
            "width": (right - left) * across,
            "height": (bottom - top) * down,
            "rotation": 0,
        }
        found.append(_result("box", "image", "rectanglelabels", {**box, "rectanglelabels": [mark.label]}, id_) | size)
    for number, ring in enumerate(mark.polygons):
        points = [[x * across, y * down] for x, y in zip(ring[::2], ring[1::2], strict=True)]
        value = {"points": points, "closed": True, "polygonlabels": [mark.label]}
        own = id_ if not found else f"{id_}-{number}"
        found.append(_result("polygon", "image", "polygonlabels", value, own) | size)
    if mark.mask:
        pixels = annotations_rle.decode(mark.mask, facts.height, facts.width)
        value = {"format": "rle", "rle": brush.encode(pixels), "brushlabels": [mark.label]}
        found.append(_result("mask", "image", "brushlabels", value, id_ if not found else f"{id_}-mask") | size)
    if KEYPOINTS in schema.shapes and mark.keypoints:
        for number, name in enumerate(schema.keypoints):
            x, y, visible = mark.keypoints[3 * number : 3 * number + 3]
            if visible:
                hidden = {"hidden": True} if visible == 1 else {}
                value = {"x": x * across, "y": y * down, "width": 0.5, "keypointlabels": [name], **hidden}
                found.append(_result("points", "image", "keypointlabels", value, f"{id_}-point-{number}") | size)
    for part in found[1:]:
        part["parentID"] = id_
    return found


def _whole(mark: Mark, facts: Facts) -> Box | None:
    """The box that outline or pixels have by themselves; None where there are none, so that the box must be written."""
    if mark.polygons:
        return bounds(mark.polygons)
    return annotations_rle.box_of(annotations_rle.decode(mark.mask, facts.height, facts.width)) if mark.mask else None


def _result(name: str, to: str, kind: str, value: dict[str, Any], id_: str) -> dict[str, Any]:
    return {"id": id_, "from_name": name, "to_name": to, "type": kind, "value": value}


def written_task(
    number: int,
    data: Mapping[str, str],
    annotations: Mapping[str, Answer],
    prediction: Submitted | None,
    schema: LabelSchema,
    facts: Facts,
    kind: str,
) -> dict[str, Any]:
    """A task with the answers of people and a model's pre-label."""
    said = [
        {"id": place, "completed_by": {"email": who}, "result": results_of(answer, schema, facts, kind), "was_cancelled": False}
        for place, (who, answer) in enumerate(annotations.items(), 1)
    ]
    predicted = []
    if prediction is not None:
        results = results_of(prediction.answer, schema, facts, kind)
        predicted.append({"model_version": prediction.model, "score": prediction.score, "result": results})
    return {"id": number, "data": dict(data), "annotations": said, "predictions": predicted}
