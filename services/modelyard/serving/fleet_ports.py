"""What the centre of a fleet needs of the outside."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from modelyard.core.artifacts import Blob


class StateNumbers(Protocol):
    """Which number the desired state of a subject has."""

    def number(self, subject: str, digest: str) -> int:
        """The number of a content: the one given before while the digest stays, else a higher one. Written down."""


class FleetBundles(Protocol):
    """The bytes that followers fetch: serving's own copies."""

    def passport(self, passport: Blob) -> bytes:
        """All of a passport. Raises NotFound, DataLoss."""

    def open(self, artifact: Blob, offset: int) -> BinaryIO:
        """A bundle from a byte on, verified. Raises NotFound, DataLoss, InvalidArgument BAD_OFFSET."""
