"""Passports of bundles on a follower: checked against its own keys, or those that the centre's signed state names."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.artifacts import file_sha256
from modelyard.core.errors import DataLoss
from modelyard.formats.passport import missing, verify
from modelyard.formats.passport_keys import PublicKey, public_key_of, trusted_keys
from modelyard.serving.domain.desired_state import DesiredVersion


class FollowedPassports:
    """See follower_ports.PassportChecks. `own`: keys of the follower's own, a PEM file or folder, which win over the centre's."""

    def __init__(self, own: Path | None) -> None:
        self._own = own

    def check(self, version: DesiredVersion, bundle: Path, keys: tuple[bytes, ...]) -> None:
        """See follower_ports.PassportChecks."""
        with bundle.open("rb") as file:
            actual = file_sha256(file)
        if actual != version.sha256:
            message = f"the stored bytes of the bundle {version.sha256} have changed: their sha256 is now {actual}"
            raise DataLoss("BUNDLE_CORRUPT", message, sha256=version.sha256, actual=actual)
        if not version.passport:
            raise missing(version.sha256, "the centre sent none with it")
        verify(version.passport, actual, self._trusted(keys))

    def _trusted(self, keys: tuple[bytes, ...]) -> tuple[PublicKey, ...]:
        return trusted_keys(self._own) if self._own is not None else tuple(public_key_of(pem) for pem in keys)
