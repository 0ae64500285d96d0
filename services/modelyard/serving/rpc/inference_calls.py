"""ModelInfer from bytes to bytes: the way that nearly every request goes, on the event loop, without grpcio between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import InvalidArgument, ModelyardError, NotFound, Unavailable
from modelyard.core.http.calls import UnaryCall
from modelyard.serving.handlers.predict import Predictions, count_refusal
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.handlers.router import Route, route, sticky_header
from modelyard.serving.handlers.second_look import SecondLook
from modelyard.serving.ports import Answer, ServedModel
from modelyard.serving.rpc.infer_request import Wanted, parameter, parse, read_inputs, wanted_outputs
from modelyard.serving.rpc.infer_response import response_bytes
from modelyard.serving.rpc.signature import Signature, Signatures

T = TypeVar("T")
TIMEOUT: Final = "timeout"
"""Parameter of a request: microseconds in which it must be answered."""
NOT_YET: Final = frozenset(("MODEL_NOT_FOUND", "VERSION_NOT_FOUND", "MODEL_LOADING"))
"""Why there may be an answer in a moment, where another server deploys."""
LONGEST_ID: Final = 1024
"""Characters of a request's id."""


class Caller(Protocol):
    """Whoever asked: UnaryCall is one."""

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting, as a time.monotonic(); None: never."""

    def metadata(self, key: str) -> str:
        """The caller's metadata under a lower-case key; empty when there is none."""

    def answer(self, message: bytes) -> None:
        """Takes the bytes of the ModelInferResponse."""

    def fail(self, error: Exception) -> None:
        """Takes why there is none."""


class InferenceCalls:
    """Answers ModelInferRequests. `second_look`: where other servers deploy too, see there."""

    def __init__(
        self, registry: Registry, signatures: Signatures, predictions: Predictions, second_look: SecondLook | None = None
    ) -> None:
        self.registry = registry
        self.signatures = signatures
        self.predictions = predictions
        self.second_look = second_look

    def model_infer(self, call: UnaryCall, message: bytes) -> None:
        """The UnaryHandler of ModelInfer."""
        begun_ns = time.perf_counter_ns()
        call.on_cancel(self.infer(parse(message), call, begun_ns))

    def infer(self, request: oip.ModelInferRequest, caller: Caller, begun_ns: int) -> Callable[[], None]:
        """Asks for an answer. Gives what takes the request back. When it raises, the caller was told nothing."""
        try:
            chosen = self.chosen(request.model_name, request.model_version, request.id, caller.metadata)
        except (NotFound, Unavailable) as error:
            later = self._after_a_look(request, caller, begun_ns) if error.reason in NOT_YET else None
            if later is None:
                raise
            return later
        return self._begin(chosen, request, caller, begun_ns)

    def _after_a_look(self, request: oip.ModelInferRequest, caller: Caller, begun_ns: int) -> Callable[[], None] | None:
        """Asks again when it was looked whether another server has deployed it; None where that is not done."""
        if self.second_look is None:
            return None
        model, version = request.model_name, request.model_version
        undo: list[Callable[[], None]] = []

        def again() -> None:
            try:
                undo[0] = self._begin(self.chosen(model, version, request.id, caller.metadata), request, caller, begun_ns)
            except Exception as error:
                caller.fail(error)

        taken_back = self.second_look.wait(model, version, request.ByteSize(), again)
        if taken_back is None:
            return None
        undo.append(taken_back)
        return lambda: undo[0]()

    def _begin(self, chosen: Route, request: oip.ModelInferRequest, caller: Caller, begun_ns: int) -> Callable[[], None]:
        request_id = request.id
        entry, statistics = chosen.entry, chosen.model.statistics
        try:
            check_id(request_id)
            signature = self.signatures.of(entry.model, entry.version, chosen.model.card)
            inputs, rows = read_inputs(request, signature)
            wanted = wanted_outputs(request, signature)
            deadline = caller.deadline
            if request.parameters:
                deadline = earlier(deadline, parameter(request.parameters, TIMEOUT))
            receiver = _Receiver(signature, request_id, wanted, caller)
            return self.predictions.begin(chosen, inputs, rows, begun_ns, deadline, receiver)
        except ModelyardError as error:
            count_refusal(statistics, error, begun_ns)
            raise

    async def find(self, model: str, version: str) -> tuple[Entry, ServedModel]:
        """As Registry.find, after a look at what other servers have deployed where this one does not know it or loads it."""
        return await self._looked(model, version, 0, lambda: self.registry.find(model, version))

    async def is_ready(self, model: str, version: str) -> bool:
        """As Registry.is_ready, after that look where this server does not know it."""
        if self.second_look is not None and self.registry.meant(model, version) is None:
            await self.second_look.awaited(model, version)
        return self.registry.is_ready(model, version)

    async def chosen_in_time(self, model: str, version: str, request_id: str, metadata: Callable[[str], str], size: int) -> Route:
        """As `chosen`, after that look. `size`: bytes of the request that waits."""
        return await self._looked(model, version, size, lambda: self.chosen(model, version, request_id, metadata))

    async def _looked(self, model: str, version: str, size: int, find: Callable[[], T]) -> T:
        try:
            return find()
        except (NotFound, Unavailable) as error:
            if self.second_look is None or error.reason not in NOT_YET:
                raise
        await self.second_look.awaited(model, version, size)
        return find()

    def chosen(self, model: str, version: str, request_id: str, metadata: Callable[[str], str]) -> Route:
        """Who answers: the version named, or whom the traffic says. A header keeps a caller on a version, else its id."""
        header = "" if version else sticky_header(self.registry, model)
        return route(self.registry, model, version, (header and metadata(header)) or request_id)


class _Receiver:
    """Puts an answer into bytes. Forgets its caller when it was told: it knows who asked, and the call how to take that back.

    Such a ring is found by the garbage collector only, much later, and with it the tensors of the request.
    """

    __slots__ = ("caller", "request_id", "signature", "wanted")

    def __init__(self, signature: Signature, request_id: str, wanted: Sequence[Wanted] | None, caller: Caller) -> None:
        self.signature, self.request_id, self.wanted = signature, request_id, wanted
        self.caller: Caller | None = caller

    def give(self, answer: Answer) -> None:
        message = response_bytes(self.signature, self.request_id, self.wanted, answer)
        caller, self.caller = self.caller, None
        if caller is not None:
            caller.answer(message)

    def fail(self, error: Exception) -> None:
        caller, self.caller = self.caller, None
        if caller is not None:
            caller.fail(error)


def check_id(request_id: str) -> None:
    """Raises InvalidArgument BAD_ID for one that is too long, or no text: it goes back with the answer."""
    if len(request_id) > LONGEST_ID:
        message = f"id has {len(request_id)} characters; at most {LONGEST_ID} are taken"
        raise InvalidArgument("BAD_ID", message, field="id", length=len(request_id))
    try:
        request_id.encode()
    except UnicodeEncodeError as error:  # JSON may escape half of a character
        raise InvalidArgument("BAD_ID", "id holds half a character; it must be text", field="id") from error


def earlier(deadline: float | None, timeout_us: object) -> float | None:
    """The earlier of a deadline and a timeout in microseconds from now; 0 and None: no timeout.

    Clients send it as a whole number of any kind or as text. Raises InvalidArgument BAD_PARAMETER for what is no number.
    """
    if timeout_us is None:
        return deadline
    try:
        microseconds = float(timeout_us)  # type: ignore[arg-type]  # raises for what is none
    except (TypeError, ValueError, OverflowError):
        microseconds = math.nan
    if isinstance(timeout_us, bool) or not microseconds >= 0:
        message = f"the parameter timeout is {str(timeout_us)[:40]!r}; it must be microseconds, 0 or more"
        raise InvalidArgument("BAD_PARAMETER", message, field="parameters.timeout", parameter=TIMEOUT)
    if not microseconds:
        return deadline
    ends = time.monotonic() + microseconds / 1e6
    return ends if deadline is None else min(ends, deadline)
