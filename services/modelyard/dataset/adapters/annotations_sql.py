"""Annotations (see ports): tasks are given out, answers taken, reviews made; in SQLite or PostgreSQL.

Asking for the next task costs the same however many there are: each person has a cursor in each lane of the queue, which only
moves forward, because a place that comes back is a new row at the end of lane 0. Locks are taken in one order: the person's
cursor, the task, its places, the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, and_, func, insert, select, update

from modelyard.core.database import insert_if_absent, reading, writing
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.requests import Request
from modelyard.core.resources import claim_request
from modelyard.dataset.adapters import annotation_rows as rows
from modelyard.dataset.adapters.annotation_tables import cursor, entry, is_leased, queue, slot, task
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, same, to_json
from modelyard.dataset.domain.rounds import Entry, NewTask, PreLabel, Review, Task

RETURNED, FRESH = 0, 1
"""Lanes: places that came back, which are given out first; and the first places of all tasks."""

IS_OPEN, LEASED, DONE, SKIPPED, EXPIRED, RELEASED, WITHDRAWN, REJECTED = (
    "open", "leased", "done", "skipped", "expired", "released", "withdrawn", "rejected",
)  # fmt: skip
LIVE: Final = (IS_OPEN, LEASED, DONE)
TAKEN: Final = (LEASED, DONE, SKIPPED)
"""Who has such a place of a task gets no other one of it."""

_LOOK_AT = 20
_EXPIRED_AT_ONCE = 100
_ROWS_AT_ONCE = 5000


class SqlAnnotations(rows.SqlAnnotationReadings):
    """The tasks of all rounds of one database."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._engine = engine

    # Rounds

    def add_round(self, round_: str, tasks: Iterable[NewTask]) -> int:
        """Makes tasks of examples, in their order; how many. In pieces, so that nobody waits long for the database: nobody
        knows of a round before it is whole, and whoever makes one deletes it when that fails."""
        count = position = 0
        with writing(self._engine) as connection:
            connection.execute(insert(queue).values(round=round_, returned=0))
        left = iter(tasks)
        while block := list(islice(left, _ROWS_AT_ONCE)):
            with writing(self._engine) as connection:
                position = _insert(connection, round_, block, count, position)
            count += len(block)
        return count

    def delete_round(self, round_: str) -> None:
        """Forgets a round's tasks and all that was done about them."""
        with writing(self._engine) as connection:
            for table in (entry, slot, cursor, task, queue):
                connection.execute(table.delete().where(table.c.round == round_))

    # People

    def claim(self, round_: str, annotator: str, count: int, lease_s: float, now: datetime, *, fresh: bool) -> Sequence[Task]:
        """The tasks that a person holds, renewed, and (`fresh`) more up to `count`, each held until `lease_s` from now."""
        self._return_expired(round_, now)
        until = now + timedelta(seconds=lease_s)
        with writing(self._engine) as connection:
            place = _lock_cursor(connection, round_, annotator)
            held = _held(connection, round_, annotator)
            if held:
                mine = and_(slot.c.round == round_, slot.c.annotator == annotator, is_leased)
                connection.execute(update(slot).where(mine).values(lease_until=until))
            while fresh and len(held) < count:
                name = _take_next(connection, round_, annotator, held, place, until)
                if name is None:
                    break
                held.append(name)
            _save_cursor(connection, place)
            return [self.read_task(connection, round_, name, annotator, until) for name in held]

    def submit(
        self, round_: str, name: str, annotator: str, answer: Answer, seconds: float, now: datetime, request: Request
    ) -> Entry:
        """Takes an answer; a later one of the same person replaces it. Raises NotFound, FailedPrecondition NOT_CLAIMED."""
        with writing(self._engine) as connection:
            _lock_cursor(connection, round_, annotator)
            found, number, earlier = _begin(connection, round_, name, request)
            if earlier is not None:
                return earlier
            added = _settle_place(connection, round_, name, annotator)
            _no_longer_counts(connection, round_, name, annotator)
            said = rows.prelabel_from(found.prelabel)
            unchanged = None if said is None else same(said.answer, answer)
            values = {"answer": to_json(answer), "seconds": seconds, "unchanged": unchanged, "counts": True}
            made = _append(connection, round_, name, number, rounds.ANSWER, annotator, now, **values)
            _count(connection, found, found.done + added)
            return made

    def skip(self, round_: str, name: str, annotator: str, reason: str, now: datetime, request: Request) -> Entry:
        """Leaves a task to others. Raises NotFound, FailedPrecondition NOT_CLAIMED."""
        with writing(self._engine) as connection:
            _lock_cursor(connection, round_, annotator)
            found, number, earlier = _begin(connection, round_, name, request)
            if earlier is not None:
                return earlier
            if not _move(connection, round_, name, annotator, LEASED, SKIPPED):
                raise _not_claimed(name, annotator, "skipped")
            _refill(connection, found)
            connection.execute(update(task).where(_is(task, round_, name)).values(skips=found.skips + 1))
            return _append(connection, round_, name, number, rounds.SKIP, annotator, now, reason=reason)

    def release(self, round_: str, name: str, annotator: str) -> None:
        """Gives a task back. Nothing happens to one that is not held. Raises NotFound."""
        with writing(self._engine) as connection:
            _lock_cursor(connection, round_, annotator)
            found = _lock_task(connection, round_, name)
            if _move(connection, round_, name, annotator, LEASED, RELEASED):
                _refill(connection, found)

    def withdraw(self, round_: str, name: str, annotator: str, lease_s: float, now: datetime, request: Request) -> Entry:
        """Takes an answer back; the task is held again. Raises NotFound, FailedPrecondition NOT_ANSWERED, TASK_REVIEWED."""
        with writing(self._engine) as connection:
            _lock_cursor(connection, round_, annotator)
            found, number, earlier = _begin(connection, round_, name, request)
            if earlier is not None:
                return earlier
            if found.state in rounds.REVIEWED:
                message = f"{name} has been reviewed; a reviewer must reject the answer first"
                raise FailedPrecondition("TASK_REVIEWED", message, task=name, state=found.state)
            until = now + timedelta(seconds=lease_s)
            if not _move(connection, round_, name, annotator, DONE, LEASED, lease_until=until):
                message = f"{annotator} has no answer to {name} that could be taken back"
                raise FailedPrecondition("NOT_ANSWERED", message, task=name, annotator=annotator)
            _no_longer_counts(connection, round_, name, annotator)
            _count(connection, found, found.done - 1)
            return _append(connection, round_, name, number, rounds.WITHDRAWAL, annotator, now)

    # Reviewers

    def review(self, round_: str, name: str, review: Review, now: datetime, request: Request) -> Task:
        """Writes a review down and does what follows from it. Raises NotFound, FailedPrecondition NOTHING_TO_REVIEW."""
        with writing(self._engine) as connection:
            found, number, earlier = _begin(connection, round_, name, request)
            if earlier is None:
                if review.verdict == rounds.REJECT:
                    _reject(connection, found, review)
                else:
                    _decide(connection, found, review, now)
                said = {"answer": to_json(review.answer) if review.answer is not None else None, "verdict": review.verdict}
                _append(connection, round_, name, number, rounds.REVIEW, review.reviewer, now, reason=review.reason, **said)
            return self.read_task(connection, round_, name)

    def put_pre_labels(self, round_: str, pre_labels: Sequence[tuple[str, PreLabel]]) -> int:
        """Gives tasks what a model says; how many of them there were and were not reviewed."""
        count = 0
        with writing(self._engine) as connection:
            for name, each in pre_labels:
                is_open = task.c.state.not_in(rounds.REVIEWED)
                values = {"prelabel": rows.prelabel_document(each)}
                count += connection.execute(update(task).where(_is(task, round_, name), is_open).values(**values)).rowcount
        return count

    def import_answers(self, round_: str, answers: Iterable[tuple[str, str, Answer, float]], now: datetime) -> int:
        """Takes answers (task, person, answer, seconds) that people gave elsewhere, without a lease; how many.

        An answer that is there already, from the same person, is not taken twice.
        """
        count = 0
        with writing(self._engine) as connection:
            for name, annotator, answer, seconds in answers:
                count += self._import_one(connection, round_, name, annotator, answer, seconds, now)
        return count

    def _import_one(
        self, connection: Connection, round_: str, name: str, annotator: str, answer: Answer, seconds: float, now: datetime
    ) -> int:
        _lock_cursor(connection, round_, annotator)
        found = _lock_task(connection, round_, name)
        known = rows.counting_answer(connection, round_, name, annotator)
        if known is not None and same(known, answer):
            return 0
        added = _settle_place(connection, round_, name, annotator, claimed=False)
        _no_longer_counts(connection, round_, name, annotator)
        number = _next_number(connection, round_, name)
        values = {"answer": to_json(answer), "seconds": seconds, "unchanged": None, "counts": True}
        _append(connection, round_, name, number, rounds.ANSWER, annotator, now, **values)
        _count(connection, found, found.done + added)
        return 1

    def _return_expired(self, round_: str, now: datetime) -> None:
        """Places whose lease has ended come back, each as a new one."""
        late = and_(slot.c.round == round_, is_leased, slot.c.lease_until < now)
        with reading(self._engine) as connection:
            if connection.execute(select(slot.c.position).where(late).limit(1)).first() is None:
                return
        with writing(self._engine) as connection:
            statement = select(slot).where(late).order_by(slot.c.lease_until).limit(_EXPIRED_AT_ONCE)
            for found in connection.execute(statement.with_for_update(skip_locked=True)).all():
                at = and_(slot.c.round == round_, slot.c.lane == found.lane, slot.c.position == found.position)
                connection.execute(update(slot).where(at).values(state=EXPIRED))
                _refill(connection, connection.execute(select(task).where(_is(task, round_, found.task))).one())


@dataclass
class _Cursor:
    round: str
    annotator: str
    at: dict[int, int]
    saved: dict[int, int]


def _insert(connection: Connection, round_: str, block: Sequence[NewTask], first: int, position: int) -> int:
    """Writes tasks and their places; the position after them in the lane of fresh ones."""
    tasks, places = [], []
    for number, each in enumerate(block, first):
        state = {"state": rounds.TASK_OPEN, "wanted": each.wanted, "done": 0, "skips": 0, "prelabel": None, "review": None}
        tasks.append({"round": round_, "task": each.task, "position": number, "example": rounds.example_document(each), **state})
        for _ in range(each.wanted):
            at = {"round": round_, "lane": FRESH, "position": position}
            places.append({**at, "task": each.task, "state": IS_OPEN, "annotator": "", "lease_until": None})
            position += 1
    connection.execute(insert(task), tasks)
    connection.execute(insert(slot), places)
    return position


def _is(table: Any, round_: str, name: str) -> Any:
    return and_(table.c.round == round_, table.c.task == name)


def _lock_cursor(connection: Connection, round_: str, annotator: str) -> _Cursor:
    insert_if_absent(connection, cursor, round=round_, annotator=annotator, returned=-1, fresh=-1)
    mine = and_(cursor.c.round == round_, cursor.c.annotator == annotator)
    found = connection.execute(select(cursor).where(mine).with_for_update()).one()
    at = {RETURNED: int(found.returned), FRESH: int(found.fresh)}
    return _Cursor(round_, annotator, dict(at), at)


def _save_cursor(connection: Connection, place: _Cursor) -> None:
    if place.at != place.saved:
        mine = and_(cursor.c.round == place.round, cursor.c.annotator == place.annotator)
        connection.execute(update(cursor).where(mine).values(returned=place.at[RETURNED], fresh=place.at[FRESH]))


def _held(connection: Connection, round_: str, annotator: str) -> list[str]:
    mine = and_(slot.c.round == round_, slot.c.annotator == annotator, is_leased)
    return list(connection.scalars(select(slot.c.task).where(mine).order_by(slot.c.lane, slot.c.position)))


def _take_next(
    connection: Connection, round_: str, annotator: str, held: Sequence[str], place: _Cursor, until: datetime
) -> str | None:
    for lane in (RETURNED, FRESH):
        at, follows = place.at[lane], True
        while True:
            is_open = and_(slot.c.round == round_, slot.c.state == IS_OPEN, slot.c.lane == lane, slot.c.position > at)
            statement = select(slot.c.position, slot.c.task).where(is_open).order_by(slot.c.position).limit(_LOOK_AT)
            candidates = connection.execute(statement).all()
            if not candidates:
                break
            mine = _taken_by(connection, round_, annotator, [each.task for each in candidates])
            fitting = [each for each in candidates if each.task not in mine]
            # What others look at may become free again, and what this person holds may be given back: the cursor stops before
            # the first that this person could have, now or then.
            first = next((each.position for each in candidates if each.task not in mine or each.task in held), None)
            if follows:
                place.at[lane] = candidates[-1].position if first is None else first - 1
                follows = first is None
            if not fitting:
                at = candidates[-1].position
                continue
            at = fitting[0].position - 1
            taken = _lease(connection, round_, lane, annotator, fitting, until)
            if taken is not None:
                return taken
    return None


def _taken_by(connection: Connection, round_: str, annotator: str, names: Sequence[str]) -> set[str]:
    statement = select(slot.c.task).where(
        slot.c.round == round_, slot.c.task.in_(set(names)), slot.c.annotator == annotator, slot.c.state.in_(TAKEN)
    )
    return set(connection.scalars(statement))


def _lease(connection: Connection, round_: str, lane: int, annotator: str, fitting: Sequence[Any], until: datetime) -> str | None:
    """The first of the places that nobody else is taking at this moment; None: somebody took all of them."""
    free = and_(slot.c.round == round_, slot.c.lane == lane, slot.c.state == IS_OPEN)
    positions = [each.position for each in fitting]
    statement = select(slot.c.position).where(free, slot.c.position.in_(positions)).order_by(slot.c.position).limit(1)
    chosen = connection.scalar(statement.with_for_update(skip_locked=True))
    for position in [positions[0]] if chosen is None else [chosen]:
        values = {"state": LEASED, "annotator": annotator, "lease_until": until}
        if connection.execute(update(slot).where(free, slot.c.position == position).values(**values)).rowcount:
            return next(str(each.task) for each in fitting if each.position == position)
    return None


def _begin(connection: Connection, round_: str, name: str, request: Request) -> tuple[Row[Any], int, Entry | None]:
    """The task, locked; the number of the next entry; and the entry that the same request made before."""
    found = _lock_task(connection, round_, name)
    number = _next_number(connection, round_, name)
    made = claim_request(connection, request.id, request.method, request.fingerprint, f"{round_}/{name}/{number}")
    if made is None:
        return found, number, None
    return found, number, rows.read_entry(connection, *made.split("/"))


def _lock_task(connection: Connection, round_: str, name: str) -> Row[Any]:
    found = connection.execute(select(task).where(_is(task, round_, name)).with_for_update()).one_or_none()
    if found is None:
        raise NotFound("ANNOTATION_TASK_NOT_FOUND", f"the round has no task {name}", task=name)
    return found


def _next_number(connection: Connection, round_: str, name: str) -> int:
    return int(connection.scalar(select(func.max(entry.c.number)).where(_is(entry, round_, name))) or 0) + 1


def _append(
    connection: Connection, round_: str, name: str, number: int, kind: str, annotator: str, now: datetime, **values: Any
) -> Entry:
    row = {"answer": None, "seconds": 0.0, "reason": "", "verdict": "", "unchanged": None, "counts": False, **values}
    known = {"round": round_, "task": name, "number": number, "kind": kind, "annotator": annotator, "time": now}
    connection.execute(insert(entry).values(**known, **row))
    return rows.entry_from({**known, **row})


def _move(connection: Connection, round_: str, name: str, annotator: str, before: str, after: str, **values: Any) -> bool:
    """Whether a person's place of a task was in a state; it is in another now."""
    mine = and_(_is(slot, round_, name), slot.c.annotator == annotator, slot.c.state == before)
    return bool(connection.execute(update(slot).where(mine).values(state=after, **values)).rowcount)


def _settle_place(connection: Connection, round_: str, name: str, annotator: str, *, claimed: bool = True) -> int:
    """Makes the person's place of a task done; how many answers that adds (0: it was). Raises FailedPrecondition NOT_CLAIMED.

    A lease that ended first costs nobody their work: where the place has a successor that nobody took, that one goes instead.
    """
    if _move(connection, round_, name, annotator, LEASED, DONE):
        return 1
    mine = and_(_is(slot, round_, name), slot.c.annotator == annotator)
    if connection.scalar(select(slot.c.position).where(mine, slot.c.state == DONE).limit(1)) is not None:
        return 0
    once = (EXPIRED, SKIPPED, RELEASED, REJECTED) if not claimed else (EXPIRED,)
    former = connection.execute(select(slot).where(mine, slot.c.state.in_(once)).limit(1)).first()
    if former is None and claimed:
        raise _not_claimed(name, annotator, "answered")
    free = select(slot).where(_is(slot, round_, name), slot.c.state == IS_OPEN).limit(1).with_for_update()
    successor = connection.execute(free).first()
    if successor is not None:
        at = and_(slot.c.round == round_, slot.c.lane == successor.lane, slot.c.position == successor.position)
        connection.execute(update(slot).where(at).values(state=DONE, annotator=annotator))
    elif former is not None:
        at = and_(slot.c.round == round_, slot.c.lane == former.lane, slot.c.position == former.position)
        connection.execute(update(slot).where(at).values(state=DONE))
    else:
        _add_places(connection, round_, name, 1, state=DONE, annotator=annotator)
    return 1


def _no_longer_counts(connection: Connection, round_: str, name: str, annotator: str) -> None:
    mine = and_(_is(entry, round_, name), entry.c.annotator == annotator, entry.c.counts.is_(True))
    connection.execute(update(entry).where(mine).values(counts=False))


def _count(connection: Connection, found: Row[Any], done: int) -> None:
    """Notes how many answers a task has, and what that makes of it."""
    state = found.state if found.state in rounds.REVIEWED else rounds.state_after(done, found.wanted)
    connection.execute(update(task).where(_is(task, found.round, found.task)).values(done=done, state=state))


def _refill(connection: Connection, found: Row[Any]) -> None:
    """As many places as answers are wanted, again; none for a task that was reviewed."""
    if found.state in rounds.REVIEWED:
        return
    live = connection.scalar(select(func.count()).where(_is(slot, found.round, found.task), slot.c.state.in_(LIVE))) or 0
    _add_places(connection, found.round, found.task, found.wanted - int(live))


def _add_places(connection: Connection, round_: str, name: str, count: int, *, state: str = IS_OPEN, annotator: str = "") -> None:
    if count <= 0:
        return
    mine = queue.c.round == round_
    position = connection.scalar(select(queue.c.returned).where(mine).with_for_update())
    if position is None:
        raise NotFound("ANNOTATION_ROUND_NOT_FOUND", "the round has been deleted")
    for step in range(count):
        at = {"round": round_, "lane": RETURNED, "position": int(position) + step}
        connection.execute(insert(slot).values(**at, task=name, state=state, annotator=annotator, lease_until=None))
    connection.execute(update(queue).where(mine).values(returned=int(position) + count))


def _decide(connection: Connection, found: Row[Any], review: Review, now: datetime) -> None:
    """Nobody is asked any more."""
    state = rounds.ACCEPTED if review.verdict == rounds.ACCEPT else rounds.CORRECTED
    said = rows.review_document(review, now)
    connection.execute(update(task).where(_is(task, found.round, found.task)).values(state=state, review=said))
    still_open = and_(_is(slot, found.round, found.task), slot.c.state == IS_OPEN)
    connection.execute(update(slot).where(still_open).values(state=WITHDRAWN))


def _reject(connection: Connection, found: Row[Any], review: Review) -> None:
    """The task is given out again, also to who was rejected."""
    about = [entry.c.annotator == review.annotator] if review.annotator else []
    counting = and_(_is(entry, found.round, found.task), entry.c.counts.is_(True), *about)
    people = list(connection.scalars(select(entry.c.annotator).where(counting)))
    if not people:
        whose = f" of {review.annotator}" if review.annotator else ""
        message = f"{found.task} has no answer{whose} that could be rejected"
        raise FailedPrecondition("NOTHING_TO_REVIEW", message, task=found.task)
    connection.execute(update(entry).where(counting).values(counts=False))
    for person in people:
        _move(connection, found.round, found.task, person, DONE, REJECTED)
    done = found.done - len(people)
    values = {"done": done, "state": rounds.state_after(done, found.wanted), "review": None}
    connection.execute(update(task).where(_is(task, found.round, found.task)).values(**values))
    _refill(connection, _lock_task(connection, found.round, found.task))


def _not_claimed(name: str, annotator: str, what: str) -> FailedPrecondition:
    message = f"{name} is not held by {annotator}, so it cannot be {what}; ask for tasks (ClaimAnnotationTasks) first"
    return FailedPrecondition("NOT_CLAIMED", message, task=name, annotator=annotator)
