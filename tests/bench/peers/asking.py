"""What is sent to every server: one ModelInfer with raw tensors, and whether the answer is what onnxruntime gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.bench.peers.models import BenchModel

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class WrongAnswer(Exception):
    """A server that does not answer what onnxruntime answers."""

    server: str
    model: str
    difference: float

    def __str__(self) -> str:
        return f"{self.server} answers {self.model} {self.difference:.2g} away from onnxruntime"


def infer_request(model: BenchModel, example: NDArray[Any]) -> oip.ModelInferRequest:
    """The request for these examples [N, ...]."""
    request = oip.ModelInferRequest(model_name=model.name)
    request.inputs.add(name=model.input.name, datatype=model.input.datatype, shape=example.shape)
    request.raw_input_contents.append(example.tobytes())
    return request


def expected(model: BenchModel, example: NDArray[Any]) -> NDArray[Any]:
    """onnxruntime's own answer, in this process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    answer: NDArray[Any] = session.run(None, {model.input.name: example})[0]
    return answer


def check_answers(server: str, address: str, model: BenchModel) -> None:
    """Three examples one by one. Raises WrongAnswer, grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for seed in range(3):
            example = model.example(seed)
            answer = stub.ModelInfer(infer_request(model, example), timeout=30)
            ours = np.frombuffer(answer.raw_output_contents[0], np.float32)
            difference = float(np.abs(ours - expected(model, example).ravel()).max())
            if not difference <= TOLERANCE:
                raise WrongAnswer(server, model.name, difference)


def ready(address: str, model: str) -> bool:
    """Whether the server answers for the model."""
    with grpc.insecure_channel(address) as channel:
        try:
            return bool(GRPCInferenceServiceStub(channel).ModelReady(oip.ModelReadyRequest(name=model), timeout=5).ready)
        except grpc.RpcError:
            return False
