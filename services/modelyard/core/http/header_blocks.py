"""Header blocks: HPACK (RFC 7541) to request heads, and response fields to HPACK.

Callers of gRPC send nearly the same block with every call. A block that came before, while the dynamic table stayed as it was, is
looked up whole. Any other is read by the loop below, over the table, the integers and the Huffman code of the `hpack` library;
that loop exists because the library's own decoder takes some 60 us for a block of ten fields. Heads are cached by their
fields without grpc-timeout, which differs from call to call, so that what is valid is checked once for a caller.

Responses are written as literals without indexing: the same bytes for everybody, made beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import decode_integer, encode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from modelyard.core.http.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault
from modelyard.core.http.head import Field, Head, head_of

TIMEOUT = b"grpc-timeout"
CACHED = 32
"""Blocks, and heads, that a connection remembers; only short ones, so that a caller cannot fill the memory."""
LONGEST_CACHED_BLOCK, LONGEST_CACHED_HEAD, LONGEST_CACHED_STRING = 512, 1024, 128
LONGEST_INTEGER = 12
FIELD_OVERHEAD = 32


class HeaderBlocks:
    """The decoding side of one connection."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._table = HeaderTable()
        self._most_table = self._table.maxsize
        self._blocks: dict[bytes, tuple[Head, bytes | None]] = {}
        self._heads: dict[tuple[Field, ...], Head] = {}

    def request(self, block: bytes) -> tuple[Head, bytes | None]:
        """The head of a request and its grpc-timeout. Raises ConnectionFault (HPACK), StreamFault (malformed, RFC 9113 8.1.1)."""
        found = self._blocks.get(block)
        if found is not None:
            return found
        fields, changed = self._decode(block)
        found = self._head(fields)
        if changed:
            self._blocks.clear()
        elif len(self._blocks) < CACHED and len(block) <= LONGEST_CACHED_BLOCK:
            self._blocks[block] = found
        return found

    def fields(self, block: bytes) -> list[Field]:
        """The fields of any block: trailers, or those of a stream that is gone. Raises ConnectionFault."""
        fields, changed = self._decode(block)
        if changed:
            self._blocks.clear()
        return fields

    def answer(self, block: bytes) -> tuple[list[Field], bool]:
        """The fields of any block, and whether the dynamic table is another one now. Raises ConnectionFault."""
        return self._decode(block)

    def _head(self, fields: list[Field]) -> tuple[Head, bytes | None]:
        timeout = None
        for number, (name, value) in enumerate(fields):
            if name == TIMEOUT:
                timeout = value
                del fields[number]
                break
        key = tuple(fields)
        head = self._heads.get(key)
        if head is None:
            head = head_of(key)
            if len(self._heads) >= CACHED:
                self._heads.clear()
            if sum(len(name) + len(value) for name, value in key) <= LONGEST_CACHED_HEAD:
                self._heads[key] = head
        return head, timeout

    def _decode(self, block: bytes) -> tuple[list[Field], bool]:
        try:
            return self._read(block)
        except OversizedHeaderListError as error:
            self._blocks.clear()
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header list is too large") from error
        except (HPACKDecodingError, IndexError) as error:
            raise ConnectionFault(COMPRESSION_ERROR, "a header block cannot be decoded") from error

    def _read(self, block: bytes) -> tuple[list[Field], bool]:
        """The fields, and whether the dynamic table is another one now."""
        table, changed = self._table, False
        fields: list[Field] = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                field = table.get_by_index(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HPACKDecodingError("a table size update after a field")
                at, changed = self._resize(block, at), True
                continue
            else:
                field, at = self._literal(block, at, 6 if first & 0x40 else 4)
                if first & 0x40:
                    table.add(*field)
                    changed = True
            fields.append(field)
            size += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if size > self._most:
                raise OversizedHeaderListError(f"more than {self._most} bytes")
        return fields, changed

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Field, int]:
        index, at = _integer(block, at, bits)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _integer(block, at, 5)
        if size > self._most_table:
            raise HPACKDecodingError("a table larger than allowed")
        self._table.maxsize = size
        return at


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (RFC 7541 section 5.1), and where the next thing begins."""
    mask = (1 << bits) - 1
    number = block[at] & mask
    if number < mask:
        return number, at + 1
    number, used = decode_integer(block[at : at + LONGEST_INTEGER], bits)
    return number, at + used


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    packed = block[at] & 0x80
    size, at = _integer(block, at, 7)
    text = block[at : at + size]
    if len(text) != size:
        raise HPACKDecodingError("a string is cut off")
    if packed:
        text = _unpacked_short(text) if size <= LONGEST_CACHED_STRING else bytes(decode_huffman(text))
    return text, at + size


@lru_cache(4096)
def _unpacked_short(text: bytes) -> bytes:
    return bytes(decode_huffman(text))


def literal(name: bytes, value: bytes) -> bytes:
    """A field as a literal without indexing, not Huffman-coded."""
    return b"\x00" + bytes(encode_integer(len(name), 7)) + name + bytes(encode_integer(len(value), 7)) + value


def literals(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of such fields."""
    return b"".join(literal(name, value) for name, value in fields)


_STATUS = {200: b"\x88", 204: b"\x89", 206: b"\x8a", 304: b"\x8b", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}


def status(code: int) -> bytes:
    """The field :status."""
    return _STATUS.get(code) or literal(b":status", str(code).encode())
