"""Deletion of versions and datasets: refused while something stands on them."""

from __future__ import annotations

from contextlib import suppress

from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.names import DATASET, DATASET_TAG, DATASET_USE, FOLDS
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import read_dataset
from modelyard.dataset.handlers.tags import all_below, check_untagged
from modelyard.dataset.handlers.uses import check_unused
from modelyard.dataset.handlers.versions import get_version, renew_latest
from modelyard.dataset.ports import Jobs, Resources, Users


def delete_version(jobs: Jobs, resources: Resources, users: Users, name: str) -> None:
    """Deletes a version; its number is not given again. Raises NotFound, FailedPrecondition JOB_RUNNING, TAGGED, IN_USE."""
    job = get_version(jobs, resources, name)
    check_untagged(resources, job.name)
    check_unused(resources, users, [job.name])
    jobs.delete(job.name)
    _forget(resources, job.name)
    renew_latest(jobs, resources, job.parent, succeeded=None)


def delete_dataset(jobs: Jobs, resources: Resources, users: Users, name: str, etag: str) -> None:
    """Deletes a dataset with its imports, reports and versions. Raises FailedPrecondition JOB_RUNNING while one of them runs,
    IN_USE while something stands on a version, Aborted ETAG_MISMATCH."""
    DATASET.parse(name)
    read_dataset(resources, name)
    below = [job for kind in kinds.KINDS for job in jobs.find(kind, parent=name)]
    for job in below:
        if not job.state.terminal:
            message = f"{job.name} is {job.state}; cancel it first, or wait for its end"
            raise FailedPrecondition("JOB_RUNNING", message, name=job.name, state=job.state)
    versions = [job.name for job in below if job.kind == kinds.DATASET_VERSION]
    if versions:
        check_unused(resources, users, versions)
    resources.delete(name, etag)
    for tag in all_below(resources, DATASET_TAG.collection, name):
        _remove(resources, tag.name)
    for job in below:
        jobs.delete(job.name)
        if job.kind == kinds.DATASET_VERSION:
            _forget(resources, job.name)


def _forget(resources: Resources, version: str) -> None:
    """Removes what is kept beside a version."""
    for collection in (DATASET_USE.collection, FOLDS.collection):
        for item in all_below(resources, collection, version):
            _remove(resources, item.name)
    _remove(resources, version)


def _remove(resources: Resources, name: str) -> None:
    with suppress(NotFound):
        resources.delete(name)
