"""dataset.domain.near: who is a duplicate of whom."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from modelyard.dataset.domain import near
from modelyard.formats.pictures import probe_with_thumbnail

Picture = npt.NDArray[np.uint8]


def scene(seed: int, size: int = 128) -> Image.Image:
    """Something smooth with shapes, as photographs are."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    return image.filter(ImageFilter.GaussianBlur(1))


def thumbnail(image: Image.Image, quality: int = 95) -> Picture:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return probe_with_thumbnail(out.getvalue(), size=near.THUMBNAIL)[1][:, :, 0]


def pairs(thumbnails: list[Picture]) -> set[tuple[int, int]]:
    left, right = near.near_pairs(np.stack(thumbnails))
    return set(zip(left.tolist(), right.tolist(), strict=True))


def test_a_picture_encoded_again_resized_or_a_little_brighter_is_found() -> None:
    image = scene(0)
    changed = [
        thumbnail(image, 40),
        thumbnail(image.resize((300, 300), Image.Resampling.LANCZOS)),
        thumbnail(image.point(lambda value: min(255, value + 1))),
    ]
    others = [thumbnail(scene(seed)) for seed in range(1, 60)]
    found = pairs([thumbnail(image), *others, *changed])
    members = {0, 60, 61, 62}
    assert {i for pair in found for i in pair} == members


def test_different_scenes_are_not_alike() -> None:
    assert pairs([thumbnail(scene(seed)) for seed in range(200)]) == set()


def test_groups_join_through_pairs_and_are_named_by_their_first() -> None:
    merged = near.merge_groups(np.arange(6), np.array([1, 4, 2]), np.array([4, 5, 3]))
    assert merged.tolist() == [0, 1, 2, 2, 1, 1]


def test_equal_content_is_one_group() -> None:
    assert near.equal_groups(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 3, 1]


def test_nothing_and_one() -> None:
    for count in (0, 1):
        left, right = near.near_pairs(np.zeros((count, 16, 16), np.uint8))
        assert len(left) == len(right) == 0


def test_many_equal_thumbnails_end_in_one_group() -> None:
    """A cluster larger than the neighbourhood that is searched still holds together."""
    thumbnails = np.repeat(thumbnail(scene(3))[None], 500, axis=0)
    left, right = near.near_pairs(thumbnails)
    assert set(near.merge_groups(np.arange(500), left, right).tolist()) == {0}


def test_mirrored_and_turned_pictures_are_found_and_others_are_not() -> None:
    from PIL import ImageOps

    scenes = [scene(seed) for seed in range(80)]
    planted = [ImageOps.mirror(scenes[3]), scenes[11].rotate(90), scenes[20].rotate(180), scenes[33].rotate(270)]
    left, right = near.turned_pairs(np.stack([thumbnail(image) for image in (*scenes, *planted)]))
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(3, 80), (11, 81), (20, 82), (33, 83)}
    for count in (0, 1):
        assert len(near.turned_pairs(np.zeros((count, 16, 16), np.uint8))[0]) == 0
