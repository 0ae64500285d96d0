"""What commands print: messages as plain JSON or as text on stdout; notes on stderr."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from modelyard.cli.exits import error_document
from modelyard.client._status import from_status
from modelyard.client.enums import short_name


def plain(message: Message) -> Any:
    """A message as JSON values: field names as in the contract, enums as their short names in capitals (SUCCEEDED), times as
    RFC 3339, durations in seconds, errors as {code, reason, message, values}. Messages that are not set are left out."""
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    if isinstance(message, Duration):
        return message.seconds + message.nanos / 1e9
    if isinstance(message, status_pb2.Status):
        return error_document(from_status(message))
    return {
        field.name: _field(message, field)
        for field in message.DESCRIPTOR.fields
        if _is_repeated(field) or not field.has_presence or message.HasField(field.name)
    }


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return {str(key): _single(item, entry.fields_by_name["value"]) for key, item in value.items()}
    if _is_repeated(field):
        return [_single(item, field) for item in value]
    return _single(value, field)


def _single(value: Any, field: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return plain(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum_name(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def enum_name(enum: Any, number: int) -> str:
    """SUCCEEDED of JOB_STATE_SUCCEEDED; the number where there is no name for it."""
    known = enum.values_by_number.get(number)
    return short_name(_Enum(enum), known.name).upper() if known is not None else str(number)


class _Enum:
    """An enum descriptor with the face that short_name wants."""

    def __init__(self, descriptor: Any) -> None:
        self.DESCRIPTOR = descriptor


def _is_repeated(field: Any) -> bool:
    repeated: bool = field.is_repeated
    return repeated


def print_json(document: Any) -> None:
    """One line."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False), flush=True)


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], named: Sequence[str] = ()) -> None:
    """Columns of text, as wide as what they hold; a dash where there is nothing. `named`: columns behind the others, called
    by names of the user's or by ids, which stay as they are."""
    cells = [[str(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    head = [*(name.upper() for name in columns), *named]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(head)]
    for row in [head, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Mapping[str, Any]) -> None:
    """One fact a line: its name, and what it is; empty ones are left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name.ljust(width)}  {', '.join(map(str, value)) if isinstance(value, list) else value}")


def date(time: Timestamp) -> str:
    """Local date and minute; empty when unset."""
    return time.ToDatetime(datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M") if time.seconds else ""


def changed(resource: Any) -> str:
    """When it last changed; when it was made, if it never did."""
    return date(resource.update_time) or date(resource.create_time)


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def several(count: int, one: str) -> str:
    """A count with its word: "1 file", "2 files"."""
    return f"{count} {one}" + ("" if count == 1 else "s")
