"""Label schemas: make the next, read, list."""

from __future__ import annotations

import threading
from dataclasses import replace

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, NotFound
from modelyard.core.names import DATASET, LABEL_SCHEMA, LATEST, choose_version, id_of, parent_of
from modelyard.core.requests import Request
from modelyard.core.resources import Page, Resource
from modelyard.dataset.domain.label_schema import LabelSchema, check_fits_task, checked_schema
from modelyard.dataset.handlers.documents import read_dataset
from modelyard.dataset.ports import Resources

_numbering = threading.Lock()
_TRIES = 20


def create_schema(resources: Resources, parent: str, schema: LabelSchema, creator: str, request: Request) -> Resource:
    """Makes the next label schema of a dataset. Raises InvalidArgument, NotFound."""
    ids = DATASET.parse(parent, "parent")
    dataset = read_dataset(resources, parent)
    checked = checked_schema(replace(schema, creator=creator))
    if dataset.task:
        check_fits_task(checked, dataset.task)
    with _numbering:  # several servers: the name that is taken meanwhile is not taken twice
        for _ in range(_TRIES):
            name = LABEL_SCHEMA.format(ids["project"], ids["dataset"], choose_version("", _ids(resources, parent), ""))
            try:
                return resources.create(
                    name,
                    LABEL_SCHEMA.collection,
                    parent,
                    to_document(checked),
                    request_id=request.id,
                    method=request.method,
                    fingerprint=request.fingerprint,
                )
            except AlreadyExists:
                continue
    raise AlreadyExists("RESOURCE_EXISTS", f"others make label schemas of {parent} all the time; try again", name=parent)


def get_schema(resources: Resources, name: str, path: str = "name") -> Resource:
    """Reads a label schema; "latest" is the newest. Raises NotFound LABEL_SCHEMA_NOT_FOUND, FailedPrecondition
    NO_LABEL_SCHEMA."""
    LABEL_SCHEMA.parse(name, path)
    parent = parent_of(name)
    if id_of(name).lower() == LATEST:
        return newest_schema(resources, parent)
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound("LABEL_SCHEMA_NOT_FOUND", f"{name} does not exist", name=name) from error


def newest_schema(resources: Resources, dataset: str) -> Resource:
    """Raises NotFound DATASET_NOT_FOUND, FailedPrecondition NO_LABEL_SCHEMA."""
    read_dataset(resources, dataset)
    found = resources.list(LABEL_SCHEMA.collection, dataset, 1).items
    if not found:
        message = f"{dataset} has no label schema, so nobody knows what may be said of its examples; make one first"
        raise FailedPrecondition("NO_LABEL_SCHEMA", message, name=dataset)
    return found[0]


def list_schemas(resources: Resources, parent: str, page_size: int, page_token: str) -> Page:
    """The label schemas of a dataset, newest first."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return resources.list(LABEL_SCHEMA.collection, parent, page_size, page_token)


def schema_of(resource: Resource) -> LabelSchema:
    """The label schema of a resource."""
    return from_document(resource.document, LabelSchema)


def _ids(resources: Resources, parent: str) -> list[str]:
    """Of the newest: numbers only rise."""
    return [id_of(each.name) for each in resources.list(LABEL_SCHEMA.collection, parent, 10).items]
