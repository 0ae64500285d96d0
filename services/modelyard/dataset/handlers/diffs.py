"""How one version of a dataset differs from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.documents import from_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.resources import check_page_size
from modelyard.dataset.domain.records import VersionResult, VersionSpec
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.versions import ready_version, start_of, token_after
from modelyard.dataset.ports import ChangeCounts, ExampleChange, Examples, Jobs, Resources
from modelyard.formats.dataset import Column, DatasetDescriptor


@dataclass(frozen=True)
class VersionDiff:
    """Two versions by name, and how the second differs from the first."""

    base: str
    version: str
    counts: ChangeCounts
    added_classes: tuple[str, ...]
    removed_classes: tuple[str, ...]
    column_changes: tuple[str, ...]


def diff_versions(jobs: Jobs, resources: Resources, examples: Examples, name: str, base: str) -> VersionDiff:
    """Counts of what changed. Raises NotFound, InvalidArgument OTHER_DATASET, FailedPrecondition NO_BASE_VERSION."""
    before, after = _pair(jobs, resources, name, base, "name")
    old, new = before[1].descriptor, after[1].descriptor
    return VersionDiff(
        before[0].name,
        after[0].name,
        examples.change_counts(old, new),
        tuple(each for each in new.classes if each not in old.classes),
        tuple(each for each in old.classes if each not in new.classes),
        _column_changes(old, new),
    )


def list_changes(
    jobs: Jobs, resources: Resources, examples: Examples, parent: str, base: str, page_size: int, page_token: str
) -> tuple[Sequence[ExampleChange], str]:
    """A page of the examples that changed, in the order of their ids, and the next page's token. Raises as diff_versions."""
    size = check_page_size(page_size)
    before, after = _pair(jobs, resources, parent, base, "parent")
    query = f"{before[0].name} {after[0].name}"
    start = start_of(page_token, query)
    rows, more = examples.changes(before[1].descriptor, after[1].descriptor, start, size)
    return rows, token_after(query, start + len(rows)) if more else ""


Ready = tuple[Job, VersionResult]


def _pair(jobs: Jobs, resources: Resources, name: str, base: str, path: str) -> tuple[Ready, Ready]:
    after = ready_version(jobs, resources, name, path)
    before = ready_version(jobs, resources, base or _base_of(jobs, after[0]), "base_version")
    if before[0].parent != after[0].parent:
        message = f"base_version is {base}, a version of another dataset than {after[0].name}"
        raise InvalidArgument("OTHER_DATASET", message, field="base_version", value=base)
    return before, after


def _base_of(jobs: Jobs, version: Job) -> str:
    """The version it was made from; else the one that was published before it."""
    if based := from_document(version.spec, VersionSpec).base:
        return based
    others = jobs.find(kinds.DATASET_VERSION, parent=version.parent, states=(JobState.SUCCEEDED,))
    earlier = [job for job in others if (job.create_time, job.name) < (version.create_time, version.name)]
    if not earlier:
        message = f"{version.name} is the first version of its dataset; name a base_version to compare it with"
        raise FailedPrecondition("NO_BASE_VERSION", message, field="base_version", name=version.name)
    return max(earlier, key=lambda job: (job.create_time, job.name)).name


def _column_changes(old: DatasetDescriptor, new: DatasetDescriptor) -> tuple[str, ...]:
    before, after = ({column.name: column for column in each.columns} for each in (old, new))
    gone = [f'Column "{name}" is gone.' for name in before if name not in after]
    added = [f'Column "{name}" is new.' for name in after if name not in before]
    changed = [_words(before[name], after[name]) for name in after if name in before]
    return (*gone, *added, *(each for each in changed if each))


def _words(old: Column, new: Column) -> str:
    if (old.role, old.type) == (new.role, new.type):
        return ""
    reason = f" ({new.set_aside_reason})" if new.set_aside_reason else ""
    return f'Column "{new.name}" was {old.type} {old.role}, is {new.type} {new.role}{reason}.'
