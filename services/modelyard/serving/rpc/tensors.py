"""Predictions as messages: ModelInferRequest to arrays and arrays to ModelInferResponse."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import InvalidArgument, Unimplemented
from modelyard.formats.bundle import BundleCard, TensorSpec
from modelyard.runtime.inputs import IMAGE
from modelyard.serving.domain import tensors

Array = NDArray[Any]
_UNSUPPORTED: Final = ("shared_memory_region", "classification")
"""Parameters of tensors that change what the tensor means, so they must not be passed over in silence."""


def read_inputs(request: oip.ModelInferRequest, card: BundleCard, max_batch: int) -> dict[str, Array]:
    """The inputs by name, of the datatypes and shapes that the model takes (a picture also as BYTES [N], the files).

    Nothing is decoded whose name, datatype and shape are not right. Raises InvalidArgument naming the input, Unimplemented.
    """
    specs = {spec.name: spec for spec in card.inputs}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        message = f"raw_input_contents holds {len(raw)} entries for {len(request.inputs)} inputs; it must hold one for each"
        raise InvalidArgument("RAW_CONTENTS_MISMATCH", message, field="raw_input_contents", entries=len(raw))
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        spec = specs.get(tensor.name)
        if spec is None or tensor.name in arrays:
            raise _bad_name(tensor.name, specs, repeated=tensor.name in arrays)
        if tensor.parameters:
            _check_parameters(tensor.name, tensor.parameters)
        shape = _checked_shape(tensor, spec, card, max_batch)
        arrays[tensor.name] = _elements(tensor, shape, raw[index] if raw else None)
    for name in specs.keys() - arrays.keys():
        what = f"is missing; it must be {specs[name].datatype} {list(specs[name].shape)}"
        raise InvalidArgument("MISSING_INPUT", f"input {name!r} {what}", field=f"inputs.{name}", input=name)
    return arrays


def wanted_outputs(request: oip.ModelInferRequest, specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The outputs to give, in the order asked for; all when none is named. Raises InvalidArgument, Unimplemented."""
    if not request.outputs:
        return list(specs)
    known = {spec.name: spec for spec in specs}
    wanted: dict[str, TensorSpec] = {}
    for output in request.outputs:
        if output.name not in known or output.name in wanted:
            problem = "is named twice" if output.name in wanted else f"is unknown; the model gives {', '.join(known)}"
            message = f"output {output.name[:200]!r} {problem}"
            raise InvalidArgument("UNKNOWN_OUTPUT", message, field=f"outputs.{output.name[:200]}", output=output.name[:200])
        if output.parameters:
            _check_parameters(output.name, output.parameters)
        wanted[output.name] = known[output.name]
    return list(wanted.values())


def response(
    request: oip.ModelInferRequest, version: str, specs: Sequence[TensorSpec], answers: Mapping[str, Array]
) -> oip.ModelInferResponse:
    """The answer, its elements as raw bytes."""
    made = oip.ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    for spec in specs:
        array = answers[spec.name]
        made.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        made.raw_output_contents.append(tensors.encode_raw(array))
    return made


def _elements(tensor: oip.ModelInferRequest.InferInputTensor, shape: Sequence[int], raw: bytes | None) -> Array:
    """The array of one input, from the raw bytes or, when there are none at all, from its typed contents."""
    if raw is not None:
        if tensor.HasField("contents"):
            message = f"input {tensor.name!r} has contents, and the request raw_input_contents; it must be one or the other"
            raise InvalidArgument("MIXED_CONTENTS", message, field=f"inputs.{tensor.name}", input=tensor.name)
        return tensors.decode_raw(tensor.name, tensor.datatype, shape, raw)
    return tensors.decode_typed(tensor.name, tensor.datatype, shape, _typed(tensor))


def _typed(tensor: oip.ModelInferRequest.InferInputTensor) -> Sequence[Any]:
    wanted = tensors.TYPED_FIELDS.get(tensor.datatype, "")
    for field, _ in tensor.contents.ListFields():
        if field.name != wanted:
            place = wanted or "raw_input_contents"
            message = f"input {tensor.name!r} is {tensor.datatype}; its elements must be in {place}, not {field.name}"
            raise InvalidArgument("WRONG_CONTENTS", message, field=f"inputs.{tensor.name}", input=tensor.name, found=field.name)
    values: Sequence[Any] = getattr(tensor.contents, wanted) if wanted else ()
    return values


def _checked_shape(
    tensor: oip.ModelInferRequest.InferInputTensor, spec: TensorSpec, card: BundleCard, max_batch: int
) -> tuple[int, ...]:
    """The shape to decode to."""
    shape = tuple(tensor.shape)
    tensors.known_datatype(tensor.name, tensor.datatype)
    tensors.element_count(tensor.name, shape)
    if tensor.datatype == tensors.BYTES and card.picture and tensor.name == IMAGE:
        shape = _picture_shape(shape)
    elif tensor.datatype != spec.datatype:
        what = f"has the datatype {tensor.datatype}; it must be {_datatypes(spec, card)}"
        raise _wrong(spec, "WRONG_DATATYPE", what, found=tensor.datatype, expected=spec.datatype)
    elif len(shape) != len(spec.shape) or shape[1:] != spec.shape[1:]:
        what = f"has the shape {list(shape)}; it must be {list(spec.shape)}, where -1 is the number of examples"
        raise _wrong(spec, "WRONG_SHAPE", what, found=list(shape), expected=list(spec.shape))
    if shape[0] > max_batch:
        what = f"holds {shape[0]} examples; at most {max_batch} are taken at once"
        raise _wrong(spec, "BATCH_TOO_LARGE", what, found=shape[0], limit=max_batch)
    return shape


def _picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[N] for picture files; [N, 1] means the same."""
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return shape[:1]
    message = f"input {IMAGE!r} has the shape {list(shape)}; picture files (BYTES) are [N], one element each"
    raise InvalidArgument("WRONG_SHAPE", message, field=f"inputs.{IMAGE}", input=IMAGE, found=list(shape), expected="[N]")


def _datatypes(spec: TensorSpec, card: BundleCard) -> str:
    pictures = card.picture is not None and spec.name == IMAGE
    return f"{spec.datatype} (or BYTES: JPEG or PNG files)" if pictures else spec.datatype


def _check_parameters(name: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    for parameter in _UNSUPPORTED:
        if parameter in parameters:
            message = f"{name[:200]!r} has the parameter {parameter!r}, which this server does not know; send the tensor itself"
            raise Unimplemented("UNSUPPORTED_PARAMETER", message, tensor=name[:200], parameter=parameter)


def _bad_name(name: str, known: Collection[str], *, repeated: bool) -> InvalidArgument:
    shown = name[:200]
    if repeated:
        return InvalidArgument("REPEATED_INPUT", f"input {shown!r} is there twice", field=f"inputs.{shown}", input=shown)
    names = ", ".join(repr(other) for other in list(known)[:20])
    message = f"input {shown!r} is unknown; the model takes {names}" + (" and more" if len(known) > 20 else "")
    return InvalidArgument("UNKNOWN_INPUT", message, field=f"inputs.{shown}", input=shown)


def _wrong(spec: TensorSpec, reason: str, what: str, **values: Any) -> InvalidArgument:
    return InvalidArgument(reason, f"input {spec.name!r} {what}", field=f"inputs.{spec.name}", input=spec.name, **values)
