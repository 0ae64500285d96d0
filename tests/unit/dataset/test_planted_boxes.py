"""What the checks of marked objects and masks find of planted faults: precision and recall as docs/quality.md states them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.dataset.domain import box_checks
from modelyard.dataset.domain.box_checks import Objects, box_findings, doubled_pairs, overlaps
from modelyard.dataset.domain.checks import class_findings
from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.mask_checks import mask_findings, object_mask_findings, pixel_counts
from tests.support.planted import Tally, examples, names, of_kind

PICTURES = 200
CLASSES = ("red", "white", "plate")


def scene(rng: np.random.Generator, points: int = 0) -> Objects:
    """Pictures of 640 x 480 with one to twelve objects that hardly overlap, each in a cell of its own."""
    of, boxes = [], []
    for picture in range(PICTURES):
        for cell in rng.permutation(24)[: int(rng.integers(1, 13))]:
            left, top = 10 + 100 * (cell % 6) + rng.uniform(0, 30), 10 + 110 * (cell // 6) + rng.uniform(0, 30)
            of.append(picture)
            boxes.append([left, top, left + rng.uniform(20, 80), top + rng.uniform(20, 80)])
    made = np.array(boxes)
    low, high = made[:, None, :2], made[:, None, 2:]
    spots = low + rng.uniform(0, 1, (len(of), points, 2)) * (high - low)
    keypoints = np.concatenate([spots, np.full((len(of), points, 1), 2.0)], axis=2)
    width, height = np.full(PICTURES, 640.0), np.full(PICTURES, 480.0)
    return Objects(np.array(of), rng.integers(0, len(CLASSES), len(of)), made, width, height, keypoints)


def with_boxes(objects: Objects, places: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Objects:
    """More boxes, each in the picture of an object."""
    of = np.concatenate([objects.of, objects.of[places]])
    order = np.argsort(of, kind="stable")
    points = np.concatenate([objects.keypoints, objects.keypoints[places]])
    every = np.concatenate([objects.boxes, boxes])
    return replace(
        objects,
        of=of[order],
        labels=np.concatenate([objects.labels, labels])[order],
        boxes=every[order],
        keypoints=points[order],
    )


def pictures(objects: Objects, places: np.ndarray) -> set[str]:
    return {str(picture) for picture in objects.of[places].tolist()}


def test_boxes_that_are_wrong_by_themselves() -> None:
    tallies = {kind: Tally() for kind in ("DEGENERATE_BOX", "BOX_OUTSIDE", "TINY_BOX", "HUGE_BOX")}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        objects = scene(rng)
        places = rng.permutation(len(objects.of))
        flat, outside, tiny, huge = places[:8], places[8:16], places[16:28], places[28:34]
        boxes = objects.boxes.copy()
        boxes[flat[:4], 2] = boxes[flat[:4], 0]
        boxes[flat[4:], 3] = boxes[flat[4:], 1] - 2
        boxes[outside] += np.where(rng.random((8, 1)) < 0.5, 640, -700)
        boxes[tiny, 2:] = boxes[tiny, :2] + rng.uniform(1, 5, (12, 2))
        boxes[huge] = [2, 2, 638, 479]
        findings = box_findings(replace(objects, boxes=boxes), CLASSES, names(PICTURES))
        for kind, planted in zip(tallies, (flat, outside, tiny, huge), strict=True):
            tallies[kind].add(pictures(objects, planted), examples(findings, kind))
    for kind, tally in tallies.items():
        tally.is_as_stated(kind)


def test_objects_marked_twice_or_under_two_classes() -> None:
    doubled, conflicting = Tally(), Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        objects = scene(rng)
        places = rng.permutation(len(objects.of))[:24]
        boxes = objects.boxes[places] + rng.uniform(-2, 2, (24, 4))
        near = objects.boxes[places[16:]] + 12  # beside it, not on it
        labels = objects.labels[places].copy()
        labels[8:16] = (labels[8:16] + 1) % len(CLASSES)
        boxes[16:] = near
        findings = box_findings(with_boxes(objects, places, boxes, labels), CLASSES, names(PICTURES))
        doubled.add(pictures(objects, places[:8]), examples(findings, "DOUBLED_BOX"))
        conflicting.add(pictures(objects, places[8:16]), examples(findings, "CONFLICTING_BOXES"))
    doubled.is_as_stated("DOUBLED_BOX")
    conflicting.is_as_stated("CONFLICTING_BOXES")


def test_keypoints_outside_their_box() -> None:
    tally = Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        objects = scene(rng, points=4)
        places = rng.permutation(len(objects.of))[:12]
        points = objects.keypoints.copy()
        points[places, rng.integers(0, 4, 12), 0] += rng.uniform(30, 95, 12)
        hidden = np.setdiff1d(np.arange(len(objects.of)), places)[:30]
        points[hidden, 0] = 0.0  # not marked: no place at all
        findings = box_findings(replace(objects, keypoints=points), CLASSES, names(PICTURES))
        tally.add(pictures(objects, places), examples(findings, "KEYPOINT_OUTSIDE"))
    tally.is_as_stated("KEYPOINT_OUTSIDE")


def test_pictures_without_an_object_and_classes_without_one() -> None:
    empty, unused = Tally(), Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        objects = scene(rng)
        gone = rng.permutation(PICTURES)[:9]
        kept = ~np.isin(objects.of, gone)
        left = replace(
            objects,
            of=objects.of[kept],
            labels=np.where(objects.labels[kept] == 2, 0, objects.labels[kept]),
            boxes=objects.boxes[kept],
            keypoints=objects.keypoints[kept],
        )
        findings = box_findings(left, CLASSES, names(PICTURES))
        empty.add({str(place) for place in gone.tolist()}, examples(findings, "NO_OBJECTS"))
        said = of_kind(class_findings(CLASSES, np.bincount(left.labels, minlength=3).tolist()), "UNUSED_CLASS")
        unused.add({"plate"}, {name for name in CLASSES for each in said if f'"{name}"' in each.message})
    empty.is_as_stated("NO_OBJECTS")
    unused.is_as_stated("UNUSED_CLASS")


def test_masks_that_are_empty_and_classes_of_few_pixels() -> None:
    empty, small = Tally(), Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        masks = [rng.choice([0, 1, 2, 255], (24, 32), p=[0.6, 0.37, 0.0, 0.03]).astype(np.uint8) for _ in range(60)]
        gone = rng.permutation(60)[:5]
        for place in gone:
            masks[place][:] = 255
        for place in rng.permutation(60)[5:8]:
            masks[place][0, 0] = 2
        counts = np.stack([pixel_counts(mask, 3) for mask in masks])
        findings = mask_findings(counts, ("road", "tree", "sign"), names(60))
        empty.add({str(place) for place in gone.tolist()}, examples(findings, "EMPTY_MASK"))
        said = of_kind(findings, "SMALL_CLASS")
        small.add({"sign"}, {name for name in ("road", "tree", "sign") for each in said if f'"{name}"' in each.message})
        fix = of_kind(findings, "EMPTY_MASK")[0].fix
        assert fix is not None
        assert fix.action == DROP
    empty.is_as_stated("EMPTY_MASK")
    small.is_as_stated("SMALL_CLASS_OF_PIXELS")


def test_an_object_whose_mask_is_empty() -> None:
    found = object_mask_findings(np.array([3.0, 0.0, np.nan]), np.array([0, 1, 1]), names(2))
    assert [(each.kind, each.examples) for each in found] == [("EMPTY_MASK", ("1",))]


def test_clean_scenes_have_no_finding() -> None:
    assert box_findings(scene(np.random.default_rng(5), points=3), CLASSES, names(PICTURES)) == []


def test_nothing_marked_at_all() -> None:
    none = Objects(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4)), np.ones(3), np.ones(3), np.empty((0, 0, 3)))
    assert [finding.kind for finding in box_findings(none, ("a",), names(3))] == ["NO_OBJECTS"]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 2**32 - 1), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_of_one_picture_whatever_the_block(counts: list[int], seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(counts)), counts)
    corners = rng.integers(0, 4, (len(of), 2)).astype(float)
    objects = Objects(
        of,
        np.zeros(len(of), np.int64),
        np.hstack([corners, corners + 2]),
        np.full(len(counts), 9.0),
        np.full(len(counts), 9.0),
        np.empty((len(of), 0, 3)),
    )
    before = box_checks._PAIRS_AT_ONCE
    box_checks._PAIRS_AT_ONCE = block
    try:
        left, right, over = doubled_pairs(objects)
    finally:
        box_checks._PAIRS_AT_ONCE = before
    expected = {
        (a, b) for a in range(len(of)) for b in range(a + 1, len(of)) if of[a] == of[b] and np.array_equal(corners[a], corners[b])
    }
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
    assert np.allclose(over, 1.0)


def test_overlaps() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [5, 5, 5, 9]], np.float64)
    values = overlaps(boxes, np.array([0, 0, 0, 3]), np.array([1, 2, 3, 3]))
    assert values.tolist() == [0.5, 0.0, 0.0, 0.0]
