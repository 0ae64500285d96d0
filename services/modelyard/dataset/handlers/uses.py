"""Uses: what stands on a version. They hold it against deletion, hand out the descriptor that fits, and count looks at the test
set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.clock import now
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.names import DATASET_USE, DATASET_VERSION, EVALUATION, MODEL, TRAINING_JOB, derived_id, parent_of
from modelyard.core.resources import Page, Resource
from modelyard.dataset.domain.dataset import Dataset, VersionMarks
from modelyard.dataset.domain.records import VersionResult
from modelyard.dataset.handlers.documents import read_dataset
from modelyard.dataset.handlers.tags import all_below
from modelyard.dataset.handlers.versions import exact_name, ready_version
from modelyard.dataset.ports import Examples, Jobs, Resources, Use, Users

TRAINING: Final = "training"
EVALUATION_PURPOSE: Final = "evaluation"
TEST: Final = "test"
YOUNG: Final = timedelta(seconds=60)
"""A use of this age stands in any case: whoever recorded it may be about to write down what it is for."""


def create_use(jobs: Jobs, resources: Resources, examples: Examples, parent: str, use: Use) -> tuple[Resource, Blob]:
    """Records a use; gives it, and the descriptor for it. The same user gives the same answer again.

    Raises InvalidArgument BAD_USER, NotFound, FailedPrecondition DATASET_VERSION_NOT_READY, FROZEN_TEST.
    """
    project = DATASET_VERSION.parse(parent, "parent")["project"]
    kept = replace(use, purpose=_purpose(use, project))
    job, result = ready_version(jobs, resources, parent, "parent")
    dataset = read_dataset(resources, job.parent)
    if kept.purpose == TRAINING:
        _check_unfrozen(examples, job.name, result, dataset)
    name = f"{job.name}/uses/{derived_id('u', kept.user)}"
    try:
        made = resources.create(name, DATASET_USE.collection, job.name, to_document(kept))
    except AlreadyExists:
        made = resources.get(name)
    else:
        if kept.purpose == EVALUATION_PURPOSE and _reads_test(kept):
            _count(resources, job.name, result, dataset)
    return made, descriptor_for(kept, result)


def descriptor_for(use: Use, result: VersionResult) -> Blob:
    """What a use may read of a version."""
    if use.purpose == EVALUATION_PURPOSE and _reads_test(use):
        return result.descriptor_blob
    return result.for_training[1]


def list_uses(jobs: Jobs, resources: Resources, parent: str, page_size: int, page_token: str) -> tuple[VersionResult, Page]:
    """What stands on a version, the newest first, and the version. Raises NotFound."""
    job, result = ready_version(jobs, resources, parent, "parent")
    return result, resources.list(DATASET_USE.collection, job.name, page_size, page_token)


def delete_use(resources: Resources, name: str) -> None:
    """Takes a use back; what was counted stays counted. Raises NotFound DATASET_USE_NOT_FOUND."""
    ids = DATASET_USE.parse(name)
    version = exact_name(resources, name.rpartition("/uses/")[0], "name")
    try:
        resources.delete(f"{version}/uses/{ids['use']}")
    except NotFound as error:
        raise NotFound("DATASET_USE_NOT_FOUND", f"{name} does not exist", name=name) from error


def check_unused(resources: Resources, users: Users, versions: list[str]) -> None:
    """Raises FailedPrecondition IN_USE while something stands on one of the versions. Uses of what is gone are forgotten."""
    standing = [f"{name} was trained on it" for name in users.models_of(versions)]
    for version in versions:
        for item in all_below(resources, DATASET_USE.collection, version):
            use = from_document(item.document, Use)
            words = users.standing(use)
            if not words and now() - item.create_time < YOUNG:
                words = f"{use.user} is about to begin"
            if words:
                standing.append(words)
            else:
                with suppress(NotFound):
                    resources.delete(item.name)
    if standing:
        shown = "; ".join(standing[:20]) + (f"; and {len(standing) - 20} more" if len(standing) > 20 else "")
        of = versions[0] if len(versions) == 1 else f"versions of {parent_of(versions[0])}"
        message = f"{of} cannot be deleted: {shown}. Delete that first"
        raise FailedPrecondition("IN_USE", message, name=versions[0], uses=len(standing))


def _purpose(use: Use, project: str) -> str:
    known: tuple[tuple[Callable[[str], bool], str], ...] = (
        (TRAINING_JOB.matches, TRAINING),
        (EVALUATION.matches, EVALUATION_PURPOSE),
    )
    purpose = next((purpose for matches, purpose in known if matches(use.user)), "")
    if not purpose or not use.user.startswith(f"projects/{project}/"):
        message = f"dataset_use.user is {use.user[:200]!r}; it is a training job or an evaluation of project {project}"
        raise InvalidArgument("BAD_USER", message, field="dataset_use.user", value=use.user[:200])
    if use.model:
        MODEL.parse(use.model, "dataset_use.model")
    return purpose


def _reads_test(use: Use) -> bool:
    return not use.usages or TEST in use.usages


def _check_unfrozen(examples: Examples, version: str, result: VersionResult, dataset: Dataset) -> None:
    """Whether a version that was published before the test set was frozen trains on what that holds."""
    frozen = dataset.frozen
    if frozen is None or (result.frozen is not None and result.frozen.digest == frozen.digest):
        return
    held = examples.count_held(result.for_training[0], frozen.contents)
    if held:
        message = (
            f"{version} trains on {held} examples that {frozen.version} froze as test; publish the dataset again "
            "(modelyard dataset publish), or make a version from this one, and train on that"
        )
        raise FailedPrecondition("FROZEN_TEST", message, name=version, frozen_by=frozen.version, examples=held)


def _count(resources: Resources, version: str, result: VersionResult, dataset: Dataset) -> None:
    """One more evaluation has looked at the test examples."""
    if result.frozen is not None and dataset.frozen is not None and result.frozen.digest == dataset.frozen.digest:

        def more(document: dict[str, object]) -> dict[str, object]:
            known = from_document(document, Dataset)
            return to_document(replace(known, frozen_evaluations=known.frozen_evaluations + 1))

        resources.update(parent_of(version), more)
        return
    with suppress(AlreadyExists):
        resources.create(version, DATASET_VERSION.collection, parent_of(version), to_document(VersionMarks()))

    def one_more(document: dict[str, object]) -> dict[str, object]:
        known = from_document(document, VersionMarks)
        return to_document(replace(known, evaluations=known.evaluations + 1))

    resources.update(version, one_more)
