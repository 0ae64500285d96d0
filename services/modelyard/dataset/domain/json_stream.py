"""JSON of any size, element by element: the members of the top object's lists, one after the other."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

from modelyard.core.errors import InvalidArgument

_SPACE = " \t\r\n"
_TRIM = 4 * 1024**2
_MAX_VALUE = 256 * 1024**2  # characters of one element
_decoder = json.JSONDecoder()


def items(chunks: Iterable[bytes], *, name: str) -> Iterator[tuple[str, Any]]:
    """Pairs (key, element) for each element of each list in the top object, and (key, value) for what is no list.

    An empty list gives nothing. Raises InvalidArgument BAD_JSON with line and column.
    """
    text = _Text(chunks, name)
    text.expect("{")
    while (mark := text.peek()) != "}":
        if mark == ",":
            text.expect(",")
            continue
        key = text.value()
        if not isinstance(key, str):
            raise text.bad("a key in quotes is needed here")
        text.expect(":")
        if text.peek() != "[":
            yield key, text.value()
            continue
        text.expect("[")
        while (mark := text.peek()) != "]":
            if mark == ",":
                text.expect(",")
                continue
            yield key, text.value()
        text.expect("]")


def load(data: bytes, *, name: str) -> Any:
    """A whole JSON document. Raises InvalidArgument BAD_JSON with line and column."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_JSON", f"{name} is not JSON: {error}", file=name) from error


class _Text:
    """The text as far as it was needed, and the place in it."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._name = name
        self._text = ""
        self._at = 0
        self._line = 1

    def peek(self) -> str:
        """The next character that is no space; "" is refused: the text ends too early."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise self.bad("it ends early")

    def expect(self, character: str) -> None:
        """Goes past a character."""
        if self.peek() != character:
            raise self.bad(f"{character!r} is needed, found {self._text[self._at]!r}")
        self._at += 1

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self.bad("it is nested too deep") from error
            except ValueError as error:
                if len(self._text) - self._at > _MAX_VALUE or not self._more():
                    raise self.bad(str(error).split(":")[0]) from error
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def bad(self, why: str) -> InvalidArgument:
        line = self._line + self._text.count("\n", 0, self._at)
        return InvalidArgument("BAD_JSON", f"{self._name} is not JSON: line {line}: {why}", file=self._name, line=line)

    def _more(self) -> bool:
        """Reads on, at least as much as is waiting (so that a long value is not tried again for every chunk)."""
        if self._at > _TRIM:
            self._line += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :], 0
        parts: list[str] = []
        wanted = max(1, len(self._text) - self._at)
        try:
            while sum(map(len, parts)) < wanted and (chunk := next(self._chunks, None)) is not None:
                parts.append(self._decode.decode(chunk))
        except UnicodeDecodeError as error:
            raise self.bad(f"it is not UTF-8 ({error.reason})") from error
        self._text += "".join(parts)
        return bool(parts)
