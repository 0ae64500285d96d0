"""Requests to a version in a pod and its answers, as the bytes of the Open Inference Protocol.

What requests of the same shapes have in common is made once and kept, as infer_response does with answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import DeadlineExceeded, ModelyardError, Unavailable
from modelyard.core.http.client import CallFailed
from modelyard.core.jobs.convert import error_document
from modelyard.core.rpc.status import exception_of
from modelyard.core.rpc.varint import varint
from modelyard.formats.bundle import BundleCard
from modelyard.serving.ports import Tensor

MOST_KEPT: Final = 256
_RAW: Final = bytes([7 << 3 | 2])
CANCELLED, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 1, 4, 7, 13, 14, 16
UNKNOWN: Final = 2
RETRY_S: Final = 1.0


class RequestMessages:
    """Makes the requests to one version of a model."""

    def __init__(self, model: str, version: str) -> None:
        self._model, self._version = model, version
        self._heads: dict[tuple[tuple[str, str, tuple[int, ...]], ...], bytes] = {}

    def of(self, inputs: Sequence[Tensor]) -> bytes:
        """The ModelInferRequest that asks for all outputs."""
        parts = [self._head(inputs)]
        for tensor in inputs:
            parts += (_RAW, varint(len(tensor.data)), tensor.data)  # type: ignore[arg-type]  # join takes what has a buffer
        return b"".join(parts)

    def _head(self, inputs: Sequence[Tensor]) -> bytes:
        kind = tuple([(tensor.name, tensor.datatype, tensor.shape) for tensor in inputs])
        found = self._heads.get(kind)
        if found is None:
            if len(self._heads) >= MOST_KEPT:
                self._heads.clear()
            made = oip.ModelInferRequest(model_name=self._model, model_version=self._version)
            for tensor in inputs:
                made.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            found = self._heads[kind] = bytes(made.SerializeToString())
        return found


def read_answer(message: bytes, card: BundleCard) -> tuple[Tensor, ...]:
    """The tensors of a ModelInferResponse, in the order of the card. Raises Unavailable POD_FAILED for what is none."""
    try:
        found = oip.ModelInferResponse.FromString(message)
    except DecodeError:
        raise _nonsense() from None
    if len(found.raw_output_contents) != len(found.outputs):
        raise _nonsense()
    tensors = [
        Tensor(output.name, output.datatype, tuple(output.shape), data)
        for output, data in zip(found.outputs, found.raw_output_contents, strict=True)
    ]
    if [tensor.name for tensor in tensors] != [spec.name for spec in card.served_outputs]:
        raise _nonsense()
    return tuple(tensors)


def error_of_pod(failed: CallFailed) -> ModelyardError:
    """A pod's error as this service's own. What is between the two of them alone is told as Unavailable POD_FAILED."""
    if failed.code == DEADLINE_EXCEEDED and not failed.details:
        return DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline passed before the pod answered")
    if not failed.details or failed.code in (CANCELLED, UNKNOWN, INTERNAL, PERMISSION_DENIED, UNAUTHENTICATED):
        return Unavailable("POD_FAILED", "the pod that was asked could not answer; try again", retry_after_s=RETRY_S)
    try:
        status = status_pb2.Status.FromString(failed.details)
    except DecodeError:
        return _nonsense()
    made = exception_of(error_document(status))
    delay = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(delay):
            made.retry_after_s = delay.retry_delay.ToNanoseconds() / 1e9
    return made


def _nonsense() -> Unavailable:
    return Unavailable("POD_FAILED", "the pod's answer was broken; try again", retry_after_s=RETRY_S)
