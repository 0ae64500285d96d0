"""Pictures of bright discs and squares on noise, with boxes, masks or labels: what small networks learn in seconds."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.formats import dataset as formats
from modelyard.formats.annotations import Mark, mark_row
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.pictures import encode_png

SIDE = 64
NAMES = ("disc", "square")
Box = tuple[int, float, float, float, float]


def shapes(count: int, *, most: int = 2, seed: int = 0, side: int = SIDE) -> tuple[npt.NDArray[np.uint8], list[list[Box]], Any]:
    """uint8 [count, side, side, 3], boxes by picture (class and edges in pixels), masks uint8 [count, side, side].

    Of a mask 0 is the ground, 1 a disc, 2 a square. Every fifth picture is empty."""
    random = np.random.default_rng(seed)
    pictures = random.normal(70, 12, (count, side, side, 3))
    masks = np.zeros((count, side, side), np.uint8)
    boxes: list[list[Box]] = []
    y, x = np.mgrid[:side, :side] + 0.5
    for place in range(count):
        found: list[Box] = []
        for _ in range(0 if place % 5 == 4 or not most else random.integers(1, most + 1)):
            radius, kind = random.uniform(7, 12), int(random.integers(2))
            centre_x, centre_y = random.uniform(radius, side - radius, 2)
            box = (kind, centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
            if any(abs(box[1] - other[1]) < 26 and abs(box[2] - other[2]) < 26 for other in found):
                continue
            away = np.hypot(x - centre_x, y - centre_y) if kind == 0 else np.maximum(abs(x - centre_x), abs(y - centre_y))
            inside = away < radius
            pictures[place][inside] = random.normal((200, 120, 60) if kind == 0 else (60, 120, 200), 12, (int(inside.sum()), 3))
            masks[place][inside] = kind + 1
            found.append(box)
        boxes.append(found)
    return pictures.clip(0, 255).astype(np.uint8), boxes, masks


def write_shapes(folder: Path, counts: dict[str, int], masks: bool = False) -> None:
    """COCO files, or folders of pictures and masks, with so many pictures of each usage."""
    from modelyard.dataset.domain import coco

    pictures, boxes, classes = shapes(sum(counts.values()))
    usages = [usage for usage, count in counts.items() for _ in range(count)]
    index = {name: number for number, name in enumerate(NAMES, start=1)}
    for usage in counts:
        document: dict[str, Any] = {"categories": coco.categories(NAMES, (), ()), "images": [], "annotations": []}
        (folder / usage).mkdir(parents=True)
        if masks:
            (folder / f"{usage}annot").mkdir()
        for place in [each for each, name in enumerate(usages) if name == usage]:
            name = f"p{place:03d}.png"
            Image.fromarray(pictures[place]).save(folder / usage / name)
            if masks:
                Image.fromarray(classes[place]).save(folder / f"{usage}annot" / name)
                continue
            document["images"].append({"id": place, "file_name": name, "width": SIDE, "height": SIDE})
            for kind, *edges in boxes[place]:
                mark = Mark(NAMES[kind], (edges[0], edges[1], edges[2], edges[3]))
                number = len(document["annotations"]) + 1000 * place
                document["annotations"].append(coco.annotation(mark, number, place, index[mark.label], (SIDE, SIDE)))
        if not masks:
            (folder / "annotations").mkdir(exist_ok=True)
            (folder / "annotations" / f"instances_{usage}.json").write_text(json.dumps(document))
    if masks:
        (folder / "classes.txt").write_text("ground\ndisc\nsquare\n")


def publish_shapes(store: ArtifactStore, task: str, counts: dict[str, int], **options: Any) -> Blob:
    """A dataset version of `task` with so many pictures of each usage. The descriptor's blob."""
    import pyarrow as pa

    pictures, boxes, masks = shapes(sum(counts.values()), **options)
    usage = [name for name, count in counts.items() for _ in range(count)]
    files = [encode_png(picture) for picture in pictures]
    with tempfile.TemporaryDirectory() as folder:
        writer = formats.PackWriter(Path(folder))
        spans = [writer.append(file) for file in files]
        mask_spans = [writer.append(encode_png(mask)) for mask in masks] if task == formats.SEMANTIC_SEGMENTATION else []
        packs = writer.put_all(store)
    sha = [hashlib.sha256(file).hexdigest() for file in files]
    side = pictures.shape[1]
    columns: dict[str, Any] = {
        "example_id": [formats.example_id(str(row), sha[row]) for row in range(len(usage))],
        "usage": usage,
        "label": [None] * len(usage),
        "sha256": sha,
        "path": [f"{row}.png" for row in range(len(usage))],
        "width": [side] * len(usage),
        "height": [side] * len(usage),
        "annotation": [""] * len(usage),
        "attributes": [""] * len(usage),
    }
    columns |= {name: [getattr(span, name) for span in spans] for name in ("pack", "offset", "length")}
    classes: tuple[str, ...] = NAMES
    if task == formats.OBJECT_DETECTION:
        index = {name: place for place, name in enumerate(NAMES)}
        columns["marks"] = [[mark_row(Mark(NAMES[box[0]], box[1:]), index) for box in each] for each in boxes]
    elif task == formats.SEMANTIC_SEGMENTATION:
        classes = ("ground", *NAMES)
        columns |= {f"mask_{name}": [getattr(span, name) for span in mask_spans] for name in ("pack", "offset", "length")}
    else:
        columns["labels"] = [sorted({box[0] for box in each}) for each in boxes]
    manifest = pa.table(columns, schema=formats.manifest_schema(formats.IMAGE, task))
    with tempfile.TemporaryDirectory() as folder:
        blob = store.put_file(formats.write_parquet(manifest, Path(folder, "manifest.parquet")))
    descriptor = DatasetDescriptor(task, formats.IMAGE, blob, "ab" * 32, classes=classes, packs=packs)
    return store.put_bytes(formats.to_json(descriptor))
