"""Key points as people are told them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from modelyard.cli.pointed_answers import Scale, draw_points, is_pointed, points, points_line, reading, scale_from
from modelyard.client import InvalidArgument
from modelyard.client.tensors import Prediction

NAMES = ["centre", "tip", "begin", "end"]
HALF = [0.5, 0.5, 0.9, 0.5, 0.1, 0.8, 0.25, 1.0, 0.9, 0.75, 1.0, 0.9]
"""Of a picture twice as wide as high: the pointer straight up, the scale from down left to down right."""


def prediction() -> Prediction:
    values = HALF * 2
    return Prediction("meter", "V001", {"keypoints": values}, {"keypoints": (2, 4, 3)}, None)  # type: ignore[arg-type]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (200, 100), "white").save(path)
    return path


def test_a_meter_is_read_in_pixels_and_told_in_its_unit(photo: Path) -> None:
    answer = prediction()
    assert is_pointed(answer)
    found = points(answer, 1, NAMES, photo)
    assert found[1] == {"name": "tip", "x": 0.5, "y": 0.1, "score": 0.8, "pixels": [100.0, 10.0]}
    assert reading(found) == pytest.approx(0.5)
    told = points_line("photo.png", {"points": found, "share": 0.5, "reading": Scale(0, 1.6, "bar").text(0.5)})
    assert told.startswith("photo.png: reads 0.8 bar (0.500 of its scale); centre (100, 50), tip (100, 10)")
    assert points_line("p", {"points": found}).startswith("p: centre (100, 50)")


def test_nothing_is_read_of_what_is_no_meter_or_cannot_be_opened(photo: Path, tmp_path: Path) -> None:
    assert reading(points(prediction(), 0, ["a", "b", "c", "d"], photo)) is None
    away = points(prediction(), 0, NAMES, tmp_path / "gone.png")
    assert "pixels" not in away[0]
    assert reading(away) is None
    assert "centre (0.500, 0.500)" in points_line("gone.png", {"points": away})


def test_points_are_drawn(photo: Path, tmp_path: Path) -> None:
    drawn = draw_points(photo, points(prediction(), 0, NAMES, photo), tmp_path / "out")
    with Image.open(drawn) as picture:
        assert picture.size == (200, 100)
        assert picture.getpixel((100, 10)) != (255, 255, 255)
        assert picture.getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize(("text", "scale"), [("0:1.6:bar", Scale(0, 1.6, "bar")), ("100:-20", Scale(100, -20))])
def test_a_scale_is_two_values_and_perhaps_a_unit(text: str, scale: Scale) -> None:
    assert scale_from(text) == scale


@pytest.mark.parametrize("text", ["", "1", "a:b", "3:3", "0:nan"])
def test_another_scale_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"0:1\.6:bar"):
        scale_from(text)
