"""Answers that are key points: as objects, as text, drawn into the pictures they are of; and what a meter shows by its points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard.client import Prediction


@dataclass(frozen=True)
class Scale:
    """A meter's scale: the values at its beginning and its end, and their unit."""

    least: float
    most: float
    unit: str = ""

    def text(self, share: float) -> str:
        """ "1.24 bar"."""
        value = self.least + share * (self.most - self.least)
        return f"{value:.4g}{' ' if self.unit else ''}{self.unit}"


def scale_from(text: str) -> Scale:
    """ "0:1.6" or "0:1.6:bar". Raises InvalidArgument."""
    from modelyard.cli.asking import wrong

    parts = text.split(":", 2)
    try:
        least, most = float(parts[0]), float(parts[1])
    except (ValueError, IndexError):
        least = most = math.nan
    if not (math.isfinite(least) and math.isfinite(most)) or least == most:
        raise wrong("scale", text, f"scale is {text!r}; give the values at its ends, and their unit: 0:1.6:bar")
    return Scale(least, most, parts[2] if len(parts) > 2 else "")


def is_pointed(prediction: Prediction) -> bool:
    """Whether an answer holds key points."""
    return "keypoints" in prediction.outputs


def points(prediction: Prediction, at: int, names: Sequence[str], path: Path | None) -> list[dict[str, Any]]:
    """The points of an example: name, score, x and y as shares of the picture and, where it can be opened here, `pixels`."""
    from modelyard.cli.marked_answers import size_of

    count = prediction.shapes["keypoints"][1]
    values = prediction.outputs["keypoints"][3 * count * at : 3 * count * (at + 1)]
    size = size_of(path)
    found = []
    for place in range(count):
        x, y, score = (float(value) for value in values[3 * place : 3 * place + 3])
        name = names[place] if place < len(names) else f"point {place}"
        one: dict[str, Any] = {"name": name, "x": round(x, 5), "y": round(y, 5), "score": round(score, 4)}
        if size:
            one["pixels"] = [round(x * size[0], 1), round(y * size[1], 1)]
        found.append(one)
    return found


def reading(found: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of its scale that a meter shows (docs/tasks/keypoints.md), by its points in pixels; None where they are no
    meter's or the picture could not be opened here."""
    from modelyard.formats.meters import meter_points, scale_share

    places = meter_points([one["name"] for one in found])
    if places is None or not all("pixels" in found[place] for place in places):
        return None
    share = float(scale_share([found[place]["pixels"] for place in places]))
    return None if math.isnan(share) else round(share, 4)


def points_line(given: str, answer: Mapping[str, Any]) -> str:
    """ "a.jpg: reads 1.24 bar (0.775 of its scale); centre (30, 41), tip (...)"."""
    named = ", ".join(f"{one['name']} {_place_text(one)}" for one in answer["points"])
    share = answer.get("share")
    if share is None:
        return f"{given}: {named}"
    shown = f"{answer['reading']} ({share:.3f} of its scale)" if "reading" in answer else f"{share:.3f} of its scale"
    return f"{given}: reads {shown}; {named}"


def draw_points(path: Path, found: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Writes the picture with its points and their names into the folder."""
    from PIL import ImageDraw

    from modelyard.cli.marked_answers import colour_of, opened, written

    picture = opened(path)
    drawing = ImageDraw.Draw(picture)
    size = max(2, round(min(picture.size) / 80))
    for place, one in enumerate(found):
        x, y = one["x"] * picture.width, one["y"] * picture.height
        drawing.ellipse((x - size, y - size, x + size, y + size), fill=colour_of(place), outline="black")
        drawing.text((x + size + 1, y - size), str(one["name"]), fill=colour_of(place))
    return written(picture, path, folder)


def _place_text(one: Mapping[str, Any]) -> str:
    x, y = one.get("pixels", (one["x"], one["y"]))
    return f"({x:.0f}, {y:.0f})" if "pixels" in one else f"({x:.3f}, {y:.3f})"
