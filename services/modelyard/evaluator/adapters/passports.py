"""Signs passports with a key in a file, and keeps them in the artifact store."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.jobs.job import Document
from modelyard.formats.passport import sign
from modelyard.formats.passport_keys import SigningKey, own_signing_key, read_signing_key, trust


class SignedPassports:
    """ports.Passports.

    `given` is the key's file; None: one of its own at `own`, made at its first use. The public key is put into `trusted`, where
    a serving service over the same data folder looks for it.
    """

    def __init__(self, store: ArtifactStore, given: Path | None, own: Path, trusted: Path) -> None:
        self._store = store
        self._given = given
        self._own = own
        self._trusted = trusted
        if given is not None:
            read_signing_key(given)  # a wrong key is told when the service starts, not when a model is to go out

    def issue(self, export: str, artifact_sha256: str, content: Document) -> Blob:
        """See ports.Passports."""
        key = self._key()
        trust(self._trusted, key.public)
        return self._store.put_bytes(sign(key, export, artifact_sha256, content))

    def _key(self) -> SigningKey:
        return read_signing_key(self._given) if self._given is not None else own_signing_key(self._own)
