"""Annotation rounds: which examples are given out, to whom, how often; and what is done about a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.formats.dataset import DatasetDescriptor

OPEN, PAUSED, CLOSED = "open", "paused", "closed"
STATES = (OPEN, PAUSED, CLOSED)

TASK_OPEN, LABELLED, ACCEPTED, CORRECTED = "open", "labelled", "accepted", "corrected"
TASK_STATES = (TASK_OPEN, LABELLED, ACCEPTED, CORRECTED)
REVIEWED = (ACCEPTED, CORRECTED)

ANSWER, SKIP, WITHDRAWAL, REVIEW = "answer", "skip", "withdrawal", "review"
ACCEPT, CORRECT, REJECT = "accept", "correct", "reject"
VERDICTS = (ACCEPT, CORRECT, REJECT)

MOST_TASKS = 1_000_000
MOST_OVERLAP = 20
MOST_PEOPLE = 1000
LEASE_S = 1800.0
SHORTEST_LEASE_S, LONGEST_LEASE_S = 30.0, 7 * 86_400.0
LONGEST_REASON = 2000
LONGEST_NAME = 200


@dataclass(frozen=True)
class Selection:
    """Which examples a round is about; empty fields do not restrict."""

    example_ids: tuple[str, ...] = ()
    unlabelled: bool = False
    usage: str = ""
    of_class: str = ""
    finding_source: str = ""
    finding_kind: str = ""
    limit: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """The document of a round. `key` names its rows in the tables of tasks; `content` is what its examples are read from."""

    key: str
    label_schema: str
    content: DatasetDescriptor
    display_name: str = ""
    import_name: str = ""
    dataset_version: str = ""  # empty: the present content
    selection: Selection = field(default_factory=Selection)  # without example_ids
    overlap: int = 1
    overlap_share: float = 1.0
    annotators: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    lease_s: float = LEASE_S
    state: str = OPEN
    task_count: int = 0
    creator: str = ""
    published_version: str = ""


@dataclass(frozen=True)
class NewTask:
    """An example that becomes a task: its row in the content's manifest, and how many people shall answer."""

    task: str
    example_id: str
    path: str
    sha256: str
    usage: str
    label: str
    row: int
    facts: Facts
    wanted: int = 1


@dataclass(frozen=True)
class PreLabel:
    """What a model says of an example, how sure it is (0 to 1), and which model."""

    answer: Answer
    confidence: float = 0.0
    model: str = ""


@dataclass(frozen=True)
class Review:
    """A reviewer's word. `answer`: the right one (CORRECT). `annotator`: whose answer it is about; empty: all."""

    verdict: str
    reviewer: str = ""
    time: datetime | None = None
    answer: Answer | None = None
    annotator: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """A task as stored."""

    task: str
    position: int
    example: NewTask
    state: str
    wanted: int
    done: int
    skips: int
    pre_label: PreLabel | None = None
    review: Review | None = None
    lease_until: datetime | None = None  # of the one who asks
    earlier: Answer | None = None  # what they answered before
    reject_reason: str = ""


@dataclass(frozen=True)
class Entry:
    """Something that was done about a task. `unchanged`: whether the answer is the pre-label (None: there was none)."""

    task: str
    number: int
    kind: str
    annotator: str
    time: datetime
    answer: Answer | None = None
    seconds: float = 0.0
    reason: str = ""
    verdict: str = ""
    unchanged: bool | None = None
    counts: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a round is, in tasks."""

    open: int = 0
    labelled: int = 0
    accepted: int = 0
    corrected: int = 0
    leased: int = 0
    answers: int = 0
    answers_wanted: int = 0
    skipped: int = 0
    prelabelled: int = 0


@dataclass(frozen=True)
class Answers:
    """A task with the answers that count now, by annotator in the order they came."""

    task: Task
    answers: Mapping[str, Answer]


def task_id(example_id: str) -> str:
    """The last part of a task's name: one for each example of a round."""
    return f"e{example_id}"


def check_round(round_: Round) -> None:
    """Raises InvalidArgument naming the field."""
    path = "annotation_round"
    if len(round_.display_name) > LONGEST_NAME:
        raise _bad("TEXT_TOO_LONG", f"{path}.display_name", f"{len(round_.display_name)} characters", f"at most {LONGEST_NAME}")
    if not 1 <= round_.overlap <= MOST_OVERLAP:
        raise _bad("BAD_OVERLAP", f"{path}.overlap", str(round_.overlap), f"1 to {MOST_OVERLAP} people answer an example")
    if not (math.isfinite(round_.overlap_share) and 0 < round_.overlap_share <= 1):
        raise _bad("BAD_OVERLAP", f"{path}.overlap_share", f"{round_.overlap_share:g}", "it is above 0 and at most 1")
    check_lease(round_.lease_s)
    check_people(round_.annotators, f"{path}.annotators")
    check_people(round_.reviewers, f"{path}.reviewers")
    if round_.annotators and len(round_.annotators) < round_.overlap:
        right = f"{round_.overlap} people are to answer each example, so at least as many must be named"
        raise _bad("TOO_FEW_ANNOTATORS", f"{path}.annotators", f"{len(round_.annotators)} names", right)


def check_lease(lease_s: float) -> None:
    """Raises InvalidArgument BAD_LEASE."""
    if not SHORTEST_LEASE_S <= lease_s <= LONGEST_LEASE_S:
        right = f"it is {SHORTEST_LEASE_S:g} s to {LONGEST_LEASE_S:g} s (7 days)"
        raise _bad("BAD_LEASE", "annotation_round.lease", f"{lease_s:g} s", right)


def check_people(names: Sequence[str], path: str) -> None:
    """Raises InvalidArgument BAD_ANNOTATOR."""
    if len(names) > MOST_PEOPLE:
        raise _bad("BAD_ANNOTATOR", path, f"{len(names)} names", f"at most {MOST_PEOPLE} are named")
    for number, name in enumerate(names):
        check_person(name, f"{path}[{number}]")
    if len(set(names)) != len(names):
        raise _bad("BAD_ANNOTATOR", path, ", ".join(names), "nobody is named twice")


def check_person(name: str, path: str) -> str:
    """The name. Raises InvalidArgument BAD_ANNOTATOR."""
    if not 0 < len(name) <= LONGEST_NAME or any(ord(character) <= 32 or ord(character) == 127 for character in name):
        raise _bad("BAD_ANNOTATOR", path, name, f'it has 1 to {LONGEST_NAME} characters without spaces, such as "user:anna"')
    return name


def check_may_annotate(round_: Round, annotator: str) -> None:
    """Raises FailedPrecondition NOT_AN_ANNOTATOR where the round names others."""
    if round_.annotators and annotator not in round_.annotators:
        message = f"{annotator} is none of the annotators of this round: {', '.join(round_.annotators[:20])}"
        raise FailedPrecondition("NOT_AN_ANNOTATOR", message, annotator=annotator)


def check_takes_answers(round_: Round) -> None:
    """Raises FailedPrecondition ROUND_CLOSED."""
    if round_.state == CLOSED:
        raise FailedPrecondition("ROUND_CLOSED", "the round is closed; nothing is taken any more. Open it again first")


def check_reason(reason: str, path: str) -> None:
    """Raises InvalidArgument TEXT_TOO_LONG."""
    if len(reason) > LONGEST_REASON:
        raise _bad("TEXT_TOO_LONG", path, f"{len(reason)} characters", f"at most {LONGEST_REASON} are kept")


def wanted_of(count: int, overlap: int, share: float, seed: int) -> list[int]:
    """How many people answer each of `count` tasks: `overlap` for a share of them drawn at random, one for the others."""
    if overlap == 1 or share >= 1:
        return [overlap] * count
    several = min(count, max(1, round(count * share)))
    chosen = set(np.random.default_rng(abs(seed)).permutation(count)[:several].tolist())
    return [overlap if place in chosen else 1 for place in range(count)]


def state_after(done: int, wanted: int) -> str:
    """Of a task that is not reviewed."""
    return LABELLED if done >= wanted else TASK_OPEN


def _bad(reason: str, field_: str, value: str, right: str) -> InvalidArgument:
    return InvalidArgument(reason, f"{field_} is {value[:80]!r}; {right}", field=field_, value=value[:80])


# Documents of the tables


def example_document(task: NewTask) -> dict[str, Any]:
    """What is kept of a task's example."""
    facts = task.facts
    return {
        "id": task.example_id,
        "path": task.path,
        "sha256": task.sha256,
        "usage": task.usage,
        "label": task.label,
        "row": task.row,
        "facts": [facts.width, facts.height, facts.steps],
    }


def example_from(task: str, document: Mapping[str, Any], wanted: int) -> NewTask:
    """What `example_document` kept."""
    said = document
    return NewTask(
        task, said["id"], said["path"], said["sha256"], said["usage"], said["label"], said["row"], Facts(*said["facts"]), wanted
    )
