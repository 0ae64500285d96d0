"""What annotators may say of the examples of a dataset: shapes, classes, attributes, and the guidelines beside them."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelyard.core.errors import InvalidArgument
from modelyard.formats import dataset as files

CLASS = "class"
CLASSES = "classes"
BOX = "box"
POLYGON = "polygon"
MASK = "mask"
KEYPOINTS = "keypoints"
RANGE = "range"
TEXT = "text"
SHAPES = (CLASS, CLASSES, BOX, POLYGON, MASK, KEYPOINTS, RANGE, TEXT)
OBJECT_SHAPES = (BOX, POLYGON, MASK, KEYPOINTS)

ANY_TEXT = "text"
NUMBER = "number"
CHOICE = "choice"
FLAG = "flag"
KINDS = (ANY_TEXT, NUMBER, CHOICE, FLAG)

MOST_CLASSES = 10_000
MOST_ATTRIBUTES = 100
MOST_VALUES = 1000
MOST_KEYPOINTS = 1000
MOST_EXAMPLES = 1000
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2000
LONGEST_GUIDELINES = 100_000

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_KEYS = "123456789abcdefghijklmnopqrstuvwxyz"

SHAPES_OF_TASK = {
    files.IMAGE_CLASSIFICATION: (CLASS,),
    files.AUDIO_CLASSIFICATION: (CLASS,),
    files.SERIES_CLASSIFICATION: (CLASS,),
    files.TABULAR_CLASSIFICATION: (CLASS,),
    files.IMAGE_MULTILABEL: (CLASSES,),
    files.OBJECT_DETECTION: (BOX,),
    files.INSTANCE_SEGMENTATION: (POLYGON, MASK, BOX),
    files.SEMANTIC_SEGMENTATION: (MASK, POLYGON),
    files.KEYPOINT_DETECTION: (KEYPOINTS, BOX),
    files.ANOMALY_DETECTION: (RANGE,),
}
"""The shapes whose answers a version of a task can hold, the usual one first."""


@dataclass(frozen=True)
class Attribute:
    """Something asked beside the class: any text, a number, one of `values`, or true or false."""

    name: str
    kind: str = ANY_TEXT
    values: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True)
class LabelClass:
    """A class that annotators choose."""

    name: str
    colour: str = ""
    key: str = ""
    description: str = ""
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True)
class GuidelineExample:
    """An example that the guidelines speak of."""

    example_id: str
    caption: str = ""
    counterexample: bool = False


@dataclass(frozen=True)
class LabelSchema:
    """The document of a label schema."""

    shapes: tuple[str, ...]
    classes: tuple[LabelClass, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    keypoints: tuple[str, ...] = ()
    guidelines: str = ""
    guideline_examples: tuple[GuidelineExample, ...] = ()
    creator: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in their order."""
        return tuple(each.name for each in self.classes)

    def class_named(self, name: str) -> LabelClass | None:
        """A class; None: there is none of the name."""
        return next((each for each in self.classes if each.name == name), None)


def checked_schema(schema: LabelSchema) -> LabelSchema:
    """The schema with a colour and a key for every class. Raises InvalidArgument BAD_LABEL_SCHEMA naming the field."""
    path = "label_schema"
    if not schema.shapes:
        raise _bad(f"{path}.shapes", "empty", f"it lists at least one of {', '.join(SHAPES)}")
    if CLASS in schema.shapes and CLASSES in schema.shapes:
        raise _bad(f"{path}.shapes", "class and classes", "an example has one class, or any number; leave one of them out")
    if not schema.classes and set(schema.shapes) != {TEXT}:
        raise _bad(f"{path}.classes", "empty", f"{', '.join(schema.shapes)} need at least one class")
    if bool(schema.keypoints) != (KEYPOINTS in schema.shapes):
        raise _bad(f"{path}.keypoints", f"{len(schema.keypoints)} names", "the shape keypoints needs names, and only it has them")
    _check_counts(schema, path)
    _check_names([each.name for each in schema.classes], f"{path}.classes")
    _check_names(schema.keypoints, f"{path}.keypoints")
    _check_attributes(schema.attributes, f"{path}.attributes")
    for number, each in enumerate(schema.classes):
        _check_class(each, f"{path}.classes[{number}]")
    _check_text(schema.guidelines, LONGEST_GUIDELINES, f"{path}.guidelines")
    for number, example in enumerate(schema.guideline_examples):
        where = f"{path}.guideline_examples[{number}]"
        _check_text(example.caption, LONGEST_DESCRIPTION, f"{where}.caption")
        if not 0 < len(example.example_id) <= LONGEST_NAME:
            raise _bad(f"{where}.example_id", example.example_id, "it names an example of the dataset")
    return replace(schema, classes=_with_keys_and_colours(schema.classes, path))


def check_fits_task(schema: LabelSchema, task: str) -> None:
    """Raises InvalidArgument SCHEMA_NOT_OF_TASK where no answer by this schema could be kept in a version of the task."""
    fitting = SHAPES_OF_TASK.get(task, ())
    if TEXT in schema.shapes or set(fitting) & set(schema.shapes):
        return
    wanted = " or ".join(fitting) or "text"
    message = f"label_schema.shapes are {', '.join(schema.shapes)}; examples of task {task} are labelled by {wanted}"
    raise InvalidArgument("SCHEMA_NOT_OF_TASK", message, field="label_schema.shapes", task=task)


def _check_counts(schema: LabelSchema, path: str) -> None:
    for name, count, most in (
        ("classes", len(schema.classes), MOST_CLASSES),
        ("attributes", len(schema.attributes), MOST_ATTRIBUTES),
        ("keypoints", len(schema.keypoints), MOST_KEYPOINTS),
        ("guideline_examples", len(schema.guideline_examples), MOST_EXAMPLES),
    ):
        if count > most:
            raise _bad(f"{path}.{name}", f"{count} entries", f"there are at most {most}")


def _check_class(each: LabelClass, where: str) -> None:
    if each.colour and not _COLOUR.fullmatch(each.colour):
        raise _bad(f"{where}.colour", each.colour, 'it has the form "#rrggbb"')
    if each.key and (len(each.key) != 1 or each.key not in _KEYS + "0"):
        raise _bad(f"{where}.key", each.key, "it is one of 0 to 9 and a to z")
    _check_text(each.description, LONGEST_DESCRIPTION, f"{where}.description")
    _check_attributes(each.attributes, f"{where}.attributes")


def _check_attributes(attributes: Sequence[Attribute], path: str) -> None:
    if len(attributes) > MOST_ATTRIBUTES:
        raise _bad(path, f"{len(attributes)} entries", f"there are at most {MOST_ATTRIBUTES}")
    _check_names([each.name for each in attributes], path)
    for number, each in enumerate(attributes):
        if each.kind not in KINDS:
            raise _bad(f"{path}[{number}].kind", each.kind, f"it is one of {', '.join(KINDS)}")
        if (each.kind == CHOICE) != bool(each.values):
            raise _bad(f"{path}[{number}].values", f"{len(each.values)} values", "a choice has values, and only it has them")
        if len(each.values) > MOST_VALUES:
            raise _bad(f"{path}[{number}].values", f"{len(each.values)} values", f"there are at most {MOST_VALUES}")
        _check_names(each.values, f"{path}[{number}].values")


def _check_names(names: Sequence[str], path: str) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not 0 < len(name) <= LONGEST_NAME or name != name.strip() or any(ord(character) < 32 for character in name):
            right = f"it has 1 to {LONGEST_NAME} characters, none of them a line break, no space at its ends"
            raise _bad(f"{path}[{number}]", name, right)
        if name in seen:
            raise _bad(f"{path}[{number}]", name, "no two are alike")
        seen.add(name)


def _check_text(text: str, longest: int, path: str) -> None:
    if len(text) > longest:
        raise _bad(path, f"{len(text)} characters", f"at most {longest} are kept")


def _with_keys_and_colours(classes: Sequence[LabelClass], path: str) -> tuple[LabelClass, ...]:
    taken: dict[str, int] = {}
    for number, each in enumerate(classes):
        if each.key and each.key in taken:
            raise _bad(f"{path}.classes[{number}].key", each.key, f"class {classes[taken[each.key]].name!r} has it already")
        if each.key:
            taken[each.key] = number
    free = iter([key for key in _KEYS if key not in taken])
    return tuple(
        replace(each, key=each.key or next(free, ""), colour=each.colour or _colour(number))
        for number, each in enumerate(classes)
    )


def _colour(number: int) -> str:
    """A colour that is far from those before it: hues by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((number * 0.618033988749895) % 1.0, 0.65, 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _bad(field: str, value: str, right: str) -> InvalidArgument:
    message = f"{field} is {value[:80]!r}; {right}"
    return InvalidArgument("BAD_LABEL_SCHEMA", message, field=field)
