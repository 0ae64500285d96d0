"""The .ts files of the UCR archive and of aeon: a header, then a case a line, channels between colons, the class last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

Values = npt.NDArray[np.float64]
"""float64 [steps, channels], NaN where missing."""


@dataclass
class TsHeader:
    """What stands before @data."""

    problem: str = ""
    labels: tuple[str, ...] = ()
    has_labels: bool = False


@dataclass(frozen=True)
class TsCase:
    """A series with its label; `wrong` says why it cannot be used."""

    line: int
    label: str
    values: Values
    wrong: str = ""


def read(lines: Iterable[str], header: TsHeader, file: str) -> Iterator[TsCase]:
    """The cases; fills the header first. Raises InvalidArgument BAD_TS."""
    started = False
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if started:
            yield _case(line, number, header)
        elif line.startswith("@"):
            started = _tag(line, header, f"{file}: line {number}")
        else:
            raise InvalidArgument(
                "BAD_TS", f"{file}: line {number} is {line[:60]!r}; a tag (@...) is needed before @data", file=file
            )
    if not started:
        raise InvalidArgument("BAD_TS", f"{file} has no @data", file=file)


def _tag(line: str, header: TsHeader, where: str) -> bool:
    """Takes a tag in; whether it is @data."""
    name, *values = line.split()
    tag = name.lower()
    if tag == "@problemname" and values:
        header.problem = values[0]
    if tag == "@timestamps" and values[:1] == ["true"]:
        raise InvalidArgument("BAD_TS", f"{where}: series with timestamps are not read; write @timeStamps false and values alone")
    if tag == "@targetlabel" and values[:1] == ["true"]:
        raise InvalidArgument("BAD_TS", f"{where}: @targetLabel true (a number to predict) is not read; @classLabel is")
    if tag == "@classlabel":
        header.has_labels = values[:1] == ["true"]
        header.labels = tuple(values[1:])
    if tag == "@data" and not header.has_labels:
        raise InvalidArgument("BAD_TS", f"{where}: @classLabel is not true, so nothing says of what class a series is")
    return tag == "@data"


def _case(line: str, number: int, header: TsHeader) -> TsCase:
    *parts, label = (part.strip() for part in line.split(":"))
    empty = np.empty((0, 0))
    if not parts:
        return TsCase(number, "", empty, "it has no colon: values, a colon and the class are needed")
    try:
        channels = [
            [math.nan if text.strip() in ("?", "NaN", "nan", "") else float(text) for text in part.split(",")] for part in parts
        ]
    except ValueError as error:
        return TsCase(number, label, empty, f"{error}; numbers or ? are needed")
    lengths = {len(channel) for channel in channels}
    if len(lengths) > 1:
        return TsCase(number, label, empty, f"its channels have {min(lengths)} to {max(lengths)} values; one length is needed")
    if header.labels and label not in header.labels:
        return TsCase(number, label, empty, f"its class is {label!r}; @classLabel lists {', '.join(header.labels)}")
    return TsCase(number, label, np.asarray(channels, dtype=np.float64).T)


def channel_names(count: int) -> tuple[str, ...]:
    """Names for channels that have none."""
    return ("value",) if count == 1 else tuple(f"dim_{number}" for number in range(count))


def header_lines(problem: str, classes: Sequence[str], lengths: Sequence[int], channels: int, missing: bool) -> list[str]:
    """The lines before the cases. lengths: the different numbers of steps."""
    same = len(set(lengths)) == 1
    return [
        f"@problemName {problem}",
        "@timeStamps false",
        f"@missing {str(missing).lower()}",
        f"@univariate {str(channels == 1).lower()}",
        *([f"@dimensions {channels}"] if channels > 1 else []),
        f"@equalLength {str(same).lower()}",
        *([f"@seriesLength {lengths[0]}"] if same else []),
        f"@classLabel true {' '.join(classes)}",
        "@data",
    ]


def case_line(values: Values, label: str) -> str:
    """A case; numbers read back as themselves."""
    channels = (",".join("?" if math.isnan(v) else repr(v) for v in channel) for channel in values.T.tolist())
    return ":".join([*channels, label])
