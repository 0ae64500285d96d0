"""IDX files: the header, and which files of a folder belong together. Format: http://yann.lecun.com/exdb/mnist/ (MNIST)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset import TEST, TRAIN, VALIDATION
from modelyard.formats.pictures import MAX_PIXELS

_UINT8 = 0x08
_NAME = re.compile(r"^(train|t10k|test|val|valid|validation)[-_.]?(images|labels)\b", re.IGNORECASE)
_USAGES = {"train": TRAIN, "t10k": TEST, "test": TEST, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION}


@dataclass(frozen=True)
class IdxHeader:
    """Shape of the array that follows the header: uint8, the first axis counts the examples."""

    shape: tuple[int, ...]
    header_bytes: int

    @property
    def count(self) -> int:
        """Examples in the file, as the header claims."""
        return self.shape[0]

    @property
    def item_bytes(self) -> int:
        """Bytes of one example."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class IdxPair:
    """Paths of the pictures and the labels of one usage."""

    usage: str
    images: str
    labels: str


def is_idx(head: bytes) -> bool:
    """Whether a file's first bytes are those of an IDX file of bytes with one, three or four axes."""
    return len(head) >= 4 and head[:3] == bytes([0, 0, _UINT8]) and head[3] in (1, 3, 4)


def read_header(head: bytes, *, name: str) -> IdxHeader:
    """The header from a file's first bytes (20 are enough). InvalidArgument NOT_AN_IDX_FILE, PICTURE_TOO_LARGE."""
    if not is_idx(head) or len(head) < 4 + 4 * head[3]:
        message = f"{name} is not an IDX file of unsigned bytes with 1 (labels), 3 (grey) or 4 (colour) axes"
        raise InvalidArgument("NOT_AN_IDX_FILE", message, file=name)
    axes = head[3]
    shape = tuple(int.from_bytes(head[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes))
    _check_shape(shape, name)
    return IdxHeader(shape, 4 + 4 * axes)


def find_pairs(paths: Sequence[str]) -> tuple[tuple[IdxPair, ...], tuple[str, ...]]:
    """Pairs of picture and label files by their names (train-images..., t10k-labels...), and the files left without partner."""
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        match = _NAME.match(path.rsplit("/", 1)[-1])
        if match:
            found.setdefault((_USAGES[match[1].lower()], match[2].lower()), path)
    usages = [usage for usage in (TRAIN, VALIDATION, TEST) if (usage, "images") in found and (usage, "labels") in found]
    pairs = tuple(IdxPair(usage, found[usage, "images"], found[usage, "labels"]) for usage in usages)
    paired = {path for pair in pairs for path in (pair.images, pair.labels)}
    return pairs, tuple(path for path in paths if path not in paired)


def is_idx_name(path: str) -> bool:
    """Whether a file is named like one of a set of IDX files."""
    return _NAME.match(path.rsplit("/", 1)[-1]) is not None


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 1:
        return
    if len(shape) == 4 and shape[3] not in (1, 3):
        message = f"{name} has pictures of {shape[3]} channels; 1 or 3 are read"
        raise InvalidArgument("NOT_AN_IDX_FILE", message, file=name, channels=shape[3])
    height, width = shape[1:3]
    if height < 1 or width < 1:
        raise InvalidArgument("NOT_AN_IDX_FILE", f"{name} has pictures of {width} x {height} pixels", file=name)
    if height * width > MAX_PIXELS:
        message = f"{name} has pictures of {width} x {height} pixels; at most {MAX_PIXELS} pixels are read"
        raise InvalidArgument("PICTURE_TOO_LARGE", message, file=name, width=width, height=height, limit_pixels=MAX_PIXELS)
