"""Pascal VOC's XML: one file a picture. Coordinates are taken as they stand, as the edges of the box: most tools count from 0."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from modelyard.dataset.domain.marks import Drawn, mark
from modelyard.dataset.domain.problems import Problems
from modelyard.formats.annotations import Mark, attribute_text

_FLAGS = ("truncated", "difficult", "occluded")
_NOTHING: dict[str, tuple[str, ...]] = {
    "pose": ("", "unspecified"),
    "truncated": ("", "0", "false"),
    "difficult": ("", "0", "false"),
}
_NOTHING["occluded"] = _NOTHING["truncated"]
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def file_name(root: Element) -> str:
    """The picture that the file names; "" when it names none."""
    return (root.findtext("filename") or "").strip()


def size(root: Element) -> tuple[int, int] | None:
    """Width and height that the file says; None when it says none."""
    try:
        found = int(float(root.findtext("size/width") or 0)), int(float(root.findtext("size/height") or 0))
    except (ValueError, OverflowError):
        return None
    return found if min(found) > 0 else None


def marks(root: Element, file: str, problems: Problems) -> tuple[Mark, ...]:
    """The objects of a picture."""
    found = []
    for number, each in enumerate(root.iter("object"), start=1):
        where = f"{file}: object {number}"
        label = (each.findtext("name") or "").strip()
        if not label:
            problems.note("UNKNOWN_CATEGORY", where, f"{where}: <name> is empty; the class of the object is needed")
            continue
        box = [(each.findtext(f"bndbox/{edge}") or "").strip() for edge in _EDGES]
        made = mark(Drawn(where, label, box if any(box) else None, attributes=_attributes(each)), problems)
        if made is not None:
            found.append(made)
    return tuple(found)


def _attributes(element: Element) -> dict[str, str]:
    found = {}
    for name in ("pose", *_FLAGS):
        text = (element.findtext(name) or "").strip()
        if text.lower() not in _NOTHING[name]:
            found[name] = text
    for each in element.iterfind("attributes/attribute"):
        own = each.findtext("name")
        if own:
            found[own] = each.findtext("value") or ""
    return found


def usages(sets: Mapping[str, str]) -> dict[str, str]:
    """Usage by stem, from the texts of ImageSets by usage ("train" before "trainval": a list of both says less)."""
    found: dict[str, str] = {}
    for usage, text in sets.items():
        for line in text.splitlines():
            if words := line.split():
                found.setdefault(
                    " ".join(words[:-1]) if len(words) > 1 and words[-1] in ("-1", "0", "1") else line.strip(), usage
                )
    return found


def document(picture: str, folder: str, size_: tuple[int, int], objects: Sequence[Mark]) -> bytes:
    """The file of a picture of this width and height."""
    width, height = size_
    root = Element("annotation")
    _texts(root, {"folder": folder, "filename": picture})
    _texts(SubElement(root, "size"), {"width": str(width), "height": str(height), "depth": "3"})
    _texts(root, {"segmented": "0"})
    for each in objects:
        _object(SubElement(root, "object"), each)
    indent(root)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def carries(text: str) -> bool:
    """Whether XML can hold a text and gives it back: no control characters, no space at its ends, no carriage return."""
    return _ILLEGAL.search(text) is None and text == text.strip() and "\r" not in text


def number(value: float) -> str:
    """A coordinate as text that reads back as itself."""
    return attribute_text(float(value))


def _object(element: Element, each: Mark) -> None:
    known = {name: each.attributes.get(name, default) for name, default in (("pose", "Unspecified"), *((f, "0") for f in _FLAGS))}
    _texts(element, {"name": each.label, **known})
    _texts(SubElement(element, "bndbox"), {edge: number(value) for edge, value in zip(_EDGES, each.box, strict=True)})
    others = {name: text for name, text in each.attributes.items() if name not in known}
    if others:
        holder = SubElement(element, "attributes")
        for name, text in others.items():
            _texts(SubElement(holder, "attribute"), {"name": name, "value": text})


def _texts(element: Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        SubElement(element, name).text = text
