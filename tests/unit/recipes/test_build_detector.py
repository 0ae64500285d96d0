"""The detector: what it is to learn, and what it reads from its maps."""

from __future__ import annotations

import pytest
import torch

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.build_dense import build_dense
from modelyard.recipes.build_detector import LEAST_SCORE, BoxDecoder, DetectionLoss, build_detector, rendered

CLASSES, HIGH, WIDE = 3, 12, 16


def objects(*rows: tuple[float, ...], most: int = 4) -> torch.Tensor:
    out = torch.zeros(1, most, 5)
    out[..., 0] = -1
    for place, row in enumerate(rows):
        out[0, place] = torch.tensor(row)
    return out


def maps_of(targets: torch.Tensor) -> torch.Tensor:
    """The maps of a network that has learned everything: sure at the centres, exact edges."""
    heat = torch.logit(targets[:, :CLASSES].clamp(1e-4, 1 - 1e-4))
    x, y = torch.arange(WIDE) + 0.5, (torch.arange(HIGH) + 0.5)[:, None]
    left, top, right, bottom = targets[:, CLASSES : CLASSES + 4].unbind(1)
    reach = torch.stack([x - left, y - top, right - x, bottom - y], 1).clamp(min=1e-3)
    return torch.cat([heat, reach.log()], 1)


def test_what_is_rendered_is_found_again() -> None:
    wanted = objects((0, 0.1, 0.1, 0.4, 0.5), (2, 0.5, 0.4, 0.95, 0.9))
    boxes, scores, labels = BoxDecoder(CLASSES)(maps_of(rendered(wanted, CLASSES, HIGH, WIDE)))
    sure = scores[0] > 0.9
    assert sorted(labels[0][sure].tolist()) == [0, 2]
    for label, box in zip(labels[0][sure].tolist(), boxes[0][sure], strict=True):
        true = next(row[1:] for row in wanted[0] if int(row[0]) == label)
        assert torch.allclose(box, true, atol=0.02)


def test_a_picture_without_objects_gives_empty_maps_and_no_box() -> None:
    targets = rendered(objects(), CLASSES, HIGH, WIDE)
    assert not targets.any()
    boxes, scores, labels = BoxDecoder(CLASSES)(maps_of(targets))
    assert not scores.any()
    assert not boxes.any()
    assert set(labels.flatten().tolist()) == {-1}


def test_no_column_for_objects_at_all() -> None:
    assert not rendered(torch.zeros(2, 0, 5), CLASSES, HIGH, WIDE).any()


def test_a_cell_of_two_objects_belongs_to_the_smaller() -> None:
    targets = rendered(objects((0, 0.0, 0.0, 1.0, 1.0), (1, 0.45, 0.45, 0.55, 0.55)), CLASSES, HIGH, WIDE)
    edges = targets[0, CLASSES : CLASSES + 4, HIGH // 2, WIDE // 2]
    assert edges[0] == pytest.approx(0.45 * WIDE)
    weights = targets[0, -1]
    assert float(weights.sum()) == pytest.approx(2.0, abs=1e-3)


def test_two_peaks_on_one_object_give_one_box() -> None:
    maps = torch.full((1, CLASSES + 4, HIGH, WIDE), -9.0)
    maps[0, CLASSES:] = 1.2
    maps[0, 1, 5, 5], maps[0, 1, 5, 7], maps[0, 2, 5, 9] = 3.0, 2.5, 2.0  # the last one is of another class
    maps[0, CLASSES:, 5, 5] = 1.5
    maps[0, CLASSES:, 5, 7] = 1.5
    _, scores, labels = BoxDecoder(CLASSES)(maps)
    assert labels[0, :3].tolist() == [1, 2, -1]
    assert float(scores[0, 2]) == 0


def test_hardly_anything_is_not_given() -> None:
    maps = torch.full((1, CLASSES + 4, HIGH, WIDE), -9.0)
    maps[0, 0, 3, 3] = float(torch.logit(torch.tensor(LEAST_SCORE / 2)))
    _, scores, _ = BoxDecoder(CLASSES)(maps)
    assert not scores.any()


def test_the_loss_falls_to_nothing_for_the_right_maps_and_does_not_depend_on_the_batch() -> None:
    wanted = objects((0, 0.1, 0.1, 0.4, 0.5), (2, 0.5, 0.4, 0.95, 0.9))
    targets = rendered(wanted, CLASSES, HIGH, WIDE)
    loss_of = DetectionLoss(CLASSES, 2.0)
    right, wrong = maps_of(targets), torch.zeros(1, CLASSES + 4, HIGH, WIDE)
    assert float(loss_of(right, targets)) < 0.05 * float(loss_of(wrong, targets))
    both = loss_of(torch.cat([right, wrong]), torch.cat([targets, targets]))
    assert float(both) == pytest.approx((float(loss_of(right, targets)) + float(loss_of(wrong, targets))) / 2, rel=1e-5)


@pytest.mark.parametrize("architecture", ["modelyard:pyramid_micro", "timm:mobilenetv3_small_050"])
def test_the_map_is_a_quarter_of_the_picture(architecture: str) -> None:
    torch.manual_seed(0)
    network = build_detector(architecture, classes=CLASSES, channels=1).eval()
    with torch.inference_mode():
        maps = network(torch.zeros(1, 1, 64, 96))
    assert maps.shape == (1, CLASSES + 4, 16, 24)
    assert float(torch.sigmoid(maps[:, :CLASSES]).max()) < 0.1


@pytest.mark.parametrize("architecture", ["modelyard:tinynet", "timm:no_such", "timm:vit_tiny_patch16_224x", "other:x"])
def test_an_encoder_that_is_not_known_is_refused(architecture: str) -> None:
    with pytest.raises(InvalidArgument, match="modelyard:pyramid") as caught:
        build_dense(architecture, outputs=2, channels=3, stride=4, width=8)
    assert caught.value.reason == "UNKNOWN_ARCHITECTURE"
