"""A model's answer as the bytes of a ModelInferResponse, its elements raw.

A protobuf message is the concatenation of its fields, in any order. What answers of the same shapes have in common (names,
version, datatypes, shapes) is therefore made once and kept, and only the id and the elements are put behind it. Source: the
encoding of Protocol Buffers, "message structure": a length-delimited field is its key, its length as a varint, and its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inference import grpc_service_pb2 as oip
from modelyard.core.rpc.varint import varint
from modelyard.serving.ports import Answer, Tensor
from modelyard.serving.rpc.classification import top_classes
from modelyard.serving.rpc.infer_request import Wanted
from modelyard.serving.rpc.signature import MOST_KEPT, Signature

_ID: Final = bytes([3 << 3 | 2])
_RAW: Final = bytes([6 << 3 | 2])


def response_bytes(signature: Signature, request_id: str, wanted: Sequence[Wanted] | None, answer: Answer) -> bytes:
    """The message. `wanted`: None for all outputs."""
    tensors = answer.tensors if wanted is None else chosen(signature, wanted, answer)
    parts = [_head(signature, tensors)]
    if request_id:
        data = request_id.encode()
        parts += (_ID, varint(len(data)), data)
    for tensor in tensors:
        elements = tensor.data
        parts += (_RAW, varint(len(elements)), elements)  # type: ignore[arg-type]  # join takes what has a buffer
    return b"".join(parts)


def chosen(signature: Signature, wanted: Sequence[Wanted], answer: Answer) -> tuple[Tensor, ...]:
    """The tensors of the outputs that are wanted, in that order, or their classes."""
    tensors = ((answer.tensors[each.place], each.classes) for each in wanted)
    return tuple(top_classes(tensor, count, signature.card.classes) if count else tensor for tensor, count in tensors)


def _head(signature: Signature, tensors: Sequence[Tensor]) -> bytes:
    """What answers with these tensors in these shapes begin with."""
    kind = tuple([(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors])
    found = signature.heads.get(kind)
    if found is None:
        if len(signature.heads) >= MOST_KEPT:
            signature.heads.clear()
        made = oip.ModelInferResponse(model_name=signature.model, model_version=signature.version)
        for tensor in tensors:
            made.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        found = signature.heads[kind] = bytes(made.SerializeToString())
    return found
