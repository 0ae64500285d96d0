"""What is measured of pictures, what is said of it, and neighbours in an embedding: planted troubles, precision and recall."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from modelyard.dataset.domain import neighbours, picture_checks, picture_features
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.giveaways import giveaway_findings
from modelyard.dataset.domain.picture_facts import FACTS, blur_of, facts_of, looked_at_size
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work

SIDE = 96


def scene(seed: int) -> Image.Image:
    """Something with edges of all sizes and colours, as photographs have."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(30, 226, (5, 5, 3), dtype=np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(rough).astype(np.int64)
    for _ in range(12):
        x, y, w, h = rng.integers(0, SIDE - 8, 2).tolist() + rng.integers(6, 40, 2).tolist()
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    grain = rng.normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def measured(pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    facts = np.stack([facts_of(np.asarray(picture.convert("RGB"))) for picture in pictures])
    thumbnails = np.stack([np.asarray(picture.convert("L").resize((16, 16), Image.Resampling.BILINEAR)) for picture in pictures])
    return facts, thumbnails


def names_of(count: int) -> Names:
    return Names([f"{i}.png" for i in range(count)], [f"e{i}" for i in range(count)])


def found(pictures: list[Image.Image]) -> dict[str, Finding]:
    return {each.kind: each for each in picture_checks.fact_findings(*measured(pictures), names_of(len(pictures)))}


PLANTED = {
    "BLURRY": lambda picture: picture.filter(ImageFilter.GaussianBlur(4)),
    "DARK": lambda picture: ImageEnhance.Brightness(picture).enhance(0.15),
    "BRIGHT": lambda picture: Image.eval(picture, lambda value: 236 + value // 14),
    "LOW_INFORMATION": lambda picture: Image.new("RGB", picture.size, picture.getpixel((1, 1))),
    "GREY_AMONG_COLOUR": lambda picture: picture.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_pictures_are_found_and_others_are_not(kind: str) -> None:
    pictures = [scene(seed) for seed in range(120)]
    planted = set(range(0, 120, 20))
    for place in planted:
        pictures[place] = PLANTED[kind](pictures[place])
    kinds = found(pictures)
    assert set(kinds) == {kind}
    members = {int(path.removesuffix(".png")) for path in kinds[kind].examples}
    assert members == planted
    assert kinds[kind].fix is not None
    assert set(kinds[kind].fix.examples) == {f"e{place}" for place in planted}
    assert kinds[kind].cost
    assert kinds[kind].action
    assert all(0 <= score <= 1 for score in kinds[kind].scores)


def test_good_pictures_have_no_findings() -> None:
    assert found([scene(seed) for seed in range(60)]) == {}


def test_what_most_pictures_are_is_how_they_are() -> None:
    """All of a dataset taken by night: nothing stands out in it, and nobody is called to leave it out with a warning."""
    kinds = found([ImageEnhance.Brightness(scene(seed)).enhance(0.15) for seed in range(60)])
    assert {each.severity for each in kinds.values()} <= {"info"}
    assert found([scene(seed).filter(ImageFilter.GaussianBlur(4)) for seed in range(60)]) == {}
    assert "GREY_AMONG_COLOUR" not in found([scene(seed).convert("L") for seed in range(60)])


def test_sizes_and_shapes_far_from_the_others() -> None:
    widths, heights = np.full(40, 640), np.full(40, 480)
    widths[3], heights[3] = 64, 48
    widths[7], heights[7] = 2000, 150
    kinds = {each.kind: each for each in picture_checks.size_findings(widths, heights, names_of(40))}
    assert kinds["ODD_SIZE"].examples == ("3.png",)
    assert kinds["ODD_SHAPE"].examples == ("7.png",)


def test_facts_are_finite_but_for_blur_of_small_pictures() -> None:
    tiny = facts_of(np.zeros((1, 1, 3), np.uint8))
    assert np.isnan(tiny[FACTS.index("blur")])
    assert np.isfinite(np.delete(tiny, FACTS.index("blur"))).all()


def test_more_blur_is_more_blurred() -> None:
    grey = [
        np.asarray(scene(1).filter(ImageFilter.GaussianBlur(radius)).convert("L"), np.float32) / 255 for radius in (0, 1, 2, 4)
    ]
    values = [blur_of(each) for each in grey]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] <= 1


def test_looked_at_size_keeps_the_shape() -> None:
    assert looked_at_size(100, 50) == (100, 50)
    assert looked_at_size(1024, 512) == (256, 128)
    assert looked_at_size(10_000, 3) == (256, 1)


def test_features_tell_shapes_apart_and_not_light() -> None:
    def vector(seed: int, light: float) -> np.ndarray:
        small = ImageEnhance.Brightness(scene(seed)).enhance(light).resize((picture_features.SIDE, picture_features.SIDE))
        return picture_features.picture_features(np.asarray(small)[None])[0]

    one, darker, other = vector(1, 1.0), vector(1, 0.8), vector(2, 1.0)
    assert one.shape == (picture_features.LENGTH,)
    assert np.linalg.norm(one - darker) < 0.5 * np.linalg.norm(one - other)


def cloud(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def test_planted_outliers_are_found() -> None:
    vectors = cloud(500)
    planted = [3, 70, 400]
    vectors[planted] += 12 * np.sign(vectors[planted])
    near = neighbours.nearest(vectors, np.arange(500), Work(), (0, 1))
    (finding,) = picture_checks.outlier_findings(near, names_of(500))
    assert {int(path.removesuffix(".png")) for path in finding.examples} == set(planted)
    assert picture_checks.outlier_findings(neighbours.nearest(cloud(500), np.arange(500), Work(), (0, 1)), names_of(500)) == []


def test_members_of_a_group_are_not_neighbours() -> None:
    """A stray picture that comes twice is still a stray picture."""
    vectors = np.concatenate([cloud(300), np.full((2, 8), 20, np.float32)])
    groups = np.concatenate([np.arange(300), [300, 300]])
    near = neighbours.nearest(vectors, groups, Work(), (0, 1))
    assert 301 not in near.ids[300]
    (finding,) = picture_checks.outlier_findings(near, names_of(302))
    assert set(finding.examples) == {"300.png", "301.png"}


def test_nearest_agrees_with_brute_force() -> None:
    vectors = cloud(1300, 3)
    near = neighbours.nearest(vectors, np.arange(1300), Work(), (0, 1))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(near.distances, np.sort(distances, axis=1)[:, : neighbours.NEIGHBOURS], rtol=1e-3)


@pytest.mark.parametrize("kind", ["groups", "one group", "ties", "apart"])
def test_nearest_among_groups_and_copies_agrees_with_brute_force(kind: str) -> None:
    vectors, groups = cloud(700, 4), np.arange(700)
    if kind == "groups":
        groups = np.random.default_rng(1).integers(0, 90, 700)
    elif kind == "one group":
        groups = np.zeros(700, np.int64)
    elif kind == "ties":
        vectors[:] = vectors[np.arange(700) % 3]
    else:
        groups[50:] = 50  # most have fewer neighbours than are looked for
    near = neighbours.nearest(vectors, groups, Work(), (0, 1))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    distances[groups[:, None] == groups[None, :]] = np.inf
    ranked = np.sort(distances, axis=1)
    np.testing.assert_allclose(near.distances, ranked[:, : neighbours.NEIGHBOURS], rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(near.far, ranked[:, 41], rtol=1e-3, atol=2e-3)
    told = np.isfinite(near.distances)
    np.testing.assert_allclose(np.take_along_axis(distances, near.ids, axis=1)[told], near.distances[told], rtol=1e-3, atol=2e-3)
    assert all(len(set(row)) == neighbours.NEIGHBOURS for row in near.ids.tolist())


def test_pairs_far_closer_than_usual_are_found() -> None:
    vectors = cloud(400, 1)
    copies = vectors[:20] + np.random.default_rng(2).normal(scale=0.03, size=(20, 8)).astype(np.float32)
    every = np.concatenate([vectors, copies])
    left, right = neighbours.close_pairs(neighbours.nearest(every, np.arange(420), Work(), (0, 1)), 0.3)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(i, 400 + i) for i in range(20)}


def test_principal_axes_of_few_examples() -> None:
    mean, axes = neighbours.principal_axes(cloud(5))
    assert mean.shape == (8,)
    assert axes.shape[1] <= 4


def test_a_sign_that_gives_the_class_away_is_named_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 3
    numbers = {"size": np.where(labels == 1, 64.0, 640.0) * rng.uniform(0.95, 1.05, 400), "blur": rng.normal(size=400)}
    (finding,) = giveaway_findings(numbers, labels, ("a", "b", "c"))
    assert (finding.kind, finding.column) == ("SPURIOUS_CORRELATION", "size")
    assert '"b"' in finding.message
    assert giveaway_findings({"size": numbers["size"][:90]}, labels[:90], ("a", "b", "c")) == []


@pytest.mark.parametrize("size", [8, 24, 60])
def test_a_group_apart_is_found_though_its_members_are_neighbours(size: int) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(1000, 24)).astype(np.float32)
    points[:size] = 0.3 * points[:size] + 3.0
    near = neighbours.nearest(points, np.arange(1000), Work(), (0, 1))
    assert not (neighbours.far_out(near)[0][:size] > picture_checks.FAR_OUT).any()
    mixed = np.arange(1000) % 4
    (finding,) = picture_checks.group_findings(near, mixed, names_of(1000))
    assert set(finding.example_ids) == {f"e{place}" for place in range(size)}
    assert finding.fix is not None
    own = np.where(np.arange(1000) < size, 4, mixed)
    assert picture_checks.group_findings(near, own, names_of(1000)) == []  # it is a class


@pytest.mark.parametrize("shape", ["round", "lumps", "long", "copies"])
def test_no_group_is_seen_where_none_is(shape: str) -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(900, 24))
    if shape == "lumps":
        points = 0.4 * points + rng.normal(size=(9, 24))[rng.integers(0, 9, 900)]
    elif shape == "long":
        points *= rng.standard_gamma(1.0, (900, 1))
    elif shape == "copies":
        points[100:104] = points[100]
    near = neighbours.nearest(points.astype(np.float32), np.arange(900), Work(), (0, 1))
    assert picture_checks.group_findings(near, np.full(900, -1), names_of(900)) == []
    few = neighbours.nearest(points[:15].astype(np.float32), np.arange(15), Work(), (0, 1))
    assert picture_checks.group_findings(few, np.full(15, -1), names_of(15)) == []
