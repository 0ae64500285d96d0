"""ModelInferRequest as tensors for a model. The way of most requests (raw bytes of the card's own types) is kept short."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import InvalidArgument, Unimplemented
from modelyard.serving.domain.tensors import TYPED_FIELDS, pack
from modelyard.serving.ports import Tensor
from modelyard.serving.rpc.input_checks import LONGEST_NAME, checked_shape, complete, raw_tensor, rule_of, wrong
from modelyard.serving.rpc.signature import InputRule, Signature

CLASSIFICATION: Final = "classification"
SHARED_MEMORY: Final = "shared_memory_region"
MOST_TYPED: Final = 1 << 22
"""Elements of an input in typed contents: while they are read, which takes about 40 ns each, nobody else is answered."""


class Wanted(NamedTuple):
    """An output that is asked for: its place among the served ones, and of how many classes it is told (0: the tensor itself)."""

    place: int
    classes: int = 0
    binary: bool = True


def parse(message: bytes) -> oip.ModelInferRequest:
    """The message. Raises InvalidArgument BAD_MESSAGE for bytes that are none, or that nest too deep."""
    try:
        return oip.ModelInferRequest.FromString(message)
    except DecodeError as error:
        text = f"the {len(message)} bytes of the request are no inference.ModelInferRequest"
        raise InvalidArgument("BAD_MESSAGE", text, size_bytes=len(message)) from error


def read_inputs(request: oip.ModelInferRequest, signature: Signature) -> tuple[list[Tensor], int]:
    """The inputs, as the model takes them (a picture also as BYTES [N], the files), and how many examples they hold.

    Nothing is decoded whose name, datatype and shape are not right. Raises InvalidArgument naming the input, Unimplemented.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        message = f"raw_input_contents holds {len(raw)} entries for {len(inputs)} inputs; it must hold one for each"
        raise InvalidArgument("RAW_CONTENTS_MISMATCH", message, field="raw_input_contents", entries=len(raw))
    found: dict[str, Tensor] = {}
    for index, tensor in enumerate(inputs):
        data = raw[index] if raw else None
        made = _plain(tensor, data, signature) if data is not None else None
        if made is None or made.name in found:
            made = _checked(tensor, data, signature, found)
        found[made.name] = made
    if len(found) == 1 == len(signature.inputs):
        only = list(found.values())
        return only, only[0].shape[0]
    return complete(signature, found)


def wanted_outputs(request: oip.ModelInferRequest, signature: Signature) -> list[Wanted] | None:
    """The outputs that the request names, in its order; None: all. Raises InvalidArgument UNKNOWN_OUTPUT, Unimplemented."""
    if not request.outputs:
        return None
    wanted: dict[int, Wanted] = {}
    for output in request.outputs:
        index = output_index(signature, output.name, wanted)
        classes = 0
        if output.parameters:
            _refuse_shared_memory(output.name, output.parameters)
            classes = class_count(output.name, parameter(output.parameters, CLASSIFICATION))
        wanted[index] = Wanted(index, classes)
    return list(wanted.values())


def output_index(signature: Signature, name: str, taken: Collection[int]) -> int:
    """The place of a named output. Raises InvalidArgument UNKNOWN_OUTPUT, also for one that is `taken`."""
    index = signature.output_index.get(name)
    if index is not None and index not in taken:
        return index
    shown = name[:LONGEST_NAME]
    known = ", ".join(signature.output_index)
    message = f"output {shown!r} is " + ("named twice" if index is not None else f"unknown; the model gives {known}")
    raise InvalidArgument("UNKNOWN_OUTPUT", message, field=f"outputs.{shown}", output=shown)


def class_count(name: str, value: object) -> int:
    """The value of the parameter `classification`: 1 or more; 0 when it is not there. Raises InvalidArgument BAD_PARAMETER."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        message = f"output {name[:LONGEST_NAME]!r} has the parameter classification {str(value)[:40]}; it must be a whole number"
        raise InvalidArgument("BAD_PARAMETER", message, field=f"outputs.{name[:LONGEST_NAME]}", parameter=CLASSIFICATION)
    return value


def parameter(parameters: Mapping[str, oip.InferParameter], name: str) -> Any:
    """The value of a parameter, of whatever kind; None when it is not there or empty."""
    if name not in parameters:  # asking a map of messages for a key makes it
        return None
    found = parameters[name]
    kind = found.WhichOneof("parameter_choice")
    return None if kind is None else getattr(found, kind)


def _plain(tensor: oip.ModelInferRequest.InferInputTensor, data: bytes, signature: Signature) -> Tensor | None:
    """The tensor, where it is raw, of the card's own type, and right in all: what nearly all are. None: look closer."""
    rule = signature.inputs.get(tensor.name)
    if rule is None or not rule.plain or tensor.parameters or tensor.HasField("contents"):
        return None
    shape = tuple(tensor.shape)
    if (
        tensor.datatype == rule.datatype
        and shape[1:] == rule.trailing
        and shape
        and 0 < shape[0] <= signature.max_batch
        and len(data) == shape[0] * rule.example_bytes
    ):
        return Tensor(rule.spec.name, rule.datatype, shape, data)
    return None


def _checked(
    tensor: oip.ModelInferRequest.InferInputTensor, data: bytes | None, signature: Signature, taken: Collection[str]
) -> Tensor:
    """Any other tensor, or what is wrong with it."""
    rule = rule_of(signature, tensor.name, taken)
    if tensor.parameters:
        _refuse_shared_memory(tensor.name, tensor.parameters)
    shape = checked_shape(rule, tensor.datatype, tensor.shape, signature.max_batch)
    return _typed(rule, tensor, shape) if data is None else _raw(rule, tensor, shape, data)


def _raw(rule: InputRule, tensor: oip.ModelInferRequest.InferInputTensor, shape: tuple[int, ...], raw: bytes) -> Tensor:
    if tensor.HasField("contents"):
        what = "has contents, and the request raw_input_contents; it must be one or the other"
        raise wrong(rule, "MIXED_CONTENTS", what)
    return raw_tensor(rule, tensor.datatype, shape, raw)


def _typed(rule: InputRule, tensor: oip.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor of typed contents."""
    datatype = tensor.datatype
    field = TYPED_FIELDS.get(datatype)
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            what = f"is {datatype}; its elements must be in {field or 'raw_input_contents'}, not {other.name}"
            raise wrong(rule, "WRONG_CONTENTS", what, found=other.name)
    if field is None:
        what = f"is {datatype}, which has no typed contents; send raw_input_contents"
        raise wrong(rule, "RAW_ONLY", what, datatype=datatype)
    values, count = getattr(tensor.contents, field), math.prod(shape)
    if count > MOST_TYPED:
        what = f"has {count} elements; in {field} at most {MOST_TYPED} are read. Send raw_input_contents"
        raise wrong(rule, "TOO_MANY_TYPED", what, elements=count, limit=MOST_TYPED)
    return Tensor(rule.spec.name, datatype, shape, pack(rule.spec.name, datatype, count, values))


def _refuse_shared_memory(name: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    """It changes where the tensor is, so that it must not be passed over in silence; what else there is may be."""
    if SHARED_MEMORY in parameters:
        shown = name[:LONGEST_NAME]
        message = f"{shown!r} has the parameter {SHARED_MEMORY}, which this server does not offer; send the tensor itself"
        raise Unimplemented("UNSUPPORTED_PARAMETER", message, tensor=shown, parameter=SHARED_MEMORY)
