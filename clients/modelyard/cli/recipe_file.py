"""Recipes in JSON files: written as the contract's Recipe, read with the place of what is wrong."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from modelyard.cli.asking import wrong
from modelyard.cli.output import enum_name, plain
from modelyard.client.enums import enum_number
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import learning_pb2

LARGEST_BYTES: Final = 1 << 20
_ENUMS: Final = {
    "task": learning_pb2.Task,
    "optimizer": trainer_pb2.Optimizer,
    "schedule": trainer_pb2.Schedule,
}
_ANSWERS: Final = ("parameter_count", "summary", "features_version", "augmentation_version")
"""Fields that only the service writes."""
_WHOLE: Final = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)


def recipe_document(recipe: trainer_pb2.Recipe) -> dict[str, Any]:
    """A recipe as a file holds it: without what only the service writes."""
    document: dict[str, Any] = plain(recipe)
    kept = {name: value for name, value in document.items() if name not in _ANSWERS and value not in ("", 0)}
    if "task" in kept:
        kept["task"] = enum_name(learning_pb2.Task.DESCRIPTOR, recipe.task).lower()
    settings = dict(kept.get("hyperparameters", {}))
    for name in ("optimizer", "schedule"):
        if name in settings:
            settings[name] = str(settings[name]).lower()
    kept["hyperparameters"] = {name: value for name, value in settings.items() if value not in ("unspecified", "")}
    for name in ("features", "augmentation"):
        if name in kept:
            kept[name] = [_step(step) for step in getattr(recipe, name)]
    return {name: value for name, value in kept.items() if value != []}


def _step(message: Any) -> dict[str, Any]:
    """A step with what is set in it alone."""
    part = message.WhichOneof("step")
    about: dict[str, Any] = {"columns": list(message.columns)} if getattr(message, "columns", None) else {}
    if getattr(message, "kind", ""):
        about["kind"] = message.kind
    set_ = {field.name: list(value) if field.is_repeated else value for field, value in getattr(message, part).ListFields()}
    return {**about, part: set_}


def read_recipe(path: str) -> trainer_pb2.Recipe:
    """The recipe in a file. InvalidArgument names the place: recipe.hyperparameters.base_lr."""
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise wrong("recipe", path, f"recipe is {path!r}, which has {file.stat().st_size} bytes; a recipe has a few hundred")
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong("recipe", path, f"recipe is {path!r}, which cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise wrong("recipe", path, f"recipe is {path!r}, which is no JSON: {error}") from None
    return recipe_from(document)


def recipe_from(document: Any) -> trainer_pb2.Recipe:
    """A recipe from JSON values, field by field."""
    recipe = trainer_pb2.Recipe()
    _fill(recipe, document, "recipe")
    return recipe


def _fill(message: Any, document: Any, place: str) -> None:
    if not isinstance(document, dict):
        raise wrong(place, document, f"{place} is {_shown(document)}; it must be an object with fields")
    fields = {field.name: field for field in message.DESCRIPTOR.fields if field.name not in _ANSWERS}
    for name, value in document.items():
        if name in _ANSWERS:
            continue
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
            raise wrong(f"{place}.{name}", value, f"{place}.{name} is no field of a recipe; {hint}")
        if value is not None:
            _set(message, fields[name], value, f"{place}.{name}")


def _set(message: Any, field: Any, value: Any, place: str) -> None:
    one_of = field.containing_oneof  # every optional field is alone in one of its own, whose name begins with "_"
    other = message.WhichOneof(one_of.name) if one_of is not None and len(one_of.fields) > 1 else None
    if other is not None and other != field.name:
        raise wrong(place, value, f"{place} stands beside {other}; a step does one thing, so make it a step of its own")
    if field.is_repeated:
        _add(getattr(message, field.name), field, value, place)
        return
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).SetInParent()
        _fill(getattr(message, field.name), value, place)
        return
    if field.type == FieldDescriptor.TYPE_ENUM:
        _check(isinstance(value, str), place, value, "a name")
        setattr(message, field.name, enum_number(_ENUMS[field.name], value, place))
        return
    _check_kind(field, value, place)
    try:
        setattr(message, field.name, value)
    except ValueError:
        raise wrong(place, value, f"{place} is {_shown(value)}, which is too large a number") from None


def _add(values: Any, field: Any, given: Any, place: str) -> None:
    """The elements of a list, one by one."""
    _check(isinstance(given, list), place, given, "a list")
    for at, value in enumerate(given):
        where = f"{place}[{at}]"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill(values.add(), value, where)
        else:
            _check_kind(field, value, where)
            values.append(value)


def _check_kind(field: Any, value: Any, place: str) -> None:
    kinds: dict[int, tuple[Any, str]] = {
        FieldDescriptor.TYPE_STRING: (str, "a text"),
        FieldDescriptor.TYPE_BOOL: (bool, "true or false"),
        FieldDescriptor.TYPE_DOUBLE: ((int, float), "a number"),
        **dict.fromkeys(_WHOLE, (int, "a whole number")),
    }
    kind, words = kinds[field.type]
    _check(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), place, value, words)


def _check(holds: bool, place: str, value: Any, right: str) -> None:
    if not holds:
        raise wrong(place, value, f"{place} is {_shown(value)}; it must be {right}")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
