"""Tags: movable names of versions."""

from __future__ import annotations

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.names import DATASET, DATASET_TAG, DATASET_VERSION, check_tag_id, id_of, parent_of
from modelyard.core.resources import Page, Resource
from modelyard.dataset.domain.dataset import Tag
from modelyard.dataset.handlers.documents import read_dataset
from modelyard.dataset.handlers.versions import ready_version
from modelyard.dataset.ports import Jobs, Resources


def get_tag(resources: Resources, name: str) -> Resource:
    """Reads a tag. Raises NotFound TAG_NOT_FOUND."""
    DATASET_TAG.parse(name)
    return _read(resources, name)


def list_tags(resources: Resources, parent: str, page_size: int, page_token: str) -> Page:
    """The tags of a dataset, the newest first. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return resources.list(DATASET_TAG.collection, parent, page_size, page_token)


def update_tag(jobs: Jobs, resources: Resources, name: str, version: str, etag: str, *, allow_missing: bool) -> Resource:
    """Moves a tag to a version that SUCCEEDED; with `allow_missing` makes it where there is none.

    Raises InvalidArgument BAD_ID, OTHER_DATASET, NotFound TAG_NOT_FOUND, FailedPrecondition DATASET_VERSION_NOT_READY,
    AlreadyExists VERSION_NAMED_SO, Aborted ETAG_MISMATCH.
    """
    ids = DATASET_TAG.parse(name, "tag.name")
    check_tag_id(ids["tag"], "tag.name")
    dataset = parent_of(name)
    read_dataset(resources, dataset)
    DATASET_VERSION.parse(version, "tag.dataset_version")
    if parent_of(version) != dataset:
        message = f"tag.dataset_version is {version!r}; a version of {dataset} is needed"
        raise InvalidArgument("OTHER_DATASET", message, field="tag.dataset_version", value=version)
    exact = ready_version(jobs, resources, version, "tag.dataset_version")[0].name
    _check_no_version(jobs, f"{dataset}/versions/{ids['tag']}", name)
    document = to_document(Tag(exact))
    if allow_missing and not etag:
        try:
            return resources.create(name, DATASET_TAG.collection, dataset, document)
        except AlreadyExists:
            pass
    _read(resources, name)
    return resources.update(name, lambda _: document, etag)


def delete_tag(resources: Resources, name: str, etag: str) -> None:
    """Deletes a tag. Raises NotFound TAG_NOT_FOUND, Aborted ETAG_MISMATCH."""
    DATASET_TAG.parse(name)
    _read(resources, name)
    resources.delete(name, etag)


def tags_of(resources: Resources, version: str) -> tuple[str, ...]:
    """Ids of the tags that name a version, sorted."""
    named = all_below(resources, DATASET_TAG.collection, parent_of(version))
    return tuple(sorted(id_of(item.name) for item in named if from_document(item.document, Tag).dataset_version == version))


def all_below(resources: Resources, collection: str, parent: str) -> list[Resource]:
    """Everything of a collection below a parent."""
    found: list[Resource] = []
    token = ""
    while True:
        page = resources.list(collection, parent, 1000, token)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def check_untagged(resources: Resources, version: str) -> None:
    """Raises FailedPrecondition TAGGED while a tag names the version."""
    if tags := tags_of(resources, version):
        message = f"{version} is named by {', '.join(tags)}; move or delete the tag first"
        raise FailedPrecondition("TAGGED", message, name=version, tags=", ".join(tags))


def _check_no_version(jobs: Jobs, version: str, tag: str) -> None:
    try:
        jobs.get(version)
    except NotFound:
        return
    message = f"tag.name is {tag!r}, but {version} is a version of this name; a tag never stands in a version's way"
    raise AlreadyExists("VERSION_NAMED_SO", message, name=version, field="tag.name")


def _read(resources: Resources, name: str) -> Resource:
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound("TAG_NOT_FOUND", f"{name} does not exist", name=name) from error
