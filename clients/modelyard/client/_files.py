"""A download on its way to its file: a temporary name beside it, sha256 on the fly, renamed when it is right."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from modelyard.client.errors import DataLoss, InvalidArgument
from modelyard.type.v1 import blob_pb2


class Landing:
    """Where the bytes of a blob go. `received` is how many have come; nothing stays unless `finish` was reached."""

    def __init__(self, blob: blob_pb2.Blob, path: Path) -> None:
        if path.is_dir():
            raise InvalidArgument(
                f"path is {str(path)!r}, a folder; give the name of a file", reason="PATH_IS_FOLDER", values={"path": str(path)}
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        self._file = os.fdopen(handle, "wb")
        self._temporary = Path(name)
        self._blob, self._path = blob, path
        self._hash = hashlib.sha256()
        self.received = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.received += len(chunk)

    def finish(self) -> Path:
        """Renames to the wanted name; DataLoss when sha256 or size are not the blob's."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        found = self._hash.hexdigest()
        if found != self._blob.sha256 or self.received != self._blob.size_bytes:
            values = {"uri": self._blob.uri, "sha256": self._blob.sha256, "found": found, "bytes": str(self.received)}
            wanted = f"{self._blob.size_bytes} bytes with {self._blob.sha256} were expected"
            message = f"{self._blob.uri}: {self.received} bytes came with sha256 {found}; {wanted}"
            raise DataLoss(message, reason="SHA256_MISMATCH", values=values)
        self._temporary.chmod(0o644)
        self._temporary.replace(self._path)
        return self._path

    def close(self) -> None:
        """Removes what is half made; does nothing after `finish`."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def service_of(uri: str) -> str:
    """The service that keeps a blob: the namespace of `artifact://{namespace}/{sha256}`."""
    scheme, _, rest = uri.partition("://")
    namespace, _, digest = rest.partition("/")
    if scheme != "artifact" or not namespace or not digest:
        message = f"uri is {uri!r}; it must be artifact://{{service}}/{{sha256}}"
        raise InvalidArgument(message, reason="INVALID_URI", values={"uri": uri})
    return namespace
