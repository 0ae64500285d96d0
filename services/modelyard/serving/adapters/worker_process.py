"""One process of a version, as the server sees it: its channel and the arenas of its slots. Nothing it says is believed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset_descriptor import IMAGE_MULTILABEL
from modelyard.serving.adapters.rows import row_bytes
from modelyard.serving.adapters.shared_memory import Arena, arena_size
from modelyard.serving.adapters.zygote import Child, Zygote
from modelyard.serving.domain.channel import CALL, ENTRY, MOST_BYTES, Kind, error_from_json, places
from modelyard.serving.domain.tensors import BYTES
from modelyard.serving.handlers.proven_model import Facts, LoadOptions, resident_bytes
from modelyard.serving.ports import Tensor

GUESSED_BYTES: Final = 64
"""Of an element of text in an output, before one was too small."""
GIVING_WAY: Final = ("onnx", "litert", "edge")
"""Formats whose runtimes make their threads when a model is made. Others make them at some later call, and with its priority."""
MOST_ARENA: Final = 1 << 33
"""Largest arena, in bytes; a process that asks for more is wrong."""


@dataclass(frozen=True)
class WorkerOrder:
    """What a process is started for. `load_s`: longest that loading may take. `memory_bytes` 0: no limit.

    `gives_way`: versions that answer have the cores before it while it loads.
    """

    bundle: Path
    options: LoadOptions
    memory_bytes: int = 0
    load_s: float = 600.0
    gives_way: bool = True


class WorkerProcess:
    """A process that has loaded its model. On the event loop but for `memory_bytes`, `kill`, `how_it_ended` and `close`."""

    def __init__(self, child: Child, card: BundleCard, facts: Facts) -> None:
        self.child = child
        self.facts = facts
        self.channel = child.channel
        self.channel.setblocking(False)
        self._buffer = bytearray(MOST_BYTES)
        self._received = memoryview(self._buffer)
        slots = 2 * facts.calls + 1  # those that compute, as many ahead, one whose answer is being cut
        self._arenas: list[Arena | None] = [None] * slots
        self._free = list(range(slots))
        self._most = [0] * slots
        self._inputs = len(card.inputs)
        self._outputs = len(card.served_outputs)
        self._table = (self._inputs + self._outputs) * ENTRY.size
        self._output_row = sum(_bound(card, spec) for spec in card.served_outputs)
        self._output_least = 0
        self._sent = 0

    def send(self, inputs: Sequence[Sequence[Tensor]], rows: int) -> tuple[int, int]:
        """Copies the parts of each input into a slot and has the call computed; gives the slot and the number of the call.

        Raises OSError when the process is gone.
        """
        sizes = [sum(len(part.data) for part in parts) for parts in inputs]
        offsets, outputs_at = places(self._table, sizes)
        room = max(self._output_row * rows + 64 * self._outputs, self._output_least)
        slot = self._free.pop()
        arena, is_new = self._arena(slot, outputs_at + room)
        view = arena.view
        for place, (parts, offset, size) in enumerate(zip(inputs, offsets, sizes, strict=True)):
            ENTRY.pack_into(view, place * ENTRY.size, parts[0].datatype == BYTES, offset, size)
            for part in parts:
                end = offset + len(part.data)
                view[offset:end] = part.data
                offset = end
        self._sent += 1
        message = CALL.pack(Kind.CALL, slot, 0, rows, self._sent, outputs_at, arena.size if is_new else 0)
        if is_new:
            socket.send_fds(self.channel, [message], [arena.fd])
        else:
            self.channel.send(message)
        return slot, self._sent

    def receive(self) -> memoryview | None:
        """The next message, valid until the next call of this; empty when the process is gone; None when there is none."""
        try:
            size = self.channel.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return self._received[:0]
        return self._received[:size]

    def outputs(self, slot: int) -> list[memoryview]:
        """Where the process says its outputs are. Valid until the slot is freed. Raises ValueError for what cannot be."""
        arena = self._arenas[slot]
        if arena is None:
            raise ValueError("a slot without memory")
        found = []
        for place in range(self._outputs):
            _, offset, size = ENTRY.unpack_from(arena.view, (self._inputs + place) * ENTRY.size)
            if offset + size > arena.size:
                raise ValueError("outputs beyond the memory")
            found.append(arena.view[offset : offset + size])
        return found

    def needs(self, room: int) -> None:
        """The outputs of the last call needed so many bytes. Raises ValueError for what cannot be."""
        if not 0 < room < MOST_ARENA:
            raise ValueError("outputs of an impossible size")
        self._output_least = room

    def free(self, slot: int) -> None:
        """The slot's memory is not looked at any more."""
        self._free.append(slot)

    def shrink(self) -> None:
        """Gives memory back that the calls since the last time did not need."""
        for slot in self._free:
            arena = self._arenas[slot]
            if arena is not None and arena.size > 4 * arena_size(max(1, self._most[slot])):
                arena.close()
                self._arenas[slot] = None
            self._most[slot] = 0

    def ask_scores(self) -> None:
        """Has the process tell its drift scores."""
        with contextlib.suppress(OSError):
            self.channel.send(bytes((Kind.ASK_SCORES,)))

    def memory_bytes(self) -> int:
        """What the system says this process holds: its share of pages that several hold (PSS), else all resident ones."""
        try:
            text = Path(f"/proc/{self.child.pid}/smaps_rollup").read_text()
            return int(text.partition("\nPss:")[2].split()[0]) * 1024
        except (OSError, ValueError, IndexError):
            return resident_bytes(str(self.child.pid))

    def close(self) -> None:
        """Ends the process, and lets go of the memory."""
        self.child.close()
        for arena in self._arenas:
            if arena is not None:
                with contextlib.suppress(BufferError):
                    arena.close()
        self._arenas = []

    def _arena(self, slot: int, needed: int) -> tuple[Arena, bool]:
        self._most[slot] = max(self._most[slot], needed)
        arena = self._arenas[slot]
        if arena is not None and arena.size >= needed:
            return arena, False
        if arena is not None:
            arena.close()
        self._arenas[slot] = None
        self._arenas[slot] = made = Arena(needed)
        return made, True


def start_worker(zygote: Zygote, order: WorkerOrder, card: BundleCard) -> WorkerProcess:
    """A process that has loaded the bundle. Blocks.

    Raises what loading raises, Unavailable MODEL_CRASHED when it ended or took too long.
    """
    child = zygote.fork(
        {
            "bundle": os.fspath(order.bundle.absolute()),
            "options": asdict(order.options),
            "memory_bytes": order.memory_bytes,
            "gives_way": order.gives_way and card.format in GIVING_WAY,
        }
    )
    try:
        return WorkerProcess(child, card, _loaded(child, order.load_s))
    except BaseException:
        child.kill()
        child.close()
        raise


def _loaded(child: Child, load_s: float) -> Facts:
    child.channel.settimeout(load_s)
    try:
        message = child.channel.recv(MOST_BYTES)
    except TimeoutError as error:
        text = f"the model was not loaded within {load_s:g} s, which is the most it may take"
        raise Unavailable("MODEL_CRASHED", text) from error
    except OSError:
        message = b""
    if not message:
        text = f"the model crashed while it was loaded: {child.ended(5)}"
        raise Unavailable("MODEL_CRASHED", text)
    if message[0] == Kind.LOADED:
        return _facts(message[1:])
    raise error_from_json(message[1:])


def _facts(data: bytes) -> Facts:
    """Checked: the process may be another's by now."""
    try:
        document: dict[str, Any] = json.loads(data)
        facts = Facts(**{field.name: document[field.name] for field in fields(Facts)})
        whole = (facts.threads, facts.calls, facts.most_rows, facts.memory_bytes)
        sound = all(type(each) is int for each in whole) and type(facts.row_s) is float and isinstance(facts.note, str)
        if sound and 1 <= facts.threads <= 4096 and 1 <= facts.calls <= 250 and facts.most_rows >= 1 and facts.row_s >= 0:
            return facts
    except (ValueError, KeyError, TypeError):
        pass
    raise _nonsense()


def _nonsense() -> ModelyardError:
    return Unavailable("MODEL_CRASHED", "the model's process told nonsense")


def _bound(card: BundleCard, spec: Any) -> int:
    """Bytes that one example's part of an output may need; of text a guess, of labels the longest."""
    if spec.datatype != BYTES:
        return row_bytes(spec)
    elements = 1
    for size in spec.shape[1:]:
        elements *= size
    named = card.derived is not None and spec.name == card.derived.name and card.task != IMAGE_MULTILABEL
    longest = max((len(name.encode()) for name in card.classes), default=GUESSED_BYTES) if named else GUESSED_BYTES
    return (4 + longest) * elements
