"""Models and model versions: read, list, note, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from cattrs.preconf.json import make_converter

from modelyard.core.errors import AlreadyExists, NotFound
from modelyard.core.names import LATEST, MODEL, MODEL_VERSION, PROJECT, id_of, parent_of
from modelyard.core.resources import Resource
from modelyard.trainer.domain.curves import higher_is_better, metric_of
from modelyard.trainer.domain.model import (
    Model,
    ModelVersion,
    check_length,
    newest,
    number_of,
    version_name,
    with_number,
    with_version,
)
from modelyard.trainer.ports import Resources

Content = TypeVar("Content", Model, ModelVersion)
_converter = make_converter()
MOST_AT_ONCE: Final = 1000
BEST: Final = "best"
"""Stands for the most precise version where a training takes one to start from; no version can be called so."""


@dataclass(frozen=True)
class Kept(Generic[Content]):
    """A model or version with what the store knows of it."""

    name: str
    content: Content
    etag: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True)
class Listed(Generic[Content]):
    """Some of a list; `next_page_token` is empty at the end."""

    items: tuple[Kept[Content], ...]
    next_page_token: str


def get_model(resources: Resources, name: str) -> Kept[Model]:
    """Reads a model. Raises NotFound MODEL_NOT_FOUND."""
    MODEL.parse(name)
    return _kept(_read(resources, name, "MODEL_NOT_FOUND"), Model)


def list_models(resources: Resources, parent: str, page_size: int, page_token: str) -> Listed[Model]:
    """The models of a project, the newest first."""
    PROJECT.parse(parent, "parent")
    page = resources.list(MODEL.collection, parent, page_size, page_token)
    return Listed(tuple(_kept(item, Model) for item in page.items), page.next_page_token)


def update_model(resources: Resources, name: str, values: Mapping[str, str], etag: str) -> Kept[Model]:
    """Changes display_name or description. Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument TEXT_TOO_LONG."""
    MODEL.parse(name, "model.name")
    changes: dict[str, Any] = {key: check_length(key, value, "model") for key, value in values.items()}
    _read(resources, name, "MODEL_NOT_FOUND")
    return _kept(resources.update(name, _changing(Model, lambda model: replace(model, **changes)), etag), Model)


def get_model_version(resources: Resources, name: str, field: str = "name") -> Kept[ModelVersion]:
    """Reads a model version; "latest" is the newest. Raises NotFound (MODEL_, MODEL_VERSION_NOT_FOUND, NO_MODEL_VERSION)."""
    return _kept(_read(resources, exact_version(resources, name, field), "MODEL_VERSION_NOT_FOUND"), ModelVersion)


def list_model_versions(resources: Resources, parent: str, page_size: int, page_token: str) -> Listed[ModelVersion]:
    """The versions of a model, the newest first. Raises NotFound MODEL_NOT_FOUND."""
    MODEL.parse(parent, "parent")
    _read(resources, parent, "MODEL_NOT_FOUND")
    page = resources.list(MODEL_VERSION.collection, parent, page_size, page_token)
    return Listed(tuple(_kept(item, ModelVersion) for item in page.items), page.next_page_token)


def update_model_version(resources: Resources, name: str, values: Mapping[str, str], etag: str) -> Kept[ModelVersion]:
    """Changes the description. Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument TEXT_TOO_LONG."""
    exact = exact_version(resources, name, "model_version.name")
    changes: dict[str, Any] = {key: check_length(key, value, "model_version") for key, value in values.items()}
    _read(resources, exact, "MODEL_VERSION_NOT_FOUND")
    change = _changing(ModelVersion, lambda version: replace(version, **changes))
    return _kept(resources.update(exact, change, etag), ModelVersion)


def delete_model_version(resources: Resources, name: str) -> None:
    """Deletes a version; its number is not given again. Raises NotFound."""
    exact = exact_version(resources, name, "name")
    _read(resources, exact, "MODEL_VERSION_NOT_FOUND")
    resources.delete(exact)
    remaining = _version_names(resources, parent_of(exact))
    resources.update(parent_of(exact), _changing(Model, lambda model: replace(model, latest_version=newest(remaining))))


def keep_version(resources: Resources, model: str, version: ModelVersion) -> str:
    """Makes the model version of a training job, and the model where there is none; gives its name.

    Asked again for the same job it gives the same version, whatever happened in between.
    """
    with suppress(AlreadyExists):
        resources.create(model, MODEL.collection, parent_of(model), _document(Model()))
    numbered = resources.update(model, _changing(Model, lambda known: with_number(known, version.training_job)))
    name = version_name(model, _structure(numbered.document, Model).numbers[version.training_job])
    with suppress(AlreadyExists):
        resources.create(name, MODEL_VERSION.collection, model, _document(version))
    resources.update(model, _changing(Model, lambda known: with_version(known, name)))
    return name


def exact_version(resources: Resources, name: str, field: str) -> str:
    """The name with "latest" replaced by the newest version's id. Raises NotFound NO_MODEL_VERSION when there is none yet."""
    MODEL_VERSION.parse(name, field)
    if id_of(name).lower() != LATEST:
        return name
    model = parent_of(name)
    latest = _structure(_read(resources, model, "MODEL_NOT_FOUND").document, Model).latest_version
    if not latest:
        raise NotFound("NO_MODEL_VERSION", f"{model} has no version yet", field=field, name=model)
    return latest


def start_version(resources: Resources, name: str, task: str, architecture: str) -> Kept[ModelVersion]:
    """The version that a training starts from: "latest" is the newest, "best" the one with the best validation metric among those
    for the task (and the architecture, where one is named).

    Raises NotFound (MODEL_, MODEL_VERSION_NOT_FOUND, NO_MODEL_VERSION).
    """
    field = "training_job.warm_start_model_version"
    MODEL_VERSION.parse(name, field)
    if id_of(name).lower() != BEST:
        return get_model_version(resources, name, field)
    _read(resources, parent_of(name), "MODEL_NOT_FOUND")
    fitting = [
        each
        for each in every_version(resources, parent_of(name))
        if each.content.task == task and architecture in ("", each.content.recipe.get("architecture", ""))
    ]
    metric = metric_of(metric for each in fitting for metric in each.content.training_metrics)
    scored = [each for each in fitting if metric in each.content.training_metrics]
    if not scored:
        message = (
            f"{parent_of(name)} has no version for {task}" + (f" with {architecture}" if architecture else "") + " to start from"
        )
        raise NotFound("NO_MODEL_VERSION", message, field=field, name=parent_of(name))
    sign = 1 if higher_is_better(metric) else -1
    return max(scored, key=lambda each: (sign * each.content.training_metrics[metric], number_of(each.name)))


def every_version(resources: Resources, model: str) -> list[Kept[ModelVersion]]:
    """All versions of a model, the newest first."""
    found: list[Kept[ModelVersion]] = []
    token = ""
    while True:
        page = resources.list(MODEL_VERSION.collection, model, MOST_AT_ONCE, token)
        found += [_kept(item, ModelVersion) for item in page.items]
        token = page.next_page_token
        if not token:
            return found


def _version_names(resources: Resources, model: str) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        page = resources.list(MODEL_VERSION.collection, model, MOST_AT_ONCE, token)
        names += [item.name for item in page.items]
        token = page.next_page_token
        if not token:
            return names


def _read(resources: Resources, name: str, reason: str) -> Resource:
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound(reason, f"{name} does not exist", name=name) from error


def _kept(resource: Resource, cls: type[Content]) -> Kept[Content]:
    content = _structure(resource.document, cls)
    return Kept(resource.name, content, resource.etag, resource.create_time, resource.update_time)


def _changing(cls: type[Content], change: Callable[[Content], Content]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: _document(change(_structure(document, cls)))


def _structure(document: Mapping[str, Any], cls: type[Content]) -> Content:
    return _converter.structure(document, cls)


def _document(content: Model | ModelVersion) -> dict[str, Any]:
    return dict(_converter.unstructure(content))
