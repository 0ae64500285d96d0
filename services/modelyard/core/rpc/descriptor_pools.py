"""Several descriptor pools as one, for reflection: not every contract is in protobuf's default pool (see protos/generate.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pool


class DescriptorPools:
    """What the reflection service asks of a pool, asked of each in turn, the default one last. Raises KeyError as they do."""

    def __init__(self, others: Sequence[Any] = ()) -> None:
        self._pools = [*others, descriptor_pool.Default()]

    def FindFileByName(self, name: str) -> Any:
        """A file of contracts."""
        return self._first(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """The file that a message, service or method is in."""
        return self._first(lambda pool: pool.FindFileContainingSymbol(symbol))

    def FindMessageTypeByName(self, name: str) -> Any:
        """A message."""
        return self._first(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:
        """An extension of a message of one of the pools."""
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Any) -> Any:
        """The extensions of a message of one of the pools."""
        return message.file.pool.FindAllExtensions(message)

    def _first(self, find: Callable[[Any], Any]) -> Any:
        for pool in self._pools[:-1]:
            try:
                return find(pool)
            except KeyError:
                continue
        return find(self._pools[-1])
