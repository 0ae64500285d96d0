"""Reads CSV and Parquet files into whole columns. What a line of a CSV file cannot give is listed, never guessed."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import LISTED_REJECTED, RejectedInput
from modelyard.dataset.domain.tables import RawTable
from modelyard.dataset.worker.results import RIGHT
from modelyard.dataset.worker.sources import lines
from modelyard.formats.archive import file_chunks

MAX_TABLE_BYTES = 4 * 1024**3
"""Largest table that is read; tables are held in memory."""

_HEAD = 256 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass
class _BadLines:
    """Collects the lines whose number of fields is not the header's; `rows` are numbers of rows after the header."""

    rows: list[int] = field(default_factory=list)
    listed: list[RejectedInput] = field(default_factory=list)

    def note(self, row: Any) -> str:
        number = (row.number or 0) - 1
        self.rows.append(number)
        if len(self.listed) < LISTED_REJECTED:
            message = f"row {number} has {row.actual_columns} fields, the header {row.expected_columns}"
            self.listed.append(RejectedInput(f"row {number}", "WRONG_FIELD_COUNT", message))
        return "skip"


def read_csv(path: Path, *, name: str) -> RawTable:
    """Reads delimited text with a header line. Every column comes as text; the domain decides what it is.

    Raises InvalidArgument NO_EXAMPLES, NOT_A_TABLE, TABLE_TOO_LARGE.
    """
    _check_size(path.stat().st_size, name)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    encoding, encoding_note = _encoding(head, path)
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    if not text.strip():
        raise InvalidArgument("NO_EXAMPLES", f"{name} is empty; a header line and rows are needed", file=name)
    if "\x00" in text:
        raise InvalidArgument("NOT_A_TABLE", f"{name} is neither text nor a format that is known; {RIGHT}", file=name)
    delimiter = sniff_delimiter(text)
    header, header_lines = _header(text, delimiter)
    if len(text) < _HEAD // 4 and not any(line.strip() for line in text.splitlines()[header_lines:]):
        raise InvalidArgument("NO_EXAMPLES", f"{name} has a header and no rows; at least two rows are needed", file=name)
    names, rename_note = _unique(header)
    bad = _BadLines()
    table = _parse(path, name, delimiter, encoding, names, header_lines, bad)
    kept = np.setdiff1d(np.arange(1, table.num_rows + len(bad.rows) + 1), np.asarray(bad.rows, dtype=np.int64))
    delimiter_note = f"{name} was read as text separated by {_DELIMITER_NAMES[delimiter]}."
    number_note = "The first line was taken as the header, though all its fields are numbers." if _all_numbers(header) else ""
    notes = (delimiter_note, encoding_note, rename_note, number_note)
    return RawTable(
        columns={each: table[each] for each in names},
        row_numbers=kept[: table.num_rows].astype(np.int64),
        rejected=tuple(bad.listed),
        rejected_count=len(bad.rows),
        assumptions=tuple(note for note in notes if note),
        comma_allowed=delimiter != ",",
        delimiter=delimiter,
    )


def read_parquet(path: Path, *, name: str) -> RawTable:
    """Reads a Parquet file. Raises InvalidArgument NOT_A_TABLE, TABLE_TOO_LARGE, NO_EXAMPLES."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            _check_size(sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), name)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise InvalidArgument("NOT_A_TABLE", f"{name} cannot be read as Parquet: {error}", file=name) from error
    names, rename_note = _unique(table.column_names)
    if not names or not table.num_rows:
        raise InvalidArgument("NO_EXAMPLES", f"{name} has {len(names)} columns and {table.num_rows} rows", file=name)
    return RawTable(
        columns={each: table.column(i) for i, each in enumerate(names)},
        row_numbers=np.arange(1, table.num_rows + 1, dtype=np.int64),
        assumptions=(rename_note,) if rename_note else (),
    )


def is_json_lines(head: bytes) -> bool:
    """Whether a file's first bytes are a JSON object, one a line."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"{")


def read_json_lines(path: Path, *, name: str) -> RawTable:
    """Reads JSON objects, one a line; a column for each key. A line that is no object is listed.

    Raises InvalidArgument TABLE_TOO_LARGE, NO_EXAMPLES, NOT_TEXT.
    """
    _check_size(path.stat().st_size, name)
    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    bad: list[RejectedInput] = []
    count = 0
    for number, line in enumerate(lines(file_chunks(path), name=name), start=1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            count += 1
            bad += [RejectedInput(f"row {number}", "BAD_LINE", f"row {number} of {name} is no JSON object")][
                : LISTED_REJECTED - len(bad)
            ]
            continue
        for key, value in record.items():
            columns.setdefault(key, [None] * len(numbers)).append(value)
        numbers.append(number)
        for values in columns.values():
            if len(values) < len(numbers):
                values.append(None)
    if not numbers or not columns:
        raise InvalidArgument("NO_EXAMPLES", f"{name} holds no line that is a JSON object with keys", file=name)
    return RawTable(
        columns={key: pa.chunked_array([_json_column(values)]) for key, values in columns.items()},
        row_numbers=np.asarray(numbers, dtype=np.int64),
        rejected=tuple(bad),
        rejected_count=count,
        assumptions=(f"{name} was read as JSON, one object a line.",),
    )


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json_column(values: list[Any]) -> pa.Array:
    """Numbers, truth values or texts as such; where kinds are mixed, texts; lists and objects as bytes, which are left out."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds in ({bool}, {str}) or kinds & {list, dict}:
        return pa.array(values) if not kinds & {list, dict} else pa.array([json.dumps(v).encode() for v in values], pa.binary())
    return pa.array([None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values])


def sniff_delimiter(text: str) -> str:
    """The delimiter that cuts the first lines into the same, largest number of fields; a comma when none cuts them."""
    sample = text.splitlines()[:60]
    lines = [line for line in (sample[:-1] if len(sample) > 1 and len(text) >= _HEAD // 2 else sample) if line.strip()]
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        score = _cut_score(lines, delimiter)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _cut_score(lines: Sequence[str], delimiter: str) -> float:
    """Share of lines with the commonest number of fields, then that number; 0 when lines are not cut."""
    try:
        counts = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter))
        header = len(next(csv.reader(lines, delimiter=delimiter)))
    except (csv.Error, StopIteration):
        return 0.0
    if header < 2:
        return 0.0
    return counts[header] / sum(counts.values()) + min(header, 1000) / 10_000


def _parse(path: Path, name: str, delimiter: str, encoding: str, names: list[str], skip: int, bad: _BadLines) -> pa.Table:
    import pyarrow.csv as pcsv

    def run(text_encoding: str) -> pa.Table:
        bad.rows.clear()
        bad.listed.clear()
        return pcsv.read_csv(
            path,
            read_options=pcsv.ReadOptions(
                column_names=names, skip_rows=skip, use_threads=False, encoding=text_encoding, block_size=16 * 1024**2
            ),
            parse_options=pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=bad.note),
            convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )

    try:
        return run(encoding)
    except UnicodeDecodeError as error:
        message = (
            f"{name} is text in an encoding that is not read: neither UTF-8 nor UTF-16, and byte {error.start} is none of "
            "Windows-1252; save it as UTF-8"
        )
        raise InvalidArgument("UNKNOWN_ENCODING", message, file=name, byte=error.start) from error
    except pa.ArrowException as error:
        raise InvalidArgument("NOT_A_TABLE", f"{name} cannot be read as delimited text: {error}", file=name) from error


def _encoding(head: bytes, path: Path) -> tuple[str, str]:
    """Name of the text encoding, and what to say of it."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16", "The text is UTF-16, as its first bytes say."
    if wide := _utf16_without_mark(head):
        return wide, "The text is UTF-16 without a mark that says so."
    if _is_utf8(path):
        return "utf-8", ""
    return "cp1252", "The text is not UTF-8; it was read as Windows-1252 (Western European)."


def _utf16_without_mark(head: bytes) -> str:
    """ "utf-16-le" or "utf-16-be" where every other byte is (nearly always) zero, as of ASCII letters in it; "" otherwise."""
    even, odd = head[0::2], head[1::2]
    if len(odd) < 4:
        return ""
    shares = even.count(0) / len(even), odd.count(0) / len(odd)
    if shares[1] > 0.7 and shares[0] == 0:
        return "utf-16-le"
    return "utf-16-be" if shares[0] > 0.7 and shares[1] == 0 else ""


def _is_utf8(path: Path) -> bool:
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while chunk := file.read(16 * 1024**2):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _header(text: str, delimiter: str) -> tuple[list[str], int]:
    """The names in the header, and the lines up to its end: blank lines may come first, a quoted name may hold a line break."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in reader:
        if any(name.strip() for name in row):
            return row, reader.line_num
    return [], reader.line_num


def _unique(header: Sequence[str]) -> tuple[list[str], str]:
    """Names for the columns: trimmed, "column_3" for an empty one, "name.2" for the second of a name; and what to say of it."""
    names: dict[str, None] = {}  # in their order
    for number, raw in enumerate(header, start=1):
        wanted = raw.strip() or f"column_{number}"
        name, copy = wanted, 1
        while name in names:
            copy += 1
            name = f"{wanted}.{copy}"
        names[name] = None
    changed = [name for name, raw in zip(names, header, strict=True) if name != raw.strip()]
    return list(names), f"Columns without a name of their own were called {', '.join(changed[:10])}." if changed else ""


def _all_numbers(header: Sequence[str]) -> bool:
    try:
        return all(float(name) is not None for name in header)
    except ValueError:
        return False


def _check_size(size: int, name: str) -> None:
    if size > MAX_TABLE_BYTES:
        message = f"{name} holds {size} bytes; tables of at most {MAX_TABLE_BYTES} bytes are read"
        raise InvalidArgument("TABLE_TOO_LARGE", message, file=name, size_bytes=size, limit_bytes=MAX_TABLE_BYTES)
