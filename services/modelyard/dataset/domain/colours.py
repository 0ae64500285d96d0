"""Colours of classes, for what is drawn over pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

_GOLDEN = 0.61803398875
"""Steps of this share of the circle keep hues apart however many follow."""


def class_colours(count: int, palette: Sequence[str] = ()) -> list[str]:
    """A colour "#rrggbb" for each of so many classes: the source's own where it has one for each, else hues that lie apart."""
    if len(palette) >= count:
        return list(palette[:count])
    return [_colour(number) for number in range(count)]


def _colour(number: int) -> str:
    hue = (0.58 + number * _GOLDEN) % 1.0
    light = (0.52, 0.42, 0.62)[number // 8 % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.75))
    return f"#{red:02x}{green:02x}{blue:02x}"
