"""What comes of an attempt is decided once, however many of its processes speak."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.database import migrate, open_database
from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.engine import _new_job
from modelyard.core.jobs.job import Instruction, JobKind
from modelyard.core.jobs.store import JobStore

NAME, FENCE = "projects/default/trainingJobs/a", (1, "hash")
ERROR = {"code": 9, "reason": "DIVERGED", "message": "it diverged", "values": {}, "violations": []}


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    made = JobStore(engine)
    kind = JobKind(kind="training", service="trainer", worker_module="m")
    made.create(_new_job(NAME, kind, "projects/default", {"epochs": 3}, {}))
    made.begin_attempt(NAME, "hash")
    return made


@pytest.mark.parametrize("at_once", [3, 4, 5, 100])
def test_events_are_given_once_however_many_come_at_once(store: JobStore, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("modelyard.core.jobs.store.EVENTS_AT_ONCE", at_once)
    for start in range(0, 12, 4):  # each report raises the sequence once for each event, progress alone does too
        store.report(NAME, progress={"done": start})
        store.report(NAME, events=[{"step": step} for step in range(start, start + 4)])
        store.report(NAME, progress={"done": start + 4})
    at, more, seen = 0, True, []
    while more:
        job, events, at, more = store.changes(NAME, at)
        seen += [event["step"] for event in events]
    assert seen == list(range(12))
    assert at == job.sequence
    assert store.changes(NAME, at)[1:] == ([], at, False)


def test_an_attempt_is_assigned_as_often_as_it_asks_until_it_is_decided(store: JobStore) -> None:
    assert [store.assign(NAME, *FENCE).spec for _ in range(2)] == [{"epochs": 3}] * 2
    store.complete(NAME, *FENCE, {"made": "first"}, "COMPLETED")
    with pytest.raises(FailedPrecondition, match="completed already") as caught:
        store.assign(NAME, *FENCE)
    assert caught.value.reason == "ATTEMPT_DECIDED"
    with pytest.raises(FailedPrecondition) as caught:
        store.assign(NAME, 1, "another")
    assert caught.value.reason == "STALE_ATTEMPT"


def test_the_first_completion_stays(store: JobStore) -> None:
    first = store.complete(NAME, *FENCE, {"made": "first"}, "COMPLETED")
    assert store.complete(NAME, *FENCE, {"made": "late"}, "TIME_LIMIT") == first
    assert store.fail(NAME, ERROR, attempt=1, token_hash="hash") == first
    assert (store.get(NAME).result, store.get(NAME).outcome) == ({"made": "first"}, "completed")


def test_the_first_failure_stays(store: JobStore) -> None:
    first = store.fail(NAME, ERROR, attempt=1, token_hash="hash")
    assert store.complete(NAME, *FENCE, {"made": "late"}, "COMPLETED") == first
    assert (store.get(NAME).result, store.get(NAME).error) == (None, ERROR)


def test_a_cancelled_attempt_that_completes_first_has_completed(store: JobStore) -> None:
    store.instruct(NAME, Instruction.CANCEL)
    assert not store.get(NAME).decided
    assert store.complete(NAME, *FENCE, {}, "COMPLETED").outcome == "completed"
