"""The guard around what the front end answers itself: natives, and HTTP. Servicers have it in core/rpc/shell.py."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard.core.access.guard import CALLER, Guard
from modelyard.core.access.principal import Principal
from modelyard.core.access.rules import HTTP_RULES, Rule, Where, http_rule
from modelyard.core.errors import (
    InvalidArgument,
    ModelyardError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse, UnaryHandler
from modelyard.core.rpc.status import status_code

if TYPE_CHECKING:
    from modelyard.core.access.audit import AuditLog

log = structlog.get_logger()
Parse = Callable[[bytes], Any]
STATUSES: Final[dict[type[ModelyardError], int]] = {
    Unauthenticated: 401,
    PermissionDenied: 403,
    ResourceExhausted: 429,
    Unavailable: 503,
}
PASSED_S: Final = 1.0
"""How long a caller who was let through for a model is not asked again."""
MOST_PASSED: Final = 1024
_clock = time.monotonic
_LENGTH, _VARINT, _FIXED64, _FIXED32 = 2, 0, 1, 5


def guarded_native(path: str, handler: UnaryHandler, guard: Guard, audit: AuditLog | None, parse: Parse | None) -> UnaryHandler:
    """The handler behind the guard; the very same one where nobody is asked. `parse` reads a message that is written oddly."""
    rule = guard.rule(path)
    if guard.is_open(rule):
        return handler
    if rule is None or rule.where is not Where.MODEL:
        raise ValueError(f"{path} needs a rule of the kind MODEL: what the front end answers itself must be quick to check")
    quick, permit, field = guard.authenticator.quick, guard.permit_model, rule.field

    passed: dict[tuple[str, str | None], float] = {}
    """Who was let through for which model, and until when that is not asked again."""

    def handle(call: Any, message: bytes) -> None:
        authorization, model = call.metadata("authorization"), first_text(message)
        if passed.get((authorization, model), 0.0) > _clock():
            handler(call, message)
            return
        principal = None
        try:
            principal = quick(authorization, call.names)
            if principal is None:
                task = asyncio.ensure_future(later(call, authorization, message))
                call.on_cancel(task.cancel)
                return
            permit(principal, path, rule, model if model is not None else parsed(message))
        except ModelyardError as error:
            refuse(call, principal, error)
            return
        if authorization and model is not None:
            if len(passed) >= MOST_PASSED:
                passed.clear()
            passed[authorization, model] = min(principal.until, _clock() + PASSED_S)
        handler(call, message)

    def parsed(message: bytes) -> str:
        try:
            return str(getattr(parse(message), field)) if parse is not None else ""
        except Exception:
            raise InvalidArgument("BAD_MESSAGE", "the request's bytes are no message of its type") from None

    async def later(call: Any, authorization: str, message: bytes) -> None:
        try:
            await asyncio.to_thread(guard.authenticator.slow, authorization, call.peer)
        except ModelyardError as error:
            refuse(call, None, error)
            return
        except Exception as error:
            call.fail(error)
            return
        try:
            handle(call, message)  # which remembers now
        except Exception as error:
            call.fail(error)

    def refuse(call: Any, principal: Principal | None, error: ModelyardError) -> None:
        if audit is not None:
            note(audit, rule, principal, path, call.peer, error, call.metadata("x-request-id"))
        call.fail(error)

    return handle


def first_text(message: bytes) -> str | None:
    """Field 1 of a protobuf message, a text, without reading the rest of it: a request may be megabytes of numbers.

    None when it stands there in a form that this does not read (and the parser must).
    """
    found, at, end = b"", 0, len(message)
    while at < end:
        key = message[at]
        at += 1
        kind = key & 7
        if key >= 0x80 or key < 8:
            return None
        if kind == _LENGTH:
            size = shift = 0
            while True:
                if at >= end or shift > 28:
                    return None
                byte = message[at]
                at += 1
                size |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            if key == 0x0A:
                found = message[at : at + size]  # the last of several counts, as for every parser
            at += size
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _VARINT and key != 0x08:
            while at < end and message[at] >= 0x80:
                at += 1
            at += 1
        else:
            return None
    if at != end:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return None


def guarded_http(handler: HttpHandler, guard: Guard, audit: AuditLog | None) -> HttpHandler:
    """The handler behind the guard. What has no rule is not there, whoever asks."""

    async def handle(request: HttpRequest) -> HttpResponse:
        found = http_rule(request.method, request.path)
        rule, model = found or (None, "")
        if guard.is_open(rule):
            return await handler(request)
        principal = None
        path = f"{request.method[:16]} {request.path[:256]}"
        try:
            principal = await guard.principal(request.headers.get("authorization", ""), request.names, request.peer)
            CALLER.set(principal)
            if rule is None:
                return await handler(request) if is_known(request.path) else http_error(404, "there is nothing under this path")
            _permit(guard, principal, path, rule, model)
        except ModelyardError as error:
            if audit is not None:
                note(audit, rule, principal, path, request.peer, error, request.headers.get("x-request-id", ""))
            return http_refusal(error)
        response = await handler(request)
        if audit is not None and rule is not None and rule.changes:
            request_id = request.headers.get("x-request-id", "")
            audit.note(principal, path, model, request.peer, str(response.status), "", request_id)
        return response

    return handle


def _permit(guard: Guard, principal: Principal, path: str, rule: Rule, model: str) -> None:
    if rule.where is Where.MODEL or rule.where is Where.SERVER:
        guard.permit_model(principal, path, rule, model)
    elif principal.scope and not rule.predicts:
        raise PermissionDenied("NOT_ALLOWED", f"{principal.name} may not: its token is for {principal.scope} alone")


def is_known(path: str) -> bool:
    """Whether there is anything under a path, if only for another method."""
    return any(pattern.fullmatch(path.rstrip("/") or "/") for _, pattern, _ in HTTP_RULES)


def http_refusal(error: ModelyardError) -> HttpResponse:
    """An error of the guard as the Open Inference Protocol writes one."""
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
    return http_error(status, error.message, error.reason, error.retry_after_s)


def http_error(status: int, message: str, reason: str = "", retry_after_s: float | None = None) -> HttpResponse:
    """{"error": message, "reason": reason}"""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    document = {"error": message} | ({"reason": reason} if reason else {})
    return HttpResponse(status, json.dumps(document).encode(), headers=headers)


def note(
    audit: AuditLog, rule: Rule | None, principal: Principal | None, path: str, peer: str, error: ModelyardError, request_id: str
) -> None:
    """A refusal, for the audit log."""
    code = status_code(error).name
    if audit.wants(rule, code, error.reason):
        audit.note(principal, path, "", peer, code, error.reason, request_id)
