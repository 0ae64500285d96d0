"""How well a quality report finds wrong classes of boxes and boxes that are missing: `python tests/bench/box_errors.py [--share
0.05] [--seed 0] [--sheet FILE.png]`.

Of the boxes of bccd (364 pictures of blood cells) a share is put under another class at random, and as many others are taken out.
The whole is imported, and what the report asks is asked: models of what is in the boxes, and detectors. Printed as a JSON
object: of both, how many boxes are named, precision, recall, seconds and processor seconds. What is found besides what was
planted counts as wrong; bccd lacks many boxes by nature, so that is not the whole truth of missing ones: the sheet draws the
named ones that were not planted (red), with the boxes that are marked (green), to be looked at. Needs the data sets of tests
marked `data`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "clients")]

import numpy as np  # noqa: E402

from modelyard.core.artifacts import open_store  # noqa: E402
from modelyard.dataset.domain.label_checks import LEAST_SCORE  # noqa: E402
from modelyard.dataset.domain.near import equal_groups  # noqa: E402
from modelyard.dataset.domain.records import ImportSpec  # noqa: E402
from modelyard.dataset.domain.work import Work  # noqa: E402
from modelyard.dataset.worker import import_job, report_box_classes, report_missing_boxes  # noqa: E402
from modelyard.dataset.worker.report_marks import objects_of  # noqa: E402
from modelyard.formats.dataset import load_manifest, manifest_schema  # noqa: E402

DATA = Path(os.environ.get("MODELYARD_DATA") or ROOT.parent / "shared" / "data") / "bccd" / "BCCD"
EDGES = ("xmin", "ymin", "xmax", "ymax")
MATCHED = 0.4
"""Overlap from which a named box is the one that was taken out."""

Box = tuple[float, ...]


def planted(share: float, seed: int) -> tuple[bytes, set[tuple[str, Box]], dict[str, list[Box]]]:
    """bccd as a zip with mistakes in it; the boxes under another class, and those taken out, by the picture's name."""
    rng = np.random.default_rng(seed)
    files = {path.stem: ET.fromstring(path.read_text()) for path in sorted((DATA / "Annotations").glob("*.xml"))}
    every = [(stem, found) for stem, root in files.items() for found in root.iter("object")]
    names = sorted({found.findtext("name") or "" for _, found in every})
    chosen = rng.choice(len(every), 2 * round(share * len(every)), replace=False)
    half = len(chosen) // 2
    moved, gone = set(), {}
    for place in chosen[:half].tolist():
        stem, found = every[place]
        name = found.find("name")
        assert name is not None
        name.text = str(rng.choice([other for other in names if other != name.text]))
        moved.add((stem, edges(found)))
    for place in chosen[half:].tolist():
        stem, found = every[place]
        files[stem].remove(found)
        gone.setdefault(stem, []).append(edges(found))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for stem, root in files.items():
            archive.writestr(f"Annotations/{stem}.xml", ET.tostring(root))
            archive.write(DATA / "JPEGImages" / f"{stem}.jpg", f"JPEGImages/{stem}.jpg")
    return out.getvalue(), moved, gone


def edges(found: ET.Element) -> Box:
    return tuple(float(found.findtext(f"bndbox/{name}") or 0) for name in EDGES)


def measured(share: float, seed: int, sheet: str, folder: Path) -> dict[str, Any]:
    """Plants, imports, asks, compares."""
    source, moved, gone = planted(share, seed)
    store = open_store(f"file://{folder / 'artifacts'}", "dataset")
    imported = import_job.run(ImportSpec("d", store.put_bytes(source), "bccd.zip"), store, folder, Work())
    content = imported.content
    manifest = load_manifest(store, content, manifest_schema(content.kind, content.task).names)
    stems = [Path(path).stem for path in manifest["path"].to_pylist()]
    objects = objects_of(manifest, 0)
    return {
        "boxes": len(objects.of),
        "classes": _classes(store, content, manifest, objects, stems, moved),
        "missing": _missing(store, content, manifest, objects, stems, gone, sheet, folder),
    }


def _classes(store: Any, content: Any, manifest: Any, objects: Any, stems: list[str], moved: set[tuple[str, Box]]) -> Any:
    spent = _spent()
    judged = report_box_classes.judge_box_classes(store, content, manifest, objects, Work(), (0.0, 1.0))
    assert judged is not None
    named = judged.members[judged.found.noise.wrong >= LEAST_SCORE]
    known = {(stem, tuple(round(edge) for edge in box)) for stem, box in moved}
    hits = [(stems[objects.of[k]], tuple(round(edge) for edge in objects.boxes[k].tolist())) in known for k in named.tolist()]
    said = {"agreement": round(judged.found.accuracy, 3), "moved": len(moved), "named": len(named)}
    return {**said, **_figures(sum(hits), len(named), len(moved)), **_since(spent)}


def _missing(
    store: Any, content: Any, manifest: Any, objects: Any, stems: list[str], gone: dict[str, list[Box]], sheet: str, folder: Path
) -> Any:
    spent = _spent()
    groups = equal_groups(manifest["sha256"].to_pylist())
    made = report_missing_boxes.find_missing(store, content, manifest, objects, groups, folder, Work(), (0.0, 1.0))
    seconds = _since(spent)
    named = np.flatnonzero(made.probability >= LEAST_SCORE)
    taken: set[tuple[str, Box]] = set()
    others = []
    for place in named[np.argsort(-made.found.scores[named])].tolist():
        stem = stems[made.rows[made.found.pictures[place]]]
        over = [(_overlap(tuple(made.boxes[place].tolist()), box), box) for box in gone.get(stem, [])]
        best = max(over, default=(0.0, ()))
        if best[0] >= MATCHED and (stem, best[1]) not in taken:
            taken.add((stem, best[1]))
        else:
            others.append(place)
    if sheet:
        _drawn(made, others, objects, stems, sheet)
    count = sum(map(len, gone.values()))
    found = made.found
    said = {
        "taken_out": count,
        "detections": len(found.scores),
        "of_marked_found": round(float(found.matched.sum() / len(objects.of)), 3),
        "complete": round(report_missing_boxes.missing_boxes.completeness(found), 3),
        "named": len(named),
        "mean_probability": round(float(made.probability[named].mean()), 3) if len(named) else 0.0,
    }
    return {**said, **_figures(len(taken), len(named), count), **seconds}


def _figures(hits: int, named: int, wrong: int) -> dict[str, float]:
    return {"precision": round(hits / named, 3) if named else 0.0, "recall": round(hits / wrong, 3)}


def _overlap(one: Box, other: Box) -> float:
    wide, high = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    shared = max(wide, 0) * max(high, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / max(areas - shared, 1e-9)


def _drawn(made: Any, places: list[int], objects: Any, stems: list[str], path: str) -> None:
    from PIL import Image, ImageDraw

    side, across = 150, 12
    out = Image.new("RGB", (across * side, max(1, -(-len(places) // across)) * side))
    for number, place in enumerate(places):
        row = made.rows[made.found.pictures[place]]
        image = Image.open(DATA / "JPEGImages" / f"{stems[row]}.jpg").convert("RGB")
        draw = ImageDraw.Draw(image)
        for box in objects.boxes[objects.of == row].tolist():
            draw.rectangle([min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])], outline="green")
        left, top, right, bottom = made.boxes[place].tolist()
        draw.rectangle([left, top, right, bottom], outline="red", width=3)
        reach = 0.8 * max(right - left, bottom - top, 60)
        x, y = (left + right) / 2, (top + bottom) / 2
        part = image.crop((int(x - reach), int(y - reach), int(x + reach), int(y + reach))).resize((side - 4, side - 4))
        out.paste(part, (number % across * side, number // across * side))
    out.save(path)


def _spent() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(before: tuple[float, float]) -> dict[str, float]:
    return {"seconds": round(time.perf_counter() - before[0], 1), "processor_seconds": round(time.process_time() - before[1], 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=0.05, help="share of the boxes under another class, and taken out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", default="", help="draw the boxes named as missing that were not taken out into this PNG")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(given.share, given.seed, given.sheet, Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
