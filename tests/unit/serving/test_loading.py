"""Loading gives way to the versions that answer, and leaves nothing behind that would."""

from __future__ import annotations

import os
import threading

import pytest

from modelyard.serving.worker.loading import NICENESS, Loading


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_it_loads_at_a_lower_priority_and_makes_threads_at_the_first_threads() -> None:
    loading, own = Loading(), _niceness()
    inherited: list[int] = []

    def start_a_thread() -> str:
        thread = threading.Thread(target=lambda: inherited.append(_niceness()))
        thread.start()
        thread.join()
        return threading.current_thread().name

    def load() -> tuple[int, str]:
        return _niceness(), loading.make(start_a_thread)

    assert loading.run(load) == (max(own, NICENESS), threading.current_thread().name)
    assert inherited == [own]
    assert _niceness() == own


def test_what_fails_in_either_thread_is_raised() -> None:
    loading = Loading()

    def fail() -> None:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        loading.run(fail)
    with pytest.raises(MemoryError, match="no more"):
        loading.run(lambda: loading.make(fail))
