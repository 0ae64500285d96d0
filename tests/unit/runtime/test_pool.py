"""The pool: never the same thing in two hands, never more than the limit, and a failure to make one costs no place."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelyard.runtime.pool import Pool


class Made:
    """Counts what it makes; fails when told to."""

    def __init__(self) -> None:
        self.count, self.fails = 0, False
        self._lock = threading.Lock()

    def __call__(self) -> list[int]:
        if self.fails:
            raise MemoryError("no more")
        with self._lock:
            self.count += 1
            return [self.count]


@pytest.mark.parametrize("limit", [1, 3])
def test_one_pair_of_hands_and_no_more_than_the_limit(limit: int) -> None:
    made, in_hands = Made(), set[int]()
    pool = Pool(made, limit)

    def use(_: int) -> None:
        with pool.taken() as item:
            assert item[0] not in in_hands
            in_hands.add(item[0])
            time.sleep(0.001)
            in_hands.remove(item[0])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(200)))
    assert made.count <= limit


def test_others_are_made_only_when_needed() -> None:
    made = Made()
    pool = Pool(made, 3)
    for _ in range(5):
        with pool.taken():
            pass
    assert made.count == 1
    with pool.taken(), pool.taken():
        assert made.count == 2


def test_what_could_not_be_made_costs_no_place() -> None:
    made = Made()
    pool = Pool(made, 2)
    with pool.taken():
        made.fails = True
        with pytest.raises(MemoryError), pool.taken():
            pass
        made.fails = False
        with pool.taken() as second:
            assert second == [2]


def test_an_error_while_it_is_used_gives_it_back() -> None:
    pool = Pool(Made(), 1)
    with pytest.raises(ValueError, match="mine"), pool.taken():
        raise ValueError("mine")
    with pool.taken() as item:
        assert item == [1]
