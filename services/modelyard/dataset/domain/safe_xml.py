"""XML from strangers: expat, in pieces, with declarations of entities refused (billion laughs, external files)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from modelyard.core.errors import InvalidArgument

MAX_DEPTH = 64
"""Elements within elements."""

_MAX_ELEMENT_BYTES = 64 * 1024**2


def parse(data: bytes, *, name: str) -> Element:
    """The root of a whole document. Raises InvalidArgument BAD_XML, XML_ENTITY."""
    found = None
    for element in elements((data,), depth=1, name=name):
        found = element
    if found is None:
        raise InvalidArgument("BAD_XML", f"{name} holds no XML element", file=name)
    return found


def elements(chunks: Iterable[bytes], *, depth: int, name: str) -> Iterator[Element]:
    """Each element that lies `depth` deep (1: the root), as soon as it ends; nothing else is kept. Raises as `parse` does."""
    reader = _Reader(depth, name)
    try:
        for chunk in chunks:
            reader.parser.Parse(chunk, False)
            yield from reader.take(len(chunk))
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        message = f"{name} is not well-formed XML: line {error.lineno}, column {error.offset}: {expat.ErrorString(error.code)}"
        raise InvalidArgument("BAD_XML", message, file=name, line=error.lineno) from error
    yield from reader.take(0)


class _Reader:
    """Builds the elements that are wanted."""

    def __init__(self, depth: int, name: str) -> None:
        self._wanted = depth
        self._name = name
        self._depth = 0
        self._builder: TreeBuilder | None = None
        self._done: list[Element] = []
        self._bytes = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._refuse
        self.parser.ExternalEntityRefHandler = self._refuse
        self.parser.UnparsedEntityDeclHandler = self._refuse

    def take(self, size: int) -> Iterator[Element]:
        """The elements that ended since the last call."""
        self._bytes = 0 if self._done else self._bytes + size
        if self._bytes > _MAX_ELEMENT_BYTES:
            raise InvalidArgument(
                "BAD_XML", f"{self._name} has one element of more than {_MAX_ELEMENT_BYTES} bytes", file=self._name
            )
        done, self._done = self._done, []
        yield from done

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidArgument("BAD_XML", f"{self._name} has elements more than {MAX_DEPTH} deep", file=self._name)
        if self._depth == self._wanted:
            self._builder = TreeBuilder()
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag)
            if self._depth == self._wanted:
                self._done.append(self._builder.close())
                self._builder = None
        self._depth -= 1

    def _text(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def _refuse(self, *declared: Any) -> int:
        message = (
            f"{self._name} declares or refers to XML entities ({declared[0]}); annotation files need none, so it is not read"
        )
        raise InvalidArgument("XML_ENTITY", message, file=self._name)
