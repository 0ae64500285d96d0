"""What changes about a version, which itself never does: its notes, its tags, and how often its test examples were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.documents import from_document
from modelyard.core.errors import NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.names import DATASET_TAG, DATASET_VERSION, id_of
from modelyard.core.resources import Resource
from modelyard.dataset.domain.dataset import Dataset, Tag, VersionMarks
from modelyard.dataset.handlers.documents import version_result
from modelyard.dataset.handlers.tags import all_below
from modelyard.dataset.ports import Resources


@dataclass(frozen=True)
class VersionFacts:
    """See modelyard.dataset.v1.DatasetVersion."""

    description: str = ""
    etag: str = ""
    tags: tuple[str, ...] = ()
    evaluations: int = 0


def facts_of(resources: Resources, job: Job) -> VersionFacts:
    """Of one version."""
    return facts_below(resources, job.parent, [job])[job.name]


def facts_below(resources: Resources, dataset: str, versions: Sequence[Job]) -> dict[str, VersionFacts]:
    """Of versions of a dataset, by name."""
    tags: dict[str, list[str]] = {}
    for item in all_below(resources, DATASET_TAG.collection, dataset):
        tags.setdefault(from_document(item.document, Tag).dataset_version, []).append(id_of(item.name))
    if len(versions) > 1:
        marks = {item.name: item for item in all_below(resources, DATASET_VERSION.collection, dataset)}
    else:
        marks = {job.name: found for job in versions if (found := _read(resources, job.name))}
    kept = _read(resources, dataset)
    known = from_document(kept.document, Dataset) if kept else Dataset()
    return {job.name: _facts(job, marks.get(job.name), sorted(tags.get(job.name, [])), known) for job in versions}


def _facts(job: Job, item: Resource | None, tags: Sequence[str], dataset: Dataset) -> VersionFacts:
    marks = from_document(item.document, VersionMarks) if item else VersionMarks()
    result = version_result(job)
    frozen = result.frozen if result else None
    shared = frozen is not None and dataset.frozen is not None and frozen.digest == dataset.frozen.digest
    evaluations = dataset.frozen_evaluations if shared else marks.evaluations
    return VersionFacts(marks.description, item.etag if item else "", tuple(tags), evaluations)


def _read(resources: Resources, name: str) -> Resource | None:
    try:
        return resources.get(name)
    except NotFound:
        return None
