"""YOLO's label files: a line an object, coordinates as shares of the picture (docs.ultralytics.com/datasets).

`class cx cy w h` (detect), `class x1 y1 x2 y2 ...` (segment), `class cx cy w h` and x, y, visibility of keypoints (pose).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.marks import Drawn, finite, mark
from modelyard.dataset.domain.problems import Problems
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Mark

_LINE = re.compile(r"^\s*\d+(\.0*)?(\s+[+-]?[\d.][\d.eE+-]*){4,}\s*$")


@dataclass(frozen=True)
class Facts:
    """What data.yaml says: classes in the order of their index, numbers of a keypoint (0, 2 or 3) and how many there are."""

    classes: tuple[str, ...] = ()
    keypoint_count: int = 0
    keypoint_values: int = 0


def facts(raw: Any, file: str) -> Facts:
    """From the content of data.yaml. Raises InvalidArgument BAD_YAML."""
    names = raw.get("names") if isinstance(raw, dict) else None
    if isinstance(names, dict) and all(isinstance(key, int) and 0 <= key < 100_000 for key in names):
        names = [names.get(index, f"class_{index}") for index in range(max(names, default=-1) + 1)]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float | bool) for name in names):
        message = f"{file}: names is {names!r:.60}; a list of class names, or a mapping from index to name, is needed"
        raise InvalidArgument("BAD_YAML", message, file=file, field="names")
    shape = raw.get("kpt_shape")
    count, values = (int(shape[0]), int(shape[1])) if _is_shape(shape) else (0, 0)
    return Facts(tuple(str(name).strip() for name in names), count, values)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape) and shape[1] in (2, 3)


def is_label_text(text: str) -> bool:
    """Whether a text could be a label file: its first lines are numbers, five or more. An empty one could."""
    lines = [line for line in text.splitlines()[:5] if line.strip()]
    return all(_LINE.match(line) for line in lines)


def task_of(lengths: set[int], known: Facts) -> str:
    """The task, from how many numbers lines have."""
    if known.keypoint_count:
        return files.KEYPOINT_DETECTION
    return files.INSTANCE_SEGMENTATION if any(length > 6 for length in lengths) else files.OBJECT_DETECTION


def marks(text: str, width: int, height: int, file: str, known: Facts, problems: Problems) -> tuple[Mark, ...]:
    """The objects of a picture of this size in pixels."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        made = _mark(line.split(), width, height, f"{file}: line {number}", known, problems)
        if made is not None:
            found.append(made)
    return tuple(found)


def _mark(words: Sequence[str], width: int, height: int, where: str, known: Facts, problems: Problems) -> Mark | None:
    numbers = finite(words)
    if numbers is None or len(numbers) < 5 or numbers[0] != int(numbers[0]):
        shown = " ".join(words)[:60]
        problems.note("BAD_LINE", where, f"{where} is {shown!r}; a class index and at least four finite numbers are needed")
        return None
    index, rest = int(numbers[0]), numbers[1:]
    if not 0 <= index < len(known.classes):
        message = f"{where}: class index {index}; the list of classes has {len(known.classes)} (0 to {len(known.classes) - 1})"
        problems.note("UNKNOWN_CATEGORY", where, message)
        return None
    label = known.classes[index]
    if len(rest) > 5 and not known.keypoint_count:
        ring = [value * (height if place % 2 else width) for place, value in enumerate(rest)]
        return mark(Drawn(where, label, None, [ring]), problems)
    points = _keypoints(rest[4:], width, height, known) if known.keypoint_count else ()
    centre_x, centre_y, wide, high = rest[:4]
    left, top = (centre_x - wide / 2) * width, (centre_y - high / 2) * height
    return mark(Drawn(where, label, [left, top, left + wide * width, top + high * height], keypoints=points), problems)


def _keypoints(values: Sequence[float], width: int, height: int, known: Facts) -> list[float]:
    step, out = known.keypoint_values, []
    for start in range(0, min(len(values), known.keypoint_count * step) - step + 1, step):
        x, y = values[start : start + 2]
        seen = values[start + 2] if step == 3 else 2.0 * (x > 0 or y > 0)
        out += [x * width, y * height, seen]
    return out


# Writing


def line(each: Mark, index: Mapping[str, int], size: tuple[int, int], task: str) -> str:
    """A mark of a picture of this width and height as a line."""
    width, height = size
    if task == files.INSTANCE_SEGMENTATION:
        values = [value / (height if place % 2 else width) for place, value in enumerate(each.polygons[0])]
        return " ".join([str(index[each.label]), *map(repr, values)])
    left, top, right, bottom = each.box
    values = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    if task == files.KEYPOINT_DETECTION:
        points = each.keypoints
        for start in range(0, len(points), 3):
            values += [points[start] / width, points[start + 1] / height, points[start + 2]]
    return " ".join([str(index[each.label]), *map(repr, values)])
