"""Reading a pointer meter from four points of it: the pivot, the pointer's tip, and where the scale begins and ends.

The scale runs clockwise from its beginning. With the angle a(p) by which one turns clockwise, as seen in the picture, from the
beginning to a point p around the pivot (0 to 360 degrees):

    share = a(tip) / a(end)        value = least + share * (most - least)

A tip in the gap between end and beginning counts as the nearer of the two, 1 or 0. Points are in pixels, or in any unit that is
the same across and down. Seen from the front the share is exact where the scale is even; a picture from the side, or a scale
whose steps differ, wants a correction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROLES: Final = {
    "centre": ("centre", "center", "pivot", "axis", "hub"),
    "tip": ("tip", "pointer", "needle", "pointer_tip", "needle_tip"),
    "begin": ("begin", "start", "min", "scale_begin", "scale_start", "scale_min", "zero"),
    "end": ("end", "max", "scale_end", "scale_max", "full"),
}
"""The names by which the four points are known; case, spaces and hyphens do not matter."""


def meter_points(names: Sequence[str]) -> tuple[int, int, int, int] | None:
    """Where pivot, tip, beginning and end are among named points; None where they are no meter's."""
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    found = [next((plain.index(name) for name in known if name in plain), -1) for known in ROLES.values()]
    return None if min(found) < 0 else (found[0], found[1], found[2], found[3])


def scale_share(points: Any) -> Floats:
    """The shares of the scale (0 to 1) that meters show, from pivot, tip, beginning and end, x and y each [..., 4, 2]; NaN where
    the four do not say: two that must differ are one."""
    places = np.asarray(points, np.float64)
    centre = places[..., 0, :]
    tip, begin, end = (np.arctan2(*np.moveaxis(places[..., at, :] - centre, -1, 0)[::-1]) for at in (1, 2, 3))
    turned, whole = (np.mod(angle - begin, 2 * np.pi) for angle in (tip, end))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = turned / whole
    in_gap = turned > whole
    nearer = np.where(turned - whole <= 2 * np.pi - turned, 1.0, 0.0)
    known = (whole > 1e-6) & (np.linalg.norm(places[..., 1:, :] - centre[..., None, :], axis=-1) > 1e-9).all(axis=-1)
    return np.asarray(np.where(known, np.where(in_gap, nearer, share), np.nan), np.float64)


def value_of(share: float, least: float, most: float) -> float:
    """The value in the meter's unit where its scale begins with `least` and ends with `most`."""
    return least + share * (most - least)
