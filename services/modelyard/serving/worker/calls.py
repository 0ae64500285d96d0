"""The calls of one version, as they come over its channel."""

from __future__ import annotations

import mmap
import os
import socket
import sys
import time
from typing import Final

from modelyard.core.errors import ModelyardError
from modelyard.serving.domain.channel import CALL, DONE, ENDED, ENTRY, MOST_BYTES, Kind, error_json, places
from modelyard.serving.domain.drift import scores_json
from modelyard.serving.domain.tensors import BYTES
from modelyard.serving.handlers.execution import Execution

OUT_OF_MEMORY: Final = 77
"""Exit status when no more memory could be had."""


_ROOM: Final = socket.CMSG_LEN(4)
"""For one file descriptor."""


class TooSmallError(Exception):
    """The outputs need so many bytes from where they begin."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class Calls:
    """Answers calls. `run` may be called by several threads: each message reaches one of them."""

    def __init__(self, execution: Execution, channel: socket.socket) -> None:
        self._execution = execution
        self._channel = channel
        self._arenas: dict[int, mmap.mmap] = {}
        self._inputs = execution.inputs
        self._outputs = len(execution.outputs)

    def run(self) -> None:
        """Until the channel closes; then the process ends, whatever other threads do."""
        receive, send = self._channel.recvmsg, self._channel.send
        while True:
            message, rights, _, _ = receive(256, _ROOM)
            if not message:
                os._exit(0)
            if message[0] == Kind.CALL:
                send(self._call(message, rights))
            elif message[0] == Kind.ASK_SCORES:
                send(self._scores())

    def _call(self, message: bytes, rights: list[tuple[int, int, bytes]]) -> bytes:
        _, slot, _, rows, number, outputs_at, size = CALL.unpack(message)
        if rights:
            self._map(slot, int.from_bytes(rights[0][2][:4], sys.byteorder), size)
        try:
            times = self._compute(self._arenas[slot], rows, outputs_at)
            return DONE.pack(Kind.DONE, slot, 0, 0, number, *times)
        except TooSmallError as error:
            return ENDED.pack(Kind.TOO_SMALL, slot, 0, 0, number, error.needed)
        except ModelyardError as error:
            return ENDED.pack(Kind.WRONG, slot, 0, 0, number, 0) + error_json(error)

    def _compute(self, arena: mmap.mmap, rows: int, outputs_at: int) -> tuple[int, int, int]:
        """Nanoseconds of input, model and output."""
        start = time.perf_counter_ns()
        view = memoryview(arena)
        tensors = []
        for place, spec in enumerate(self._inputs):
            is_bytes, offset, size = ENTRY.unpack_from(view, place * ENTRY.size)
            tensors.append((BYTES if is_bytes else spec.datatype, view[offset : offset + size]))
        inputs = self._execution.read(rows, tensors)
        read = time.perf_counter_ns()
        try:
            answers = self._execution.run(inputs)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # whatever could not be had, this process is of no more use
        computed = time.perf_counter_ns()
        self._write(view, self._execution.write(answers), outputs_at)
        return read - start, computed - read, time.perf_counter_ns() - computed

    def _write(self, view: memoryview, outputs: list[bytes | memoryview], outputs_at: int) -> None:
        offsets, end = places(outputs_at, [len(data) for data in outputs])
        if end > len(view):
            raise TooSmallError(end - outputs_at)
        table = len(self._inputs) * ENTRY.size
        for place, (offset, data) in enumerate(zip(offsets, outputs, strict=True)):
            view[offset : offset + len(data)] = data
            ENTRY.pack_into(view, table + place * ENTRY.size, 0, offset, len(data))

    def _map(self, slot: int, fd: int, size: int) -> None:
        try:
            self._arenas[slot] = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def _scores(self) -> bytes:
        scores = self._execution.scores()
        while len(data := scores_json(scores)) >= MOST_BYTES:
            scores = scores[: len(scores) // 2]  # the strongest come first
        return bytes((Kind.SCORES,)) + data
