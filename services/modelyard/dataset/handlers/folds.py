"""Folds of versions for cross-validation: made at once, kept under a name that follows from what was asked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, NotFound
from modelyard.core.names import FOLDS, derived_id
from modelyard.core.resources import Resource
from modelyard.dataset.domain.folds import FoldPlan, check_plan
from modelyard.dataset.domain.records import VersionSpec
from modelyard.dataset.handlers.versions import exact_name, ready_version
from modelyard.dataset.ports import Folding, Jobs, Resources
from modelyard.formats.dataset_descriptor import FORECASTING

LONGEST_GROUP = 200


@dataclass(frozen=True)
class FoldsRecord:
    """The document of folds."""

    dataset_version: str
    k: int
    repeats: int
    seed: int
    group_by: str
    assignment: Blob
    descriptors: tuple[Blob, ...]
    examples: int
    notes: tuple[str, ...]


def create_folds(jobs: Jobs, resources: Resources, folding: Folding, parent: str, plan: FoldPlan, group_by: str) -> Resource:
    """Makes folds, or gives those that the same values made before.

    Raises InvalidArgument BAD_FOLDS, UNKNOWN_GROUP, NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, TOO_FEW_EXAMPLES,
    TOO_FEW_GROUPS, FOLDS_IN_TIME.
    """
    plan = replace(plan, repeats=plan.repeats or 1)
    check_plan(plan)
    job, result = ready_version(jobs, resources, parent, "parent")
    if result.descriptor.task == FORECASTING:
        message = f"{job.name} is for forecasting, and folds would learn from what came after; use its own split in time"
        raise FailedPrecondition("FOLDS_IN_TIME", message, field="parent", task=FORECASTING)
    policy = from_document(job.spec, VersionSpec).split
    group_by = group_by or policy.group_by
    id_ = derived_id("f", str(plan.k), str(plan.repeats), str(plan.seed), group_by)
    name = f"{job.name}/folds/{id_}"
    with suppress(NotFound):
        return resources.get(name)
    made = folding.make(result, plan, group_by)
    notes = made.notes
    if policy.time_by:
        notes = (*notes, f'The version is split by "{policy.time_by}"; folds mix earlier and later examples all the same.')
    record = FoldsRecord(
        job.name, plan.k, plan.repeats, plan.seed, group_by, made.assignment, made.descriptors, made.examples, notes
    )
    try:
        return resources.create(name, FOLDS.collection, job.name, to_document(record))
    except AlreadyExists:
        return resources.get(name)


def get_folds(resources: Resources, name: str) -> Resource:
    """Reads folds. Raises NotFound FOLDS_NOT_FOUND."""
    ids = FOLDS.parse(name)
    version = exact_name(resources, name.rpartition("/folds/")[0], "name")
    try:
        return resources.get(f"{version}/folds/{ids['folds']}")
    except NotFound as error:
        raise NotFound("FOLDS_NOT_FOUND", f"{name} does not exist", name=name) from error
