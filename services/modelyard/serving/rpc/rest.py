"""The Open Inference Protocol over HTTP/REST, with Triton's extensions, and the metrics. Nothing here becomes a path on disk.

The path was percent-decoded once before it comes here; a name with a slash in it therefore is none that a model could have.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelyard.core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ModelyardError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from modelyard.core.http.calls import HttpRequest, HttpResponse
from modelyard.serving.handlers.predict import count_refusal
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.repository import Repository, check_load_parameters
from modelyard.serving.handlers.router import Route
from modelyard.serving.ports import Answer
from modelyard.serving.rpc import model_info
from modelyard.serving.rpc.inference_calls import TIMEOUT, InferenceCalls, check_id, earlier
from modelyard.serving.rpc.inference_servicer import TRACING, no_settings, no_shared_memory
from modelyard.serving.rpc.rest_request import (
    HEADER_LENGTH,
    RestRequest,
    of_type,
    read_body,
    read_json,
    rest_inputs,
    rest_outputs,
)
from modelyard.serving.rpc.rest_response import compressed, rest_answer, to_json

STATUSES: Final[dict[type[ModelyardError], int]] = {
    InvalidArgument: 400,
    FailedPrecondition: 400,
    NotFound: 404,
    AlreadyExists: 409,
    PermissionDenied: 403,
    ResourceExhausted: 429,
    Unavailable: 503,
    Unimplemented: 501,
    DeadlineExceeded: 504,
}
"""Of errors that a caller may see; any other is 500."""

_MODEL: Final = r"/v2/models/(?P<model>[^/]*)(?:/versions/(?P<version>[^/]*))?"
Handler = Callable[["Rest", HttpRequest, dict[str, str]], Awaitable[HttpResponse]]


class Rest:
    """An HttpHandler."""

    def __init__(self, calls: InferenceCalls, repository: Repository, max_batch: int) -> None:
        self._calls = calls
        self._registry: Registry = calls.registry
        self._repository = repository
        self._max_batch = max_batch

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answers a request; errors that callers may see become {"error": ...}."""
        try:
            return await self._routed(request)
        except ModelyardError as error:
            return refusal(error)

    async def _routed(self, request: HttpRequest) -> HttpResponse:
        path = request.path.rstrip("/") or "/"
        allowed = []
        for method, pattern, handler in ROUTES:
            found = pattern.fullmatch(path)
            if found and method == ("GET" if request.method == "HEAD" else request.method):
                return await handler(self, request, {key: value or "" for key, value in found.groupdict().items()})
            allowed += [method] if found else []
        if allowed:
            return error_response(
                405, f"{request.method} is not for this path; {' or '.join(allowed)} is", {"Allow": ", ".join(allowed)}
            )
        return error_response(404, "there is nothing under this path; GET /v2 says who answers, POST /v2/repository/index what")

    async def live(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """200, or there would be no answer."""
        return document({"live": True})

    async def ready(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """200 when all that is deployed was loaded or tried, else 503."""
        if self._registry.complete:
            return document({"ready": True})
        return error_response(503, "the server is still loading its models")

    async def server(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Who the server is."""
        return document(model_info.server_metadata())

    async def model(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Versions, inputs and outputs."""
        entry, loaded = await self._calls.find(names["model"], names["version"])
        return document(model_info.model_metadata(self._registry, entry, loaded))

    async def model_ready(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """200 when it would answer; 404 for what is not there, 503 for what is loading, failed or unhealthy."""
        if await self._calls.is_ready(names["model"], names["version"]):
            return document({"name": names["model"], "ready": True})
        self._registry.find(names["model"], names["version"])
        return error_response(503, f"model {names['model'][:200]!r} is not ready")

    async def config(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """What callers that batch need to know."""
        entry, loaded = await self._calls.find(names["model"], names["version"])
        return document(model_info.model_config(entry, loaded, self._max_batch))

    async def stats(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Of one version, of all of a model, or of all models."""
        found = model_info.statistics_of(self._registry, names.get("model", ""), names.get("version", ""))
        return compressed(document({"model_stats": found}), request.headers.get("accept-encoding", ""))

    async def index(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Every version of every model with its state; {"ready": true} in the body: only those that are."""
        asked = read_json(request.body) if request.body else {}
        return document(model_info.repository_index(self._registry.entries(), only_ready=of_type(asked, "ready", bool, False)))

    async def load(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Only what is deployed."""
        check_load_parameters(_parameters(request))
        await asyncio.to_thread(self._repository.load, names["model"])
        return document({})

    async def unload(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Takes a model out of memory."""
        _parameters(request)
        await asyncio.to_thread(self._repository.unload, names["model"])
        return document({})

    async def infer(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """One prediction."""
        begun_ns = time.perf_counter_ns()
        asked = read_body(request.body, request.headers.get(HEADER_LENGTH))
        check_id(asked.request_id)
        receiver = _Receiver()
        size, header = len(request.body), lambda key: request.headers.get(key, "")
        chosen = await self._calls.chosen_in_time(names["model"], names["version"], asked.request_id, header, size)
        try:
            take_back = self._begin(asked, receiver, request, chosen, begun_ns)
        except ModelyardError as error:
            count_refusal(chosen.model.statistics, error, begun_ns)
            raise
        try:
            return await receiver.future
        except asyncio.CancelledError:
            take_back()
            raise

    def _begin(
        self, asked: RestRequest, receiver: _Receiver, request: HttpRequest, chosen: Route, begun_ns: int
    ) -> Callable[[], None]:
        entry = chosen.entry
        signature = self._calls.signatures.of(entry.model, entry.version, chosen.model.card)
        inputs, rows = rest_inputs(asked, signature)
        wanted = rest_outputs(asked, signature)
        encoding = request.headers.get("accept-encoding", "")
        receiver.make = lambda answer: rest_answer(signature, asked.request_id, wanted, answer, encoding)
        deadline = earlier(None, asked.parameters.get(TIMEOUT))
        return self._calls.predictions.begin(chosen, inputs, rows, begun_ns, deadline, receiver)

    async def no_regions(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Regions of shared memory: clients ask when they start; there are none."""
        return document([])

    async def forget_regions(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Clients do this when they start; there are none."""
        return document({})

    async def register_region(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Not offered."""
        raise no_shared_memory()

    async def tracing(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """What is traced."""
        return document(TRACING)

    async def logging(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """What is logged: nothing that could be asked."""
        return document({})

    async def change_settings(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """Not offered."""
        raise no_settings("tracing" if "trace" in request.path else "logging")

    async def metrics(self, request: HttpRequest, names: dict[str, str]) -> HttpResponse:
        """For Prometheus."""
        text = HttpResponse(200, generate_latest(), CONTENT_TYPE_LATEST)
        return compressed(text, request.headers.get("accept-encoding", ""))


class _Receiver:
    """Waits for the answer of a prediction; what it becomes is made at once, while its memory is the answer's."""

    def __init__(self) -> None:
        self.future: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.make: Callable[[Answer], HttpResponse]

    def give(self, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(self.make(answer))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def document(content: Any) -> HttpResponse:
    """A JSON response."""
    return HttpResponse(200, to_json(content))


def refusal(error: ModelyardError) -> HttpResponse:
    """An error that a caller may see."""
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return error_response(status, error.message, headers)


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> HttpResponse:
    """{"error": message}"""
    return HttpResponse(status, to_json({"error": message}), headers=headers or {})


def _parameters(request: HttpRequest) -> dict[str, Any]:
    asked = read_json(request.body) if request.body else {}
    found: dict[str, Any] = of_type(asked, "parameters", dict, {})
    return found


def _route(method: str, pattern: str, handler: Handler) -> tuple[str, re.Pattern[str], Handler]:
    return method, re.compile(pattern), handler


ROUTES: Final = (
    _route("POST", f"{_MODEL}/infer", Rest.infer),
    _route("GET", "/v2", Rest.server),
    _route("GET", "/v2/health/live", Rest.live),
    _route("GET", "/v2/health/ready", Rest.ready),
    _route("GET", "/v2/models/stats", Rest.stats),
    _route("GET", f"{_MODEL}", Rest.model),
    _route("GET", f"{_MODEL}/ready", Rest.model_ready),
    _route("GET", f"{_MODEL}/config", Rest.config),
    _route("GET", f"{_MODEL}/stats", Rest.stats),
    _route("POST", "/v2/repository/index", Rest.index),
    _route("POST", "/v2/repository/models/(?P<model>[^/]*)/load", Rest.load),
    _route("POST", "/v2/repository/models/(?P<model>[^/]*)/unload", Rest.unload),
    _route("GET", "/v2/(system|cuda)sharedmemory(/region/[^/]*)?/status", Rest.no_regions),
    _route("POST", "/v2/(system|cuda)sharedmemory(/region/[^/]*)?/unregister", Rest.forget_regions),
    _route("POST", "/v2/(system|cuda)sharedmemory/region/[^/]*/register", Rest.register_region),
    _route("GET", "/v2(/models/[^/]*)?/trace/setting", Rest.tracing),
    _route("POST", "/v2(/models/[^/]*)?/trace/setting", Rest.change_settings),
    _route("GET", "/v2/logging", Rest.logging),
    _route("POST", "/v2/logging", Rest.change_settings),
    _route("GET", "/metrics", Rest.metrics),
)
