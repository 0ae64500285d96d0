"""What a round came to: statistics of people, agreement, and its publication as the next version."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.core.documents import from_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.names import parent_of
from modelyard.core.requests import Request
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import to_json
from modelyard.dataset.domain.consensus import METHODS
from modelyard.dataset.domain.label_schema import SHAPES_OF_TASK
from modelyard.dataset.domain.records import AnnotationSource, SplitPolicy, VersionSpec
from modelyard.dataset.domain.round_result import RoundResult, Said, round_result
from modelyard.dataset.handlers.annotation_rounds import Annotating, read_round, read_schema_of
from modelyard.dataset.handlers.documents import import_result, read_dataset, read_job
from modelyard.dataset.handlers.versions import NewVersion, submit_version
from modelyard.dataset.ports import Files, Resources

COMPARED = 20_000
"""Tasks of two or more answers that agreement is worked out from; of more, the first."""


@dataclass(frozen=True)
class Person:
    """What one person did in a round."""

    annotator: str
    answers: int = 0
    revisions: int = 0
    skips: int = 0
    rejections: int = 0
    median_seconds: float = 0.0
    unchanged: int = 0
    changed: int = 0
    leased: int = 0
    last_time: datetime | None = None


@dataclass
class _Counting:
    given: int = 0
    answers: int = 0
    skips: int = 0
    withdrawn: int = 0
    rejections: int = 0
    unchanged: int = 0
    changed: int = 0
    seconds: list[float] = field(default_factory=list)
    last: datetime | None = None


def people_of(at: Annotating, name: str) -> list[Person]:
    """What each person did in a round, by name. Raises NotFound."""
    key = read_round(at.resources, name).key
    found: dict[str, _Counting] = defaultdict(_Counting)
    counting: dict[str, list[str]] = {}  # of the task at hand: whose answers counted up to here
    task = ""
    for entry in at.annotations.all_entries(key):
        if entry["task"] != task:
            task, counting = entry["task"], {"people": []}
        _count(found, entry, counting["people"])
    leased = at.annotations.leased(key)
    return [_person(name_, found.get(name_, _Counting()), leased.get(name_, 0)) for name_ in sorted(set(found) | set(leased))]


def _count(found: dict[str, _Counting], entry: Any, counting: list[str]) -> None:
    person = entry["annotator"]
    if entry["kind"] == rounds.REVIEW:
        if entry["verdict"] == rounds.REJECT:
            for each in counting:  # whose answers stand no more; an answer that counts again came later
                found[each].rejections += 1
            counting.clear()
        return
    mine = found[person]
    mine.last = max(filter(None, (mine.last, entry["time"])))
    if entry["kind"] == rounds.ANSWER:
        mine.given += 1
        mine.answers += bool(entry["counts"])
        if entry["counts"] and entry["unchanged"] is not None:
            mine.unchanged += bool(entry["unchanged"])
            mine.changed += not entry["unchanged"]
        if entry["seconds"]:
            mine.seconds.append(entry["seconds"])
        if person not in counting:
            counting.append(person)
    elif entry["kind"] == rounds.SKIP:
        mine.skips += 1
    elif person in counting:
        mine.withdrawn += 1
        counting.remove(person)


def _person(name: str, found: _Counting, leased: int) -> Person:
    return Person(
        annotator=name,
        answers=found.answers,
        revisions=max(0, found.given - found.answers - found.withdrawn - found.rejections),
        skips=found.skips,
        rejections=found.rejections,
        median_seconds=statistics.median(found.seconds) if found.seconds else 0.0,
        unchanged=found.unchanged,
        changed=found.changed,
        leased=leased,
        last_time=found.last,
    )


def agreement_of(at: Annotating, name: str, method: str) -> RoundResult:
    """How far people agree in a round, over all its tasks or the first COMPARED of two or more answers. Raises NotFound."""
    round_ = read_round(at.resources, name)
    _check_method(method)
    said, compared = [], 0
    for each in at.annotations.answers(round_.key):
        compared += len(each.answers) > 1
        if compared > COMPARED:
            break
        if each.answers:
            final = each.task.review.answer if each.task.review is not None else None
            said.append(Said(each.task.task, each.task.example.facts, each.answers, final))
    found = round_result(said, read_schema_of(at, round_), method=method)
    if compared > COMPARED:
        return replace(found, notes=(*found.notes, f"Worked out from the first {COMPARED} tasks of two or more answers."))
    return found


@dataclass(frozen=True)
class Publication:
    """What a request to publish a round asks for."""

    name: str
    method: str = ""
    least: float = 0.0
    reviewed_only: bool = False
    include_incomplete: bool = False
    base: str = ""
    split: SplitPolicy = field(default_factory=SplitPolicy)
    version_id: str = ""


def publish_round(at: Annotating, files: Files, wanted: Publication, creator: str, request: Request) -> Job:
    """Starts the publication of the next version from a round's answers.

    Raises NotFound, InvalidArgument, FailedPrecondition NOTHING_ANSWERED, NOT_PUBLISHABLE.
    """
    round_ = read_round(at.resources, wanted.name)
    dataset = parent_of(wanted.name)
    schema = read_schema_of(at, round_)
    _check_method(wanted.method)
    if not 0 <= wanted.least <= 1:
        message = f"min_confidence is {wanted.least:g}; it is 0 to 1"
        raise InvalidArgument("BAD_CONFIDENCE", message, field="min_confidence")
    if not set(SHAPES_OF_TASK.get(round_.content.task, ())) & set(schema.shapes):
        message = f"the round asks for {', '.join(schema.shapes)}, which a version of task {round_.content.task} has no place for"
        raise FailedPrecondition("NOT_PUBLISHABLE", message, name=wanted.name, task=round_.content.task)
    known = read_dataset(at.resources, dataset)
    base = wanted.base or known.latest_version or round_.dataset_version
    import_name, imported = _imported(at, round_.import_name or known.current_import, base)
    blob, count = _dump(at, files, round_.key, wanted)
    source = AnnotationSource(
        round=wanted.name,
        label_schema=round_.label_schema,
        schema=schema,
        answers=blob,
        content=round_.content,
        method=wanted.method,
        least=wanted.least,
        published_by=creator,
        answer_count=count,
    )
    new = NewVersion(parent=dataset, version_id=wanted.version_id, split=wanted.split, base=base)
    spec = VersionSpec(dataset, import_name, imported, wanted.split, annotation=source)
    return submit_version(at.jobs, at.resources, new, spec, request)


def note_publication(resources: Resources, job: Job) -> None:
    """Writes down in a round which version its answers were published in. Idempotent."""
    source = from_document(job.spec, VersionSpec).annotation
    if source is None:
        return

    def change(document: dict[str, object]) -> dict[str, object]:
        return {**document, "published_version": job.name}

    try:
        resources.update(source.round, change)
    except NotFound:  # it was deleted meanwhile
        return


def _imported(at: Annotating, import_name: str, base: str) -> tuple[str, Any]:
    """The import whose content the version's examples are of."""
    try:
        imported = import_result(at.jobs.get(import_name)) if import_name else None
    except NotFound:
        imported = None
    if imported is None:
        spec = from_document(read_job(at.jobs, base, "DATASET_VERSION_NOT_FOUND").spec, VersionSpec)
        return spec.import_name, spec.imported
    return import_name, replace(imported, summary=replace(imported.summary, rejected=(), assumptions=()), findings=())


def _dump(at: Annotating, files: Files, key: str, wanted: Publication) -> tuple[Any, int]:
    """Writes the answers that are to be published to a file, one task a line: its blob, and how many answers there are."""
    count = 0
    with tempfile.TemporaryDirectory(prefix="modelyard-annotation-") as folder:
        path = Path(folder, "answers.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for each in at.annotations.answers(key):
                task, answers = each.task, each.answers
                reviewed = task.review.answer if task.review is not None and task.state in rounds.REVIEWED else None
                ready = reviewed is not None or (
                    not wanted.reviewed_only and bool(answers) and (task.state != rounds.TASK_OPEN or wanted.include_incomplete)
                )
                if not ready:
                    continue
                facts = task.example.facts
                line = {
                    "id": task.example.example_id,
                    "path": task.example.path,
                    "row": task.example.row,
                    "facts": [facts.width, facts.height, facts.steps],
                    "final": to_json(reviewed) if reviewed is not None else None,
                    "answers": {name: to_json(answer) for name, answer in answers.items()},
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += max(len(answers), 1)
        if not count:
            which = "accepted or corrected by a reviewer" if wanted.reviewed_only else "answered as often as the round asks"
            message = f"no task of the round is {which} yet; there is nothing to publish"
            raise FailedPrecondition("NOTHING_ANSWERED", message, name=wanted.name)
        return files.put_file(path), count


def _check_method(method: str) -> None:
    if method and method not in METHODS:
        raise InvalidArgument("BAD_METHOD", f"method is {method!r}; it is one of {', '.join(METHODS)}", field="method")
