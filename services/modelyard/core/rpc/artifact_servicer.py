"""modelyard.artifact.v1.ArtifactService over the artifact stores of the services in this process."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from modelyard.artifact.v1 import artifact_service_pb2 as pb
from modelyard.artifact.v1 import artifact_service_pb2_grpc as rpc
from modelyard.core.access.quotas import Quotas
from modelyard.core.artifacts import ArtifactStore, Blob, parse_uri
from modelyard.core.errors import Cancelled, InvalidArgument, NotFound
from modelyard.core.jobs.convert import blob_message
from modelyard.core.names import PROJECT
from modelyard.core.rpc.uploads import Uploads
from modelyard.type.v1 import blob_pb2

CHUNK_BYTES = 1 << 20
CHUNKS_IN_FLIGHT = 8
AFTERTHOUGHT_S = 0.05
_END, _BROKEN = b"", None


class ArtifactServicer(rpc.ArtifactServiceServicer):
    """Uploads go to one store, downloads come from the store of the uri's namespace."""

    def __init__(
        self,
        uploads: ArtifactStore,
        stores: Mapping[str, ArtifactStore],
        record: Callable[[str, Blob], None] | None = None,
        quotas: Quotas | None = None,
        waiting: Uploads | None = None,
        expect: Callable[[int], None] | None = None,
    ) -> None:
        """`record` is told of every upload: its project and blob. `waiting` keeps what came of uploads that break off. `expect`
        is told when an upload begins, with its bytes (0: unknown)."""
        self._expect = expect
        self._waiting = waiting
        self._uploads = uploads
        self._stores = stores
        self._record = record
        self._quotas = quotas

    async def UploadArtifact(self, request_iterator: AsyncIterator[pb.UploadArtifactRequest], context: Any) -> blob_pb2.Blob:
        messages = aiter(request_iterator)
        header = await _header(messages)
        pipe: queue.Queue[bytes | None] = queue.Queue(maxsize=CHUNKS_IN_FLIGHT)
        put = asyncio.ensure_future(asyncio.to_thread(self._put, pipe, header))
        try:
            async for message in messages:
                if not await _hand_over(pipe, _chunk(message), put):
                    break
            if not (header.size_bytes or header.sha256):
                await _check_whole(context)
            await _hand_over(pipe, _END, put)
        except BaseException:
            await _hand_over(pipe, _BROKEN, put)
            raise
        return blob_message(await put) or blob_pb2.Blob()

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        namespace, _ = parse_uri(request.uri)
        store = self._stores.get(namespace)
        if store is None:
            message = f"this service keeps {', '.join(sorted(self._stores))}; {request.uri} belongs to {namespace}"
            raise NotFound("NOT_FOUND", message, uri=request.uri)
        stream = await asyncio.to_thread(store.open, request.uri, request.offset)
        with stream:
            while chunk := await asyncio.to_thread(stream.read, CHUNK_BYTES):
                yield pb.DownloadArtifactResponse(chunk=chunk)

    def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:
        received = self._waiting.received(request.parent, request.upload_id) if self._waiting is not None else 0
        return pb.Upload(upload_id=request.upload_id, received_bytes=received)

    def _put(self, pipe: queue.Queue[bytes | None], header: pb.UploadHeader) -> Blob:
        project = PROJECT.parse(header.parent)["project"] if PROJECT.matches(header.parent) else ""
        pieces = self._within_quota(_chunks(pipe), project, header.size_bytes, header.offset)
        if self._expect is not None:
            self._expect(header.size_bytes)
        announced = {"sha256": header.sha256 or None, "size_bytes": header.size_bytes or None}
        if header.upload_id and self._waiting is not None:
            with self._waiting.taking(header.parent, header.upload_id, header.offset) as file:
                blob = self._waiting.keep(file, pieces, self._uploads, **announced)  # type: ignore[arg-type]
        else:
            blob = self._uploads.put(pieces, **announced)  # type: ignore[arg-type]
        if self._record is not None and project:
            self._record(project, blob)
        if self._quotas is not None:
            self._quotas.added(project, blob.size_bytes)
        return blob

    def _within_quota(self, pieces: Iterator[bytes], project: str, announced: int, before: int) -> Iterator[bytes]:
        """The same pieces, stopped when they, and what came before, are more than the project may send."""
        room = self._quotas.upload_room(project, announced) if self._quotas is not None and project else None
        size = before
        for piece in pieces:
            size += len(piece)
            if self._quotas is not None and room is not None and size > room:
                raise self._quotas.too_much(project, size)
            yield piece


async def _header(messages: AsyncIterator[pb.UploadArtifactRequest]) -> pb.UploadHeader:
    first = await anext(messages, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgument("NO_HEADER", "The first message of an upload must be its header", field="header")
    return first.header


async def _check_whole(context: Any) -> None:
    """grpc.aio ends the messages of a caller who went away a moment before it says so: where neither size nor sha256 tells, half
    an upload would pass for a whole one. Raises Cancelled.
    """
    await asyncio.sleep(AFTERTHOUGHT_S)
    if context.cancelled():
        raise _broken_off()


def _broken_off() -> Cancelled:
    return Cancelled("UPLOAD_BROKEN", "The upload ended before its last chunk; nothing was kept")


def _chunk(message: pb.UploadArtifactRequest) -> bytes:
    if message.WhichOneof("part") != "chunk" or not message.chunk:
        raise InvalidArgument("NO_CHUNK", "After the header every message of an upload must hold a chunk of bytes", field="chunk")
    return message.chunk


async def _hand_over(pipe: queue.Queue[bytes | None], chunk: bytes | None, put: asyncio.Future[Blob]) -> bool:
    """Pass a chunk to the thread that writes, waiting while it is behind. False when it has ended (with an error)."""
    while not put.done():
        try:
            pipe.put_nowait(chunk)
        except queue.Full:
            await asyncio.sleep(0.002)
        else:
            return True
    return False


def _chunks(pipe: queue.Queue[bytes | None]) -> Iterator[bytes]:
    while (chunk := pipe.get()) != _END:
        if chunk is None:
            raise _broken_off()
        yield chunk
