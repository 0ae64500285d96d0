"""Bytes that pages show and offer: pictures and sounds of examples, files of artifacts. Fetched through the client, kept by the
browser: what they are is in their address, so it never changes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, PlainTextResponse, Response

from modelyard.client import FailedPrecondition, InvalidArgument, ModelyardClientError, NotFound, PermissionDenied, Unavailable
from modelyard.console.connection import connection
from modelyard.console.previews import Previews
from modelyard.type.v1 import blob_pb2

KEPT: Final = "private, max-age=604800, immutable"
_SHOWN: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "audio/wav", "audio/flac"})
_STATUS: Final = {NotFound: 404, InvalidArgument: 400, PermissionDenied: 403, FailedPrecondition: 409, Unavailable: 503}
_SIZES: Final = range(16, 2049)


def picture_address(content: str, example_id: str, size: int = 256) -> str:
    """Where a picture of an example is; size 0: as it came. content: full name of a version or an import."""
    return f"/content?{urlencode({'of': content, 'example': example_id, 'size': size})}"


def mask_address(content: str, example_id: str, size: int = 256) -> str:
    """Where what is painted over a picture is."""
    return f"/mask?{urlencode({'of': content, 'example': example_id, 'size': size})}"


def download_address(blob: blob_pb2.Blob, name: str) -> str:
    """Where the bytes of an artifact are, offered under a file name."""
    return f"/artifact?{urlencode({'uri': blob.uri, 'name': name, 'bytes': blob.size_bytes})}"


def add_content(app: FastAPI) -> None:
    """The routes."""

    previews = Previews()

    @app.get("/content")
    async def content(of: str, example: str, size: int = 256) -> Response:
        client = connection().client(project_of(of))
        try:
            if size == 0:
                found = await client.examples.view(of, [example], content="original")
                one = found.examples[0] if found.examples else None
            else:
                one = await previews.get(client, of, example, _within(size))
        except ModelyardClientError as error:
            return _refused(error)
        if one is None or one.media_type not in _SHOWN:
            return PlainTextResponse("there is no picture or sound of this example", 404)
        return Response(one.content, media_type=one.media_type, headers={"cache-control": KEPT})

    @app.get("/mask")
    async def mask(of: str, example: str, size: int = 256) -> Response:
        try:
            one = await previews.get(connection().client(project_of(of)), of, example, _within(size))
        except ModelyardClientError as error:
            return _refused(error)
        if not one.mask:
            return PlainTextResponse("nothing is painted over this example", 404)
        return Response(one.mask, media_type="image/png", headers={"cache-control": KEPT})

    @app.get("/artifact")
    async def artifact(uri: str, name: str, bytes: int = 0) -> Response:
        blob = blob_pb2.Blob(uri=uri, sha256=uri.rpartition("/")[2], size_bytes=max(bytes, 0))
        folder = tempfile.TemporaryDirectory(prefix="modelyard-console-")
        try:
            path = await connection().client("default").artifacts.download(blob, Path(folder.name) / "file")
        except ModelyardClientError as error:
            folder.cleanup()
            return _refused(error)
        return FileResponse(path, media_type="application/octet-stream", filename=name, background=BackgroundTask(folder.cleanup))


def project_of(content: str) -> str:
    """The project of a full name; "default" for what is none."""
    parts = content.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "projects" else "default"


def _within(size: int) -> int:
    return size if size in _SIZES else 256


def _refused(error: ModelyardClientError) -> Response:
    return PlainTextResponse(error.message, status_of(error))


def status_of(error: ModelyardClientError) -> int:
    """The HTTP status of an error of a service."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 502)
