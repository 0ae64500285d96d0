"""Processes that decode pictures into memory they share with this one: Python decodes small pictures one at a time in a process,
and a training that computes in the same process would wait for each of them (decisions/0028).
"""

from __future__ import annotations

import mmap
import os
import queue
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import DataLoss
from modelyard.formats.decoding import Fault, Places, answer, decode_block, send


class Memory:
    """Pictures uint8 [rows, height, width, channels] in memory that decoding processes write to. It goes when nobody uses it."""

    def __init__(self, rows: int, height: int, width: int, channels: int) -> None:
        size = max(1, rows * height * width * channels)
        self.descriptor = _unnamed()
        os.ftruncate(self.descriptor, size)
        mapped = mmap.mmap(self.descriptor, size)
        shape = (rows, height, width, channels)
        self.rows: npt.NDArray[np.uint8] = np.frombuffer(mapped, np.uint8, rows * height * width * channels).reshape(shape)

    def close(self) -> None:
        """Gives the descriptor back; arrays that were taken from `rows` stay."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _unnamed() -> int:
    """A file without a name, in memory where the system has such a thing."""
    if sys.platform == "linux":
        return os.memfd_create("modelyard-pictures", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    link: socket.socket
    memory: Memory | None = None

    def decode(self, block: bytes, places: Places, memory: Memory) -> Fault | None:
        """Raises OSError or EOFError when the process is gone."""
        send(self.link, block, places, memory.rows, memory.descriptor if self.memory is not memory else None)
        self.memory = memory
        return answer(self.link)

    def end(self) -> None:
        self.link.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Decoders:
    """`count` decoding processes, started when first needed; 0: blocks are decoded by the thread that asks. Safe with threads."""

    count: int
    _idle: queue.LifoQueue[_Child | None] = field(default_factory=queue.LifoQueue)

    def __post_init__(self) -> None:
        for _ in range(self.count):
            self._idle.put(None)

    def decode(self, block: bytes, places: Places, memory: Memory) -> Fault | None:
        """Decodes examples of a block into the memory's rows; waits for a free process. See decoding.decode_block.

        Raises DataLoss DECODER_LOST when the process ended over this block, twice.
        """
        if self.count == 0:
            return decode_block(memoryview(block), places, memory.rows)
        child = self._idle.get()
        try:
            for _ in range(2):
                child = child or _start()
                try:
                    return child.decode(block, places, memory)
                except (OSError, EOFError):
                    child.end()
                    child = None
        finally:
            self._idle.put(child)
        message = (
            "the process that decodes pictures ended over a block of the dataset, twice: memory ran out, or a damaged picture"
        )
        raise DataLoss("DECODER_LOST", message)

    def close(self) -> None:
        """Ends the processes that are idle; to be called when no thread decodes."""
        for _ in range(self.count):
            child = self._idle.get()
            if child is not None:
                child.end()
            self._idle.put(None)


def _start() -> _Child:
    """A process with the limits and variables of this one; it needs one thread, and ends when the socket does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        command = [sys.executable, "-m", "modelyard.formats.decoding", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
    return _Child(process, ours)
