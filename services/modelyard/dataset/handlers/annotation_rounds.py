"""Annotation rounds: open one, read, list, change, delete; and which examples it is about."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import JobState
from modelyard.core.names import (
    ANNOTATION_ROUND,
    ANNOTATION_TASK,
    DATASET,
    LABEL_SCHEMA,
    QUALITY_REPORT,
    check_id,
    new_id,
    parent_of,
)
from modelyard.core.requests import Request
from modelyard.core.resources import Page, Resource
from modelyard.core.words import several
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Facts
from modelyard.dataset.domain.label_schema import LabelSchema, check_fits_task
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.rounds import NewTask, Progress, Round, Selection
from modelyard.dataset.handlers.annotation_schemas import get_schema, newest_schema, schema_of
from modelyard.dataset.handlers.documents import present_content, read_dataset, read_job, report_result, version_result
from modelyard.dataset.handlers.versions import ready_version
from modelyard.dataset.ports import Annotations, Contents, Jobs, Listed, Resources
from modelyard.formats.dataset import USAGES, DatasetDescriptor

_NAMED = 20


@dataclass(frozen=True)
class Annotating:
    """What handlers of annotation need."""

    jobs: Jobs
    resources: Resources
    annotations: Annotations
    contents: Contents


def create_round(at: Annotating, parent: str, round_id: str, wanted: Round, request: Request) -> Resource:
    """Opens a round and makes its tasks. `wanted` has no key and no content yet.

    Raises InvalidArgument, NotFound, FailedPrecondition NO_CONTENT, NO_LABEL_SCHEMA, NO_EXAMPLES.
    """
    ids = DATASET.parse(parent, "parent")
    name = ANNOTATION_ROUND.format(ids["project"], ids["dataset"], check_id(round_id, "annotation_round_id"))
    read_dataset(at.resources, parent)
    rounds.check_round(wanted)
    schema = _schema(at.resources, parent, wanted.label_schema)
    import_name, version, content = _source(at, parent, wanted.dataset_version)
    check_fits_task(schema_of(schema), content.task)
    chosen = select(at, parent, content, wanted.selection)
    overlaps = rounds.wanted_of(len(chosen), wanted.overlap, wanted.overlap_share, wanted.selection.seed)
    made = replace(
        wanted,
        key=new_id(),
        label_schema=schema.name,
        content=content,
        import_name=import_name,
        dataset_version=version,
        selection=replace(wanted.selection, example_ids=()),
        task_count=len(chosen),
    )
    created = None
    try:
        at.annotations.add_round(made.key, (_task(each, people) for each, people in zip(chosen, overlaps, strict=True)))
        created = at.resources.create(
            name,
            ANNOTATION_ROUND.collection,
            parent,
            to_document(made),
            request_id=request.id,
            method=request.method,
            fingerprint=request.fingerprint,
        )
    finally:
        if created is None or round_of(created).key != made.key:  # the name was taken, or an earlier call made it
            at.annotations.delete_round(made.key)
    return created


def get_round(resources: Resources, name: str, path: str = "name") -> Resource:
    """Raises NotFound ANNOTATION_ROUND_NOT_FOUND."""
    ANNOTATION_ROUND.parse(name, path)
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound("ANNOTATION_ROUND_NOT_FOUND", f"{name} does not exist", name=name) from error


def read_round(resources: Resources, name: str, path: str = "name") -> Round:
    """The round of that name. Raises NotFound ANNOTATION_ROUND_NOT_FOUND."""
    return round_of(get_round(resources, name, path))


def round_of_task(resources: Resources, name: str) -> tuple[str, Round, str]:
    """The round of a task: its name, the round, and the task's id. Raises NotFound."""
    task = ANNOTATION_TASK.parse(name)["task"]
    parent = parent_of(name)
    return parent, read_round(resources, parent), task


def round_of(resource: Resource) -> Round:
    """The round of a resource."""
    return from_document(resource.document, Round)


def progress_of(at: Annotating, resource: Resource) -> Progress:
    """How far it is."""
    return at.annotations.progress(round_of(resource).key)


def list_rounds(resources: Resources, parent: str, page_size: int, page_token: str) -> Page:
    """The rounds of a dataset, newest first."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return resources.list(ANNOTATION_ROUND.collection, parent, page_size, page_token)


def update_round(resources: Resources, name: str, values: Mapping[str, Any], etag: str) -> Resource:
    """Changes display_name, annotators, reviewers, lease_s or state. Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument."""
    get_round(resources, name, "annotation_round.name")

    def change(document: dict[str, object]) -> dict[str, object]:
        changed = replace(from_document(document, Round), **values)
        rounds.check_round(changed)
        return to_document(changed)

    return resources.update(name, change, etag)


def delete_round(at: Annotating, name: str, etag: str) -> None:
    """Deletes a round with all that was said in it. Raises NotFound, Aborted ETAG_MISMATCH."""
    key = read_round(at.resources, name).key
    at.resources.delete(name, etag)
    at.annotations.delete_round(key)


def delete_rounds(resources: Resources, annotations: Annotations, dataset: str) -> None:
    """Deletes all rounds and label schemas of a dataset."""
    for collection in (ANNOTATION_ROUND.collection, LABEL_SCHEMA.collection):
        while found := resources.list(collection, dataset, 1000).items:
            for each in found:
                resources.delete(each.name)
                if collection == ANNOTATION_ROUND.collection:
                    annotations.delete_round(round_of(each).key)


def select(at: Annotating, dataset: str, content: DatasetDescriptor, wanted: Selection) -> Sequence[Listed]:
    """The examples that a selection is about, in the order in which they are given out.

    Raises InvalidArgument UNKNOWN_EXAMPLE, BAD_SELECTION, UNKNOWN_CLASS, NotFound, FailedPrecondition NO_EXAMPLES.
    """
    path = "annotation_round.selection"
    if wanted.usage and wanted.usage not in USAGES:
        message = f"{path}.usage is {wanted.usage[:40]!r}; it is one of {', '.join(USAGES)}"
        raise InvalidArgument("BAD_SELECTION", message, field=f"{path}.usage")
    if wanted.limit < 0:
        raise InvalidArgument("BAD_SELECTION", f"{path}.limit is {wanted.limit}; it is 0 (all) or more", field=f"{path}.limit")
    if wanted.of_class and wanted.of_class not in content.classes:
        listed = ", ".join(content.classes[:100]) or "none yet"
        message = f"{path}.of_class is {wanted.of_class[:80]!r}; the classes are {listed}"
        raise InvalidArgument("UNKNOWN_CLASS", message, field=f"{path}.of_class")
    listed_ = at.contents.listed(content)
    chosen: Iterable[Listed] = _named(listed_, wanted.example_ids, f"{path}.example_ids") if wanted.example_ids else listed_
    if wanted.finding_source or wanted.finding_kind:
        of_finding = _of_finding(at, dataset, wanted, path)
        chosen = [each for each in chosen if each.example_id in of_finding or each.path in of_finding]
    if wanted.unlabelled:
        known = labelled_elsewhere(at, dataset)
        chosen = [each for each in chosen if not each.labelled and each.example_id not in known]
    tests: list[Callable[[Listed], bool]] = []
    if wanted.usage:
        tests.append(lambda each: each.usage == wanted.usage)
    if wanted.of_class:
        tests.append(lambda each: each.label == wanted.of_class)
    found = [each for each in chosen if all(test(each) for test in tests)]
    if wanted.seed or 0 < wanted.limit < len(found):
        found = _drawn(found, wanted)
    if not found:
        message = "the selection fits no example of the content; choose others"
        raise FailedPrecondition("NO_EXAMPLES", message, field=path)
    if len(found) > rounds.MOST_TASKS:
        message = f"the selection fits {len(found)} examples; a round has at most {rounds.MOST_TASKS}: set {path}.limit"
        raise InvalidArgument("TOO_MANY_EXAMPLES", message, field=path, count=len(found))
    return found


def labelled_elsewhere(at: Annotating, dataset: str) -> set[str]:
    """Ids of the examples that the newest version of a dataset has labelled."""
    latest = read_dataset(at.resources, dataset).latest_version
    if not latest:
        return set()
    result = version_result(read_job(at.jobs, latest, "DATASET_VERSION_NOT_FOUND"))
    return at.contents.labelled_ids(result.descriptor) if result is not None else set()


def _drawn(found: list[Listed], wanted: Selection) -> list[Listed]:
    """At random by the seed; in the order of the source when no seed was given, or in the order of the ids that were."""
    draw = random.Random(wanted.seed)  # noqa: S311  no secret
    places = list(range(len(found)))
    draw.shuffle(places)
    kept = places[: wanted.limit or len(places)]
    return [found[place] for place in (kept if wanted.seed else sorted(kept))]


def _named(listed: Sequence[Listed], ids: Sequence[str], path: str) -> list[Listed]:
    known = {each.example_id: each for each in listed}
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        shown = ", ".join(missing[:_NAMED])
        message = f"{path} names {several(len(missing), 'example that is', 'examples that are')} not there: {shown}"
        raise InvalidArgument("UNKNOWN_EXAMPLE", message, field=path, count=len(missing))
    return [known[id_] for id_ in dict.fromkeys(ids)]


def _of_finding(at: Annotating, dataset: str, wanted: Selection, path: str) -> set[str]:
    """Ids or paths of the examples of findings of a kind."""
    if not wanted.finding_source or not wanted.finding_kind:
        missing = "finding_kind" if wanted.finding_source else "finding_source"
        message = f"{path}.{missing} is empty; a finding is named by the report (or version) that has it, and its kind"
        raise InvalidArgument("BAD_SELECTION", message, field=f"{path}.{missing}")
    findings = _findings(at, dataset, wanted.finding_source, f"{path}.finding_source")
    ids = {id_ for each in findings if each.kind == wanted.finding_kind for id_ in _members(each)}
    if not ids:
        kinds_ = ", ".join(sorted({each.kind for each in findings if _members(each)})) or "none"
        message = f"{path}.finding_kind is {wanted.finding_kind[:80]!r}; findings there that name examples: {kinds_}"
        raise InvalidArgument("BAD_SELECTION", message, field=f"{path}.finding_kind")
    return ids


def _members(finding: Finding) -> Sequence[str]:
    """What a finding says of its examples: ids where it has them, else what it lists (the first hundred)."""
    mended = finding.fix.examples if finding.fix is not None else ()
    return (*getattr(finding, "example_ids", ()), *mended, *finding.examples)


def _findings(at: Annotating, dataset: str, source: str, path: str) -> Sequence[Finding]:
    if QUALITY_REPORT.matches(source):
        job = read_job(at.jobs, source, "QUALITY_REPORT_NOT_FOUND")
        report = report_result(job)
        if job.parent != dataset:
            raise InvalidArgument("OTHER_DATASET", f"{path} is {source}, a report of another dataset than {dataset}", field=path)
        if report is None or job.state is not JobState.SUCCEEDED:
            raise FailedPrecondition("REPORT_NOT_READY", f"{source} is {job.state}; wait for its end", field=path, name=source)
        return report.findings
    version, result = ready_version(at.jobs, at.resources, source, path)
    if version.parent != dataset:
        raise InvalidArgument("OTHER_DATASET", f"{path} is {source}, a version of another dataset than {dataset}", field=path)
    return result.findings


def _schema(resources: Resources, dataset: str, name: str) -> Resource:
    if not name:
        return newest_schema(resources, dataset)
    found = get_schema(resources, name, "annotation_round.label_schema")
    if parent_of(found.name) != dataset:
        message = f"annotation_round.label_schema is {name}, of another dataset than {dataset}"
        raise InvalidArgument("OTHER_DATASET", message, field="annotation_round.label_schema", value=name)
    return found


def _source(at: Annotating, dataset: str, version: str) -> tuple[str, str, DatasetDescriptor]:
    """Import, version and content that a round's examples are of."""
    if not version:
        import_name, imported = present_content(at.jobs, at.resources, dataset)
        return import_name, "", imported.content
    path = "annotation_round.dataset_version"
    job, result = ready_version(at.jobs, at.resources, version, path)
    if job.parent != dataset:
        raise InvalidArgument("OTHER_DATASET", f"{path} is {version}, a version of another dataset than {dataset}", field=path)
    return "", job.name, result.descriptor


def _task(each: Listed, people: int) -> NewTask:
    facts = Facts(each.width, each.height, each.steps)
    name = rounds.task_id(each.example_id)
    return NewTask(name, each.example_id, each.path, each.sha256, each.usage, each.label, each.row, facts, people)


def read_schema_of(at: Annotating, round_: Round) -> LabelSchema:
    """The label schema that a round goes by."""
    return schema_of(get_schema(at.resources, round_.label_schema))
