"""A preview as one HTML file: nothing in it refers to anything outside it, and it needs no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.recipes.features import FEATURE_FORMS
from modelyard.recipes.policy import ALL_FORMS
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.steps import said, version_of
from modelyard.trainer.domain.recipe_preview import PreviewedRow

Look = Callable[[str, int, int], None]
"""Hears of the progress; may raise what ends it."""

MOST_PICTURE_BYTES: Final = 10 * 1024 * 1024
"""Of all pictures in a page, by the pixels of the largest colour noise."""
LARGEST_SIDE: Final = 256


@dataclass(frozen=True)
class Drawing:
    """An example before and after: fragments of HTML, and what it is called."""

    label: str
    before: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class Previewed:
    """What a preview shows."""

    title: str
    recipe: Recipe
    columns_before: tuple[str, ...] = ()
    columns_after: tuple[str, ...] = ()
    rows: tuple[PreviewedRow, ...] = ()
    learned: tuple[str, ...] = ()
    width: int = 0
    drawings: tuple[Drawing, ...] = field(default=())


def side_for(pictures: int) -> int:
    """The longer side, in pixels, that so many pictures may have in one page."""
    return int(max(32, min(LARGEST_SIDE, (MOST_PICTURE_BYTES / max(1, pictures) / 3) ** 0.5)))


def picture_html(pixels: npt.NDArray[np.uint8], side: int) -> str:
    """uint8 [H, W, C] as an image of at most so many pixels a side."""
    from PIL import Image

    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" width="{image.width}" height="{image.height}" src="data:image/png;base64,{data}">'


def lines_html(values: npt.NDArray[Any], most: int = 4) -> str:
    """A series [steps, channels] as lines, each channel over its own range."""
    wide, high, parts = 240, 96, []
    for channel in range(min(most, values.shape[1])):
        line = values[:, channel].astype(np.float64)
        known = np.isfinite(line)
        if not known.any():
            continue
        low, size = line[known].min(), float(np.ptp(line[known])) or 1.0
        places = np.linspace(0, len(line) - 1, min(len(line), 200)).astype(np.int64)
        points = " ".join(
            f"{wide * at / max(1, len(line) - 1):.1f},{high - 4 - (high - 8) * (line[at] - low) / size:.1f}"
            for at in places
            if known[at]
        )
        parts.append(f'<polyline class="c{channel}" points="{points}"/>')
    return f'<svg width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">{"".join(parts)}</svg>'


def page_html(made: Previewed) -> str:
    """The file's text."""
    recipe = made.recipe
    body = [f"<header><h1>{escape(made.title)}</h1><p>{escape(_about(recipe))}</p></header>"]
    for name, steps, forms in (("Features", recipe.features, FEATURE_FORMS), ("Augmentation", recipe.augmentation, ALL_FORMS)):
        if steps:
            items = "".join(f"<li>{escape(said(step, forms))}</li>" for step in steps)
            body.append(f"<section><h2>{name} <code>{version_of(steps)}</code></h2><ol>{items}</ol></section>")
    if made.drawings:
        body.append(_drawings(made.drawings))
    if made.rows:
        body.append(_table("Before", made.columns_before, [(row.example_id, row.before) for row in made.rows]))
        after = [(row.example_id, [_number(value) for value in row.after]) for row in made.rows]
        more = f" ({made.width} numbers, {len(made.columns_after)} shown)" if made.width > len(made.columns_after) else ""
        body.append(_table(f"After{more}", made.columns_after, after))
    if made.learned:
        items = "".join(f"<li>{escape(each)}</li>" for each in made.learned)
        body.append(f"<section><h2>Learned from the training rows</h2><ul>{items}</ul></section>")
    return _HEAD.format(title=escape(made.title), style=_STYLE) + "\n".join(body) + "\n</main></body></html>\n"


def _about(recipe: Recipe) -> str:
    level = "" if recipe.tabular is not None else f", augmentation {recipe.hyperparameters.augmentation}"
    mixup = f", mixup {recipe.hyperparameters.mixup:g}" if not recipe.tabular and recipe.hyperparameters.mixup else ""
    size = f", {recipe.input.height} x {recipe.input.width} x {recipe.input.channels}" if recipe.input else ""
    return f"{recipe.name} ({recipe.task}){size}{level}{mixup}"


def _drawings(drawings: Sequence[Drawing]) -> str:
    rows = []
    for each in drawings:
        after = "".join(f"<td>{one}</td>" for one in each.after)
        rows.append(f"<tr><th>{escape(each.label)}</th><td>{each.before}</td>{after}</tr>")
    head = "<tr><th></th><th>before</th>" + f'<th colspan="{max(1, len(drawings[0].after))}">after</th></tr>'
    return f'<section><div class="wide"><table>{head}{"".join(rows)}</table></div></section>'


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = [
        f"<tr><th>{escape(example)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for example, cells in rows
    ]
    table = f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
    return f'<section><h2>{escape(title)}</h2><div class="wide">{table}</div></section>'


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6g}"


_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;background:#fff;color:#1d2433}
main{max-width:1400px;margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem}
.wide{overflow-x:auto}table{border-collapse:collapse}
td,th{padding:.3rem .6rem;border-bottom:1px solid #d8dde6;text-align:left;white-space:nowrap;font-variant-numeric:tabular-nums}
img{image-rendering:pixelated;min-width:96px;height:auto;display:block}
polyline{fill:none;stroke:#2457c5;stroke-width:1.5}.c1{stroke:#b3541e}.c2{stroke:#2f7d4f}.c3{stroke:#7b3fa0}
@media(prefers-color-scheme:dark){body{background:#151a23;color:#e7ebf3}td,th{border-color:#343c4b}polyline{stroke:#8fb2ff}}
"""
_HEAD: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><style>{style}</style></head><body><main>\n"
)
