"""OpenTelemetry, where it is asked for (MODELYARD_TRACING_ENDPOINT; pip install modelyard[tracing]); else nothing is imported.

Spans: one a call, gRPC or HTTP; one a prediction with its time in the queue and in the model; one a job, in the service and in
its worker. The context comes as W3C traceparent (https://www.w3.org/TR/trace-context/) in metadata or headers, is written to a
job's labels, and goes on with every call of modelyard.client.

Off, the front end's handlers and the models are the very objects they would be without this module: nothing is wrapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse, UnaryCall, UnaryHandler

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
CARRIED: Final = (TRACEPARENT, TRACESTATE)
QUIET: Final = ("/grpc.", "/modelyard.worker.")
"""Calls that probes and workers make all the time."""
EXPORT_S: Final = 2
"""Longest wait for the collector, also when a process ends: one that is away must hold up no worker."""

_NOTHING: Final = nullcontext()
_state: dict[str, Any] = {}


def active() -> bool:
    """Whether spans are made in this process."""
    return bool(_state)


def start(endpoint: str, service: str, share: float = 1.0) -> None:
    """From now on spans go to an OTLP collector (gRPC) at `endpoint`, http://host:4317; does nothing for an empty one.

    `share` (0 to 1) of the traces that begin here are kept; of those that begin elsewhere, what their beginner decided.
    Raises FailedPrecondition TRACING_NOT_INSTALLED, InvalidArgument BAD_TRACING_ENDPOINT.
    """
    if not endpoint or active():
        return
    if not endpoint.startswith(("http://", "https://")):
        message = f"tracing_endpoint is {endpoint[:200]!r}; it must be http://host:port or https://host:port of an OTLP collector"
        raise InvalidArgument("BAD_TRACING_ENDPOINT", message, field="tracing_endpoint", value=endpoint[:200])
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        message = "tracing_endpoint is set, and OpenTelemetry is not installed: pip install modelyard[tracing]"
        raise FailedPrecondition("TRACING_NOT_INSTALLED", message, extra="tracing") from error
    sampler = ParentBased(TraceIdRatioBased(share))
    name = "modelyard" if service == "modelyard" else f"modelyard-{service}"  # all services in one process, or one of them
    provider = TracerProvider(sampler, Resource.create({"service.name": name}))
    exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def use(provider: Any) -> None:
    """Makes spans with a provider that is there already: the one that `start` made, or a test's."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from modelyard.client import _channels

    _state.update(provider=provider, tracer=provider.get_tracer("modelyard"), propagator=TraceContextTextMapPropagator())
    _channels.outgoing["metadata"] = lambda: tuple(carrier().items())


def stop() -> None:
    """Sends what is waiting; no spans from now on."""
    if not active():
        return
    from modelyard.client import _channels

    _channels.outgoing.clear()
    provider = _state["provider"]
    _state.clear()
    provider.shutdown()


def carrier() -> dict[str, str]:
    """The present span as traceparent and tracestate; empty without one."""
    found: dict[str, str] = {}
    if active():
        _state["propagator"].inject(found)
    return found


def span(
    name: str, kind: str = "INTERNAL", parent: Mapping[str, str] | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around a block; what it raises is noted. `parent`: metadata or labels that may hold a traceparent."""
    return _span(name, kind, parent, attributes) if active() else _NOTHING


@contextmanager
def _span(name: str, kind: str, parent: Mapping[str, str] | None, attributes: dict[str, Any]) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind

    context = _state["propagator"].extract(parent) if parent is not None else None
    with _state["tracer"].start_as_current_span(name, context, SpanKind[kind], attributes) as made:
        yield made


def call_span(method: str, metadata: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """A span around a gRPC call; none for those of probes and workers."""
    if not active() or method.startswith(QUIET):
        return _NOTHING
    return span(method[1:], "SERVER", {key: str(metadata[key]) for key in CARRIED if key in metadata}, **_rpc(method))


def _rpc(method: str) -> dict[str, str]:
    service, _, name = method[1:].partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


# The front end's own calls


def traced_natives(natives: Mapping[str, UnaryHandler]) -> Mapping[str, UnaryHandler]:
    """The handlers, each call in a span; the very same mapping where nothing is traced."""
    if not active():
        return natives
    return {method: _traced_native(handler) for method, handler in natives.items()}


def _traced_native(handler: UnaryHandler) -> UnaryHandler:
    from opentelemetry import trace

    def handle(call: UnaryCall, message: bytes) -> None:
        context = _state["propagator"].extract({key: value for key in CARRIED if (value := call.metadata(key))})
        made = _state["tracer"].start_span(call.method[1:], context, trace.SpanKind.SERVER, _rpc(call.method))
        traced = TracedCall(call, made)
        try:
            with trace.use_span(made, record_exception=False, set_status_on_exception=False):
                handler(traced, message)
        except Exception as error:
            _note(made, error)
            traced.over()
            raise

    return handle


class TracedCall:
    """A UnaryCall whose span ends with it."""

    __slots__ = ("_call", "_span")

    def __init__(self, call: UnaryCall, span: Any) -> None:
        self._call, self._span = call, span

    @property
    def method(self) -> str:
        """See UnaryCall."""
        return self._call.method

    @property
    def deadline(self) -> float | None:
        """See UnaryCall."""
        return self._call.deadline

    def metadata(self, key: str) -> str:
        """See UnaryCall."""
        return self._call.metadata(key)

    def answer(self, message: bytes) -> None:
        """See UnaryCall."""
        self._call.answer(message)
        self.over()

    def fail(self, error: Exception) -> None:
        """See UnaryCall."""
        _note(self._span, error)
        self._call.fail(error)
        self.over()

    def on_cancel(self, do: Callable[[], None]) -> None:
        """See UnaryCall."""

        def cancelled() -> None:
            self._span.set_attribute("modelyard.cancelled", True)
            self.over()
            do()

        self._call.on_cancel(cancelled)

    def over(self) -> None:
        """Ends the span, once."""
        if self._span.is_recording():
            self._span.end()


def _note(made: Any, error: Exception) -> None:
    from opentelemetry.trace import StatusCode

    made.set_status(StatusCode.ERROR, getattr(error, "reason", type(error).__name__))
    made.record_exception(error)


def traced_http(handler: HttpHandler | None) -> HttpHandler | None:
    """The handler, each request in a span; the very same where nothing is traced."""
    if not active() or handler is None:
        return handler

    async def handle(request: HttpRequest) -> HttpResponse:
        parent = {key: request.headers[key] for key in CARRIED if key in request.headers}
        names = {"http.request.method": request.method, "url.path": request.path[:200]}
        with span(f"HTTP {request.method}", "SERVER", parent, **names) as made:
            response = await handler(request)
            if made is not None:
                made.set_attribute("http.response.status_code", response.status)
            return response

    return handle


def record(name: str, begun_ns: int, ended_ns: int, parent: Any, **attributes: Any) -> None:
    """A span of the past, below the span `parent`: times as time.time_ns()."""
    from opentelemetry import trace

    if active():
        context = trace.set_span_in_context(parent)
        _state["tracer"].start_span(name, context, attributes=attributes, start_time=begun_ns).end(ended_ns)


def present() -> Any:
    """The present span, for `record`."""
    from opentelemetry import trace

    return trace.get_current_span()


def now_ns() -> int:
    """The time as spans have it."""
    return time.time_ns()
