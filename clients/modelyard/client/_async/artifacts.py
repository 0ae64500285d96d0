"""Bytes in and out of the services' artifact stores."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from modelyard.artifact.v1 import artifact_service_pb2
from modelyard.client._archive import OnProgress, OnSkipped, Source, chunks, open_source
from modelyard.client._async.transport import AsyncTransport
from modelyard.client._channels import ARTIFACT_SERVICE, backoff_s
from modelyard.client._files import Landing, service_of
from modelyard.client.errors import DataLoss, Unavailable, Unimplemented
from modelyard.client.names import Names, new_request_id
from modelyard.type.v1 import blob_pb2


class AsyncArtifacts:
    """Calls of modelyard.artifact.v1.ArtifactService, at the service that keeps the bytes."""

    def __init__(self, transport: AsyncTransport, names: Names) -> None:
        self._transport = transport
        self.names = names

    async def upload(
        self,
        path: str | Path,
        on_progress: OnProgress | None = None,
        *,
        service: str = "dataset",
        on_skipped: OnSkipped | None = None,
    ) -> blob_pb2.Blob:
        """Sends a file as it is, or a folder as a zip, to a service's store; neither is held in memory. One that breaks off
        goes on where it was.

        on_progress(done, total) counts bytes of content. Links that lead out of a folder, and what cannot be read, are left out:
        on_skipped(path, why) is told, else the log. InvalidArgument when there is nothing to send (EMPTY_FOLDER, EMPTY_FILE,
        NO_SUCH_SOURCE...). DataLoss when the service received other bytes than were sent.
        """
        source = await self._transport.in_thread(lambda: open_source(Path(path), on_skipped))
        failures, since, offset, upload_id = 0, time.monotonic(), 0, new_request_id()
        while True:
            try:
                return await self._send(source, service, on_progress, upload_id, offset)
            except Unavailable as error:
                failures += 1
                if time.monotonic() - since > self._transport.settings.patience_s:
                    raise
                await self._transport.sleep(backoff_s(failures, self._transport.settings, error.retry_after_s))
                received = await self._received(service, upload_id)
                if received > offset:
                    failures, since = 0, time.monotonic()
                offset = received

    async def _received(self, service: str, upload_id: str) -> int:
        """How much came of an upload that broke off; 0 where the service cannot say."""
        request = artifact_service_pb2.GetUploadRequest(parent=self.names.parent, upload_id=upload_id)
        try:
            answer = artifact_service_pb2.Upload
            found = await self._transport.unary(service, ARTIFACT_SERVICE, "GetUpload", request, answer, 30.0)
        except (Unavailable, Unimplemented):
            return 0
        return found.received_bytes

    async def _send(
        self, source: Source, service: str, on_progress: OnProgress | None, upload_id: str, offset: int
    ) -> blob_pb2.Blob:
        digest = hashlib.sha256()
        requests = self._requests(source, digest, on_progress, upload_id, offset)
        blob = await self._transport.send(service, ARTIFACT_SERVICE, "UploadArtifact", requests, blob_pb2.Blob)
        if blob.sha256 != digest.hexdigest():
            values = {"sha256": digest.hexdigest(), "found": blob.sha256}
            message = f"{source.file_name}: the service stored sha256 {blob.sha256}, sent was {digest.hexdigest()}"
            raise DataLoss(message, reason="SHA256_MISMATCH", values=values)
        return blob

    def _requests(
        self, source: Source, digest: hashlib._Hash, on_progress: OnProgress | None, upload_id: str, offset: int
    ) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
        """The messages of an upload. What came before is read again, for the digest, and not sent."""
        header = artifact_service_pb2.UploadHeader(
            parent=self.names.parent,
            file_name=source.file_name,
            size_bytes=source.size_bytes,
            upload_id=upload_id,
            offset=offset,
        )
        yield artifact_service_pb2.UploadArtifactRequest(header=header)
        at = 0
        for chunk in chunks(source, on_progress):
            digest.update(chunk)
            unsent = chunk[max(0, offset - at) :]
            at += len(chunk)
            if unsent:
                yield artifact_service_pb2.UploadArtifactRequest(chunk=unsent)

    async def download(self, blob: blob_pb2.Blob, path: str | Path, on_progress: OnProgress | None = None) -> Path:
        """Fetches a blob into a file, which appears when all its bytes have come and its sha256 is right.

        A stream that breaks goes on where it was. NotFound; DataLoss when the bytes are not what the blob says.
        """
        landing = await self._transport.in_thread(lambda: Landing(blob, Path(path)))
        failures, heard = 0, time.monotonic()
        try:
            while True:
                before = landing.received
                try:
                    await self._receive(blob, landing, on_progress)
                    return await self._transport.in_thread(landing.finish)
                except Unavailable as error:
                    if landing.received > before:
                        failures, heard = 0, time.monotonic()
                    if time.monotonic() - heard > self._transport.settings.patience_s:
                        raise
                    failures += 1
                    await self._transport.sleep(backoff_s(failures, self._transport.settings, error.retry_after_s))
        finally:
            landing.close()

    async def _receive(self, blob: blob_pb2.Blob, landing: Landing, on_progress: OnProgress | None) -> None:
        request = artifact_service_pb2.DownloadArtifactRequest(uri=blob.uri, offset=landing.received)
        answer = artifact_service_pb2.DownloadArtifactResponse
        service = service_of(blob.uri)
        async for message in self._transport.stream(service, ARTIFACT_SERVICE, "DownloadArtifact", request, answer, None):
            landing.write(message.chunk)
            if on_progress is not None:
                on_progress(landing.received, blob.size_bytes)
