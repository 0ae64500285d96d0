"""Datasets: create, read, list, change, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import NotFound
from modelyard.core.names import DATASET, PROJECT, check_id
from modelyard.core.requests import Request
from modelyard.core.resources import Page, Resource
from modelyard.dataset.domain.dataset import Dataset, check_words
from modelyard.dataset.handlers.documents import read_dataset
from modelyard.dataset.ports import Resources


def create_dataset(resources: Resources, parent: str, dataset_id: str, dataset: Dataset, request: Request) -> Resource:
    """Creates an empty dataset. Raises InvalidArgument, AlreadyExists."""
    project = PROJECT.parse(parent, "parent")["project"]
    name = DATASET.format(project, check_id(dataset_id, "dataset_id"))
    check_words(dataset.display_name, dataset.description)
    kept = Dataset(display_name=dataset.display_name, description=dataset.description)
    return resources.create(
        name,
        DATASET.collection,
        parent,
        to_document(kept),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_dataset(resources: Resources, name: str) -> Resource:
    """Reads a dataset. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(name)
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound("DATASET_NOT_FOUND", f"{name} does not exist", name=name) from error


def list_datasets(resources: Resources, parent: str, page_size: int, page_token: str) -> Page:
    """The datasets of a project, newest first."""
    PROJECT.parse(parent, "parent")
    return resources.list(DATASET.collection, parent, page_size, page_token)


def update_dataset(resources: Resources, name: str, values: Mapping[str, str], etag: str) -> Resource:
    """Changes display_name or description. Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument TEXT_TOO_LONG."""
    DATASET.parse(name, "dataset.name")
    read_dataset(resources, name)
    check_words(values.get("display_name", ""), values.get("description", ""))

    def change(document: dict[str, object]) -> dict[str, object]:
        known = from_document(document, Dataset)
        display_name = values.get("display_name", known.display_name)
        return to_document(replace(known, display_name=display_name, description=values.get("description", known.description)))

    return resources.update(name, change, etag)
