"""Decoding the examples of a block into shared memory, here or in a process (`python -m modelyard.formats.decoding SOCKET`).

The process is spoken to over a socket whose number is its argument. A message is HEADER, then the hashes and places of the
examples, then the block's bytes; where the memory changes, the message's first byte carries its descriptor. The answer is a
length (8 bytes) and JSON: {}, or what `Fault` holds.
No pickle: the bytes of pictures come from anywhere.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.formats.decoding_any import decode_example

HEADER = struct.Struct("<?qqqqqq")
"""Whether a descriptor comes along; examples; rows, height, width and channels of the memory; bytes of the block."""

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Places:
    """Where each of n examples is in a block, and where its pixels belong: int64 [n] each, and sha256 uint8 [n, 32]."""

    start: Integers
    size: Integers
    row: Integers
    sha256: Hashes

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Fault:
    """What is wrong with the example at `index`: its bytes are not those that were published, or they cannot be decoded."""

    index: int
    reason: str = ""
    message: str = ""


def decode_block(block: memoryview, places: Places, rows: Rows) -> Fault | None:
    """Decodes examples into rows uint8 [R, H, W, C]; stops at the first that is at fault. Each example's sha256 is checked."""
    height, width, channels = rows.shape[1:]
    wanted = places.sha256.tobytes()
    spans = zip(places.start.tolist(), places.size.tolist(), places.row.tolist(), strict=True)
    for index, (start, size, row) in enumerate(spans):
        data = bytes(block[start : start + size])
        if hashlib.sha256(data).digest() != wanted[32 * index : 32 * index + 32]:
            return Fault(index)
        try:
            rows[row] = decode_example(data, height=height, width=width, channels=channels)
        except InvalidArgument as error:
            return Fault(index, error.reason, error.message)
    return None


def send(link: socket.socket, block: bytes, places: Places, rows: Rows, descriptor: int | None) -> None:
    """Asks a decoding process for a block; `descriptor`: of the memory behind `rows`, when the process does not have it yet."""
    head = HEADER.pack(descriptor is not None, len(places), *rows.shape, len(block))
    if descriptor is not None:
        socket.send_fds(link, [head[:1]], [descriptor])
        head = head[1:]
    numbers = np.stack([places.start, places.size, places.row])
    link.sendall(b"".join((head, numbers.tobytes(), places.sha256.tobytes())))
    link.sendall(block)


def answer(link: socket.socket) -> Fault | None:
    """A decoding process's answer. Raises EOFError when the process is gone."""
    length = struct.unpack("<q", _exactly(link, 8))[0]
    said: dict[str, Any] = json.loads(_exactly(link, length))
    return Fault(**said) if said else None


def serve(link: socket.socket) -> None:
    """What a decoding process does until the socket closes."""
    memory: mmap.mmap | None = None
    while True:
        first, descriptors, *_ = socket.recv_fds(link, 1, 1)
        if not first:
            return
        head = first + _exactly(link, HEADER.size - 1)
        _, examples, *shape, size = HEADER.unpack(head)
        if descriptors:
            memory = mmap.mmap(descriptors[0], 0)
            os.close(descriptors[0])
        if memory is None:
            raise AssertionError("the first message carries the memory")
        start, length, row = np.frombuffer(_exactly(link, 24 * examples), np.int64).reshape(3, examples)
        hashes = np.frombuffer(_exactly(link, 32 * examples), np.uint8).reshape(examples, 32)
        block = memoryview(_exactly(link, size))
        rows = np.frombuffer(memory, np.uint8, int(np.prod(shape))).reshape(shape)
        fault = decode_block(block, Places(start, length, row, hashes), rows)
        del rows
        said = json.dumps(vars(fault) if fault else {}).encode()
        link.sendall(struct.pack("<q", len(said)) + said)


def _exactly(link: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        got = link.recv_into(view[done:])
        if not got:
            raise EOFError
        done += got
    return buffer


def main() -> int:
    """The process: ends when its socket does."""
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        serve(link)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
