"""What followers fetch, from serving's artifact store."""

from __future__ import annotations

from functools import lru_cache
from typing import BinaryIO

from modelyard.core.artifacts import ArtifactStore, Blob


class StoredBundles:
    """See fleet_ports.FleetBundles. Passports are kept in memory: every poll of every follower asks for them."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._passport = lru_cache(maxsize=1024)(artifacts.read_bytes)

    def passport(self, passport: Blob) -> bytes:
        """See fleet_ports.FleetBundles."""
        return self._passport(passport)

    def open(self, artifact: Blob, offset: int) -> BinaryIO:
        """See fleet_ports.FleetBundles."""
        return self._artifacts.open(artifact, offset)
