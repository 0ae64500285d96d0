"""Artifacts in a bucket of MinIO or any S3: key {namespace}/{sha256}.

A put hashes into an unnamed temporary file, then uploads: S3 shows an object only when all of it is there. Reads go through a
local cache folder, where the whole blob is verified before the first byte is given. The bucket is made by the first put.
"""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import S3Error

from modelyard.core.artifacts import (
    CHUNK_BYTES,
    Blob,
    StoredBlob,
    Tally,
    build_uri,
    check_namespace,
    check_own,
    chunks,
    corrupt,
    cut_short,
    disk_full,
    file_sha256,
    missing,
    parse_uri,
    uri_of,
)
from modelyard.core.artifacts_files import FileArtifactStore, full_disk_named
from modelyard.core.cache_folder import CacheFolder
from modelyard.core.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from modelyard.core.jobs.worker_settings import WorkerSettings
    from modelyard.core.settings import CoreSettings

_CACHE, _PARTS = "cache", "parts"
_RACES = 5
"""How often a copy may be deleted by another process between its download and its use."""
T = TypeVar("T")
_MISSING = ("NoSuchKey", "NoSuchBucket", "ResourceNotFound")
_FULL = ("XMinioStorageFull", "XMinioQuotaExceeded", "QuotaExceeded", "EntityTooLarge")
_BUSY = ("SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "InternalError", "XMinioServerNotInitialized")


def connect(settings: CoreSettings | WorkerSettings) -> Minio:
    """A client for the settings' endpoint (http://host:port or https://host) and keys. Connects on first use.

    Raises InvalidArgument BAD_S3_ENDPOINT.
    """
    endpoint = settings.s3_endpoint
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        message = f"s3_endpoint is {endpoint!r}; it must be http://host:port or https://host"
        raise InvalidArgument("BAD_S3_ENDPOINT", message, field="s3_endpoint", value=endpoint)
    return Minio(
        parts.netloc,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        secure=parts.scheme == "https",
        region=settings.s3_region,
        http_client=_http(settings.s3_ca),
    )


def _http(ca: Path | None) -> urllib3.PoolManager:
    retry = urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504])
    trusted: dict[str, Any] = {} if ca is None else {"cert_reqs": "CERT_REQUIRED", "ca_certs": str(ca)}
    return urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), maxsize=16, retries=retry, **trusted)


class S3ArtifactStore:
    """An ArtifactStore in a bucket. The cache folder may be shared by processes, and may be emptied when none runs.

    cache_bytes: about how much it may hold; what is in use stays even so.
    """

    def __init__(
        self, client: Minio, bucket: str, namespace: str, cache_dir: Path, cache_bytes: int, patience_s: float = 0.0
    ) -> None:
        self.namespace = check_namespace(namespace)
        self._client = client
        self._bucket = bucket
        self._cache = FileArtifactStore(cache_dir, _CACHE)
        self._parts = cache_dir / _PARTS
        self._room = CacheFolder(cache_dir, cache_bytes)
        self._patience_s = patience_s

    def put(self, stream: BinaryIO | Iterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """See ArtifactStore. Needs as much room in the system's temporary folder as the blob has bytes."""
        tally = Tally(sha256, size_bytes)
        with tempfile.TemporaryFile() as file:
            with full_disk_named(tempfile.gettempdir()):
                for chunk in tally.through(chunks(stream)):
                    file.write(chunk)
                file.seek(0)
            blob = Blob(build_uri(self.namespace, actual := tally.finish()), actual, tally.size_bytes)
            self._patiently(lambda: self._upload(cast(BinaryIO, file), blob))
        return blob

    def put_bytes(self, data: bytes) -> Blob:
        """See ArtifactStore."""
        return self.put([data])

    def put_file(self, path: Path) -> Blob:
        """See ArtifactStore."""
        with path.open("rb") as file:
            return self.put(file)

    def adopt(self, path: Path, *, sha256: str = "") -> Blob:
        """See ArtifactStore."""
        with path.open("rb") as file:
            actual = sha256 or file_sha256(file)
            blob = Blob(build_uri(self.namespace, actual), actual, file.seek(0, os.SEEK_END))
            self._patiently(lambda: self._upload(file, blob))
        path.unlink(missing_ok=True)
        return blob

    def open(self, blob: Blob | str, offset: int = 0) -> BinaryIO:
        """See ArtifactStore."""
        for _ in range(_RACES):
            cached = self._fetch(uri_of(blob))
            with suppress(NotFound):
                return self._cache.open(cached, offset)
        raise _cache_too_small(self._room)

    def read_bytes(self, blob: Blob | str) -> bytes:
        """See ArtifactStore."""
        with self.open(blob) as file:
            return file.read()

    def read_part(self, blob: Blob | str, offset: int, length: int, *, fresh: bool = False) -> bytes:
        """See ArtifactStore. Parts are kept in the cache folder, as many as fit, a file each: ask for the same ones."""
        uri = uri_of(blob)
        sha256 = parse_uri(uri)[1]
        kept = self._parts / sha256[:2] / f"{sha256}-{offset}-{length}"
        if fresh:
            kept.unlink(missing_ok=True)
        elif data := self._kept_part(kept, length):
            return data
        data = self._patiently(lambda: self._get_part(uri, offset, length))
        if self._room.make_room(length, for_older=False):
            _write_part(kept, data)
        return data

    def path(self, blob: Blob | str) -> Path:
        """See ArtifactStore: a verified copy in the cache folder."""
        for _ in range(_RACES):
            cached = self._fetch(uri_of(blob))
            with suppress(NotFound):
                path = self._cache.path(cached)
                if self._room.lease(path):
                    return path
        raise _cache_too_small(self._room)

    def exists(self, blob: Blob | str) -> bool:
        """See ArtifactStore."""
        try:
            self.stat(blob)
        except NotFound:
            return False
        return True

    def stat(self, blob: Blob | str) -> Blob:
        """See ArtifactStore."""
        uri = uri_of(blob)
        namespace, sha256 = parse_uri(uri)
        size_bytes = self._patiently(lambda: self._size(uri, f"{namespace}/{sha256}"))
        return Blob(uri, sha256, size_bytes)

    def _size(self, uri: str, key: str) -> int:
        with _named_errors(uri):
            return self._client.stat_object(self._bucket, key).size or 0

    def delete(self, blob: Blob | str) -> None:
        """See ArtifactStore."""
        sha256 = check_own(uri_of(blob), self.namespace)
        try:
            with _named_errors(uri_of(blob)):
                self._client.remove_object(self._bucket, f"{self.namespace}/{sha256}")
        except NotFound:
            pass
        self._cache.delete(build_uri(_CACHE, sha256))

    def list(self) -> Iterator[StoredBlob]:
        """See ArtifactStore."""
        prefix = f"{self.namespace}/"
        try:
            with _named_errors(f"s3://{self._bucket}"):
                for found in self._client.list_objects(self._bucket, prefix=prefix):
                    sha256 = str(found.object_name).removeprefix(prefix)
                    if found.last_modified is not None and _is_sha256(sha256):
                        uri = build_uri(self.namespace, sha256)
                        yield StoredBlob(uri, sha256, found.size or 0, found.last_modified)
        except NotFound:  # no bucket yet: nothing was ever put
            return

    def presigned_url(self, blob: Blob | str, expires_s: int = 3600) -> str | None:
        """See ArtifactStore. `expires_s` is 1 to 604800 (7 days)."""
        uri = uri_of(blob)
        namespace, sha256 = parse_uri(uri)
        with _named_errors(uri):
            return self._client.presigned_get_object(self._bucket, f"{namespace}/{sha256}", timedelta(seconds=expires_s))

    def _patiently(self, function: Callable[[], T]) -> T:
        """What the function gives; called again while the server does not answer and there is patience left."""
        deadline = time.monotonic() + self._patience_s
        wait_s = 0.5
        while True:
            try:
                return function()
            except Unavailable:
                if time.monotonic() + wait_s > deadline:
                    raise
                time.sleep(wait_s)
                wait_s = min(5.0, wait_s * 2)

    def _upload(self, file: BinaryIO, blob: Blob) -> None:
        with _named_errors(blob.uri):
            file.seek(0)
            try:
                self._put_object(file, blob)
            except S3Error as error:
                if error.code != "NoSuchBucket":
                    raise
                self._make_bucket()
                file.seek(0)
                self._put_object(file, blob)

    def _put_object(self, file: BinaryIO, blob: Blob) -> None:
        self._client.put_object(self._bucket, f"{self.namespace}/{blob.sha256}", file, blob.size_bytes)

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def _fetch(self, uri: str) -> str:
        """The uri of the verified copy in the cache, downloaded when it is not there or was damaged."""
        size_bytes = self.stat(uri).size_bytes  # also says so when it was deleted meanwhile
        sha256 = parse_uri(uri)[1]
        cached = build_uri(_CACHE, sha256)
        self._room.used(self._cache.place(cached))
        try:
            self._cache.path(cached)
        except (NotFound, DataLoss):
            self._room.make_room(size_bytes)
            self._patiently(lambda: self._download(uri, sha256, size_bytes))
        return cached

    def _kept_part(self, path: Path, length: int) -> bytes:
        """A part that is in the cache folder; nothing when it is not, or not whole."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return b""
        self._room.used(path)
        return data if len(data) == length else b""

    def _get_part(self, uri: str, offset: int, length: int) -> bytes:
        namespace, sha256 = parse_uri(uri)
        with _named_errors(uri):
            try:
                response = self._client.get_object(self._bucket, f"{namespace}/{sha256}", offset=offset, length=length)
            except S3Error as error:
                if error.code == "InvalidRange":
                    raise cut_short(uri, offset + length) from error
                raise
            try:
                data = response.read()
            finally:
                response.close()
                response.release_conn()
        if len(data) < length:
            raise cut_short(uri, offset + length)
        return data

    def _download(self, uri: str, sha256: str, size_bytes: int) -> None:
        try:
            self._cache.put(self._pieces(uri), sha256=sha256, size_bytes=size_bytes)
        except InvalidArgument as error:
            raise corrupt(uri, error.values.get("actual", "")) from error

    def _pieces(self, uri: str) -> Iterator[bytes]:
        namespace, sha256 = parse_uri(uri)
        with _named_errors(uri):
            response = self._client.get_object(self._bucket, f"{namespace}/{sha256}")
            try:
                yield from response.stream(CHUNK_BYTES)
            finally:
                response.close()
                response.release_conn()


def _write_part(path: Path, data: bytes) -> None:
    """Puts a part into the cache folder; without room on the disk it is not kept. Not synced: readers verify it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _cache_too_small(room: CacheFolder) -> ResourceExhausted:
    """Other processes delete what this one fetches before it can open it."""
    message = f"artifact_cache_bytes is {room.most_bytes}: too few for those who share {room.folder}; more is right"
    return ResourceExhausted("ARTIFACT_CACHE_TOO_SMALL", message, field="artifact_cache_bytes", value=room.most_bytes)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


@contextmanager
def _named_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise missing(uri) from error
        if error.code in _FULL:
            raise disk_full("the artifact store") from error
        if error.code in _BUSY:
            raise _unavailable() from error
        raise
    except urllib3.exceptions.HTTPError as error:
        raise _not_trusted() if _about_a_certificate(error) else _unavailable() from error


def _about_a_certificate(error: BaseException) -> bool:
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    cause = reason.args[0] if isinstance(reason, urllib3.exceptions.SSLError) and reason.args else reason
    return isinstance(cause, ssl.SSLCertVerificationError)


def _not_trusted() -> Unavailable:
    message = "The certificate of the artifact store is not trusted; set MODELYARD_S3_CA to its authority's file."
    return Unavailable("ARTIFACT_STORE_NOT_TRUSTED", message, retry_after_s=30.0)


def _unavailable() -> Unavailable:
    message = "The artifact store does not answer now; try again in a moment."
    return Unavailable("ARTIFACT_STORE_UNAVAILABLE", message, retry_after_s=1.0)
