"""Fakes: real gRPC servers on port 0 with servicers in memory, and the asyncio client behind a blocking face."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from modelyard.artifact.v1 import artifact_service_pb2, artifact_service_pb2_grpc
from modelyard.type.v1 import blob_pb2


class Blocking:
    """An asyncio object with the face of the sync one: coroutines are run, asynchronous iterators are iterated."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target, self._loop = target, loop

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if callable(value):
            return lambda *args, **kwargs: self._settled(value(*args, **kwargs))
        return Blocking(value, self._loop) if type(value).__name__.startswith("Async") else value

    def _settled(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._run(value)
        return self._iterated(value) if hasattr(value, "__anext__") else value

    def _iterated(self, values: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._run(values.__anext__())
            except StopAsyncIteration:
                return


class Server:
    """A gRPC server on port 0 that can be stopped and started again on the same port."""

    def __init__(self, *mounts: Callable[[grpc.Server], None]) -> None:
        self._mounts = mounts
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        for mount in self._mounts:
            mount(self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def restart(self) -> None:
        self.stop()
        self.start()


class FakeArtifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Keeps blobs in a dictionary. `break_after` ends the next downloads after so many chunks with UNAVAILABLE."""

    def __init__(self, namespace: str = "dataset") -> None:
        self.namespace = namespace
        self.blobs: dict[str, bytes] = {}
        self.headers: list[Any] = []
        self.offsets: list[int] = []
        self.chunk_sizes: list[int] = []
        self.break_after: list[int] = []
        self.lie = False

    def UploadArtifact(self, request_iterator: Iterator[Any], context: Any) -> blob_pb2.Blob:
        self.headers.append(next(request_iterator).header)
        chunks = [message.chunk for message in request_iterator]
        self.chunk_sizes = [len(chunk) for chunk in chunks]
        announced = self.headers[-1].size_bytes
        if announced and announced != sum(self.chunk_sizes):  # a caller who gave up looks like one who has sent all
            came = f"size_bytes was announced as {announced}, but {sum(self.chunk_sizes)} bytes came"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "SIZE_MISMATCH", came)
        return self.keep(b"".join(chunks))

    def keep(self, content: bytes) -> blob_pb2.Blob:
        digest = hashlib.sha256(content).hexdigest()
        uri = f"artifact://{self.namespace}/{digest}"
        self.blobs[uri] = content
        return blob_pb2.Blob(uri=uri, sha256="0" * 64 if self.lie else digest, size_bytes=len(content))

    def DownloadArtifact(self, request: Any, context: Any) -> Iterator[Any]:
        self.offsets.append(request.offset)
        content = self.blobs.get(request.uri)
        if content is None:
            abort(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_BLOB", f"there is no {request.uri}", uri=request.uri)
        rest = (content or b"")[request.offset :]
        allowed = self.break_after.pop(0) if self.break_after else None
        for number, start in enumerate(range(0, len(rest), 1000)):
            if number == allowed:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
            yield artifact_service_pb2.DownloadArtifactResponse(chunk=rest[start : start + 1000])


def abort(context: Any, code: grpc.StatusCode, reason: str, message: str, field: str = "", **values: str) -> None:
    """Ends a call as the services' rpc shell does: google.rpc.Status in the trailing metadata."""
    status = status_of(code, reason, message, field, **values)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "request-7")))
    context.abort(code, message)


def status_of(code: grpc.StatusCode, reason: str, message: str, field: str = "", **values: str) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="modelyard", metadata=values)]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


Connect = Callable[..., Any]
