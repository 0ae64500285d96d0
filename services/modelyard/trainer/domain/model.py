"""Models and their versions as they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import InvalidArgument
from modelyard.core.names import MODEL_VERSION, id_of

LONGEST_DISPLAY_NAME: Final = 200
LONGEST_DESCRIPTION: Final = 10_000
_LENGTHS: Final = {"display_name": LONGEST_DISPLAY_NAME, "description": LONGEST_DESCRIPTION}


@dataclass(frozen=True)
class Model:
    """A line of versions. `numbers` holds the version number of every job that ever made one, so a job that is asked twice
    gets the same number, and the number of a deleted version never comes back."""

    display_name: str = ""
    description: str = ""
    latest_version: str = ""
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """One trained model. Only its description may change. `recipe` is the resolved recipe's document."""

    training_job: str
    dataset_version: str
    dataset_digest: str
    task: str
    recipe: Mapping[str, Any]
    model_file: Blob
    classes: tuple[str, ...] = ()
    training_metrics: Mapping[str, float] = field(default_factory=dict)
    parameter_count: int = 0
    parent_version: str = ""
    description: str = ""


def check_length(name: str, value: str, path: str) -> str:
    """The value of a display_name or description. Raises InvalidArgument TEXT_TOO_LONG, naming the field and its limit."""
    limit = _LENGTHS[name]
    if len(value) > limit:
        message = f"{path}.{name} has {len(value)} characters; at most {limit} are allowed"
        raise InvalidArgument("TEXT_TOO_LONG", message, field=f"{path}.{name}", length=len(value), limit=limit)
    return value


def version_name(model: str, number: int) -> str:
    """The name of a model's version: V001 is the first."""
    return f"{model}/versions/V{number:03d}"


def number_of(version: str) -> int:
    """The number in a version's name; 0 for one without."""
    last = id_of(version)
    return int(last[1:]) if MODEL_VERSION.matches(version) and last[1:].isdigit() else 0


def with_number(model: Model, training_job: str) -> Model:
    """The model once a job has a version number in it: the one it has already, or the next."""
    if training_job in model.numbers:
        return model
    following = max(model.numbers.values(), default=0) + 1
    return replace(model, numbers={**model.numbers, training_job: following})


def with_version(model: Model, version: str) -> Model:
    """The model once it has this version. Its newest is the one with the highest number."""
    return replace(model, latest_version=max(model.latest_version, version, key=number_of))


def newest(versions: Iterable[str]) -> str:
    """The version with the highest number; empty when there is none."""
    return max(versions, key=number_of, default="")
