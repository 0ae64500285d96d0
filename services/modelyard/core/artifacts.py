"""Bytes, kept by their content: the port of every artifact store, and what does not depend on where the bytes are.

A blob's uri is `artifact://{namespace}/{sha256}`. The namespace is the service that wrote it, the only one that deletes it. Any
store opens any uri of the same root (one folder, one bucket), whatever the namespace. What is read is compared with its sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from modelyard.core.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted

if TYPE_CHECKING:
    from modelyard.core.jobs.worker_settings import WorkerSettings
    from modelyard.core.settings import CoreSettings

CHUNK_BYTES = 1 << 20
"""How many bytes are moved at a time."""

_URI = re.compile(r"artifact://([a-z]{1,32})/([0-9a-f]{64})")
ANY_URI = re.compile(r"artifact://[a-z]{1,32}/[0-9a-f]{64}(?![0-9a-f])")
"""Finds the uris inside any text."""


@dataclass(frozen=True)
class Blob:
    """A sequence of bytes in an artifact store."""

    uri: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredBlob:
    """A blob as the store lists it, with the time (UTC) of its last put."""

    uri: str
    sha256: str
    size_bytes: int
    modified: datetime


class ArtifactStore(Protocol):
    """Where bytes are kept. Every adapter passes tests/contract/core/test_artifact_store.py."""

    @property
    def namespace(self) -> str:
        """The service that writes here: its puts, deletes and lists stay inside it."""

    def put(self, stream: BinaryIO | Iterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """Store a stream; all of it becomes visible at once, or nothing stays.

        Raises InvalidArgument SHA256_MISMATCH or SIZE_MISMATCH when it is not what was announced, ResourceExhausted DISK_FULL.
        """

    def put_bytes(self, data: bytes) -> Blob:
        """Store these bytes."""

    def put_file(self, path: Path) -> Blob:
        """Store a copy of a file."""

    def adopt(self, path: Path, *, sha256: str = "") -> Blob:
        """Store a file that nobody needs any more where it lies: it is moved where it can be, and is gone in any case.

        sha256: of its content, where the caller has hashed what it wrote; else it is read for that.
        """

    def open(self, blob: Blob | str, offset: int = 0) -> BinaryIO:
        """The bytes from `offset` (0 to the size) to the end, verified before the first of them is given.

        Raises NotFound ARTIFACT_NOT_FOUND, DataLoss ARTIFACT_CORRUPT, InvalidArgument BAD_ARTIFACT_URI or BAD_OFFSET.
        """

    def read_bytes(self, blob: Blob | str) -> bytes:
        """All of it. For blobs that surely fit in memory."""

    def read_part(self, blob: Blob | str, offset: int, length: int, *, fresh: bool = False) -> bytes:
        """`length` bytes (1 or more) from `offset` (0 or more), without the rest, and unverified: compare them with a hash of
        your own. They may come from a local copy; fresh: not, and the copy is replaced.

        Raises NotFound ARTIFACT_NOT_FOUND, Unavailable, DataLoss ARTIFACT_CUT_SHORT when fewer bytes are stored.
        """

    def path(self, blob: Blob | str) -> Path:
        """A local file with these bytes, verified; to be read only. It stays at least as long as the process runs."""

    def exists(self, blob: Blob | str) -> bool:
        """Whether it is there. Does not read it."""

    def stat(self, blob: Blob | str) -> Blob:
        """Its size. Does not read it. Raises NotFound ARTIFACT_NOT_FOUND."""

    def delete(self, blob: Blob | str) -> None:
        """Remove it; fine when it is gone already. Raises InvalidArgument FOREIGN_ARTIFACT for another namespace's."""

    def list(self) -> Iterator[StoredBlob]:
        """All blobs of this namespace, in no particular order; never a half-written one."""

    def presigned_url(self, blob: Blob | str, expires_s: int = 3600) -> str | None:
        """An address from which anybody can fetch it for a while, or None where the store has no such thing."""


def parse_uri(uri: str) -> tuple[str, str]:
    """Namespace and sha256 of an artifact uri. Raises InvalidArgument BAD_ARTIFACT_URI."""
    match = _URI.fullmatch(uri)
    if match is None:
        shown = uri[:200]
        message = f"uri is {shown!r}; it must be artifact://{{namespace}}/{{sha256}} (a-z, then 64 lower-case hexadecimal digits)"
        raise InvalidArgument("BAD_ARTIFACT_URI", message, field="uri", uri=shown)
    return match[1], match[2]


def build_uri(namespace: str, sha256: str) -> str:
    """The uri of a content in a namespace. Raises InvalidArgument BAD_ARTIFACT_URI."""
    uri = f"artifact://{namespace}/{sha256}"
    parse_uri(uri)
    return uri


def uri_of(blob: Blob | str) -> str:
    """The uri of a blob or of itself."""
    return blob.uri if isinstance(blob, Blob) else blob


def find_uris(text: str) -> set[str]:
    """Every artifact uri that a text names."""
    return set(ANY_URI.findall(text))


def chunks(stream: BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a stream, whatever it is."""
    read = getattr(stream, "read", None)
    if read is None:
        yield from stream
        return
    while chunk := read(CHUNK_BYTES):
        yield chunk


class Tally:
    """Counts and hashes what passes through, then says whether it is what was announced."""

    def __init__(self, sha256: str | None = None, size_bytes: int | None = None) -> None:
        self._expected_sha256 = sha256 or None
        self._expected_size = size_bytes
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces, counted. Stops a stream that grows beyond the announced size at once."""
        for piece in pieces:
            self._hash.update(piece)
            self.size_bytes += len(piece)
            if self._expected_size is not None and self.size_bytes > self._expected_size:
                raise self._wrong_size("more")
            yield piece

    def finish(self) -> str:
        """The sha256. Raises InvalidArgument SIZE_MISMATCH or SHA256_MISMATCH."""
        if self._expected_size is not None and self.size_bytes != self._expected_size:
            raise self._wrong_size(str(self.size_bytes))
        actual = self._hash.hexdigest()
        if self._expected_sha256 is not None and actual != self._expected_sha256:
            message = f"sha256 was announced as {self._expected_sha256}, but the bytes that came have {actual}"
            raise InvalidArgument("SHA256_MISMATCH", message, field="sha256", announced=self._expected_sha256, actual=actual)
        return actual

    def _wrong_size(self, actual: str) -> InvalidArgument:
        message = f"size_bytes was announced as {self._expected_size}, but {actual} bytes came"
        announced = self._expected_size
        return InvalidArgument("SIZE_MISMATCH", message, field="size_bytes", announced=announced, actual=actual)


def file_sha256(file: BinaryIO) -> str:
    """The sha256 of an open file, from its start."""
    file.seek(0)
    return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def check_namespace(namespace: str) -> str:
    """The namespace. Raises InvalidArgument BAD_ARTIFACT_NAMESPACE unless it is 1 to 32 of a-z."""
    if not re.fullmatch(r"[a-z]{1,32}", namespace):
        message = f"namespace is {namespace!r}; it must be 1 to 32 of a-z, the name of a service"
        raise InvalidArgument("BAD_ARTIFACT_NAMESPACE", message, field="namespace", value=namespace)
    return namespace


def disk_full(place: str) -> ResourceExhausted:
    """The error for a write that found no space left at `place`."""
    message = f"No space is left in {place}; nothing was kept. Free some space and try again."
    return ResourceExhausted("DISK_FULL", message, place=place)


def corrupt(uri: str, actual: str) -> DataLoss:
    """The error for stored bytes that changed."""
    message = f"The stored bytes of {uri} have changed: their sha256 is now {actual}. Restore them from a copy."
    return DataLoss("ARTIFACT_CORRUPT", message, uri=uri, actual=actual)


def cut_short(uri: str, end: int) -> DataLoss:
    """The error for stored bytes that end too soon."""
    message = f"The stored bytes of {uri} end before byte {end}, which was there once. Restore them from a copy."
    return DataLoss("ARTIFACT_CUT_SHORT", message, uri=uri, end=end)


def missing(uri: str) -> NotFound:
    """The error for bytes that are not in the store."""
    return NotFound("ARTIFACT_NOT_FOUND", f"{uri} is not in the artifact store.", uri=uri)


def check_own(uri: str, namespace: str) -> str:
    """The sha256 of a uri of this namespace. Raises InvalidArgument FOREIGN_ARTIFACT, BAD_ARTIFACT_URI."""
    owner, sha256 = parse_uri(uri)
    if owner != namespace:
        message = f"{uri} belongs to {owner!r}; only that service may delete it, not {namespace!r}"
        raise InvalidArgument("FOREIGN_ARTIFACT", message, field="uri", uri=uri, namespace=namespace)
    return sha256


def check_offset(offset: int, size_bytes: int, uri: str) -> None:
    """Raises InvalidArgument BAD_OFFSET unless 0 <= offset <= size."""
    if not 0 <= offset <= size_bytes:
        message = f"offset is {offset}; it must be 0 to {size_bytes}, the size of {uri} in bytes"
        raise InvalidArgument("BAD_OFFSET", message, field="offset", offset=offset, size_bytes=size_bytes)


def collect(store: ArtifactStore, referenced: set[str], grace_s: float) -> list[str]:
    """Delete the namespace's blobs that nothing references and whose last put is over `grace_s` seconds ago; gives their uris.

    The grace covers what is stored but not yet named by a document. Read `referenced` just before the call: a blob that is put
    again after that is young, and stays.
    """
    limit = datetime.now(UTC) - timedelta(seconds=grace_s)
    removed = []
    for blob in store.list():
        if blob.uri not in referenced and blob.modified < limit:
            store.delete(blob.uri)
            removed.append(blob.uri)
    return removed


def open_store(
    url: str,
    namespace: str,
    settings: CoreSettings | WorkerSettings | None = None,
    *,
    cache_dir: Path | None = None,
    patience_s: float = 0.0,
) -> ArtifactStore:
    """The store at `file:///folder` or `s3://bucket`. For S3 the endpoint and keys come from `settings`, and `path()` downloads
    into `cache_dir` (default: `settings.data_dir`/cache/artifacts); a server that does not answer is asked again for `patience_s`
    seconds. Raises InvalidArgument BAD_ARTIFACTS_URL.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        from modelyard.core.artifacts_files import FileArtifactStore

        return FileArtifactStore(Path(rest), namespace)
    if scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", rest) and settings is not None:
        from modelyard.core.artifacts_s3 import S3ArtifactStore, connect

        folder = cache_dir or settings.data_dir / "cache" / "artifacts"
        return S3ArtifactStore(connect(settings), rest, namespace, folder, settings.artifact_cache_bytes, patience_s)
    message = f"artifacts_url is {url!r}; it must be file:///absolute/folder or s3://bucket (3 to 63 of a-z, 0-9, '.' and '-')"
    raise InvalidArgument("BAD_ARTIFACTS_URL", message, field="artifacts_url", value=url)
