"""The directory of a zip file as columns: 70,000 entries cost zipfile most of a second, and half a kilobyte each.

Only what is said plainly is taken here (no comment behind the end, nothing before the first file, sizes and places below 4 GiB,
every record where the one before it ends); of any other zip nothing is said, and zipfile is asked. PKWARE's APPNOTE 6.3.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_PLACE_64 = struct.Struct("<4sLQL")
_RECORD = 46
_LARGE, _MANY = 0xFFFFFFFF, 0xFFFF
_UTF8_FLAG = 0x800
_NEWLINE = 10
_NAMES_AT_ONCE = 8192


@dataclass(frozen=True)
class ZipDirectory:
    """What a zip's directory says of its n entries, in its order: where each lies (its local header), its bytes packed and as
    they are, how it is packed (0 stored, 8 deflated), its CRC-32, flags, and attributes of the file system. All int64 [n].

    `names` as their makers meant them; `old_names` are the numbers of those that stand in code page 437 in the file, all others
    in UTF-8.
    """

    names: Sequence[str]
    offsets: Ints
    packed: Ints
    sizes: Ints
    methods: Ints
    checksums: Ints
    flags: Ints
    attributes: Ints
    old_names: frozenset[int]

    def raw_name(self, index: int) -> bytes:
        """A name as its bytes stand in the file."""
        return self.names[index].encode("cp437" if index in self.old_names else "utf-8", "replace")


def read_directory(path: Path, *, most: int) -> ZipDirectory | None:
    """The directory of a zip; None where it is not plain, or has more than `most` entries."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END.size - _PLACE_64.size - _END_64.size))
        tail = file.read()
        found = _place(tail, size)
        if found is None or found[0] > most:
            return None
        count, at, length = found
        file.seek(at)
        listing = file.read(length)
    return _columns(listing, count) if len(listing) == length else None


def from_infos(infos: Sequence[zipfile.ZipInfo]) -> ZipDirectory:
    """The same of what zipfile has read."""
    names, old = [], set()
    for index, info in enumerate(infos):
        name = info.orig_filename
        if not info.flag_bits & _UTF8_FLAG and not name.isascii():  # zipfile has read it as code page 437
            try:
                name = name.encode("cp437").decode("utf-8")  # macOS writes UTF-8 without the flag that says so
            except (UnicodeEncodeError, UnicodeDecodeError):
                old.add(index)
        names.append(name)

    def column(values: Sequence[int]) -> Ints:
        return np.array(values, np.int64)

    return ZipDirectory(
        names=names,
        offsets=column([info.header_offset for info in infos]),
        packed=column([info.compress_size for info in infos]),
        sizes=column([info.file_size for info in infos]),
        methods=column([info.compress_type for info in infos]),
        checksums=column([info.CRC for info in infos]),
        flags=column([info.flag_bits for info in infos]),
        attributes=column([info.external_attr for info in infos]),
        old_names=frozenset(old),
    )


def _place(tail: bytes, size: int) -> tuple[int, int, int] | None:
    """How many entries there are, and where the directory begins, and its length."""
    end_at = len(tail) - _END.size
    if end_at < 0:
        return None
    magic, disk, first, here, count, length, at, comment = _END.unpack_from(tail, end_at)
    if magic != b"PK\x05\x06" or disk or first or comment or here != count:
        return None
    stop = size - _END.size
    if _MANY in (count,) or _LARGE in (length, at):
        place_at = end_at - _PLACE_64.size
        large_at = place_at - _END_64.size
        if large_at < 0:
            return None
        magic, disk, where, disks = _PLACE_64.unpack_from(tail, place_at)
        stop = size - _END.size - _PLACE_64.size - _END_64.size
        if magic != b"PK\x06\x07" or disk or disks > 1 or where != stop:
            return None
        magic, record, _, _, disk, first, here, count, length, at = _END_64.unpack_from(tail, large_at)
        if magic != b"PK\x06\x06" or record != _END_64.size - 12 or disk or first or here != count:
            return None
    return (count, at, length) if at + length == stop and count * _RECORD <= length else None


def _columns(listing: bytes, count: int) -> ZipDirectory | None:
    data = np.frombuffer(listing, np.uint8)
    starts = _starts(data, count)
    if starts is None:
        return None

    def number(at: int, size: int) -> Ints:
        return sum((data[starts + (at + i)].astype(np.int64) << (8 * i) for i in range(size)), np.zeros(count, np.int64))

    name_bytes, more, comment = number(28, 2), number(30, 2), number(32, 2)
    ends = starts + _RECORD + name_bytes + more + comment
    if count and (starts[0] != 0 or ends[-1] != len(data) or np.any(starts[1:] != ends[:-1])):
        return None
    packed, sizes, offsets = number(20, 4), number(24, 4), number(42, 4)
    if np.any(number(34, 2)) or np.any(np.maximum(np.maximum(packed, sizes), offsets) == _LARGE):
        return None
    flags = number(8, 2)
    named = _names(listing, data, starts + _RECORD, name_bytes, flags)
    if named is None:
        return None
    names, old = named
    return ZipDirectory(names, offsets, packed, sizes, number(10, 2), number(16, 4), flags, number(38, 4), old)


def _starts(data: npt.NDArray[np.uint8], count: int) -> Ints | None:
    """Where the records begin; None where their mark is not found exactly as often as there are records."""
    if not count:
        return np.empty(0, np.int64)
    if len(data) < _RECORD:
        return None
    marked = (data[:-3] == 0x50) & (data[1:-2] == 0x4B) & (data[2:-1] == 1) & (data[3:] == 2)
    starts = np.flatnonzero(marked[: len(data) - _RECORD + 1])
    return starts.astype(np.int64) if len(starts) == count else None


def _names(
    listing: bytes, data: npt.NDArray[np.uint8], starts: Ints, lengths: Ints, flags: Ints
) -> tuple[list[str], frozenset[int]] | None:
    """The names, and the numbers of those in code page 437; None where one is not what its flag says."""
    plain = _plain_names(data, starts, lengths)
    if plain is not None:
        return plain, frozenset()
    names, old = [], set()
    for index, (start, length, flag) in enumerate(zip(starts.tolist(), lengths.tolist(), flags.tolist(), strict=True)):
        raw = listing[start : start + length]
        try:
            names.append(raw.decode("utf-8"))
        except UnicodeDecodeError:
            if flag & _UTF8_FLAG:
                return None
            names.append(raw.decode("cp437"))
            old.add(index)
    return names, frozenset(old)


def _plain_names(data: npt.NDArray[np.uint8], starts: Ints, lengths: Ints) -> list[str] | None:
    """The names where all are ASCII without a line's end; some thousand at a time, because each byte is found by its number."""
    names: list[str] = []
    for first in range(0, len(starts), _NAMES_AT_ONCE):
        at, long = starts[first : first + _NAMES_AT_ONCE], lengths[first : first + _NAMES_AT_ONCE] + 1
        ends = np.cumsum(long)
        places = np.repeat(at - (ends - long), long) + np.arange(ends[-1])
        joined = data[np.minimum(places, len(data) - 1)]
        joined[ends - 1] = _NEWLINE
        text = joined.tobytes()
        if not text.isascii() or text.count(b"\n") != len(at):
            return None
        names += text.decode("ascii").split("\n")[:-1]
    return names
