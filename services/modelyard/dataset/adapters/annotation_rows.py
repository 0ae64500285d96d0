"""What is read of annotation rounds: tasks, entries, counts; and rows of the tables as values of the domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, case, func, select, tuple_

from modelyard.core.database import reading
from modelyard.core.errors import NotFound
from modelyard.dataset.adapters.annotation_tables import entry, is_leased, slot, task
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, from_json, to_json
from modelyard.dataset.domain.rounds import Answers, Entry, PreLabel, Progress, Review, Task

_AT_ONCE = 2000


class SqlAnnotationReadings:
    """Reads tasks and what was done about them."""

    def __init__(self, engine: Engine) -> None:
        self._readings = engine

    def task(self, round_: str, name: str) -> Task:
        """Raises NotFound ANNOTATION_TASK_NOT_FOUND."""
        with reading(self._readings) as connection:
            return self.read_task(connection, round_, name)

    def read_task(
        self, connection: Connection, round_: str, name: str, annotator: str = "", lease_until: datetime | None = None
    ) -> Task:
        """Within a transaction. With an annotator: also what they answered before, and why it was rejected."""
        found = connection.execute(select(task).where(task.c.round == round_, task.c.task == name)).one_or_none()
        if found is None:
            raise NotFound("ANNOTATION_TASK_NOT_FOUND", f"the round has no task {name}", task=name)
        earlier, reason = _earlier(connection, round_, name, annotator) if annotator else (None, "")
        return _task(found, lease_until, earlier, reason)

    def tasks(self, round_: str, state: str, start: int, count: int) -> Sequence[Task]:
        """Tasks from a position on, in their order; `state` "": all."""
        chosen = [task.c.round == round_, task.c.position >= start, *([task.c.state == state] if state else [])]
        with reading(self._readings) as connection:
            found = connection.execute(select(task).where(*chosen).order_by(task.c.position).limit(count)).all()
        return [_task(row) for row in found]

    def entries(self, round_: str, name: str, after: tuple[str, int], count: int) -> Sequence[Entry]:
        """Entries after (task, number), by task and number; of one task, or ("") of all."""
        place = tuple_(entry.c.task, entry.c.number) > tuple_(*after)
        chosen = [entry.c.round == round_, place, *([entry.c.task == name] if name else [])]
        with reading(self._readings) as connection:
            statement = select(entry).where(*chosen).order_by(entry.c.task, entry.c.number).limit(count)
            return [entry_from(row._asdict()) for row in connection.execute(statement)]

    def answers(self, round_: str) -> Iterator[Answers]:
        """Every task with the answers that count, in the order of the tasks. One view of the round for each block of tasks."""
        start = 0
        while True:
            with reading(self._readings) as connection:
                statement = select(task).where(task.c.round == round_, task.c.position >= start).order_by(task.c.position)
                found = connection.execute(statement.limit(_AT_ONCE)).all()
                said = _counting(connection, round_, [row.task for row in found]) if found else {}
            for row in found:
                yield Answers(_task(row), said.get(row.task, {}))
            if len(found) < _AT_ONCE:
                return
            start = found[-1].position + 1

    def example_ids(self, round_: str) -> Sequence[str]:
        """Ids of a round's examples."""
        with reading(self._readings) as connection:
            return [name[1:] for name in connection.scalars(select(task.c.task).where(task.c.round == round_))]

    def progress(self, round_: str) -> Progress:
        """How far a round is."""
        columns = (
            task.c.state,
            func.count().label("tasks"),
            func.sum(task.c.done).label("done"),
            func.sum(task.c.wanted).label("wanted"),
            func.sum(case((task.c.skips > 0, 1), else_=0)).label("skipped"),
            func.count(task.c.prelabel).label("prelabelled"),
        )
        with reading(self._readings) as connection:
            found = connection.execute(select(*columns).where(task.c.round == round_).group_by(task.c.state)).all()
            leased = connection.scalar(select(func.count()).where(slot.c.round == round_, is_leased))
        tasks = {row.state: int(row.tasks) for row in found}
        sums = {name: sum(int(getattr(row, name) or 0) for row in found) for name in ("done", "wanted", "skipped", "prelabelled")}
        return Progress(
            open=tasks.get(rounds.TASK_OPEN, 0),
            labelled=tasks.get(rounds.LABELLED, 0),
            accepted=tasks.get(rounds.ACCEPTED, 0),
            corrected=tasks.get(rounds.CORRECTED, 0),
            leased=int(leased or 0),
            answers=sums["done"],
            answers_wanted=sums["wanted"],
            skipped=sums["skipped"],
            prelabelled=sums["prelabelled"],
        )

    def all_entries(self, round_: str) -> Iterator[Mapping[str, Any]]:
        """What statistics need of every entry: kind, annotator, time, seconds, unchanged, counts, verdict, task; no answers."""
        columns = (
            entry.c.task,
            entry.c.number,
            entry.c.kind,
            entry.c.annotator,
            entry.c.time,
            entry.c.seconds,
            entry.c.unchanged,
            entry.c.counts,
            entry.c.verdict,
        )
        statement = select(*columns).where(entry.c.round == round_).order_by(entry.c.task, entry.c.number)
        with reading(self._readings) as connection:
            for row in connection.execution_options(yield_per=5000).execute(statement):
                yield row._asdict()

    def leased(self, round_: str) -> Mapping[str, int]:
        """How many tasks each person holds."""
        statement = select(slot.c.annotator, func.count()).where(slot.c.round == round_, is_leased)
        with reading(self._readings) as connection:
            return {name: int(count) for name, count in connection.execute(statement.group_by(slot.c.annotator)).all()}


def counting_answer(connection: Connection, round_: str, name: str, annotator: str) -> Answer | None:
    """A person's answer that counts."""
    mine = and_(entry.c.round == round_, entry.c.task == name, entry.c.annotator == annotator, entry.c.counts.is_(True))
    said = connection.execute(select(entry.c.answer).where(mine)).scalar_one_or_none()
    return from_json(said) if said is not None else None


def _counting(connection: Connection, round_: str, names: Sequence[str]) -> dict[str, dict[str, Answer]]:
    statement = select(entry.c.task, entry.c.annotator, entry.c.answer).where(
        entry.c.round == round_, entry.c.task.in_(names), entry.c.counts.is_(True)
    )
    said: dict[str, dict[str, Answer]] = {}
    for row in connection.execute(statement.order_by(entry.c.task, entry.c.number)):
        said.setdefault(row.task, {})[row.annotator] = from_json(row.answer)
    return said


def _earlier(connection: Connection, round_: str, name: str, annotator: str) -> tuple[Answer | None, str]:
    found = [entry_from(row._asdict()) for row in connection.execute(
        select(entry).where(entry.c.round == round_, entry.c.task == name).order_by(entry.c.number)
    )]  # fmt: skip
    mine = [each.answer for each in found if each.kind == rounds.ANSWER and each.annotator == annotator]
    reasons = [each.reason for each in found if each.kind == rounds.REVIEW and each.verdict == rounds.REJECT]
    return (mine[-1] if mine else None), (reasons[-1] if reasons else "")


def read_entry(connection: Connection, round_: str, name: str, number: str) -> Entry:
    """An entry that is known to be there."""
    at = and_(entry.c.round == round_, entry.c.task == name, entry.c.number == int(number))
    return entry_from(connection.execute(select(entry).where(at)).one()._asdict())


def entry_from(row: Mapping[str, Any]) -> Entry:
    """An entry."""
    return Entry(
        task=row["task"],
        number=row["number"],
        kind=row["kind"],
        annotator=row["annotator"],
        time=row["time"],
        answer=from_json(row["answer"]) if row["answer"] is not None else None,
        seconds=row["seconds"],
        reason=row["reason"],
        verdict=row["verdict"],
        unchanged=row["unchanged"],
        counts=row["counts"],
    )


def prelabel_document(each: PreLabel) -> dict[str, Any]:
    """A pre-label as JSON."""
    return {"answer": to_json(each.answer), "confidence": each.confidence, "model": each.model}


def prelabel_from(document: Mapping[str, Any] | None) -> PreLabel | None:
    """What `prelabel_document` wrote."""
    return PreLabel(from_json(document["answer"]), document["confidence"], document["model"]) if document is not None else None


def review_document(review: Review, now: datetime) -> dict[str, Any]:
    """A review as JSON."""
    return {
        "verdict": review.verdict,
        "reviewer": review.reviewer,
        "time": now.isoformat(),
        "answer": to_json(review.answer) if review.answer is not None else None,
        "annotator": review.annotator,
        "reason": review.reason,
    }


def _review_from(said: Mapping[str, Any] | None) -> Review | None:
    if said is None:
        return None
    answer = from_json(said["answer"]) if said["answer"] is not None else None
    time = datetime.fromisoformat(said["time"])
    return Review(said["verdict"], said["reviewer"], time, answer, said["annotator"], said["reason"])


def _task(row: Row[Any], lease_until: datetime | None = None, earlier: Answer | None = None, reason: str = "") -> Task:
    return Task(
        task=row.task,
        position=row.position,
        example=rounds.example_from(row.task, row.example, row.wanted),
        state=row.state,
        wanted=row.wanted,
        done=row.done,
        skips=row.skips,
        pre_label=prelabel_from(row.prelabel),
        review=_review_from(row.review),
        lease_until=lease_until,
        earlier=earlier,
        reject_reason=reason,
    )
