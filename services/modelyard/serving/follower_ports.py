"""What a follower needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from modelyard.serving.domain.desired_state import DesiredVersion

Progress = Callable[[int], object]
"""Told how many bytes of a bundle are here."""


class BundleSource(Protocol):
    """Where bundles come from."""

    def download(self, sha256: str, offset: int) -> Iterator[bytes]:
        """The bytes of a bundle from an offset on. Raises Unavailable where the connection breaks, NotFound, PermissionDenied."""


class BundleCache(Protocol):
    """Bundles on this machine's disk, by their sha256."""

    def fetch(self, version: DesiredVersion, progress: Progress) -> Path:
        """The file of a bundle, verified; downloaded where it is not here, going on where an earlier download broke off.

        Raises Unavailable, NotFound, DataLoss BUNDLE_CORRUPT, ResourceExhausted DISK_FULL.
        """

    def held(self, sha256: str) -> Path | None:
        """The file of a bundle that is here, not verified again; None where it is not."""

    def keep(self, needed: set[str]) -> None:
        """Removes what is older than the cache's size allows, never what is needed."""


class PassportChecks(Protocol):
    """Whether a bundle may be served."""

    def check(self, version: DesiredVersion, bundle: Path, keys: tuple[bytes, ...]) -> None:
        """`keys`: public keys as PEM that the centre says may sign. Raises DataLoss, and as formats.passport.verify."""
