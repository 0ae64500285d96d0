"""Duplicates: equal content, and pictures that differ only by re-encoding, resizing or a little brightness.

Near duplicates are found by a 64-bit perceptual hash (low frequencies of the cosine transform against their median, Zauner 2010)
of a grey 16 x 16 thumbnail: candidates are neighbours in several sort orders of the hash, so the cost is n log n; each candidate
pair is then compared by its thumbnails, because pictures of one kind (say, garments on black) share hashes without being alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

THUMBNAIL = 16
"""Height and width of a thumbnail, in pixels."""

MAX_MEAN_DIFFERENCE = 2.0
"""Thumbnails of near duplicates differ by at most this many grey levels (of 255) on average..."""

MAX_RELATIVE_DIFFERENCE = 0.06
"""...and at most by this share of the thumbnail's own contrast (standard deviation)."""

MAX_HASH_DISTANCE = 8
"""Only what differs in at most this many of the hash's 64 bits is compared."""

_ROTATIONS = 8
_NEIGHBOURS = 12
_PAIRS_AT_ONCE = 32_768

Indices = npt.NDArray[np.int64]
Thumbnails = npt.NDArray[np.uint8]


def equal_groups(contents: list[str]) -> Indices:
    """Group of each example, int64 [N]: the position of the first example with the same content."""
    first: dict[str, int] = {}
    return np.fromiter((first.setdefault(content, i) for i, content in enumerate(contents)), np.int64, len(contents))


def near_pairs(
    thumbnails: Thumbnails, *, most: float = MAX_MEAN_DIFFERENCE, bits: int = MAX_HASH_DISTANCE
) -> tuple[Indices, Indices]:
    """Pairs (i < j) of near duplicates among uint8 [N, 16, 16]; not every pair of a large cluster, but enough to connect it.

    most: how far they differ on average, in grey levels; bits: in how many bits of their hashes."""
    if len(thumbnails) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    left, right = _candidates(perceptual_hashes(thumbnails), bits)
    alike = _alike(thumbnails, left, right, most=most)
    return left[alike], right[alike]


def turned_pairs(thumbnails: Thumbnails) -> tuple[Indices, Indices]:
    """Pairs (i < j) of uint8 [N, 16, 16] of which one is the other mirrored, or turned by quarters. int64 [P] each."""
    count = len(thumbnails)
    if count < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    hashes = perceptual_hashes(thumbnails)
    keys = [np.empty(0, np.int64)]
    for turned in (thumbnails[:, :, ::-1], *(np.rot90(thumbnails, turns, axes=(1, 2)) for turns in (1, 2, 3))):
        both = np.concatenate([hashes, perceptual_hashes(turned)])
        left, right = _candidates(both)
        across = (left < count) & (right >= count) & (left != right - count)
        left, right = left[across], right[across] - count
        alike = _alike(thumbnails, left, right, turned)
        keys.append(np.minimum(left, right)[alike] * count + np.maximum(left, right)[alike])
    found = _distinct(np.concatenate(keys))
    return found // count, found % count


def merge_groups(groups: Indices, left: Indices, right: Indices) -> Indices:
    """Groups joined wherever a pair connects them; the name of a group is its smallest member's position."""
    parent = groups.copy()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        ra, rb = root(a), root(b)
        parent[max(ra, rb)] = min(ra, rb)
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    return parent


def perceptual_hashes(thumbnails: Thumbnails) -> npt.NDArray[np.uint64]:
    """64-bit perceptual hash of each thumbnail: uint8 [N, 16, 16] to uint64 [N]."""
    basis = _cosine_basis()
    hashes = [_hash_block(thumbnails[start : start + 8192], basis) for start in range(0, len(thumbnails), 8192)]
    return np.concatenate(hashes) if hashes else np.empty(0, np.uint64)


def _hash_block(thumbnails: Thumbnails, basis: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    low = (basis @ thumbnails.astype(np.float32) @ basis.T).reshape(len(thumbnails), 64)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def _cosine_basis() -> npt.NDArray[np.float32]:
    """First 8 rows of the DCT-II matrix for 16 samples."""
    rows = np.arange(8)[:, None]
    return np.cos(np.pi * rows * (2 * np.arange(THUMBNAIL)[None, :] + 1) / (2 * THUMBNAIL)).astype(np.float32)


def _candidates(hashes: npt.NDArray[np.uint64], bits: int = MAX_HASH_DISTANCE) -> tuple[Indices, Indices]:
    found = [_neighbours(hashes, turn * 64 // _ROTATIONS, bits) for turn in range(_ROTATIONS)]
    keys = _distinct(np.concatenate(found))
    return keys // len(hashes), keys % len(hashes)


def _distinct(keys: Indices) -> Indices:
    """What np.unique gives, by sorting: numpy counts by hash, which takes several times as long where millions mostly differ."""
    ordered = np.sort(keys)
    first = np.concatenate([np.ones(min(len(ordered), 1), np.bool_), ordered[1:] != ordered[:-1]])
    return np.asarray(ordered[first], dtype=np.int64)


def _neighbours(hashes: npt.NDArray[np.uint64], turn: int, bits: int) -> Indices:
    """Pairs, coded as i * N + j, that lie close together when sorted by the hash turned by so many bits."""
    turned = hashes << np.uint64(turn) | hashes >> np.uint64(64 - turn) if turn else hashes
    order = np.argsort(turned, kind="stable").astype(np.int64)
    found = [np.empty(0, np.int64)]
    for step in range(1, min(_NEIGHBOURS, len(hashes) - 1) + 1):
        a, b = order[:-step], order[step:]
        close = np.bitwise_count(hashes[a] ^ hashes[b]) <= bits
        found.append(np.minimum(a, b)[close] * len(hashes) + np.maximum(a, b)[close])
    return np.concatenate(found)


def _alike(
    thumbnails: Thumbnails,
    left: Indices,
    right: Indices,
    others: Thumbnails | None = None,
    most: float = MAX_MEAN_DIFFERENCE,
) -> npt.NDArray[np.bool_]:
    """Whether the thumbnails at `left` are like those at `right`, of `others` where given: bool [P]."""
    others = thumbnails if others is None else others
    blocks = [
        _alike_block(thumbnails[left[start : start + _PAIRS_AT_ONCE]], others[right[start : start + _PAIRS_AT_ONCE]], most)
        for start in range(0, len(left), _PAIRS_AT_ONCE)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0, np.bool_)


def _alike_block(a: Thumbnails, b: Thumbnails, most: float) -> npt.NDArray[np.bool_]:
    difference = np.maximum(a, b) - np.minimum(a, b)
    mean = difference.mean(axis=(1, 2), dtype=np.float32)
    alike: npt.NDArray[np.bool_] = mean <= most
    close = np.flatnonzero(alike)
    contrast = np.minimum(_contrast(a[close]), _contrast(b[close]))
    alike[close] = mean[close] <= np.maximum(MAX_RELATIVE_DIFFERENCE * contrast, 1e-6)
    return alike


def _contrast(thumbnails: Thumbnails) -> npt.NDArray[np.float32]:
    deviation: npt.NDArray[np.float32] = thumbnails.std(axis=(1, 2), dtype=np.float32)
    return deviation
