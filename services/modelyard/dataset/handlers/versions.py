"""Dataset versions: publish, read, list, cancel, delete."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job, JobPage, JobState
from modelyard.core.names import DATASET, DATASET_VERSION, LATEST, choose_version, id_of, is_like_a_number, parent_of
from modelyard.core.requests import Request
from modelyard.dataset.domain.conditions import parse_conditions
from modelyard.dataset.domain.dataset import Dataset, Tag, VersionMarks, check_words
from modelyard.dataset.domain.edits import check_edits
from modelyard.dataset.domain.records import KEEP_TEST, Edit, ImportResult, SplitPolicy, VersionResult, VersionSpec
from modelyard.dataset.domain.split import parse_ratio
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import present_content, read_dataset, read_job, version_result
from modelyard.dataset.handlers.imports import earlier_name
from modelyard.dataset.ports import Jobs, Resources
from modelyard.formats.dataset import Column

LARGEST_SEED = 2**53

_numbering = threading.Lock()


@dataclass(frozen=True)
class NewVersion:
    """What a request asks for."""

    parent: str
    version_id: str = ""
    split: SplitPolicy = field(default_factory=SplitPolicy)
    excluded_columns: tuple[str, ...] = ()
    keep_leaking_columns: bool = False
    base: str = ""
    edits: tuple[Edit, ...] = ()
    test_policy: str = KEEP_TEST
    description: str = ""


def create_version(jobs: Jobs, resources: Resources, new: NewVersion, request: Request) -> Job:
    """Starts the publication of the dataset's present content, or of a base version with edits.

    A version that failed or was cancelled gives its number back. Raises InvalidArgument (names the field), NotFound,
    FailedPrecondition NO_CONTENT, AlreadyExists.
    """
    DATASET.parse(new.parent, "parent")
    dataset = read_dataset(resources, new.parent)
    parse_ratio(new.split.train_ratio)
    _check_seed(new.split.seed)
    check_edits(new.edits, based=bool(new.base))
    check_words("", new.description, of="dataset_version")
    if new.split.group_by and new.split.time_by:
        message = "split.group_by and split.time_by are both set; a split keeps groups together or goes by time"
        raise InvalidArgument("GROUP_AND_TIME", message, field="dataset_version.split.time_by")
    _check_conditions(new.split)
    spec = replace(_spec(jobs, resources, new), test_policy=new.test_policy, frozen=dataset.frozen)
    _check_columns((spec.base_descriptor or spec.imported.content).columns, spec.imported.content.target, new.excluded_columns)
    return _submit(jobs, resources, dataset, new, spec, request)


def _check_conditions(split: SplitPolicy) -> None:
    """Raises InvalidArgument BAD_CONDITION, TOO_MANY_CONDITIONS, CONDITION_AND_TIME."""
    parse_conditions(split.test_where, "dataset_version.split.test_where")
    parse_conditions(split.validation_where, "dataset_version.split.validation_where")
    if split.validation_where and split.time_by:
        message = "split.validation_where and split.time_by are both set; with a split by time the rows before the test validate"
        raise InvalidArgument("CONDITION_AND_TIME", message, field="dataset_version.split.validation_where")


def submit_version(jobs: Jobs, resources: Resources, new: NewVersion, spec: VersionSpec, request: Request) -> Job:
    """Starts the publication of `spec` upon `new.base` ("": the content of its import). Raises as create_version."""
    parse_ratio(new.split.train_ratio)
    _check_seed(new.split.seed)
    if new.base:
        base, result = ready_version(jobs, resources, new.base, "base_version")
        if base.parent != new.parent:
            message = f"base_version is {new.base}, a version of another dataset than {new.parent}"
            raise InvalidArgument("OTHER_DATASET", message, field="base_version", value=new.base)
        kept = from_document(base.spec, VersionSpec).split if new.split == SplitPolicy() else new.split
        spec = replace(spec, base=base.name, base_descriptor=result.descriptor, base_near=result.near, split=kept)
    dataset = read_dataset(resources, new.parent)
    return _submit(jobs, resources, dataset, new, replace(spec, frozen=dataset.frozen), request)


def _submit(jobs: Jobs, resources: Resources, dataset: Dataset, new: NewVersion, spec: VersionSpec, request: Request) -> Job:
    with _numbering:
        name = earlier_name(jobs, kinds.DATASET_VERSION, new.parent, request)
        if not name:
            _check_freezing(jobs, new)
            version = _free_id(jobs, dataset, new)
            name = f"{new.parent}/versions/{version}"
            _check_no_tag(resources, name)
            _clear_failed(jobs, name)
            resources.put(name, DATASET_VERSION.collection, new.parent, to_document(VersionMarks(new.description)))
        return jobs.submit(
            name,
            kinds.DATASET_VERSION,
            parent=new.parent,
            spec=to_document(replace(spec, version=name)),
            labels={"request_id": request.id},
            request_id=request.id,
            method=request.method,
            fingerprint=request.fingerprint,
            instance_flavor=request.instance_flavor,
        )


def get_version(jobs: Jobs, resources: Resources, name: str) -> Job:
    """Reads a version; "latest" is the newest that succeeded. Raises NotFound."""
    return read_job(jobs, exact_name(resources, name, "name"), "DATASET_VERSION_NOT_FOUND")


def list_versions(jobs: Jobs, resources: Resources, parent: str, page_size: int, page_token: str) -> JobPage:
    """The versions of a dataset, newest first. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return jobs.list(kinds.DATASET_VERSION, parent, page_size, page_token)


def cancel_version(jobs: Jobs, resources: Resources, name: str) -> Job:
    """Cancels a running publication; one that has ended stays as it is."""
    return jobs.cancel(get_version(jobs, resources, name).name)


def keep_version(jobs: Jobs, resources: Resources, job: Job) -> None:
    """Makes a version that was published well the dataset's latest, unless a newer one is, and its new frozen test set the one
    in force. Idempotent."""
    with suppress(AlreadyExists):
        resources.create(job.name, DATASET_VERSION.collection, job.parent, to_document(VersionMarks()))
    renew_latest(jobs, resources, job.parent, succeeded=job)
    frozen = result.frozen if (result := version_result(job)) else None
    if frozen is None or frozen.version != job.name:
        return

    def freeze(document: dict[str, object]) -> dict[str, object]:
        dataset = from_document(document, Dataset)
        if dataset.frozen == frozen:
            return document
        return to_document(replace(dataset, frozen=frozen, frozen_evaluations=0))

    resources.update(job.parent, freeze)


def describe_version(jobs: Jobs, resources: Resources, name: str, description: str, etag: str) -> Job:
    """Changes a version's notes. Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument TEXT_TOO_LONG."""
    job = get_version(jobs, resources, name)
    check_words("", description, of="dataset_version")
    with suppress(AlreadyExists):
        resources.create(job.name, DATASET_VERSION.collection, job.parent, to_document(VersionMarks()))

    def change(document: dict[str, object]) -> dict[str, object]:
        return to_document(replace(from_document(document, VersionMarks), description=description))

    resources.update(job.name, change, etag)
    return job


def exact_name(resources: Resources, name: str, path: str) -> str:
    """The name with "latest" replaced by the newest version's id, and a tag by that of the version it names.

    Raises NotFound NO_DATASET_VERSION when there is none yet.
    """
    DATASET_VERSION.parse(name, path)
    if id_of(name).lower() != LATEST:
        return name if is_like_a_number(id_of(name)) else _tagged(resources, name)
    latest = read_dataset(resources, parent_of(name)).latest_version
    if not latest:
        message = f"{parent_of(name)} has no version yet"
        raise NotFound("NO_DATASET_VERSION", message, field=path, name=parent_of(name))
    return latest


def _tagged(resources: Resources, name: str) -> str:
    """The version that a tag of this id names; the name itself where there is no such tag."""
    try:
        tag = resources.get(f"{parent_of(name)}/tags/{id_of(name)}")
    except NotFound:
        return name
    return from_document(tag.document, Tag).dataset_version


def _spec(jobs: Jobs, resources: Resources, new: NewVersion) -> VersionSpec:
    made = partial(VersionSpec, excluded_columns=new.excluded_columns, keep_leaking_columns=new.keep_leaking_columns)
    if not new.base:
        import_name, imported = present_content(jobs, resources, new.parent)
        return made(new.parent, import_name, _lean(imported), split=new.split, edits=new.edits)
    if new.split != SplitPolicy():
        message = "dataset_version.split is set beside base_version, whose split is kept; leave one of them out"
        raise InvalidArgument("BASE_KEEPS_SPLIT", message, field="dataset_version.split")
    base, result = ready_version(jobs, resources, new.base, "dataset_version.base_version")
    if base.parent != new.parent:
        message = f"dataset_version.base_version is {new.base}, a version of another dataset than {new.parent}"
        raise InvalidArgument("OTHER_DATASET", message, field="dataset_version.base_version", value=new.base)
    before = from_document(base.spec, VersionSpec)
    return made(
        new.parent,
        before.import_name,
        before.imported,
        split=before.split,
        base=base.name,
        base_descriptor=result.descriptor,
        base_near=result.near,
        edits=new.edits,
    )


def ready_version(jobs: Jobs, resources: Resources, name: str, path: str) -> tuple[Job, VersionResult]:
    """A version that SUCCEEDED, and what it is. Raises NotFound, FailedPrecondition DATASET_VERSION_NOT_READY."""
    job = read_job(jobs, exact_name(resources, name, path), "DATASET_VERSION_NOT_FOUND")
    result = version_result(job)
    if result is None or job.state is not JobState.SUCCEEDED:
        message = f"{job.name} is {job.state}; {path} must be a version that SUCCEEDED"
        raise FailedPrecondition("DATASET_VERSION_NOT_READY", message, field=path, name=job.name, state=job.state)
    return job, result


def _check_seed(seed: int) -> None:
    if abs(seed) > LARGEST_SEED:
        message = f"split.seed is {seed}; it is between -2^53 and 2^53"
        raise InvalidArgument("BAD_SEED", message, field="split.seed", value=seed)


def _check_columns(columns: Sequence[Column], target: str, excluded: Sequence[str]) -> None:
    names = [column.name for column in columns]
    for number, name in enumerate(excluded):
        path = f"dataset_version.excluded_columns[{number}]"
        if name not in names:
            listed = ", ".join(names[:100]) or "none: the dataset holds pictures"
            message = f"{path} is {name!r}; the columns are {listed}"
            raise InvalidArgument("UNKNOWN_COLUMN", message, field=path, column=name)
        if name == target:
            message = f"{path} is {name!r}, the target, which cannot be left out"
            raise InvalidArgument("TARGET_EXCLUDED", message, field=path, column=name)


def _lean(imported: ImportResult) -> ImportResult:
    """Without the lists that a publication does not need."""
    return replace(imported, summary=replace(imported.summary, rejected=(), assumptions=()), findings=())


def _free_id(jobs: Jobs, dataset: Dataset, new: NewVersion) -> str:
    taken = [id_of(job.name) for job in jobs.find(kinds.DATASET_VERSION, parent=new.parent) if not _gave_up(job)]
    last = [f"V{dataset.last_number:03d}"] if dataset.last_number else []
    chosen = choose_version(new.version_id, [*taken, *last], "dataset_version_id")
    if chosen in taken or chosen in last:
        message = f"dataset_version_id is {chosen!r}; {new.parent} has, or had, a version of this name"
        raise AlreadyExists("RESOURCE_EXISTS", message, name=f"{new.parent}/versions/{chosen}")
    return chosen


def _check_freezing(jobs: Jobs, new: NewVersion) -> None:
    """A version that freezes the test set, and any other one, are published one after the other: else the other could train on
    it."""
    for job in jobs.find(kinds.DATASET_VERSION, parent=new.parent):
        if job.state.terminal:
            continue
        if new.test_policy != KEEP_TEST or from_document(job.spec, VersionSpec).test_policy != KEEP_TEST:
            message = f"{job.name} is still being published; a test set is frozen while no other version is. Wait for its end"
            raise FailedPrecondition("PUBLICATION_RUNNING", message, name=job.name, state=job.state)


def _check_no_tag(resources: Resources, version: str) -> None:
    if _tagged(resources, version) != version and not is_like_a_number(id_of(version)):
        message = f"dataset_version_id is {id_of(version)!r}, which is a tag of {parent_of(version)}; choose another name"
        raise AlreadyExists("RESOURCE_EXISTS", message, name=version)


def _clear_failed(jobs: Jobs, name: str) -> None:
    with suppress(NotFound):
        if _gave_up(jobs.get(name)):
            jobs.delete(name)


def _gave_up(job: Job) -> bool:
    return job.state in (JobState.FAILED, JobState.CANCELLED)


def renew_latest(jobs: Jobs, resources: Resources, parent: str, succeeded: Job | None) -> None:
    """Notes which version of a dataset is the newest that succeeded; `succeeded` may be one that is just becoming so."""
    known = {job.name: job for job in jobs.find(kinds.DATASET_VERSION, parent=parent, states=(JobState.SUCCEEDED,))}
    if succeeded is not None:
        known[succeeded.name] = succeeded
    newest = max(known.values(), key=lambda job: (job.create_time, job.name)).name if known else ""
    number = _number(id_of(succeeded.name)) if succeeded else 0

    def change(document: dict[str, object]) -> dict[str, object]:
        dataset = from_document(document, Dataset)
        return to_document(replace(dataset, latest_version=newest, last_number=max(number, dataset.last_number)))

    resources.update(parent, change)


def _number(version_id: str) -> int:
    return int(version_id[1:]) if version_id.startswith("V") and version_id[1:].isdecimal() else 0


def token_after(query: str, start: int) -> str:
    """The token of the page that begins at `start` of the list that `query` names."""
    return base64.urlsafe_b64encode(json.dumps([query, start]).encode()).decode()


def start_of(page_token: str, query: str) -> int:
    """Where the page of a token begins; 0 without one. Raises InvalidArgument BAD_PAGE_TOKEN for a token of another list."""
    if not page_token:
        return 0
    try:
        found, start = json.loads(base64.b64decode(page_token, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        found, start = None, -1
    if found != query or not isinstance(start, int) or start < 0:
        shown = page_token[:200]
        message = f"page_token is {shown!r}; it must be the next_page_token of an answer to the same list with the same usage"
        raise InvalidArgument("BAD_PAGE_TOKEN", message, field="page_token", value=shown)
    return start
