"""The reference for detection scores."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from modelyard.evaluator.domain.detection import DetectionScore, FoundBoxes, TrueBoxes


def coco_figures(truths: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str]) -> dict[str, float]:
    """map_* and class:* (mAP50-95 of a class) of boxes, by pycocotools; without those that no true box defines."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (truth, one) in enumerate(zip(truths, found, strict=True)):
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True):
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number + 1, "category_id": int(label) + 1, "bbox": _xywh(box)}
                | {"area": area, "iscrowd": int(crowd)}
            )
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True):
            results.append({"image_id": number + 1, "category_id": int(label) + 1, "bbox": _xywh(box), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": number + 1} for number in range(len(truths))],
            "categories": [{"id": number + 1} for number in range(len(classes))],
            "annotations": annotations,
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    stats = dict(zip(("map_50_95", "map_50", "", "map_small", "map_medium", "map_large"), judge.stats[:6].tolist(), strict=True))
    precision = judge.eval["precision"][:, :, :, 0, 2]
    stats |= {f"class:{name}": float(precision[:, :, index].mean()) for index, name in enumerate(classes)}
    return {name: value for name, value in stats.items() if name and value > -1}


def _xywh(box: Any) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    return [left, top, right - left, bottom - top]


def our_figures(score: DetectionScore) -> dict[str, float]:
    """The same of our score."""
    values = {metric.name: metric.value for metric in score.metrics}
    return values | {f"class:{entry.label}": entry.map_50_95.value for entry in score.classes}
