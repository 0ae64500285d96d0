"""When a version that crashed comes back, and when it counts as unhealthy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.domain.backoff import LONGEST_S, MOST_CRASHES, QUIET_S, WINDOW_S, CrashRecord


def test_longer_each_time() -> None:
    record = CrashRecord()
    assert [record.crashed(float(time)) for time in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_old_crashes_are_forgiven() -> None:
    record = CrashRecord()
    record.crashed(0.0)
    assert record.crashed(WINDOW_S + 1) == 1


def test_unhealthy_after_three_until_it_is_quiet() -> None:
    record = CrashRecord()
    for time in (0.0, 100.0):
        record.crashed(time)
        assert not record.is_unhealthy(time)
    record.crashed(200.0)
    assert record.is_unhealthy(200.0)
    assert record.is_unhealthy(200.0 + QUIET_S - 1)
    assert not record.is_unhealthy(200.0 + QUIET_S)
    record.crashed(300.0)
    assert record.is_unhealthy(300.0), "one more within the window is enough then"


@given(st.lists(st.floats(0, 5000), max_size=30).map(sorted))
def test_bounds(times: list[float]) -> None:
    record = CrashRecord()
    for place, time in enumerate(times):
        assert 1 <= record.crashed(time) <= LONGEST_S
        recent = sum(time - other < WINDOW_S for other in times[: place + 1])
        assert record.recent(time) == recent
        assert record.is_unhealthy(time) == (recent >= MOST_CRASHES)
