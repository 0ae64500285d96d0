"""python -m modelyard.dataset.worker.picture_process SOCKET ARCHIVE: reads and checks pictures of an archive for an import.

Small pictures cost more in Python than in any decoder, and Python does one thing at a time in a process; so an import has one
of these for
each CPU. It is asked for a part of the archive and answers with what a manifest needs; it ends when the socket does.
"""

from __future__ import annotations

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
from modelyard.formats.archive import Limits, Located, read_located
from modelyard.formats.dataset import example_id


@dataclass(frozen=True)
class Part:
    """Pictures to read, by their paths and places; None where the archive itself must be asked."""

    paths: Sequence[str]
    places: Sequence[Located | None]


@dataclass(frozen=True)
class Read:
    """What was read of n pictures. `data`: the files of those that are fine, one after the other; `lengths` int64 [n] (-1: not
    fine);
    `sizes` int32 [n, 2]: width and height; `thumbnails` one after the other; `refused`: why,
    by number, reason and message; "" where the
    archive itself must be asked."""

    data: bytes
    lengths: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    thumbnails: bytes
    ids: list[str]
    hashes: list[str]
    refused: dict[int, tuple[str, str]]
    read_bytes: int


def read_part(descriptor: int, part: Part, limits: Limits) -> Read:
    """Reads pictures to their last pixel."""
    count = len(part.paths)
    datas = [read_located(descriptor, located, limits) if located is not None else None for located in part.places]
    sizes, thumbnails, known = png_batch.probe([data or b"" for data in datas], THUMBNAIL)
    lengths = np.full(count, -1, np.int64)
    files, ids, hashes = [], [], []
    refused: dict[int, tuple[str, str]] = {}
    for number, (path, data) in enumerate(zip(part.paths, datas, strict=True)):
        if data is None:
            refused[number] = ("", "")
            continue
        if not known[number]:
            try:
                info, thumbnail = pictures.probe_with_thumbnail(data, size=THUMBNAIL, name=path)
            except InvalidArgument as error:
                refused[number] = (error.reason, error.message)
                continue
            sizes[number], thumbnails[number] = (info.width, info.height), thumbnail[:, :, 0]
        sha256 = hashlib.sha256(data).hexdigest()
        lengths[number] = len(data)
        files.append(data)
        ids.append(example_id(path, sha256))
        hashes.append(sha256)
    small = thumbnails[lengths >= 0].tobytes()
    total = sum(len(data) for data in datas if data is not None)
    return Read(b"".join(files), lengths, sizes, small, ids, hashes, refused, total)


def serve(link: Connection, archive: str, limits: Limits) -> None:
    """Answers until the other side is gone."""
    descriptor = os.open(archive, os.O_RDONLY)
    try:
        while True:
            link.send(read_part(descriptor, link.recv(), limits))
    except (EOFError, OSError):
        return
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    from modelyard.dataset.worker import picture_process  # what is sent must be known under its own name, not as __main__'s

    with Connection(int(sys.argv[1])) as own:
        picture_process.serve(own, sys.argv[2], own.recv())
