"""What happens around every call: who may, request id, log line, metrics, audit, deadline, thread, and errors as status codes.

A servicer's method may be a plain function (run in a thread), a coroutine, or an async generator. It raises core.errors; the
shell turns them into a status with google.rpc details, for unary calls and for streams alike. Whatever else it raises is a
bug: the caller gets a fixed text and the request id, the log gets the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from prometheus_client import Counter, Histogram

from modelyard.core.access.guard import CALLER, Guard, resource_in
from modelyard.core.access.principal import ANYBODY, Principal
from modelyard.core.access.rules import RULES, Rule, Where
from modelyard.core.errors import DeadlineExceeded, ModelyardError
from modelyard.core.jobs.convert import error_status
from modelyard.core.rpc.status import code_from_number, error_of
from modelyard.core.rpc.tracing import call_span

if TYPE_CHECKING:
    from modelyard.core.access.audit import AuditLog

Traced = Callable[[], AbstractContextManager[Any]]
Admission = Mapping[str, Callable[[Any], None]]
log = structlog.get_logger()

CALLS = Counter("modelyard_rpc_calls_total", "Finished calls.", ["method", "code"])
SECONDS = Histogram("modelyard_rpc_seconds", "Time of a call, in seconds.", ["method"])
# Predictions are counted but not logged one by one; nor are the calls that probes and workers make all the time.
QUIET = ("/inference.", "/grpc.health.", "/grpc.reflection.", "/modelyard.worker.")


class Shell(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Wraps every method of every servicer."""

    def __init__(
        self,
        threads: Executor,
        guard: Guard | None = None,
        audit: AuditLog | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`guard` None: nobody is asked who calls. `admission`: what is asked before a method runs (quotas)."""
        self._threads = threads
        self._guard, self._audit, self._admission = guard, audit, admission or {}

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: Any) -> Any:
        """The handler of a method, wrapped. Health and reflection are grpc's own and stay as they are."""
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc.health."):
            return handler
        if self._guard is None and details.method.startswith("/grpc.reflection."):
            return handler
        metadata = dict(details.invocation_metadata or ())
        request_id = str(metadata.get("x-request-id") or uuid.uuid4().hex)[:64]
        authorization = str(metadata.get("authorization", ""))
        gate = Gate(self._guard, self._audit, details.method, authorization, self._admission.get(details.method))
        call = functools.partial(_Call, details.method, request_id, self._threads, gate)
        return _wrap(handler, call, functools.partial(call_span, details.method, metadata))


def _wrap(handler: Any, call: Callable[[Any], _Call], traced: Traced) -> Any:
    coders = {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(_streaming(call, traced, handler.stream_stream), **coders)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(_unary(call, traced, handler.stream_unary), **coders)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(_streaming(call, traced, handler.unary_stream), **coders)
    return grpc.unary_unary_rpc_method_handler(_unary(call, traced, handler.unary_unary), **coders)


class Gate:
    """Where one call is let in, and noted when it has ended."""

    def __init__(
        self,
        guard: Guard | None,
        audit: AuditLog | None,
        method: str,
        authorization: str,
        asked: Callable[[Any], None] | None = None,
    ) -> None:
        self._guard, self._audit, self._method, self._authorization = guard, audit, method, authorization
        self._asked = asked
        self._rule: Rule | None = RULES.get(method) if guard is None else guard.rule(method)
        self._principal: Principal | None = None
        self._resource = ""

    async def admit(self, request: Any, context: Any) -> Any:
        """As `permitted`, and within the quotas. Raises ResourceExhausted too."""
        request = await self.permitted(request, context)
        if self._asked is not None:
            await asyncio.to_thread(self._asked, request)
        return request

    async def permitted(self, request: Any, context: Any) -> Any:
        """The request, or the iterator of requests, of a call that may be made. Raises Unauthenticated, PermissionDenied."""
        self._resource = resource_in(request, self._rule)
        if self._guard is None or self._guard.is_open(self._rule):
            self._principal = ANYBODY
            return request
        rule, peer = self._rule, context.peer()
        if rule is not None and rule.where is Where.JOB:
            self._principal = await self._guard.check_job(request, peer)
            return request
        names = getattr(context, "client_names", ())
        self._principal = await self._guard.principal(self._authorization, names, peer)
        CALLER.set(self._principal)
        if hasattr(request, "__anext__") or hasattr(request, "__aiter__"):
            return self._checked(request, self._principal)
        self._resource = await self._guard.permit(self._principal, self._method, rule, request)
        return request

    async def _checked(self, requests: Any, principal: Principal) -> AsyncIterator[Any]:
        assert self._guard is not None
        first = True
        async for message in requests:
            if first or (self._rule is not None and self._rule.each):
                self._resource = resource_in(message, self._rule)
                self._resource = await self._guard.permit(principal, self._method, self._rule, message)
                first = False
            yield message

    def note(self, code: str, reason: str, request_id: str, context: Any) -> None:
        """The call has ended."""
        if self._audit is not None and self._audit.wants(self._rule, code, reason):
            self._audit.note(self._principal, self._method, self._resource, context.peer(), code, reason, request_id)


def _unary(call: Callable[[Any], _Call], traced: Traced, behavior: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        with traced():
            return await call(context).unary(behavior, request)

    return answer


def _streaming(call: Callable[[Any], _Call], traced: Traced, behavior: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        with traced():
            async for message in call(context).stream(behavior, request):
                yield message

    return answer


class _Call:
    """One call."""

    def __init__(self, method: str, request_id: str, threads: Executor, gate: Gate, context: Any) -> None:
        self._method = method
        self._gate = gate
        self._request_id = request_id
        self._threads = threads
        self._context = context
        self._start = time.perf_counter()

    async def unary(self, behavior: Callable[..., Any], request: Any) -> Any:
        """The one answer, or the error."""
        try:
            answer = await self._run(behavior, await self._gate.admit(request, self._context))
        except asyncio.CancelledError:
            self._finish(grpc.StatusCode.CANCELLED)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._abort(error)
        self._finish(grpc.StatusCode.OK)
        return answer

    async def stream(self, behavior: Callable[..., Any], request: Any) -> AsyncIterator[Any]:
        """The answers; an error while they are made is mapped as well as one before the first."""
        try:
            async for message in behavior(await self._gate.admit(request, self._context), self._context):
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            self._finish(grpc.StatusCode.CANCELLED)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._abort(error)
        self._finish(grpc.StatusCode.OK)

    async def _run(self, behavior: Callable[..., Any], request: Any) -> Any:
        if inspect.iscoroutinefunction(behavior):
            return await behavior(request, self._context)
        remaining = self._context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline had passed before the work began.")
        run = functools.partial(contextvars.copy_context().run, behavior, request, self._context)
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def _abort(self, error: Exception) -> None:
        found = error_of(error)
        code = code_from_number(found["code"])
        if not isinstance(error, ModelyardError):
            log.error("internal error", method=self._method, request_id=self._request_id, exc_info=error)
        self._finish(code, reason=found["reason"], message=found["message"])
        status = error_status(found, self._request_id)
        trailers = (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", self._request_id))
        await self._context.abort(code, status.message, trailing_metadata=trailers)

    def _finish(self, code: grpc.StatusCode, **more: str) -> None:
        seconds = time.perf_counter() - self._start
        CALLS.labels(self._method, code.name).inc()
        SECONDS.labels(self._method).observe(seconds)
        self._gate.note(code.name, more.get("reason", ""), self._request_id, self._context)
        if not self._method.startswith(QUIET):
            values = {"method": self._method, "code": code.name, "ms": round(seconds * 1e3, 1), "request_id": self._request_id}
            log.info("call", **values, **more)
