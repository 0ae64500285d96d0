"""ModelArts-style manifests: one JSON object a line, with a source, a usage and annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.formats.annotations import attribute_text
from modelyard.formats.dataset import TEST, TRAIN, VALIDATION

USAGES = {"TRAIN": TRAIN, "EVAL": VALIDATION, "VALIDATION": VALIDATION, "VAL": VALIDATION, "TEST": TEST}
_WRITTEN = {TRAIN: "TRAIN", VALIDATION: "EVAL", TEST: "TEST"}
IMAGE, AUDIO, BOXES = "modelarts/image_classification", "modelarts/audio_classification", "modelarts/object_detection"


@dataclass(frozen=True)
class Line:
    """What a line says: labels, and where a file with boxes is ("" without)."""

    source: str
    usage: str | None
    labels: tuple[str, ...]
    boxes: str
    attributes: Mapping[str, str]


def parse(text: str, where: str) -> Line:
    """A line. Raises InvalidArgument BAD_MANIFEST."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_MANIFEST", f"{where} is not JSON: {error}", file=where) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("source"), str) or not raw["source"]:
        raise InvalidArgument("BAD_MANIFEST", f'{where} is {text[:60]!r}; an object with a text "source" is needed', file=where)
    usage = str(raw.get("usage") or "").upper()
    if usage and usage not in USAGES and usage != "INFERENCE":
        known = ", ".join((*USAGES, "INFERENCE"))
        raise InvalidArgument(
            "BAD_MANIFEST", f"{where}: usage is {raw['usage']!r}; it is one of {known}", file=where, field="usage"
        )
    said = raw.get("annotation") or []
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise InvalidArgument("BAD_MANIFEST", f"{where}: annotation is {said!r:.60}; a list of objects is needed", file=where)
    labels = tuple(
        dict.fromkeys(str(each["name"]).strip() for each in said if each.get("name") and not each.get("annotation-loc"))
    )
    boxes = next((str(each["annotation-loc"]) for each in said if each.get("annotation-loc")), "")
    return Line(raw["source"], USAGES.get(usage), labels, boxes, _properties(said))


def _properties(said: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in said:
        if isinstance(each.get("property"), dict):
            found |= {str(name): attribute_text(value) for name, value in each["property"].items()}
    return found


def line(source: str, usage: str, kind: str, labels: Sequence[str], boxes: str, attributes: Mapping[str, str]) -> str:
    """A line as it is written."""
    more = {"property": dict(attributes)} if attributes else {}
    said: list[dict[str, Any]] = [
        {"name": label, "type": kind, "hard": "false", "annotated-by": "human", **more} for label in labels
    ]
    if boxes:
        said.append({"type": BOXES, "annotation-loc": boxes, "annotation-format": "PASCAL VOC", "annotated-by": "human"})
    return json.dumps({"source": source, "usage": _WRITTEN.get(usage, ""), "annotation": said}, ensure_ascii=False)
