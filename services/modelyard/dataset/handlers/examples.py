"""The examples of a version, or of an import that nobody has split yet: listed, and looked at."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import JobState
from modelyard.core.names import IMPORT
from modelyard.core.resources import check_page_size, check_skip
from modelyard.dataset.handlers.documents import import_result, read_job
from modelyard.dataset.handlers.versions import ready_version, start_of, token_after
from modelyard.dataset.ports import ExampleLook, ExampleRow, Examples, Jobs, Look, Resources, Selection
from modelyard.formats.dataset import DatasetDescriptor

MOST_LOOKED_AT = 200
MOST_CHOSEN = 1000
SIZES = (16, 2048)
POINTS = (2, 4000)


def list_examples(
    jobs: Jobs,
    resources: Resources,
    examples: Examples,
    parent: str,
    chosen: Selection,
    page_size: int,
    page_token: str,
    skip: int = 0,
) -> tuple[Sequence[ExampleRow], str, int]:
    """A page of the chosen examples in the order of their ids, the next page's token, and how many are chosen.

    Raises NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, InvalidArgument BAD_PAGE_SIZE, BAD_PAGE_TOKEN, BAD_SKIP,
    TOO_MANY_EXAMPLES.
    """
    size = check_page_size(page_size)
    check_skip(skip)
    _check_count(chosen.example_ids, MOST_CHOSEN)
    name, descriptor = content_of(jobs, resources, parent)
    query = " ".join((name, chosen.usage, chosen.label, *chosen.example_ids)).rstrip()
    start = start_of(page_token, query) if page_token else skip
    rows, total = examples.rows(descriptor, chosen, start, size)
    after = start + len(rows)
    return rows, token_after(query, after) if rows and after < total else "", total


def view_examples(
    jobs: Jobs, resources: Resources, examples: Examples, parent: str, example_ids: Sequence[str], look: Look
) -> tuple[Sequence[ExampleLook], DatasetDescriptor]:
    """Examples to look at, and the content they are of.

    Raises NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, InvalidArgument NO_EXAMPLES, TOO_MANY_EXAMPLES, BAD_SIZE.
    """
    if not example_ids:
        raise InvalidArgument("NO_EXAMPLES", "example_ids is empty; name the examples to look at", field="example_ids")
    _check_count(example_ids, 1 if look.content == "original" else MOST_LOOKED_AT)
    _check_range("max_size", look.size, SIZES, "pixels")
    _check_range("max_points", look.points, POINTS, "points")
    _, descriptor = content_of(jobs, resources, parent)
    return examples.looks(descriptor, example_ids, look), descriptor


def content_of(jobs: Jobs, resources: Resources, parent: str) -> tuple[str, DatasetDescriptor]:
    """What a version, or an import that SUCCEEDED, holds. Raises NotFound, FailedPrecondition."""
    if "/imports/" not in parent:
        job, result = ready_version(jobs, resources, parent, "parent")
        return job.name, result.descriptor
    IMPORT.parse(parent, "parent")
    job = read_job(jobs, parent, "IMPORT_NOT_FOUND")
    imported = import_result(job)
    if imported is None or job.state is not JobState.SUCCEEDED:
        message = f"{job.name} is {job.state}; parent must be a version or an import that SUCCEEDED"
        raise FailedPrecondition("IMPORT_NOT_READY", message, field="parent", name=job.name, state=job.state)
    return job.name, imported.content


def _check_count(example_ids: Sequence[str], most: int) -> None:
    if len(example_ids) > most:
        message = f"example_ids has {len(example_ids)} entries; give at most {most}"
        raise InvalidArgument("TOO_MANY_EXAMPLES", message, field="example_ids", value=len(example_ids))


def _check_range(field: str, value: int, bounds: tuple[int, int], unit: str) -> None:
    if not bounds[0] <= value <= bounds[1]:
        message = f"{field} is {value}; it is {bounds[0]} to {bounds[1]} {unit}"
        raise InvalidArgument("BAD_SIZE", message, field=field, value=value)
