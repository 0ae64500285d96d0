"""Windows of recordings: every reading is judged once, by readings that were there by then."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.sensors import REFERENCE, SERIES, Watch, usual_watch, watch_of

WINDOWS = st.sampled_from([8, 16, 32, 64])


@st.composite
def watches(draw: st.DrawFn) -> Watch:
    window = draw(WINDOWS)
    return Watch(window, draw(st.sampled_from([0, window, 3 * window])))


@given(watches(), st.integers(0, 900))
def test_every_reading_is_judged_by_the_first_window_that_ends_at_it_or_later(watch: Watch, steps: int) -> None:
    ends = watch.ends(steps)
    scores = watch.by_reading(ends.astype(np.float64), steps)
    assert len(scores) == watch.judged(steps)
    if not len(ends):
        assert steps < watch.window or steps <= watch.reference
        return
    assert ends[-1] == steps
    assert ends[0] >= watch.window
    readings = np.arange(watch.first, steps)
    assert (scores > readings).all()  # a reading's window has it in it, or before it
    assert (
        scores[watch.window if not watch.reference else 0 :] - readings[watch.window if not watch.reference else 0 :]
        <= watch.stride
    ).all()


@given(watches(), st.integers(1, 900))
def test_windows_and_references_hold_the_readings_they_are_of(watch: Watch, steps: int) -> None:
    values = np.arange(steps, dtype=np.float64)[:, None]
    ends = watch.ends(steps)
    inputs = watch.inputs(values, ends)
    assert inputs[SERIES].shape == (len(ends), watch.window, 1)
    assert (inputs[SERIES][:, -1, 0] == ends - 1).all()
    assert (REFERENCE in inputs) == bool(watch.reference)
    if watch.reference:
        first = inputs[REFERENCE][:, 0, 0]
        assert (first == np.maximum(0, ends - 2 * watch.reference)).all()
        assert (inputs[REFERENCE][:, -1, 0] < np.maximum(ends, watch.reference)).all()  # nothing later than the window's end


@pytest.mark.parametrize(
    ("lengths", "referenced", "expected"),
    [
        ([1144] * 5, True, Watch(64, 381)),
        ([1144] * 5, False, Watch(64)),
        ([100_000], True, Watch(64, 512)),
        ([90], True, Watch(8, 30)),
        ([9], True, None),
        ([9], False, Watch(8)),
        ([7], False, None),
        ([], False, None),
    ],
)
def test_the_watch_follows_from_the_lengths(lengths: list[int], referenced: bool, expected: Watch | None) -> None:
    assert usual_watch(np.array(lengths, np.int64), referenced=referenced) == expected


def test_a_model_of_something_else_is_refused() -> None:
    assert watch_of({"series": (-1, 16, 3), "reference": (-1, 40, 3)}) == Watch(16, 40)
    with pytest.raises(InvalidArgument, match="image"):
        watch_of({"image": (-1, 8, 8, 3)})
