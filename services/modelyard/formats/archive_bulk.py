"""Reading many small entries of an archive at once, out of its mapped file. As careful as `archive.read_located`, which says
what it says of one: nothing is read outside the file, and nothing unpacked beyond what was announced."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.formats.archive import BARE, Limits, Places
from modelyard.formats.inflating import inflate

_HEADER = 30
_DEFLATED = 8


def read_all(descriptor: int, places: Places, paths: Sequence[str], limits: Limits) -> list[bytes | None]:
    """The bytes of n entries of the archive that a file descriptor has open; None for whatever is not as it should be, or is
    larger than `limits` allow.

    The archive is mapped from the first of them on, and for this call alone: pages stay in a process's memory as long as they
    are mapped.
    """
    size = os.fstat(descriptor).st_size
    inside = places.offsets[(places.offsets >= 0) & (places.offsets < size)]
    if not len(inside):
        return [None] * len(paths)
    first = int(inside.min()) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(descriptor, size - first, access=mmap.ACCESS_READ, offset=first) as mapped:
        return _read(mapped, places, places.offsets - first, paths, limits)


def _read(
    mapped: mmap.mmap, places: Places, offsets: npt.NDArray[np.int64], paths: Sequence[str], limits: Limits
) -> list[bytes | None]:
    """`offsets`: where the entries lie in what is mapped."""
    starts, fine = _starts(mapped, places, offsets, paths)
    fine &= (places.sizes >= 0) & (places.packed >= 0)
    fine &= (places.sizes <= limits.entry_bytes) & (places.packed <= limits.entry_bytes)
    fine &= (starts >= 0) & (starts <= len(mapped) - places.packed)
    deflated = places.methods == _DEFLATED
    fine &= deflated | (places.sizes == places.packed)
    fine &= ~deflated | (places.sizes <= limits.ratio_from_bytes) | (places.sizes <= limits.ratio * np.maximum(places.packed, 1))
    spans = zip(starts.tolist(), (starts + places.packed).tolist(), fine.tolist(), strict=True)
    datas: list[bytes | None] = [mapped[start:end] if good else None for start, end, good in spans]
    for number in np.flatnonzero(fine & deflated).tolist():
        datas[number] = inflate(datas[number] or b"", int(places.sizes[number]))
    if np.all(places.methods == BARE):
        return datas
    summed = [zlib.crc32(data) if data is not None else -1 for data in datas]
    for number in np.flatnonzero((np.array(summed, np.int64) != places.checksums) & (places.methods != BARE)).tolist():
        datas[number] = None
    return datas


def _starts(
    mapped: mmap.mmap, places: Places, offsets: npt.NDArray[np.int64], paths: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where the data of each entry begin, and whether a local header of its name stands before them."""
    bare = places.methods == BARE
    fine = (places.methods >= BARE) & (offsets >= 0)
    zipped = np.flatnonzero(fine & ~bare & (offsets <= len(mapped) - _HEADER))
    starts = np.where(bare, offsets, -1)
    at = offsets[zipped]
    heads = np.frombuffer(mapped, np.uint8)[at[:, None] + np.arange(_HEADER)].astype(np.int64)
    name_bytes, more = heads[:, 26] + 256 * heads[:, 27], heads[:, 28] + 256 * heads[:, 29]
    marked = (heads[:, 0] == 0x50) & (heads[:, 1] == 0x4B) & (heads[:, 2] == 3) & (heads[:, 3] == 4)
    names_at = at + _HEADER
    numbers = zipped.tolist()
    wanted = [places.names.get(number) or paths[number].encode() for number in numbers]
    spans = zip(names_at.tolist(), (names_at + name_bytes).tolist(), wanted, strict=True)
    marked &= np.array([mapped[start:end] == name for start, end, name in spans], np.bool_)
    starts[zipped] = np.where(marked, names_at + name_bytes + more, -1)
    return starts, fine
