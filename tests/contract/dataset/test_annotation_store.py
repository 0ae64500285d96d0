"""Tasks of annotation rounds, over SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from modelyard.core.database import reading
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.requests import Request
from modelyard.dataset.adapters.annotation_tables import slot
from modelyard.dataset.adapters.annotations_sql import SqlAnnotations
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.dataset.domain.rounds import Entry, NewTask, PreLabel, Review

START = datetime(2026, 1, 1, tzinfo=UTC)
CAT, DOG = Answer(("cat",)), Answer(("dog",))
LEASE = 60.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Yard:
    """A round, and short words for what people do in it."""

    def __init__(self, engine: Engine, count: int, wanted: int) -> None:
        self.engine, self.store = engine, SqlAnnotations(engine)
        tasks = [NewTask(f"e{n:04d}", f"{n:04d}", f"{n}.png", "ab" * 32, "", "", n, Facts(10, 10), wanted) for n in range(count)]
        assert self.store.add_round("r", tasks) == count
        self.now = 0.0

    def claim(self, who: str, count: int = 1, *, fresh: bool = True) -> list[str]:
        found = self.store.claim("r", who, count, LEASE, at(self.now), fresh=fresh)
        assert all(task.lease_until == at(self.now + LEASE) for task in found)
        return [task.task for task in found]

    def submit(self, who: str, name: str, answer: Answer = CAT, request: Request | None = None) -> Entry:
        return self.store.submit("r", name, who, answer, 1.5, at(self.now), request or Request())

    def do(self, who: str, answer: Answer = CAT) -> str | None:
        held = self.claim(who)
        if held:
            self.submit(who, held[0], answer)
        return held[0] if held else None

    def review(self, name: str, verdict: str, **more: object) -> rounds.Task:
        review = Review(verdict, "user:boss", **more)  # type: ignore[arg-type]
        return self.store.review("r", name, review, at(self.now), Request())


def test_tasks_are_given_out_in_their_order_and_come_back_to_who_holds_them(engine: Engine) -> None:
    yard = Yard(engine, 5, 1)
    assert yard.claim("anna") == ["e0000"]
    assert yard.claim("anna") == ["e0000"]
    assert yard.claim("anna", 3) == ["e0000", "e0001", "e0002"]
    assert yard.claim("bert", 9) == ["e0003", "e0004"]
    assert yard.claim("carl") == []
    progress = yard.store.progress("r")
    assert (progress.open, progress.leased, progress.answers, progress.answers_wanted) == (5, 5, 0, 5)


def test_nobody_answers_a_task_twice_and_as_many_do_as_are_wanted(engine: Engine) -> None:
    yard = Yard(engine, 3, 2)
    assert [yard.do("anna") for _ in range(4)] == ["e0000", "e0001", "e0002", None]
    assert [yard.do("bert", DOG) for _ in range(4)] == ["e0000", "e0001", "e0002", None]
    assert yard.do("carl") is None
    answers = list(yard.store.answers("r"))
    assert [dict(each.answers) for each in answers] == [{"anna": CAT, "bert": DOG}] * 3
    assert {each.task.state for each in answers} == {rounds.LABELLED}
    assert yard.store.progress("r").answers == 6


def test_a_lease_that_ends_gives_the_place_to_others_and_costs_no_work(engine: Engine) -> None:
    yard = Yard(engine, 2, 1)
    assert yard.claim("anna") == ["e0000"]
    yard.now = LEASE + 1
    assert yard.claim("bert") == ["e0000"]  # what came back goes first
    yard.submit("anna", "e0000", DOG)  # late, and somebody has the place: taken all the same
    yard.submit("bert", "e0000", CAT)
    assert dict(next(yard.store.answers("r")).answers) == {"anna": DOG, "bert": CAT}
    assert yard.claim("anna") == ["e0001"]
    yard.now += LEASE + 1
    yard.submit("anna", "e0001")  # late, but the place is free: it is theirs
    assert yard.claim("bert") == []
    assert yard.store.progress("r").answers == 3


def test_a_sign_of_life_renews_the_lease(engine: Engine) -> None:
    yard = Yard(engine, 1, 1)
    assert yard.claim("anna") == ["e0000"]
    yard.now = LEASE - 1
    assert yard.claim("anna") == ["e0000"]
    yard.now = LEASE + 1
    assert yard.claim("bert") == []
    assert yard.claim("anna") == ["e0000"]


def test_what_is_skipped_goes_to_others(engine: Engine) -> None:
    yard = Yard(engine, 2, 1)
    assert yard.claim("anna") == ["e0000"]
    entry = yard.store.skip("r", "e0000", "anna", "too dark", at(1), Request())
    assert (entry.kind, entry.reason) == (rounds.SKIP, "too dark")
    assert yard.claim("anna", 5) == ["e0001"]
    assert yard.claim("bert") == ["e0000"]
    assert yard.store.task("r", "e0000").skips == 1
    with pytest.raises(FailedPrecondition, match="not held by anna"):
        yard.store.skip("r", "e0000", "anna", "", at(1), Request())
    with pytest.raises(FailedPrecondition, match="not held by anna") as caught:
        yard.submit("anna", "e0000")
    assert caught.value.reason == "NOT_CLAIMED"


def test_what_is_given_back_may_come_back(engine: Engine) -> None:
    yard = Yard(engine, 2, 1)
    assert yard.claim("anna") == ["e0000"]
    yard.store.release("r", "e0000", "anna")
    yard.store.release("r", "e0000", "anna")
    assert yard.claim("anna") == ["e0000"]
    with pytest.raises(NotFound):
        yard.store.release("r", "e9999", "anna")


def test_answers_are_revised_and_taken_back_and_all_of_it_stays_on_record(engine: Engine) -> None:
    yard = Yard(engine, 1, 1)
    assert yard.claim("anna") == ["e0000"]
    yard.submit("anna", "e0000", CAT)
    yard.submit("anna", "e0000", DOG)
    assert dict(next(yard.store.answers("r")).answers) == {"anna": DOG}
    yard.store.withdraw("r", "e0000", "anna", LEASE, at(2), Request())
    assert dict(next(yard.store.answers("r")).answers) == {}
    assert yard.store.task("r", "e0000").state == rounds.TASK_OPEN
    assert yard.claim("bert") == []  # it is anna's again
    task = yard.store.claim("r", "anna", 1, LEASE, at(2), fresh=True)[0]
    assert task.earlier == DOG
    yard.submit("anna", "e0000", CAT)
    log = yard.store.entries("r", "", ("", 0), 100)
    assert [(each.number, each.kind, each.answer, each.counts) for each in log] == [
        (1, "answer", CAT, False), (2, "answer", DOG, False), (3, "withdrawal", None, False), (4, "answer", CAT, True)
    ]  # fmt: skip
    assert yard.store.entries("r", "e0000", ("e0000", 2), 1)[0].number == 3
    with pytest.raises(FailedPrecondition):
        yard.store.withdraw("r", "e0000", "bert", LEASE, at(2), Request())


def test_the_same_request_is_done_once(engine: Engine) -> None:
    yard = Yard(engine, 1, 1)
    yard.claim("anna")
    request = Request("one", "SubmitAnnotation", "f")
    first = yard.submit("anna", "e0000", CAT, request)
    assert yard.submit("anna", "e0000", CAT, request) == first
    assert len(yard.store.entries("r", "", ("", 0), 100)) == 1
    with pytest.raises(InvalidArgument) as caught:
        yard.submit("anna", "e0000", DOG, Request("one", "SubmitAnnotation", "other"))
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_reviews_accept_correct_and_reject(engine: Engine) -> None:
    yard = Yard(engine, 3, 2)
    for who in ("anna", "bert"):
        for _ in range(3):
            yard.do(who, CAT if who == "anna" else DOG)
    assert yard.review("e0000", rounds.ACCEPT, answer=CAT).state == rounds.ACCEPTED
    assert yard.review("e0001", rounds.CORRECT, answer=Answer(("cow",))).state == rounds.CORRECTED
    back = yard.review("e0002", rounds.REJECT, annotator="bert", reason="look again")
    assert (back.state, back.done, back.review) == (rounds.TASK_OPEN, 1, None)
    assert yard.claim("carl") == ["e0002"]
    yard.store.release("r", "e0002", "carl")
    task = yard.store.claim("r", "bert", 1, LEASE, at(0), fresh=True)[0]  # who was rejected may do it again, and is told why
    assert (task.task, task.earlier, task.reject_reason) == ("e0002", DOG, "look again")
    with pytest.raises(FailedPrecondition):
        yard.store.withdraw("r", "e0000", "anna", LEASE, at(2), Request())
    yard.review("e0000", rounds.REJECT, reason="both wrong")
    assert yard.store.task("r", "e0000").done == 0
    assert yard.do("anna") == "e0000"
    with pytest.raises(FailedPrecondition) as caught:
        yard.review("e0002", rounds.REJECT, annotator="carl", reason="none")
    assert caught.value.reason == "NOTHING_TO_REVIEW"


def test_a_review_ends_the_search_for_more_answers(engine: Engine) -> None:
    yard = Yard(engine, 1, 3)
    yard.do("anna")
    yard.claim("bert")
    yard.review("e0000", rounds.CORRECT, answer=DOG)
    assert yard.claim("carl") == []
    yard.now = LEASE + 1
    assert yard.claim("carl") == []  # bert's place ended; nobody needs another one
    yard.submit("bert", "e0000")  # late work is kept
    assert len(next(yard.store.answers("r")).answers) == 2
    assert yard.store.task("r", "e0000").state == rounds.CORRECTED


def test_pre_labels_and_whether_they_were_taken(engine: Engine) -> None:
    yard = Yard(engine, 3, 1)
    said = [(f"e{n:04d}", PreLabel(CAT, 0.9, "m/V001")) for n in range(2)]
    assert yard.store.put_pre_labels("r", [*said, ("e9999", PreLabel(CAT))]) == 2
    assert yard.store.claim("r", "anna", 1, LEASE, at(0), fresh=True)[0].pre_label == PreLabel(CAT, 0.9, "m/V001")
    used = [yard.submit("anna", yard.claim("anna")[0], answer).unchanged for answer in (CAT, DOG, CAT)]
    assert used == [True, False, None]
    yard.review("e0000", rounds.ACCEPT, answer=CAT)
    assert yard.store.put_pre_labels("r", said) == 1  # a task that was reviewed needs none
    assert yard.store.progress("r").prelabelled == 2


def test_answers_from_elsewhere_are_taken_once(engine: Engine) -> None:
    yard = Yard(engine, 2, 1)
    given = [("e0000", "user:anna", CAT, 2.0), ("e0000", "user:bert", DOG, 0.0), ("e0001", "user:anna", CAT, 0.0)]
    assert yard.store.import_answers("r", given, at(0)) == 3
    assert yard.store.import_answers("r", given, at(1)) == 0
    assert yard.store.import_answers("r", [("e0000", "user:anna", DOG, 0.0)], at(2)) == 1
    assert yard.claim("user:carl") == []
    assert dict(next(yard.store.answers("r")).answers) == {"user:bert": DOG, "user:anna": DOG}


def test_a_paused_round_gives_nothing_new(engine: Engine) -> None:
    yard = Yard(engine, 2, 1)
    assert yard.claim("anna", fresh=False) == []
    assert yard.claim("anna") == ["e0000"]
    assert yard.claim("anna", 2, fresh=False) == ["e0000"]


def test_a_deleted_round_is_gone(engine: Engine) -> None:
    yard = Yard(engine, 2, 2)
    yard.do("anna")
    yard.store.delete_round("r")
    assert list(yard.store.answers("r")) == []
    with pytest.raises(NotFound):
        yard.store.task("r", "e0000")


def test_many_at_once_get_different_places(engine: Engine) -> None:
    """Twelve people who take and answer at the same time: every task gets its two answers, of different people."""
    yard = Yard(engine, 40, 2)
    wrong: list[Exception] = []

    def work(who: str) -> None:
        try:
            while yard.do(who):
                pass
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(f"user{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert [len(each.answers) for each in yard.store.answers("r")] == [2] * 40
    with reading(engine) as connection:
        places = connection.execute(select(slot.c.task, slot.c.annotator).where(slot.c.state == "done")).all()
    assert len(places) == len(set(places)) == 80
