"""The queue of a version: whatever comes in whatever order, nobody is lost, mixed up or begun too late."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import DeadlineExceeded, ResourceExhausted
from modelyard.serving.domain.batching import BatchLimits, BatchQueue, CallTimes, Waiting

LIMITS = BatchLimits(rows=8, size=100, requests=1000)


def waiting(item: int, rows: int = 1, *, kind: str = "a", size: int = 1, deadline: float | None = None) -> Waiting[int]:
    return Waiting(item, rows, size, kind, deadline, 0.0)


def never(request: Waiting[int], error: DeadlineExceeded) -> None:
    raise AssertionError(f"{request} was dropped: {error}")


requests = st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ab"), st.integers(1, 60), st.booleans()), max_size=40)


@given(requests)
def test_everybody_is_in_one_batch_in_the_order_they_came(asked: list[tuple[int, str, int, bool]]) -> None:
    queue: BatchQueue[int] = BatchQueue(LIMITS)
    all_ = [waiting(item, rows, kind=kind, size=size) for item, (rows, kind, size, _) in enumerate(asked)]
    for request in all_:
        queue.offer(request, 0.0, 0.0)
    gone = {request.item for request, (*_, leaves) in zip(all_, asked, strict=True) if leaves and queue.take_back(request)}
    batches = []
    while len(queue):
        batches.append(queue.take(1.0, never))
    assert [request.item for batch in batches for request in batch] == [each for each in range(len(all_)) if each not in gone]
    for batch in batches:
        assert len({request.kind for request in batch}) == 1
        if len(batch) > 1:
            assert sum(request.rows for request in batch) <= LIMITS.rows
            assert sum(request.size for request in batch) <= LIMITS.size
    assert queue.rows == 0


@given(requests)
def test_a_batch_is_as_large_as_it_may_be(asked: list[tuple[int, str, int, bool]]) -> None:
    """The first request of the next batch would not have fitted into the one before."""
    queue: BatchQueue[int] = BatchQueue(LIMITS)
    for item, (rows, kind, size, _) in enumerate(asked):
        queue.offer(waiting(item, rows, kind=kind, size=size), 0.0, 0.0)
    batches = []
    while len(queue):
        batches.append(queue.take(1.0, never))
    for batch, after in itertools.pairwise(batches):
        first = after[0]
        rows, size = sum(each.rows for each in batch) + first.rows, sum(each.size for each in batch) + first.size
        assert first.kind != batch[0].kind or rows > LIMITS.rows or size > LIMITS.size


@given(st.integers(1, 20), st.integers(1, 4))
def test_what_waits_is_shared_out_among_the_calls_that_can_begin(count: int, calls: int) -> None:
    queue: BatchQueue[int] = BatchQueue(BatchLimits(100, 1000, 100))
    for item in range(count):
        queue.offer(waiting(item), 0.0, 0.0)
    taken = [len(queue.take(0.0, never, calls - begun)) for begun in range(calls)]
    assert sum(taken) == count, "all begin"
    assert max(taken) - min(taken) <= 1


@given(st.lists(st.integers(1, 3), min_size=2, max_size=8))
def test_what_is_put_back_is_asked_again_alone_and_first(sizes: list[int]) -> None:
    queue: BatchQueue[int] = BatchQueue(BatchLimits(100, 1000, 100))
    for item, rows in enumerate(sizes):
        queue.offer(waiting(item, rows), 0.0, 0.0)
    batch = queue.take(0.0, never)
    queue.offer(waiting(99), 0.0, 0.0)
    queue.put_back(batch)
    assert queue.rows == sum(sizes) + 1
    assert [[request.item for request in queue.take(0.0, never)] for _ in range(len(sizes) + 1)] == [
        *([item] for item in range(len(sizes))),
        [99],
    ]


def test_a_full_queue_says_when_to_come_again() -> None:
    queue: BatchQueue[int] = BatchQueue(BatchLimits(8, 100, 2))
    queue.times.add(1, 0.2, 0.0)
    for item in range(2):
        queue.offer(waiting(item), 0.5, 0.0)
    with pytest.raises(ResourceExhausted) as full:
        queue.offer(waiting(2), 0.5, 0.0)
    assert full.value.reason == "QUEUE_FULL"
    assert full.value.retry_after_s == pytest.approx(0.9, abs=0.3)


def test_without_a_queue_one_at_a_time_is_taken() -> None:
    queue: BatchQueue[int] = BatchQueue(BatchLimits(8, 100, 0))
    queue.offer(waiting(0), 0.0, 0.0)
    with pytest.raises(ResourceExhausted):
        queue.offer(waiting(1), 0.0, 0.0)


def test_a_deadline_that_cannot_be_met_is_refused() -> None:
    queue: BatchQueue[int] = BatchQueue(LIMITS)
    queue.times.add(1, 0.1, 10.0)
    queue.offer(waiting(0, deadline=10.15), 0.0, 10.0)
    with pytest.raises(DeadlineExceeded) as near:
        queue.offer(waiting(1, deadline=10.15), 0.08, 10.0)
    assert near.value.reason == "DEADLINE_TOO_NEAR"
    assert near.value.retry_after_s == pytest.approx(0.18)
    with pytest.raises(DeadlineExceeded) as past:
        queue.offer(waiting(2, deadline=9.0), 0.0, 10.0)
    assert past.value.reason == "DEADLINE_EXCEEDED"


def test_what_has_become_too_late_is_dropped_before_it_is_computed() -> None:
    queue: BatchQueue[int] = BatchQueue(LIMITS)
    queue.offer(waiting(0, deadline=5.0), 0.0, 0.0)
    queue.offer(waiting(1, deadline=50.0), 0.0, 0.0)
    queue.offer(waiting(2, deadline=4.0), 0.0, 0.0)
    late = []
    assert [each.item for each in queue.take(6.0, lambda request, error: late.append((request.item, error.reason)))] == [1]
    assert late == [(0, "DEADLINE_TOO_NEAR"), (2, "DEADLINE_TOO_NEAR")]


def test_an_old_estimate_refuses_nobody_for_ever() -> None:
    """One slow call (the machine was busy) must not shut out all callers with deadlines."""
    times = CallTimes(floor_s=0.01)
    times.add(1, 8.0, 0.0)
    assert times.expected(1, 0.5) == 8.0
    assert times.expected(1, 4.0) == pytest.approx(0.5)
    assert times.expected(1, 100.0) == 0.01


@given(st.integers(1, 5000), st.floats(1e-5, 10))
def test_sizes_that_were_never_seen_are_judged_by_their_neighbours(rows: int, seconds: float) -> None:
    times = CallTimes()
    assert times.expected(rows, 0.0) == 0
    times.add(16, seconds, 0.0)
    assert seconds <= times.expected(rows, 0.0) <= seconds * max(1, 2 * rows / 16)


def test_estimates_follow() -> None:
    times = CallTimes()
    for _ in range(40):
        times.add(1, 1.0, 0.0)
    for _ in range(40):
        times.add(1, 0.1, 0.0)
    assert times.expected(1, 0.0) == pytest.approx(0.1, rel=0.01)
