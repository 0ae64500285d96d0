"""What answers the inference protocol, without any model: a served model that answers as its card says, and callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import ModelyardError
from modelyard.formats.bundle import BundleCard, PictureInput, Source, TensorSpec
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.tensors import join_bytes
from modelyard.serving.domain.version_statistics import Timing, VersionStatistics
from modelyard.serving.handlers.predict import Predictions
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import Answer, Batching, Done, Tensor
from modelyard.serving.rpc.inference_calls import InferenceCalls
from modelyard.serving.rpc.signature import Signatures

MODEL = "net"
MAX_BATCH = 64
CARD = BundleCard(
    task="tabular_classification",
    inputs=(TensorSpec("x", "FP32", (-1, 4)),),
    outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
    source=Source(),
    classes=("a", "b", "c"),
)
TABLE = BundleCard(
    task="tabular_regression",
    inputs=(TensorSpec("sex", "BYTES", (-1, 1)), TensorSpec("age", "INT16", (-1, 1)), TensorSpec("here", "BOOL", (-1, 1))),
    outputs=(TensorSpec("prediction", "FP64", (-1, 1)),),
    source=Source(),
)
PICTURE = BundleCard(
    task="image_classification",
    inputs=(TensorSpec("image", "UINT8", (-1, 2, 2, 3)),),
    outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
    source=Source(),
    picture=PictureInput(2, 2, 3),
    classes=("a", "b"),
)


@dataclass
class Answering:
    """A served model: `rows` answers of zeros and the first class, or `outcome`. With `hold` answers wait until `release`."""

    card: BundleCard = CARD
    outcome: Answer | ModelyardError | None = None
    refusal: ModelyardError | None = None
    hold: bool = False
    condition: Condition = field(default_factory=lambda: Condition(DeploymentState.READY))
    statistics: VersionStatistics = field(default_factory=VersionStatistics)
    batching: Batching = field(default_factory=lambda: Batching(True))
    threads: int = 1
    asked: list[Sequence[Tensor]] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    taken_back: int = 0

    def memory_bytes(self) -> int:
        return 1000

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(inputs)
        self.deadlines.append(deadline)
        result = self.outcome or answer_of(self.card, rows)
        if self.hold:
            self.waiting.append(lambda: done(result))
        else:
            done(result)
        return self._take_back

    def release(self, index: int = 0) -> None:
        self.waiting.pop(index)()

    def drift(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass

    def _take_back(self) -> None:
        self.taken_back += 1


def answer_of(card: BundleCard, rows: int) -> Answer:
    """Zeros, and the first class."""
    tensors = []
    for spec in card.served_outputs:
        shape = (rows, *spec.shape[1:])
        label = card.classes[0].encode() if card.classes else b""
        zeros = b"" if spec.datatype == "BYTES" else np.zeros(shape, {"FP32": "<f4", "FP64": "<f8"}[spec.datatype]).tobytes()
        tensors.append(Tensor(spec.name, spec.datatype, shape, zeros or join_bytes([label] * rows)))
    return Answer(tuple(tensors), Timing(10, 20, 30, 40, rows))


def calls_of(model: Answering, name: str = MODEL, version: str = "V001", most_bytes: int = 1 << 20) -> InferenceCalls:
    """A server of this one model."""
    registry = Registry()
    registry.put(Entry(name, version, datetime(2026, 1, 1, tzinfo=UTC), Condition(DeploymentState.READY), model))
    registry.set_complete()
    return InferenceCalls(registry, Signatures(MAX_BATCH), Predictions(lambda route, inputs, rows, answer: None, most_bytes))


@dataclass
class Call:
    """A UnaryCall that remembers how it ended."""

    deadline: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "/inference.GRPCInferenceService/ModelInfer"
    answered: bytes | None = None
    error: Exception | None = None
    cancel: Callable[[], None] | None = None

    def metadata(self, key: str) -> str:
        return self.headers.get(key, "")

    def answer(self, message: bytes) -> None:
        assert self.answered is None
        assert self.error is None
        self.answered = message

    def fail(self, error: Exception) -> None:
        assert self.answered is None
        assert self.error is None
        self.error = error

    def on_cancel(self, do: Callable[[], None]) -> None:
        self.cancel = do


def x_request(rows: int = 1, columns: int = 4, **changes: object) -> oip.ModelInferRequest:
    """A request to CARD; `changes` to its one input."""
    values: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": [rows, columns]} | changes
    request = oip.ModelInferRequest(model_name=MODEL, id="r-1")
    request.inputs.add(**values)
    request.raw_input_contents.append(np.arange(rows * columns, dtype="<f4").tobytes())
    return request


def infer(calls: InferenceCalls, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
    """The answer. Raises what the call failed with."""
    call = Call()
    calls.model_infer(call, request.SerializeToString())
    if call.error is not None:
        raise call.error
    assert call.answered is not None
    return oip.ModelInferResponse.FromString(call.answered)
