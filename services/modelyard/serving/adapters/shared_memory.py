"""Memory that the server and the process of a version both see.

A memfd is sealed before it is handed over: nobody can change its size any more, so that reading it cannot fail (SIGBUS) whatever
the other side does (memfd_create(2), fcntl(2) F_ADD_SEALS).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

SMALLEST: Final = 1 << 16
_SEALS: Final = 0x0002 | 0x0004 | 0x0001  # F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL
_F_ADD_SEALS: Final = 1033


class Arena:
    """One piece of it. `view` is writable memory of `size` bytes."""

    def __init__(self, needed: int) -> None:
        """At least `needed` bytes: a power of two, so that a little more next time needs no other."""
        self.size = arena_size(needed)
        self.fd = os.memfd_create("modelyard-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.size)
            fcntl.fcntl(self.fd, _F_ADD_SEALS, _SEALS)
            self._map = mmap.mmap(self.fd, self.size)
        except BaseException:
            os.close(self.fd)
            raise
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Lets go of it here; the other side keeps it as long as it wants."""
        self.view.release()
        self._map.close()
        os.close(self.fd)


def arena_size(needed: int) -> int:
    """The size an arena gets."""
    return max(SMALLEST, 1 << (needed - 1).bit_length())
