"""People who take, answer, skip, give back, take back, are late, are reviewed, in any order: whatever they do, the books are
right."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, select

from modelyard.core.database import reading
from modelyard.core.errors import FailedPrecondition
from modelyard.core.requests import Request
from modelyard.dataset.adapters.annotation_tables import slot
from modelyard.dataset.adapters.annotations_sql import LIVE, SqlAnnotations
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.dataset.domain.rounds import NewTask, Review

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = ("anna", "bert", "carl")
LEASE = 100.0
CLASSES = ("cat", "dog", "cow")
_keys = count()

people = st.sampled_from(PEOPLE)
answers = st.sampled_from(CLASSES).map(lambda name: Answer((name,)))


class Annotating(RuleBasedStateMachine):
    """The store beside a model of it that keeps what it must say in plain dictionaries."""

    engine: Engine

    @initialize(size=st.integers(1, 5), wanted=st.integers(1, 3))
    def open(self, size: int, wanted: int) -> None:
        self.store, self.round, self.now = SqlAnnotations(self.engine), f"r{next(_keys)}", 0.0
        self.names, self.wanted = [f"e{n}" for n in range(size)], wanted
        tasks = [NewTask(name, name[1:], name, "ab" * 32, "", "", n, Facts(), wanted) for n, name in enumerate(self.names)]
        self.store.add_round(self.round, tasks)
        self.leases: dict[tuple[str, str], float] = {}  # (person, task): until when
        self.late: set[tuple[str, str]] = set()  # leases that ended
        self.skipped: set[tuple[str, str]] = set()
        self.counting: dict[tuple[str, str], Answer] = {}
        self.reviewed: dict[str, str] = {}
        self.entries = 0

    @property
    def time(self) -> datetime:
        return START + timedelta(seconds=self.now)

    @rule(who=people, wanted=st.integers(1, 3))
    def claim(self, who: str, wanted: int) -> None:
        for key in [key for key, until in self.leases.items() if until < self.now]:
            del self.leases[key]
            self.late.add(key)
        held = [task.task for task in self.store.claim(self.round, who, wanted, LEASE, self.time, fresh=True)]
        before = {task for person, task in self.leases if person == who}
        assert before <= set(held)
        assert len(held) == len(set(held))
        for name in set(held) - before:
            assert (who, name) not in self.counting, "nobody gets a task that they have answered"
            assert (who, name) not in self.skipped, "nobody gets a task that they have skipped"
            assert name not in self.reviewed
            live = sum(task == name for _, task in (*self.leases, *self.counting))
            assert live < self.wanted, "nobody gets a place that somebody has"
        if len(held) < wanted:
            assert not self.free(who, set(held)), "what is to be had is given out"
        for name in held:
            self.leases[who, name] = self.now + LEASE
            self.late.discard((who, name))

    def free(self, who: str, held: set[str]) -> list[str]:
        """Tasks that the person could have."""
        return [
            name
            for name in self.names
            if name not in held
            and name not in self.reviewed
            and (who, name) not in self.counting
            and (who, name) not in self.skipped
            and sum(task == name for _, task in (*self.leases, *self.counting)) < self.wanted
        ]

    @rule(who=people, number=st.integers(0, 4), answer=answers)
    def submit(self, who: str, number: int, answer: Answer) -> None:
        name = self.names[number % len(self.names)]
        key = (who, name)
        may = key in self.leases or key in self.counting or key in self.late
        try:
            entry = self.store.submit(self.round, name, who, answer, 0.0, self.time, Request())
        except FailedPrecondition:
            assert not may
            return
        assert may
        assert entry.answer == answer
        self.leases.pop(key, None)
        self.late.discard(key)
        self.counting[key] = answer
        self.entries += 1

    @rule(who=people, number=st.integers(0, 4))
    def skip(self, who: str, number: int) -> None:
        name = self.names[number % len(self.names)]
        try:
            self.store.skip(self.round, name, who, "", self.time, Request())
        except FailedPrecondition:
            assert (who, name) not in self.leases
            return
        del self.leases[who, name]
        self.skipped.add((who, name))
        self.entries += 1

    @rule(who=people, number=st.integers(0, 4))
    def release(self, who: str, number: int) -> None:
        name = self.names[number % len(self.names)]
        self.store.release(self.round, name, who)
        self.leases.pop((who, name), None)

    @rule(who=people, number=st.integers(0, 4))
    def withdraw(self, who: str, number: int) -> None:
        name = self.names[number % len(self.names)]
        try:
            self.store.withdraw(self.round, name, who, LEASE, self.time, Request())
        except FailedPrecondition:
            assert (who, name) not in self.counting or name in self.reviewed
            return
        del self.counting[who, name]
        self.leases[who, name] = self.now + LEASE
        self.entries += 1

    @rule(
        number=st.integers(0, 4), verdict=st.sampled_from(rounds.VERDICTS), whose=st.sampled_from(("", *PEOPLE)), answer=answers
    )
    def review(self, number: int, verdict: str, whose: str, answer: Answer) -> None:
        name = self.names[number % len(self.names)]
        about = [key for key in self.counting if key[1] == name and whose in ("", key[0])]
        said = Review(verdict, "boss", answer=None if verdict == rounds.REJECT else answer, annotator=whose, reason="so")
        try:
            self.store.review(self.round, name, said, self.time, Request())
        except FailedPrecondition:
            assert verdict == rounds.REJECT
            assert not about
            return
        self.entries += 1
        if verdict == rounds.REJECT:
            self.reviewed.pop(name, None)
            for key in about:
                del self.counting[key]
        else:
            self.reviewed[name] = rounds.ACCEPTED if verdict == rounds.ACCEPT else rounds.CORRECTED

    @rule(seconds=st.sampled_from((1.0, 60.0, LEASE + 1)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def the_books_are_right(self) -> None:
        found = list(self.store.answers(self.round))
        assert {(who, each.task.task): answer for each in found for who, answer in each.answers.items()} == self.counting
        for each in found:
            done = sum(name == each.task.task for _, name in self.counting)
            assert each.task.done == done
            expected = self.reviewed.get(each.task.task, rounds.state_after(done, self.wanted))
            assert each.task.state == expected
        assert len(self.store.entries(self.round, "", ("", 0), 1000)) == self.entries, "nothing is ever lost or rewritten"
        with reading(self.engine) as connection:
            places = connection.execute(
                select(slot.c.task, slot.c.annotator, slot.c.state).where(slot.c.round == self.round)
            ).all()
        taken = Counter((task, who) for task, who, state in places if state in ("leased", "done"))
        assert set(taken.values()) <= {1}, "one person has at most one place of a task"
        live = Counter(task for task, _, state in places if state in LIVE)
        for name in self.names:
            if name not in self.reviewed:
                assert live[name] >= self.wanted, "no wanted answer is forgotten"

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.delete_round(self.round)


def test_whatever_people_do(engine: Engine) -> None:

    class OnThisDatabase(Annotating):
        pass

    OnThisDatabase.engine = engine
    quick: Any = settings(
        max_examples=30 if engine.dialect.name == "sqlite" else 15,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OnThisDatabase, settings=quick)
