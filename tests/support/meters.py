"""Pictures of pointer meters, drawn with Pillow: dials of several sizes, colours and scales, each with its four key points.

`python -m tests.support.meters FOLDER --count 600` writes them as a COCO data set (what `modelyard auto FOLDER` takes): nothing
that others publish is at hand, and a drawn meter has its true reading to the last digit.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.formats import dataset as formats
from modelyard.formats.annotations import Mark, mark_row
from modelyard.formats.dataset import DatasetDescriptor

POINTS = ("centre", "tip", "begin", "end")
OVER = 3
"""Drawn so many times larger, then shrunk: smooth lines."""


@dataclass(frozen=True)
class Meter:
    """A picture, its points in pixels [4, 2] (POINTS), the dial's box, and the share of the scale that it shows."""

    picture: Image.Image
    points: npt.NDArray[np.float64]
    box: tuple[float, float, float, float]
    share: float


def drawn_meter(random: np.random.Generator, width: int, height: int) -> Meter:
    """A meter somewhere in a picture of that size."""
    side = min(width, height)
    radius = random.uniform(0.28, 0.44) * side
    x = random.uniform(radius + 2, width - radius - 2)
    y = random.uniform(radius + 2, height - radius - 2)
    begin, sweep = math.radians(random.uniform(120, 150)), math.radians(random.uniform(230, 290))
    tilt = math.radians(random.uniform(-15, 15))
    share = float(random.uniform(0, 1))
    angles = begin + tilt, begin + tilt + sweep * share, begin + tilt + sweep
    ground, face, ink, hand = _colours(random)
    picture = Image.new("RGB", (width * OVER, height * OVER), ground)
    drawing = ImageDraw.Draw(picture)

    def circle(size: float, **how: Any) -> None:
        drawing.ellipse([(value) * OVER for value in (x - size, y - size, x + size, y + size)], **how)

    def at(angle: float, size: float) -> tuple[float, float]:
        return x + size * math.cos(angle), y + size * math.sin(angle)

    def line(angle: float, inner: float, outer: float, thick: float, colour: Any) -> None:
        ends = [value * OVER for point in (at(angle, inner), at(angle, outer)) for value in point]
        drawing.line(ends, fill=colour, width=max(1, round(thick * OVER)))

    circle(radius, fill=face, outline=ink, width=max(1, round(0.03 * radius * OVER)))
    ring, steps = 0.82 * radius, int(random.integers(5, 11)) * 2
    for step in range(steps + 1):
        angle = angles[0] + sweep * step / steps
        line(angle, ring if step % 2 else 0.88 * ring, ring * 1.08, 0.02 * radius, ink)
    arc = [(value) * OVER for value in (x - ring, y - ring, x + ring, y + ring)]
    drawing.arc(arc, math.degrees(angles[0]), math.degrees(angles[2]), fill=ink, width=max(1, round(0.015 * radius * OVER)))
    reach = random.uniform(0.6, 0.78) * radius
    line(angles[1], -0.18 * radius, reach, 0.035 * radius, hand)
    circle(0.06 * radius, fill=hand)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if random.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.8)))
    noisy = np.asarray(picture, np.float32) * random.uniform(0.7, 1.1) + random.normal(
        0, random.uniform(1, 8), (height, width, 3)
    )
    places = np.array([(x, y), at(angles[1], reach), at(angles[0], ring), at(angles[2], ring)])
    final = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    return Meter(final, places, (x - radius, y - radius, x + radius, y + radius), share)


def _colours(random: np.random.Generator) -> tuple[tuple[int, int, int], ...]:
    """Ground, face, ink, hand: face and ink far apart."""
    dark = random.random() < 0.25
    face = random.integers(20, 60, 3) if dark else random.integers(190, 250, 3)
    ink = random.integers(190, 250, 3) if dark else random.integers(10, 70, 3)
    hand = np.array((random.integers(150, 230), 30, 30)) if random.random() < 0.4 else ink
    return tuple((int(r), int(g), int(b)) for r, g, b in (random.integers(60, 180, 3), face, ink, hand))


def meters(count: int, *, width: int = 96, height: int = 72, seed: int = 0) -> list[Meter]:
    """So many of them."""
    random = np.random.default_rng(seed)
    return [drawn_meter(random, width, height) for _ in range(count)]


def encoded(picture: Image.Image) -> bytes:
    """As PNG."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def publish_meters(
    store: ArtifactStore, counts: dict[str, int], *, several: bool = False, marked: bool = True, **options: Any
) -> Blob:
    """A dataset version of meters with so many of each usage; the descriptor's blob. several: each marked twice. Every ninth
    meter's tip is not marked, every eleventh picture has no mark."""
    import pyarrow as pa

    made = meters(sum(counts.values()), **options)
    usage = [name for name, count in counts.items() for _ in range(count)]
    files = [encoded(each.picture) for each in made]
    with tempfile.TemporaryDirectory() as folder:
        writer = formats.PackWriter(Path(folder))
        spans = [writer.append(file) for file in files]
        packs = writer.put_all(store)
    sha = [hashlib.sha256(file).hexdigest() for file in files]
    columns: dict[str, Any] = {
        "example_id": [formats.example_id(str(row), sha[row]) for row in range(len(usage))],
        "usage": usage,
        "label": [None] * len(usage),
        "sha256": sha,
        "path": [f"{row}.png" for row in range(len(usage))],
        "width": [each.picture.width for each in made],
        "height": [each.picture.height for each in made],
        "annotation": [""] * len(usage),
        "attributes": [""] * len(usage),
        "marks": [
            [] if row % 11 == 10 or not marked else [mark_row(_mark(each, row), {"meter": 0})] * (2 if several else 1)
            for row, each in enumerate(made)
        ],
    }
    columns |= {name: [getattr(span, name) for span in spans] for name in ("pack", "offset", "length")}
    task = formats.KEYPOINT_DETECTION
    manifest = pa.table(columns, schema=formats.manifest_schema(formats.IMAGE, task))
    with tempfile.TemporaryDirectory() as folder:
        blob = store.put_file(formats.write_parquet(manifest, Path(folder, "manifest.parquet")))
    descriptor = DatasetDescriptor(task, formats.IMAGE, blob, "ab" * 32, classes=("meter",), packs=packs, keypoints=POINTS)
    return store.put_bytes(formats.to_json(descriptor))


def _mark(each: Meter, row: int) -> Mark:
    visible = [2.0, 0.0 if row % 9 == 8 else 2.0, 2.0, 2.0]
    return Mark("meter", each.box, keypoints=tuple(v for p, s in zip(each.points, visible, strict=True) for v in (*p, s)))


def write_coco(folder: Path, count: int, *, width: int = 320, height: int = 240, seed: int = 0) -> None:
    """A COCO data set: meters/*.png and annotations.json, the reading of each as an attribute."""
    (folder / "meters").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for row, each in enumerate(meters(count, width=width, height=height, seed=seed), start=1):
        name = f"meters/{row:05}.png"
        (folder / name).write_bytes(encoded(each.picture))
        images.append({"id": row, "file_name": name, "width": width, "height": height})
        left, top, right, bottom = each.box
        points = [round(float(value), 2) for place in each.points for value in (*place, 2)]
        annotations.append(
            {
                "id": row,
                "image_id": row,
                "category_id": 1,
                "bbox": [left, top, right - left, bottom - top],
                "keypoints": points,
                "num_keypoints": len(POINTS),
                "attributes": {"share": f"{each.share:.4f}"},
            }
        )
    categories = [{"id": 1, "name": "meter", "keypoints": list(POINTS), "skeleton": [[1, 2]]}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_coco(given.folder, given.count, seed=given.seed)
