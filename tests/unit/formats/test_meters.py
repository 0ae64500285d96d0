"""A meter's reading from four points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.formats.meters import meter_points, scale_share, value_of
from tests.support.meters import meters


def test_drawn_meters_read_as_they_were_drawn() -> None:
    made = meters(20, seed=3)
    assert scale_share([each.points for each in made]) == pytest.approx([each.share for each in made], abs=1e-9)


@given(
    begin=st.floats(0, 360),
    sweep=st.floats(20, 340),
    share=st.floats(0, 1),
    turned=st.floats(0, 360),
    size=st.floats(0.01, 1000),
)
def test_a_turned_moved_or_larger_meter_reads_the_same(
    begin: float, sweep: float, share: float, turned: float, size: float
) -> None:
    angles = [math.radians(begin + turned + part) for part in (sweep * share, 0, sweep)]
    points = [[5, 7], *([5 + size * math.cos(each), 7 + size * math.sin(each)] for each in angles)]
    assert float(scale_share(points)) == pytest.approx(share, abs=1e-5) or share in (0.0, 1.0)


def test_a_tip_in_the_gap_counts_as_the_nearer_end() -> None:
    begin, end = [-1.0, 1.0], [1.0, 1.0]  # down left, down right: 270 degrees clockwise over the top
    before, after = [-0.3, 1.0], [0.3, 1.0]
    found = scale_share([[[0, 0], tip, begin, end] for tip in ([0, -1], before, after, [1, 0])])
    assert found == pytest.approx([0.5, 0.0, 1.0, 225 / 270])


def test_points_that_are_one_say_nothing() -> None:
    same = [1.0, 1.0]
    assert np.isnan(scale_share([[0, 0], [0, -1], same, same]))
    assert np.isnan(scale_share([[0, 0], [0, 0], [-1, 1], [1, 1]]))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("centre", "tip", "begin", "end"), (0, 1, 2, 3)),
        (("Scale End", "pivot", "scale-begin", "Needle"), (1, 3, 2, 0)),
        (("nose", "left_eye"), None),
        (("centre", "tip", "begin"), None),
    ],
)
def test_the_four_points_are_known_by_their_names(names: tuple[str, ...], found: object) -> None:
    assert meter_points(names) == found


def test_a_share_becomes_a_value() -> None:
    assert value_of(0.25, -1.0, 3.0) == 0.0
