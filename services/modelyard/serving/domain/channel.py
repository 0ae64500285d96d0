"""What a server and the process of a version say to each other: fixed layouts, nothing that could be code.

Control messages go over a SOCK_SEQPACKET socket, one message each. Tensors lie in a shared arena, a slot a call:

    [inputs: an entry each] [outputs: an entry each] [inputs' bytes, aligned] [outputs' bytes]

A call names its slot, the examples, and where outputs begin; when the slot has a new arena its file descriptor comes along.
The server writes the entries of the inputs, the process those of the outputs. The process is not believed: what it says is
copied before it is checked, and used only after that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, Final

from modelyard.core import errors
from modelyard.core.errors import ModelyardError, Unavailable

ALIGNMENT: Final = 64
"""Of tensors in the arena: a cache line, and what vector instructions like."""
MOST_BYTES: Final = 1 << 16
"""Of one message."""
MOST_TEXT: Final = 2000

CALL: Final = Struct("<BBHIQQQ")
"""CALL: kind, slot, 0, rows, number of the call, where outputs begin, size of the new arena (0: the one it has)."""
DONE: Final = Struct("<BBHIQQQQ")
"""DONE: kind, slot, 0, 0, number of the call, nanoseconds of input, of the model, of output."""
ENDED: Final = Struct("<BBHIQQ")
"""WRONG, TOO_SMALL: kind, slot, 0, 0, number of the call, bytes that the outputs need; WRONG goes on with error_json."""
ENTRY: Final = Struct("<QQQ")
"""Of a tensor: 1 when it is BYTES instead of the card's datatype, where it begins, and how many bytes it has."""


class Kind(IntEnum):
    """The first byte of a message."""

    CALL = 1
    ASK_SCORES = 2
    LOADED = 16
    REFUSED = 17
    DONE = 18
    WRONG = 19
    TOO_SMALL = 20
    SCORES = 21


def aligned(offset: int) -> int:
    """The next place where a tensor may begin."""
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def places(start: int, sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where tensors of these sizes lie from `start` on, and where what follows may begin."""
    offsets, end = [], aligned(start)
    for size in sizes:
        offsets.append(end)
        end = aligned(end + size)
    return offsets, end


_ERRORS: Final[Mapping[str, type[ModelyardError]]] = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgument,
        errors.FailedPrecondition,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.DataLoss,
        errors.Unimplemented,
    )
}


def error_json(error: ModelyardError) -> bytes:
    """An error as it travels."""
    fields = [each.field for each in error.violations][:1]
    document = {
        "kind": type(error).__name__,
        "reason": error.reason,
        "message": error.message[:MOST_TEXT],
        "values": {key: value[:MOST_TEXT] for key, value in list(error.values.items())[:20]},
        "field": fields[0] if fields else "",
    }
    return json.dumps(document).encode()


def error_from_json(data: bytes) -> ModelyardError:
    """The error that a process told. What is none becomes Unavailable MODEL_CRASHED."""
    try:
        document: Any = json.loads(data)
        kind = _ERRORS[document["kind"]]
        values: Any = {str(key): str(value) for key, value in document["values"].items() if key not in _OWN}
        field = str(document["field"]) or None
        return kind(str(document["reason"]), str(document["message"])[:MOST_TEXT], field=field, **values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unavailable("MODEL_CRASHED", "the model's process told nonsense", retry_after_s=1.0)


_OWN: Final = frozenset(("reason", "message", "field", "violations", "retry_after_s", "self"))
