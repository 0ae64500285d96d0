"""Asking for the next task of a large annotation round: what it costs at the beginning, in the middle and at the end.

    PYTHONPATH=. .venv/bin/python tests/bench/annotation.py [--tasks 100000] [--postgres postgresql+psycopg://...]

A small round beside the large one tells what is the machine's and what is the size's. Prints a line for each measurement: median
and 99th percentile of a claim with its answer, in milliseconds, and the ratio to the small round.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from modelyard.core.database import migrate, open_database, writing
from modelyard.core.requests import Request
from modelyard.dataset.adapters.annotations_sql import SqlAnnotations
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.dataset.domain.rounds import NewTask
from tests.support.postgres import fresh_database, postgres_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = 150


def tasks(count: int) -> list[NewTask]:
    """As rounds make them."""
    return [NewTask(f"e{n:020x}", f"{n:020x}", f"photos/{n}.jpg", "ab" * 32, "", "", n, Facts(640, 480), 2) for n in range(count)]


def work(store: SqlAnnotations, round_: str, who: str, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Seconds of each of `count` claims with an answer."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        held = store.claim(round_, who, 1, 1800.0, NOW, fresh=True)
        if not held:
            break
        store.submit(round_, held[0].task, who, Answer(("cat",)), 1.0, NOW, Request())
        took.append(time.perf_counter() - start)
    return np.asarray(took)


def pass_over(engine: Engine, round_: str, share: float) -> None:
    """Marks a share of the places done by two people, as if they had answered them: the middle of a round in a moment."""
    with writing(engine) as connection:
        edge = connection.scalar(text("SELECT max(position) FROM annotation_slot WHERE round = :r AND lane = 1"), {"r": round_})
        values = {"r": round_, "edge": int((edge or 0) * share)}
        for person, odd in (("user:a", 0), ("user:b", 1)):
            statement = (
                "UPDATE annotation_slot SET state = 'done', annotator = :who "
                "WHERE round = :r AND lane = 1 AND position < :edge AND position % 2 = :odd AND state = 'open'"
            )
            connection.execute(text(statement), {**values, "who": person, "odd": odd})


def measure(engine: Engine, count: int) -> None:
    """Prints the lines of one database."""
    migrate(engine)
    store = SqlAnnotations(engine)
    start = time.perf_counter()
    store.add_round("large", tasks(count))
    made = time.perf_counter() - start
    store.add_round("small", tasks(2 * CALLS))
    small = work(store, "small", "user:a", CALLS)
    print(f"{engine.dialect.name}: a round of {count} tasks with two answers each was made in {made:.1f} s")
    print(f"  small round of {2 * CALLS}: {1e3 * np.median(small):.2f} ms, 99th {1e3 * np.quantile(small, 0.99):.2f} ms")
    places = (("beginning", 0.0), ("middle", 0.5), ("end", 0.99))
    for name, share in places:
        pass_over(engine, "large", share)
        for who in ("user:a", "user:new"):
            store.claim("large", who, 1, 1800.0, NOW, fresh=True)  # a person's first look walks over what they have done
            took = work(store, "large", who, CALLS)
            ratio = np.median(took) / np.median(small)
            print(
                f"  {name}, {who}: {1e3 * np.median(took):.2f} ms, 99th {1e3 * np.quantile(took, 0.99):.2f} ms; "
                f"{ratio:.2f} times the small round"
            )
    start = time.perf_counter()
    store.progress("large")
    print(f"  progress: {1e3 * (time.perf_counter() - start):.0f} ms")


def main() -> None:
    """Both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--postgres", default="", help="a database to use; else one is started")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(open_database(f"sqlite:///{Path(folder, 'bench.db')}"), asked.tasks)
    if asked.postgres:
        measure(open_database(asked.postgres), asked.tasks)
        return
    with postgres_server() as server, fresh_database(server) as url:
        engine = open_database(url)
        measure(engine, asked.tasks)
        engine.dispose()


if __name__ == "__main__":
    main()
