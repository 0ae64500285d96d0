"""What people do with tasks: take, answer, skip, give back, take back; reviews; and reading what was done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelyard.core.clock import now
from modelyard.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from modelyard.core.names import ANNOTATION_ROUND, ANNOTATION_TASK, parent_of
from modelyard.core.requests import Request
from modelyard.core.resources import check_page_size
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, checked_answer
from modelyard.dataset.domain.consensus import consensus
from modelyard.dataset.domain.label_schema import LabelSchema
from modelyard.dataset.domain.rounds import Entry, PreLabel, Review, Round, Task
from modelyard.dataset.handlers.annotation_rounds import Annotating, read_round, read_schema_of, round_of_task
from modelyard.dataset.handlers.versions import start_of, token_after

MOST_CLAIMED = 50
MOST_PRE_LABELS = 10_000
LONGEST_MODEL = 200
LONGEST_S = 7 * 86_400.0


@dataclass(frozen=True)
class Caller:
    """Who calls, and whether they may do more than annotate: the role editor in the project."""

    name: str
    edits: bool = True

    def acting_as(self, annotator: str) -> str:
        """For whom they act: themselves, or somebody else where they may. Raises PermissionDenied, InvalidArgument."""
        if not annotator or annotator == self.name:
            return self.name
        if not self.edits:
            message = f"annotator is {annotator[:80]!r}; {self.name} may answer for others only with the role editor"
            raise PermissionDenied("NOT_ALLOWED", message, field="annotator", annotator=annotator[:80])
        return rounds.check_person(annotator, "annotator")


def claim(at: Annotating, parent: str, count: int, annotator: str, caller: Caller) -> tuple[Sequence[Task], bool]:
    """The tasks that somebody holds, with new ones up to `count`; and whether nothing more is to be had for them now.

    Raises NotFound, InvalidArgument BAD_COUNT, FailedPrecondition ROUND_CLOSED, ROUND_PAUSED, NOT_AN_ANNOTATOR.
    """
    round_ = read_round(at.resources, parent, "parent")
    person = caller.acting_as(annotator)
    if not 0 <= count <= MOST_CLAIMED:
        raise InvalidArgument("BAD_COUNT", f"count is {count}; it is 1 to {MOST_CLAIMED}, or 0 for 1", field="count", value=count)
    rounds.check_takes_answers(round_)
    rounds.check_may_annotate(round_, person)
    wanted = count or 1
    held = at.annotations.claim(round_.key, person, wanted, round_.lease_s, now(), fresh=round_.state == rounds.OPEN)
    if not held and round_.state == rounds.PAUSED:
        raise FailedPrecondition(
            "ROUND_PAUSED", "the round is paused; no task is given out until it is opened again", name=parent
        )
    return held, len(held) < wanted


def submit(at: Annotating, name: str, answer: Answer, seconds: float, annotator: str, caller: Caller, request: Request) -> Entry:
    """Takes an answer. Raises NotFound, InvalidArgument BAD_ANSWER, FailedPrecondition NOT_CLAIMED, ROUND_CLOSED."""
    _, round_, task = round_of_task(at.resources, name)
    person = caller.acting_as(annotator)
    rounds.check_takes_answers(round_)
    checked = checked_answer(answer, read_schema_of(at, round_), at.annotations.task(round_.key, task).example.facts)
    return at.annotations.submit(round_.key, task, person, checked, checked_seconds(seconds), now(), request)


def skip(at: Annotating, name: str, reason: str, annotator: str, caller: Caller, request: Request) -> Entry:
    """Leaves a task to others. Raises NotFound, FailedPrecondition NOT_CLAIMED, InvalidArgument TEXT_TOO_LONG."""
    _, round_, task = round_of_task(at.resources, name)
    rounds.check_reason(reason, "reason")
    return at.annotations.skip(round_.key, task, caller.acting_as(annotator), reason, now(), request)


def release(at: Annotating, name: str, annotator: str, caller: Caller) -> None:
    """Gives a task back. Raises NotFound."""
    _, round_, task = round_of_task(at.resources, name)
    at.annotations.release(round_.key, task, caller.acting_as(annotator))


def withdraw(at: Annotating, name: str, annotator: str, caller: Caller, request: Request) -> Entry:
    """Takes an answer back. Raises NotFound, FailedPrecondition NOT_ANSWERED, TASK_REVIEWED, ROUND_CLOSED."""
    _, round_, task = round_of_task(at.resources, name)
    rounds.check_takes_answers(round_)
    return at.annotations.withdraw(round_.key, task, caller.acting_as(annotator), round_.lease_s, now(), request)


def review(at: Annotating, name: str, said: Review, caller: Caller, request: Request) -> Task:
    """Accepts, corrects or rejects. Raises NotFound, PermissionDenied NOT_A_REVIEWER, InvalidArgument BAD_REVIEW, BAD_ANSWER,
    FailedPrecondition NOTHING_TO_REVIEW, NO_CONSENSUS."""
    _, round_, task = round_of_task(at.resources, name)
    if not caller.edits and caller.name not in round_.reviewers:
        message = f"{caller.name} is no reviewer of this round and has not the role editor"
        raise PermissionDenied("NOT_A_REVIEWER", message, name=name)
    _check_review(said)
    rounds.check_takes_answers(round_)
    schema, found = read_schema_of(at, round_), at.annotations.task(round_.key, task)
    if said.verdict == rounds.CORRECT and said.answer is not None:
        said = replace(said, answer=checked_answer(said.answer, schema, found.example.facts, "review.answer"))
    if said.verdict == rounds.ACCEPT:
        said = replace(said, answer=_accepted(at, round_, found, said.annotator, schema))
    return at.annotations.review(round_.key, task, replace(said, reviewer=caller.name), now(), request)


def get_task(at: Annotating, name: str) -> tuple[str, Task]:
    """The round's name, and the task. Raises NotFound."""
    parent, round_, task = round_of_task(at.resources, name)
    return parent, at.annotations.task(round_.key, task)


def list_tasks(at: Annotating, parent: str, state: str, page_size: int, page_token: str) -> tuple[Sequence[Task], str]:
    """A page of tasks in their order, and the token of the next. Raises NotFound, InvalidArgument."""
    round_ = read_round(at.resources, parent, "parent")
    size = check_page_size(page_size)
    query = f"{parent} tasks {state}"
    found = at.annotations.tasks(round_.key, state, start_of(page_token, query), size)
    return found, token_after(query, found[-1].position + 1) if len(found) == size else ""


def list_entries(at: Annotating, parent: str, page_size: int, page_token: str) -> tuple[str, Sequence[Entry], str]:
    """The round's name, a page of what was done in it (or about one task), and the token of the next page."""
    task = ""
    if ANNOTATION_TASK.matches(parent):
        task = ANNOTATION_TASK.parse(parent, "parent")["task"]
    name = parent_of(parent) if task else parent
    ANNOTATION_ROUND.parse(name, "parent")
    round_ = read_round(at.resources, name, "parent")
    if task:
        at.annotations.task(round_.key, task)
    size = check_page_size(page_size)
    query = f"{parent} entries"
    after = _after(page_token, query)
    found = at.annotations.entries(round_.key, task, after, size)
    token = token_after(f"{query} {found[-1].task}", found[-1].number) if len(found) == size else ""
    return name, found, token


def content_of(at: Annotating, name: str) -> tuple[bytes, str]:
    """The example of a task, and its media type. Raises NotFound, DataLoss."""
    _, round_, task = round_of_task(at.resources, name)
    return at.contents.read(round_.content, at.annotations.task(round_.key, task).example.row)


def import_pre_labels(at: Annotating, parent: str, given: Sequence[tuple[str, PreLabel]]) -> tuple[int, int]:
    """Takes what a model says of examples (by id): how many tasks have it now, and how many were left out.

    Raises NotFound, InvalidArgument BAD_ANSWER, BAD_PRE_LABEL, TOO_MANY_PRE_LABELS.
    """
    round_ = read_round(at.resources, parent, "parent")
    if len(given) > MOST_PRE_LABELS:
        message = f"pre_labels has {len(given)} entries; at most {MOST_PRE_LABELS} are taken in one call"
        raise InvalidArgument("TOO_MANY_PRE_LABELS", message, field="pre_labels", count=len(given))
    schema = read_schema_of(at, round_)
    known = set(at.annotations.example_ids(round_.key))
    checked = []
    for number, (example_id, each) in enumerate(given):
        path = f"pre_labels[{number}]"
        if not (math.isfinite(each.confidence) and 0 <= each.confidence <= 1) or len(each.model) > LONGEST_MODEL:
            message = f"{path}.confidence is {each.confidence:g}; it is 0 to 1, and model has at most {LONGEST_MODEL} characters"
            raise InvalidArgument("BAD_PRE_LABEL", message, field=f"{path}.confidence")
        if example_id in known:
            name = rounds.task_id(example_id)
            facts = at.annotations.task(round_.key, name).example.facts
            checked.append((name, replace(each, answer=checked_answer(each.answer, schema, facts, f"{path}.answer"))))
    count = at.annotations.put_pre_labels(round_.key, checked)
    return count, len(given) - count


def checked_seconds(seconds: float) -> float:
    """Raises InvalidArgument BAD_SECONDS."""
    if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST_S):
        message = f"seconds is {seconds:g}; it is 0 (not known) to {LONGEST_S:g}"
        raise InvalidArgument("BAD_SECONDS", message, field="seconds", value=seconds)
    return seconds


def _check_review(said: Review) -> None:
    if said.verdict not in rounds.VERDICTS:
        raise InvalidArgument("BAD_REVIEW", "review.verdict is not set; it is ACCEPT, CORRECT or REJECT", field="review.verdict")
    if (said.verdict == rounds.CORRECT) != (said.answer is not None):
        message = "review.answer is what is right where the verdict is CORRECT, and empty otherwise"
        raise InvalidArgument("BAD_REVIEW", message, field="review.answer")
    if said.verdict == rounds.REJECT and not said.reason.strip():
        message = "review.reason is empty; who answered must be told why"
        raise InvalidArgument("BAD_REVIEW", message, field="review.reason")
    rounds.check_reason(said.reason, "review.reason")


def _accepted(at: Annotating, round_: Round, found: Task, annotator: str, schema: LabelSchema) -> Answer:
    """The answer that a reviewer accepts: that of a person, or the consensus."""
    counting = {
        each.annotator: each.answer
        for each in _all_entries(at, round_.key, found.task)
        if each.kind == rounds.ANSWER and each.counts and each.answer is not None
    }
    if annotator and annotator in counting:
        return counting[annotator]
    if annotator or not counting:
        whose = f" of {annotator}" if annotator else ""
        raise FailedPrecondition(
            "NOTHING_TO_REVIEW", f"{found.task} has no answer{whose} that could be accepted", task=found.task
        )
    joined = consensus(counting, schema, found.example.facts)
    if not joined.settled:
        people = ", ".join(counting)
        message = f"the answers to {found.task} differ ({people}): name whose is right (review.annotator), or correct them"
        raise FailedPrecondition("NO_CONSENSUS", message, task=found.task)
    return joined.answer


def _all_entries(at: Annotating, key: str, task: str) -> list[Entry]:
    found: list[Entry] = []
    while page := at.annotations.entries(key, task, (task, found[-1].number if found else 0), 1000):
        found += page
    return found


def _after(page_token: str, query: str) -> tuple[str, int]:
    """(task, number) of the last entry of the page before. Raises InvalidArgument BAD_PAGE_TOKEN."""
    import base64
    import json

    if not page_token:
        return "", 0
    try:
        known, number = json.loads(base64.b64decode(page_token, altchars=b"-_", validate=True))
        task = str(known).removeprefix(query).strip() if str(known).startswith(query) else ""
    except (ValueError, TypeError, RecursionError):
        task, number = "", 0
    if not task or not isinstance(number, int):
        shown = page_token[:200]
        message = f"page_token is {shown!r}; it must be the next_page_token of an answer to the same list"
        raise InvalidArgument("BAD_PAGE_TOKEN", message, field="page_token", value=shown)
    return task, number
