"""An artifact store as one job may see it: of other services' artifacts those that its assignment names, and no other.

What a named JSON document names (the descriptor of a dataset version: its manifest and packs) counts as named too. So whoever
trains on a version whose test set is frozen has no way to the test examples: nothing that it was given leads there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from modelyard.core.artifacts import ArtifactStore, Blob, StoredBlob, find_uris, parse_uri, uri_of
from modelyard.core.errors import PermissionDenied

_LARGEST_DOCUMENT = 4 * 1024 * 1024


class NamedArtifacts:
    """An ArtifactStore (see there) that opens its own namespace's blobs and those that documents name."""

    def __init__(self, store: ArtifactStore, *documents: Any) -> None:
        self._store = store
        self._named = find_uris(json.dumps(documents))
        self._looked_into: set[str] = set()

    @property
    def namespace(self) -> str:
        """See ArtifactStore."""
        return self._store.namespace

    def put(self, stream: BinaryIO | Iterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """See ArtifactStore."""
        return self._store.put(stream, sha256=sha256, size_bytes=size_bytes)

    def put_bytes(self, data: bytes) -> Blob:
        """See ArtifactStore."""
        return self._store.put_bytes(data)

    def put_file(self, path: Path) -> Blob:
        """See ArtifactStore."""
        return self._store.put_file(path)

    def adopt(self, path: Path, *, sha256: str = "") -> Blob:
        """See ArtifactStore."""
        return self._store.adopt(path, sha256=sha256)

    def open(self, blob: Blob | str, offset: int = 0) -> BinaryIO:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.open(self._checked(blob), offset)

    def read_bytes(self, blob: Blob | str) -> bytes:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.read_bytes(self._checked(blob))

    def read_part(self, blob: Blob | str, offset: int, length: int, *, fresh: bool = False) -> bytes:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.read_part(self._checked(blob), offset, length, fresh=fresh)

    def path(self, blob: Blob | str) -> Path:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.path(self._checked(blob))

    def exists(self, blob: Blob | str) -> bool:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.exists(self._checked(blob))

    def stat(self, blob: Blob | str) -> Blob:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.stat(self._checked(blob))

    def delete(self, blob: Blob | str) -> None:
        """See ArtifactStore."""
        self._store.delete(blob)

    def list(self) -> Iterator[StoredBlob]:
        """See ArtifactStore."""
        return self._store.list()

    def presigned_url(self, blob: Blob | str, expires_s: int = 3600) -> str | None:
        """See ArtifactStore. Raises PermissionDenied ARTIFACT_NOT_NAMED."""
        return self._store.presigned_url(self._checked(blob), expires_s)

    def _checked(self, blob: Blob | str) -> Blob | str:
        uri = uri_of(blob)
        if parse_uri(uri)[0] == self.namespace:
            return blob
        if uri not in self._named:
            self._look_into_documents()
        if uri not in self._named:
            message = f"{uri} is not named by this job's assignment, nor by what that names"
            raise PermissionDenied("ARTIFACT_NOT_NAMED", message, uri=uri)
        return blob

    def _look_into_documents(self) -> None:
        """Adds what the documents among the named blobs name."""
        for uri in sorted(self._named - self._looked_into):
            self._looked_into.add(uri)
            if self._store.stat(uri).size_bytes <= _LARGEST_DOCUMENT:
                data = self._store.read_bytes(uri)
                if data.startswith(b"{"):
                    self._named |= find_uris(data.decode("utf-8", "replace"))
