"""Requests to the HttpHandler, over HTTP/1.1 and HTTP/2 alike: what is refused before it, and what its answers look like."""

from __future__ import annotations

import json
import re
import time
import uuid
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import structlog

from modelyard.core.errors import ModelyardError
from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse
from modelyard.core.http.grpc_messages import ENCODINGS, inflate
from modelyard.core.rpc.shell import CALLS, SECONDS
from modelyard.core.rpc.status import INTERNAL_MESSAGE

log = structlog.get_logger()
REASONS = {
    200: "OK", 202: "Accepted", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 412: "Precondition Failed",
    413: "Content Too Large", 415: "Unsupported Media Type", 417: "Expectation Failed", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 499: "Client Closed Request", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# The framing of the message is written here, never by a handler.
_FRAMING = {"content-length", "transfer-encoding", "connection", "content-type", "date"}


class BadRequest(Exception):
    """The request is refused before its handler: with this status and sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def refused(status: int, why: str) -> HttpResponse:
    """An error as the Open Inference Protocol writes one."""
    return HttpResponse(status, json.dumps({"error": why}).encode())


def decoded_path(target: str) -> tuple[str, str]:
    """Path, percent-decoded once, and query of a request target. Raises BadRequest for one that is no path."""
    path, _, query = target.partition("?")
    if not path.startswith("/") or _BAD_ESCAPE.search(path):
        raise BadRequest(400, "the request's path must begin with / and be percent-encoded")
    try:
        return unquote_to_bytes(path).decode("utf-8"), query
    except UnicodeDecodeError:
        raise BadRequest(400, "the request's path must be UTF-8") from None


def unpacked_body(body: bytes, encoding: str, most: int) -> bytes:
    """The body without its content-encoding. Raises BadRequest 400, 413 or 415."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ENCODINGS:
        raise BadRequest(415, f"content-encoding is {encoding[:40]!r}; known are identity, gzip, deflate")
    try:
        return inflate(body, ENCODINGS[encoding], most)
    except ModelyardError as error:
        raise BadRequest(413 if error.reason == "MESSAGE_TOO_LARGE" else 400, error.message) from None


async def answer_of(handler: HttpHandler, request: HttpRequest) -> HttpResponse:
    """The handler's answer, counted; what it raises as 500 with a fixed text and a request id."""
    start = time.perf_counter()
    try:
        response = _checked(await handler(request))
    except Exception as error:
        request_id = (request.headers.get("x-request-id") or uuid.uuid4().hex)[:64]
        log.error("internal error", method=request.method, path=request.path, request_id=request_id, exc_info=error)
        response = HttpResponse(500, json.dumps({"error": INTERNAL_MESSAGE, "request_id": request_id}).encode())
    CALLS.labels(f"HTTP {_known(request.method)}", str(response.status)).inc()
    SECONDS.labels(f"HTTP {_known(request.method)}").observe(time.perf_counter() - start)
    return response


def _known(method: str) -> str:
    """A label of few values, whatever callers invent."""
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS") else "other"


def _checked(response: HttpResponse) -> HttpResponse:
    for name, value in (*response.headers.items(), ("content-type", response.content_type)):
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise ValueError(f"the header {name!r} of an answer is not valid")
    return response


def response_fields(response: HttpResponse) -> list[tuple[str, str]]:
    """The header fields of an answer, in lower case."""
    fields = [("content-type", response.content_type)] if response.body or response.status != 204 else []
    fields += [("content-length", str(len(response.body)))] if response.status not in (204, 304) else []
    fields += [(name.lower(), value) for name, value in response.headers.items() if name.lower() not in _FRAMING]
    return [*fields, ("date", _date(int(time.time())))]


@lru_cache(2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
