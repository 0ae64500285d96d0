"""Marks move with their picture."""

from __future__ import annotations

import numpy as np
import torch

from modelyard.recipes.augment import Held, augment_generator
from modelyard.recipes.augment_marked import drawn_view, see, seen_objects
from tests.support.shapes import shapes


def _whole(mask: torch.Tensor) -> list[float]:
    rows, columns = torch.nonzero(mask.any(1))[:, 0], torch.nonzero(mask.any(0))[:, 0]
    height, width = mask.shape
    return [int(columns[0]) / width, int(rows[0]) / height, (int(columns[-1]) + 1) / width, (int(rows[-1]) + 1) / height]


def test_boxes_follow_what_they_mark() -> None:
    pictures, boxes, masks = shapes(40, most=1, seed=3)
    objects = torch.full((40, 1, 5), -1.0)
    for place, each in enumerate(boxes):
        for label, *edges in each:
            objects[place, 0] = torch.tensor([label, *(edge / 64 for edge in edges)])
    view = drawn_view(40, augment_generator(0, 7), flip=True, upside=True)
    moved = seen_objects(objects, view)
    seen = see(torch.from_numpy((masks > 0).astype(np.float32))[:, None], view, nearest=True, padding="zeros")[:, 0] > 0.5
    compared = 0
    for place in range(40):
        if moved[place, 0, 0] < 0:
            continue
        compared += 1
        assert torch.allclose(moved[place, 0, 1:], torch.tensor(_whole(seen[place])), atol=0.05), place
    assert compared > 20
    assert len(pictures) == 40


def test_a_box_that_left_the_picture_is_gone() -> None:
    objects = torch.tensor([[[0.0, 0.0, 0.0, 0.1, 0.1], [1.0, 0.4, 0.4, 0.6, 0.6]]])
    view = drawn_view(1, augment_generator(0, 0), flip=False)
    close = type(view)(*(torch.tensor([value]) for value in (0.5, 0.5, 0.2, 0.2)))
    moved = seen_objects(objects, close)
    assert moved[0, :, 0].tolist() == [-1.0, 1.0]
    assert (moved[..., 1:] >= 0).all()
    assert (moved[..., 1:] <= 1).all()


def test_parts_of_a_batch_see_what_the_whole_batch_sees() -> None:
    whole = drawn_view(6, augment_generator(1, 2), flip=True)
    places = torch.tensor([1, 4])
    part = drawn_view(2, augment_generator(1, 2), flip=True, held=Held(6, places))
    for name in ("share_x", "share_y", "centre_x", "centre_y"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[places])
