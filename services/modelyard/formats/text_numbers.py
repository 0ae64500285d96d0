"""Text that becomes numbers outside a graph: dates, and texts by hashed n-grams. The same code trains and serves.

ONNX has no operators for either, so a bundle's card says for which inputs this is done (formats.bundle_card.TextNumbers), and
the runtime does it before it asks the graph, as it decodes pictures.

The hash, for whoever must do it elsewhere: an n-gram's UTF-8 bytes, CRC-32 as in zlib (polynomial 0xEDB88320), times 2654435761
modulo 2^32 (Knuth, The Art of Computer Programming 3, 6.4), its upper 24 bits modulo the number of buckets.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ISO: Final = "iso"
PARTS: Final = ("year", "month", "day", "weekday", "hour", "minute", "day_of_year", "elapsed_days")
"""Of a date: weekday is 0 (Monday) to 6; day_of_year 1 to 366; elapsed_days since the reference, with a fraction."""
TURNS: Final = {"month": (1, 12), "day": (1, 31), "weekday": (0, 7), "hour": (0, 24), "minute": (0, 60), "day_of_year": (1, 366)}
"""Parts that come round again: where they begin, and after how many."""
WORD, CHARACTER = "word", "character"
MOST_BUCKETS: Final = 4096
LONGEST_TEXT: Final = 100_000
"""Characters of a text that are read; what comes after is ignored."""
_KNUTH: Final = 2654435761
_WORD: Final = re.compile(r"\w+", re.UNICODE)

Matrix = NDArray[np.float32]
Texts = NDArray[Any]
"""dtype object, str each; "" is a missing one."""


@dataclass(frozen=True)
class DateNumbers:
    """A date as numbers. parts: some of PARTS, in this order; cyclic: TURNS as sine and cosine instead of the number.

    format: `iso` (ISO 8601, with or without a time), or strptime's directives. reference: where elapsed_days begins, ISO 8601.
    unread: a last number that is 1 where there is no date that can be read (missing or of another form), else 0.
    """

    parts: tuple[str, ...]
    cyclic: bool = False
    format: str = ISO
    reference: str = ""
    unread: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What each number is."""
        found: list[str] = []
        for part in self.parts:
            turns = self.cyclic and part in TURNS
            found += [f"{part} sine", f"{part} cosine"] if turns else [part]
        return (*found, "unread") if self.unread else tuple(found)

    def fault(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if not self.parts or set(self.parts) - set(PARTS) or len(set(self.parts)) != len(self.parts):
            return f"parts must be different ones of {', '.join(PARTS)}"
        return check_format(self.format)

    def numbers(self, texts: Texts) -> Matrix:
        """float32 [N, len(names)]; NaN where a date is missing or cannot be read."""
        rows = {text: self._row(text) for text in dict.fromkeys(texts.tolist())}
        return np.array([rows[text] for text in texts.tolist()], np.float32).reshape(len(texts), len(self.names))

    def _row(self, text: str) -> list[float]:
        date = date_of(text, self.format)
        if date is None:
            gaps = [np.nan] * (len(self.names) - self.unread)
            return [*gaps, 1.0] if self.unread else gaps
        found: list[float] = []
        for part in self.parts:
            value = self._part(date, part)
            if self.cyclic and part in TURNS:
                first, count = TURNS[part]
                turn = 2 * np.pi * (value - first) / count
                found += [float(np.sin(turn)), float(np.cos(turn))]
            else:
                found.append(value)
        return [*found, 0.0] if self.unread else found

    def _part(self, date: datetime, part: str) -> float:
        if part == "weekday":
            return float(date.weekday())
        if part == "day_of_year":
            return float(date.timetuple().tm_yday)
        if part == "elapsed_days":
            return (_utc(date) - _utc(_reference(self.reference))).total_seconds() / 86_400
        return float(getattr(date, part))


@dataclass(frozen=True)
class HashedText:
    """A text as counts of its n-grams in `buckets` (2 to MOST_BUCKETS) by hash. by: `word` (runs of letters, digits and "_") or
    `character` (of the text with a space before and after, white space as one space). shortest, longest: n, 1 to 8. lower: after
    making it lower case. binary: 1 where there is one, not how many. A missing text gives zeros."""

    by: str = WORD
    shortest: int = 1
    longest: int = 1
    buckets: int = 256
    lower: bool = True
    binary: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What each number is."""
        return tuple(f"hash {bucket}" for bucket in range(self.buckets))

    def fault(self) -> str:
        """What is wrong with it; empty when nothing is."""
        good = self.by in (WORD, CHARACTER) and 1 <= self.shortest <= self.longest <= 8 and 2 <= self.buckets <= MOST_BUCKETS
        return "" if good else f"by is word or character, n-grams have 1 to 8, and there are 2 to {MOST_BUCKETS} buckets"

    def numbers(self, texts: Texts) -> Matrix:
        """float32 [N, buckets]."""
        out = np.zeros((len(texts), self.buckets), np.float32)
        for row, text in enumerate(texts.tolist()):
            if text:
                np.add.at(out[row], [bucket_of(gram, self.buckets) for gram in self.grams(text)], 1)
        return np.minimum(out, 1) if self.binary else out

    def grams(self, text: str) -> list[str]:
        """The n-grams of a text, in their order, shorter ones first."""
        text = text[:LONGEST_TEXT]
        text = text.lower() if self.lower else text
        if self.by == WORD:
            words = _WORD.findall(text)
            return [" ".join(words[at : at + n]) for n in self._lengths for at in range(len(words) - n + 1)]
        padded = f" {' '.join(text.split())} "
        return [padded[at : at + n] for n in self._lengths for at in range(len(padded) - n + 1)]

    @property
    def _lengths(self) -> range:
        return range(self.shortest, self.longest + 1)


def bucket_of(gram: str, buckets: int) -> int:
    """The bucket of an n-gram."""
    return (((zlib.crc32(gram.encode("utf-8", "surrogatepass")) * _KNUTH) & 0xFFFFFFFF) >> 8) % buckets


def date_of(text: str, form: str = ISO) -> datetime | None:
    """The date of a text as it is written, with its offset from UTC where it says one; None where it is none."""
    return _parser(form)(text.strip())


def check_format(form: str) -> str:
    """ "" for a format that can be read with, else what is wrong with it."""
    if form == ISO:
        return ""
    try:
        now = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
        datetime.strptime(now.strftime(form), form)  # whether it reads what it writes is all that is asked
    except ValueError as error:
        return str(error)
    return "" if "%" in form else "it has no directive such as %Y"


@lru_cache(maxsize=64)
def _parser(form: str) -> Callable[[str], datetime | None]:
    def iso(text: str) -> datetime | None:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None

    def stated(text: str) -> datetime | None:
        try:
            return datetime.strptime(text, form)  # without an offset it is taken as it stands
        except (ValueError, OverflowError):
            return None

    return iso if form == ISO else stated


@lru_cache(maxsize=64)
def _reference(text: str) -> datetime:
    return date_of(text) or datetime(1970, 1, 1, tzinfo=UTC)


def _utc(date: datetime) -> datetime:
    """A date without an offset counts as UTC."""
    if date.tzinfo is None:
        return date.replace(tzinfo=UTC)
    try:
        return date.astimezone(UTC)
    except OverflowError:  # the first or last day that there is, elsewhere
        return date.replace(tzinfo=UTC)


def earliest(texts: Sequence[str], form: str) -> str:
    """The earliest date among texts, as ISO 8601 in UTC; empty where none can be read."""
    dates = [_utc(date) for date in (date_of(text, form) for text in dict.fromkeys(texts)) if date is not None]
    return min(dates).isoformat() if dates else ""
