"""Answers that say where things are: boxes and masks as objects, as text, and drawn into the pictures they are of."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL import Image

    from modelyard.client import Prediction

MOST_SHOWN: Final = 8
"""Boxes that a line of text names."""


def finds_boxes(prediction: Prediction) -> bool:
    """Whether an answer holds boxes."""
    return {"boxes", "scores", "labels"} <= prediction.outputs.keys()


def is_mask(prediction: Prediction) -> bool:
    """Whether an answer says of each pixel what it is."""
    return "mask" in prediction.outputs


def objects(prediction: Prediction, at: int, path: Path | None, least: float) -> list[dict[str, Any]]:
    """What was found in an example with a score of `least` or more, the surest first: label, score, box (left, top, right, bottom
    as shares of the picture), and where the picture can be opened here `pixels`, the box in its pixels."""
    most = prediction.shapes["scores"][1]
    boxes, scores, labels = (prediction.outputs[name] for name in ("boxes", "scores", "labels"))
    size = size_of(path)
    found = []
    for place in range(at * most, (at + 1) * most):
        if scores[place] < least or not labels[place]:
            continue
        box = [round(float(value), 5) for value in boxes[4 * place : 4 * place + 4]]
        one: dict[str, Any] = {"label": labels[place], "score": round(float(scores[place]), 5), "box": box}
        if size:
            one["pixels"] = [round(share * side, 1) for share, side in zip(box, (*size, *size), strict=True)]
        found.append(one)
    return found


def shares(prediction: Prediction, at: int, classes: Sequence[str]) -> dict[str, float]:
    """The share of an example's pixels that each class has, the largest first."""
    _, height, width = prediction.shapes["mask"]
    pixels = prediction.outputs["mask"][at * height * width : (at + 1) * height * width]
    counts: dict[int, int] = {}
    for value in pixels:
        counts[value] = counts.get(value, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return {_name(classes, index): round(count / len(pixels), 4) for index, count in ordered}


def objects_line(given: str, found: Sequence[Mapping[str, Any]]) -> str:
    """ "a.jpg: 2 found: cat 0.93 at (12, 30, 80, 99), dog 0.71 at (...)"."""
    named = [f"{one['label']} {one['score']:.2f} at {_box_text(one)}" for one in found[:MOST_SHOWN]]
    more = f", and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return f"{given}: {len(found)} found" + (f": {', '.join(named)}{more}" if found else "")


def shares_line(given: str, found: Mapping[str, float]) -> str:
    """ "a.jpg: Road 41%, Sky 20%"."""
    return f"{given}: {', '.join(f'{name} {100 * share:.0f}%' for name, share in list(found.items())[:MOST_SHOWN])}"


def draw_objects(path: Path, found: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Writes the picture with boxes and labels into the folder."""
    from PIL import ImageDraw

    picture = opened(path)
    drawing = ImageDraw.Draw(picture)
    names = sorted({str(one["label"]) for one in found})
    thick = max(1, round(min(picture.size) / 200))
    for one in reversed(found):
        left, top, right, bottom = (share * side for share, side in zip(one["box"], (*picture.size, *picture.size), strict=True))
        colour = colour_of(names.index(str(one["label"])))
        drawing.rectangle((left, top, max(right, left), max(bottom, top)), outline=colour, width=thick)
        text = f"{one['label']} {one['score']:.2f}"
        drawing.rectangle(drawing.textbbox((left + thick, top + thick), text), fill=colour)
        drawing.text((left + thick, top + thick), text, fill="black")
    return written(picture, path, folder)


def draw_mask(path: Path, prediction: Prediction, at: int, folder: Path) -> Path:
    """Writes the picture with each class in a colour of its own over it into the folder."""
    from PIL import Image

    _, height, width = prediction.shapes["mask"]
    pixels = bytes(prediction.outputs["mask"][at * height * width : (at + 1) * height * width])
    mask = Image.frombytes("P", (width, height), pixels)
    mask.putpalette([channel for index in range(256) for channel in _rgb(index)])
    picture = opened(path)
    coloured = mask.convert("RGB").resize(picture.size, Image.Resampling.NEAREST)
    return written(Image.blend(picture, coloured, 0.5), path, folder)


def check_drawing() -> None:
    """Raises InvalidArgument where pictures cannot be drawn here."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        from modelyard.cli.asking import wrong

        raise wrong("draw", "", "draw needs Pillow, which is not here: pip install pillow") from None


def written(picture: Image.Image, path: Path, folder: Path) -> Path:
    """The file in the folder that the picture was written to, named after the one it is of."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{path.stem}.png"
    picture.save(out)
    return out


def opened(path: Path) -> Image.Image:
    """Upright, as the model sees it."""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def size_of(path: Path | None) -> tuple[int, int] | None:
    """Width and height of a picture as it stands upright; None where it cannot be opened here."""
    try:
        from PIL import Image

        if path is None:
            return None
        with Image.open(path) as picture:
            turned = picture.getexif().get(0x0112, 1) in range(5, 9)
            width, height = picture.size
            return (height, width) if turned else (width, height)
    except (ImportError, OSError):
        return None


def _box_text(one: Mapping[str, Any]) -> str:
    if "pixels" in one:
        return f"({', '.join(f'{value:.0f}' for value in one['pixels'])})"
    return f"({', '.join(f'{value:.3f}' for value in one['box'])})"


def _name(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else f"class {index}"


def _rgb(index: int) -> tuple[int, int, int]:
    """Colours far apart: hues by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.85 if index % 2 == 0 else 0.55, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def colour_of(index: int) -> str:
    """Colours far apart."""
    return "#{:02x}{:02x}{:02x}".format(*_rgb(index))
