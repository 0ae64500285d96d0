"""python -m modelyard.dataset.worker.picture_process SOCKET: reads and checks pictures of an archive for an import.

Small pictures cost more in Python than in any decoder, and Python does one thing at a time in a process; so an import has one
of these for
each CPU. It is asked for a part of the archive and answers with what a manifest needs; it ends when the socket does.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.formats import pictures, png_batch
from modelyard.formats.archive import Limits, Places
from modelyard.formats.archive_bulk import read_all
from modelyard.formats.folder import FolderPlace, OpenFolder

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 128 * 1024**2
ID_BYTES, HASH_BYTES = 20, 64
"""Bytes of an example's id and of its hash, as text."""


@dataclass(frozen=True)
class Part:
    """Pictures to read, by their paths, and their places in an archive or the files of a folder that hold them."""

    paths: Sequence[str]
    places: Places | Sequence[str]


@dataclass(frozen=True)
class Read:
    """What was read of n pictures. `data`: the files of those that are fine, one after the other, as are `thumbnails`, `ids` (20
    hexadecimal digits each) and `hashes` (64); `lengths` int64 [n] (-1: not fine); `sizes` int32 [n, 2]: width and height;
    `refused`: why, by number, reason and message; "" where the archive itself must be asked."""

    data: bytes
    lengths: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    thumbnails: bytes
    ids: bytes
    hashes: bytes
    refused: dict[int, tuple[str, str]]
    read_bytes: int


def read_part(source: int | OpenFolder, part: Part, limits: Limits) -> Read:
    """Reads pictures of the archive that a file descriptor has open, or of a folder, to their last pixel."""
    if isinstance(source, OpenFolder):
        assert not isinstance(part.places, Places)
        datas = source.read_all(part.places, limits.entry_bytes)
    else:
        assert isinstance(part.places, Places)
        datas = read_all(source, part.places, part.paths, limits)
    sizes, thumbnails, known = png_batch.probe([data or b"" for data in datas], THUMBNAIL)
    refused = {number: ("", "") for number, data in enumerate(datas) if data is None}
    for number in np.flatnonzero(~known).tolist():
        data = datas[number]
        if data is None:
            continue
        try:
            info, thumbnail = pictures.probe_with_thumbnail(data, size=THUMBNAIL, name=part.paths[number])
        except InvalidArgument as error:
            refused[number] = (error.reason, error.message)
            continue
        sizes[number], thumbnails[number] = (info.width, info.height), thumbnail[:, :, 0]
    lengths = np.array([-1 if data is None else len(data) for data in datas], np.int64)
    read_bytes = int(lengths[lengths > 0].sum())
    lengths[list(refused)] = -1
    fine = [number for number in range(len(datas)) if number not in refused] if refused else range(len(datas))
    files = [data for number in fine if (data := datas[number]) is not None]
    sha256 = hashlib.sha256
    hashes = [sha256(data).hexdigest() for data in files]
    # As formats.dataset.example_id has them.
    names = [f"{part.paths[number]}\0{own}".encode() for number, own in zip(fine, hashes, strict=True)]
    ids = [sha256(name).hexdigest()[:ID_BYTES] for name in names]
    small = thumbnails if not refused else thumbnails[lengths >= 0]
    texts = ("".join(ids).encode(), "".join(hashes).encode())
    return Read(b"".join(files), lengths, sizes, small.tobytes(), *texts, refused, read_bytes)


def wait(link: Connection) -> None:
    """Is told its archive, and serves that; ends with the other side."""
    _keep_memory()
    try:
        source, limits = link.recv()
    except (EOFError, OSError):
        return
    serve(link, source, limits)


def _keep_memory() -> None:
    """Has glibc keep what a part frees for the next: given back to the system it comes again page by page, each made zero."""
    with contextlib.suppress(OSError, AttributeError):  # another system, another libc
        change = ctypes.CDLL(None).mallopt
        change(_TRIM_THRESHOLD, _KEPT_BYTES)
        change(_MMAP_THRESHOLD, 32 * 1024**2)


def serve(link: Connection, source: str | FolderPlace, limits: Limits) -> None:
    """Answers until the other side is gone. `source`: an archive's path, or a folder."""
    opened = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if isinstance(source, str) else OpenFolder(source)
    with contextlib.suppress(EOFError, OSError):
        while True:
            link.send(read_part(opened, link.recv(), limits))


if __name__ == "__main__":
    from modelyard.dataset.worker import picture_process  # what is sent must be known under its own name, not as __main__'s

    with Connection(int(sys.argv[1])) as own:
        picture_process.wait(own)
