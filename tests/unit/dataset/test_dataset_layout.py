"""dataset.domain.layout and idx: what names say."""

from __future__ import annotations

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import mask_files
from modelyard.dataset.domain.idx import find_pairs, read_header
from modelyard.dataset.domain.layout import Layout, find_layout


def said(layout: Layout) -> dict[str, tuple[str, str | None]]:
    return {path: (place.label, place.usage) for path, place in layout.places.items()}


def test_one_folder_per_class() -> None:
    layout = find_layout(["cat/1.png", "my dog/sub/2.png", ".net/ü.png", "loose.png"])
    assert said(layout) == {"cat/1.png": ("cat", None), "my dog/sub/2.png": ("my dog", None), ".net/ü.png": (".net", None)}
    assert layout.unlabelled == ("loose.png",)


def test_outer_folders_are_wrapping() -> None:
    layout = find_layout(["data/pets/cat/1.png", "data/pets/dog/2.png"])
    assert [place.label for place in layout.places.values()] == ["cat", "dog"]
    assert "data/pets" in layout.assumptions[0]


def test_one_class_in_a_wrapping_stays_a_class() -> None:
    assert said(find_layout(["data/cat/1.png", "data/cat/2.png"])) == {
        "data/cat/1.png": ("cat", None),
        "data/cat/2.png": ("cat", None),
    }


@pytest.mark.parametrize("validation", ["val", "Validation", "valid"])
def test_usage_folders(validation: str) -> None:
    paths = ["w/Train/a/1.png", f"w/{validation}/a/2.png", "w/test/b/x/3.png", "w/test/unlabelled.png", "w/other/a/4.png"]
    layout = find_layout(paths)
    assert [place.usage for place in layout.places.values()] == ["train", "validation", "test"]
    assert [place.label for place in layout.places.values()] == ["a", "a", "b"]
    assert layout.unlabelled == ("w/test/unlabelled.png", "w/other/a/4.png")


def test_only_a_train_folder() -> None:
    layout = find_layout(["train/a/1.png", "train/b/2.png"])
    assert said(layout) == {"train/a/1.png": ("a", "train"), "train/b/2.png": ("b", "train")}


def test_a_class_may_be_called_train() -> None:
    layout = find_layout(["train/1.png", "plane/2.png"])
    assert [(place.label, place.usage) for place in layout.places.values()] == [("train", None), ("plane", None)]


def test_nothing() -> None:
    assert find_layout([]).places == {}


def test_idx_pairs_by_name() -> None:
    names = ["d/train-images-idx3-ubyte.gz", "d/train-labels-idx1-ubyte.gz", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"]
    pairs, alone = find_pairs([*names, "train-images-copy", "readme"])
    assert [(pair.usage, pair.images) for pair in pairs] == [("train", names[0]), ("test", names[2])]
    assert alone == ("train-images-copy", "readme")


def test_idx_header() -> None:
    head = bytes([0, 0, 8, 3]) + (5).to_bytes(4, "big") + (28).to_bytes(4, "big") + (30).to_bytes(4, "big")
    header = read_header(head, name="x")
    assert (header.count, header.item_bytes, header.header_bytes) == (5, 840, 16)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "NOT_AN_IDX_FILE"),
        (bytes([0, 0, 9, 3]) + bytes(12), "NOT_AN_IDX_FILE"),
        (bytes([0, 0, 8, 3]) + bytes(12), "NOT_AN_IDX_FILE"),
        (bytes([0, 0, 8, 3, 0, 0]), "NOT_AN_IDX_FILE"),
        (bytes([0, 0, 8, 4]) + b"\0\0\0\1" * 3 + b"\0\0\0\2", "NOT_AN_IDX_FILE"),
        (bytes([0, 0, 8, 3]) + b"\0\0\0\1" + b"\x7f\xff\xff\xff" * 2, "PICTURE_TOO_LARGE"),
    ],
)
def test_idx_headers_that_are_wrong(head: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_header(head, name="train-images")
    assert caught.value.reason == reason


def test_masks_that_lie_beside_their_pictures_are_told_by_their_ends() -> None:
    names = ["a/1.png", "a/1_MASK.PNG", "a/2.jpg", "a/2-gt.png", "a/3_labels.png", "b/1_mask.png", "mask.png", "c/4.png"]
    assert mask_files.pairs(names) == {"a/1.png": "a/1_MASK.PNG", "a/2.jpg": "a/2-gt.png"}
    assert mask_files.pairs([f"c/{number}.png" for number in range(9)]) == {}
