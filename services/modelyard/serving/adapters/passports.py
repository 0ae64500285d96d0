"""Checks passports against the keys that are trusted here, each time bytes are to be loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.artifacts import ArtifactStore, Blob, corrupt, file_sha256
from modelyard.formats.passport import missing, verify
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.adapters.services import own_copy

if TYPE_CHECKING:
    from modelyard.client import Client

NO_PASSPORT = (
    "it was deployed before there were passports. Ask the gate again about its evaluation, and deploy the export again with the "
    "new decision: the version keeps its name"
)


class StoredPassports:
    """See ports.Passports. Keys are read at every check: one that is replaced or withdrawn counts from the next load on."""

    def __init__(self, client: Callable[[], Client], artifacts: ArtifactStore, trusted: Path) -> None:
        """`trusted`: a PEM file with a public key, or a folder of them."""
        self._client = client
        self._artifacts = artifacts
        self._trusted = trusted

    def fetch(self, passport: Blob) -> Blob:
        """See ports.Passports."""
        return own_copy(self._client, self._artifacts, passport, "evaluator")

    def check(self, artifact: Blob, path: Path, passport: Blob | None) -> None:
        """See ports.Passports."""
        if passport is None:
            raise missing(artifact.sha256, NO_PASSPORT)
        with path.open("rb") as file:
            actual = file_sha256(file)
        if actual != artifact.sha256:
            raise corrupt(artifact.uri, actual)
        verify(self._artifacts.read_bytes(passport), actual, trusted_keys(self._trusted))
