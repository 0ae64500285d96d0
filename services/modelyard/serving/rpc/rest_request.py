"""A prediction over HTTP: JSON, with tensors as lists of numbers or as bytes behind the JSON (the binary tensor data extension).

Sources: the Open Inference Protocol, version 2 (HTTP/REST); Triton Inference Server's documentation of the extension.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelyard.core.errors import InvalidArgument, Unimplemented
from modelyard.serving.domain.tensors import BF16, BYTES, FLOATS, NUMERIC, pack
from modelyard.serving.ports import Tensor
from modelyard.serving.rpc.infer_request import CLASSIFICATION, SHARED_MEMORY, Wanted, class_count, output_index
from modelyard.serving.rpc.input_checks import LONGEST_NAME, checked_shape, complete, raw_tensor, rule_of, wrong
from modelyard.serving.rpc.signature import InputRule, Signature

HEADER_LENGTH: Final = "inference-header-content-length"
"""Header: how many bytes of the body are JSON; the rest are tensors."""
BINARY_SIZE: Final = "binary_data_size"
BINARY_OUTPUT: Final = "binary_data_output"
BINARY: Final = "binary_data"
LARGEST_SIZE: Final = 2**63 - 1
LARGEST_JSON: Final = 16 << 20
"""Bytes of JSON in one request: while it is read, which takes about 10 ns a byte, nobody else is answered."""

Object = Mapping[str, Any]


@dataclass(frozen=True)
class RestRequest:
    """The JSON of a request and the bytes behind it."""

    document: Object
    tail: memoryview

    @property
    def request_id(self) -> str:
        """Empty when there is none. Raises InvalidArgument BAD_JSON."""
        found: str = of_type(self.document, "id", str, "")
        return found

    @property
    def parameters(self) -> Object:
        """Empty when there are none. Raises InvalidArgument BAD_JSON."""
        found: Object = of_type(self.document, "parameters", dict, {})
        return found


def read_body(body: bytes, header_length: str | None) -> RestRequest:
    """Splits a body into JSON and tensors. Raises InvalidArgument BAD_HEADER_LENGTH, BAD_JSON."""
    length = len(body)
    if header_length is not None:
        if (
            not header_length.isascii()
            or not header_length.isdigit()
            or len(header_length) > 12
            or int(header_length) > len(body)
        ):
            message = f"Inference-Header-Content-Length is {header_length[:40]!r}; it must be 0 to the body's {len(body)} bytes"
            raise InvalidArgument("BAD_HEADER_LENGTH", message, field="Inference-Header-Content-Length")
        length = int(header_length)
    return RestRequest(read_json(body[:length]), memoryview(body)[length:])


def read_json(data: bytes) -> Object:
    """A JSON object. Raises InvalidArgument BAD_JSON for anything else, for NaN and infinities, and for what nests too deep;
    JSON_TOO_LARGE beyond LARGEST_JSON.
    """
    if len(data) > LARGEST_JSON:
        message = f"the JSON has {len(data)} bytes; at most {LARGEST_JSON} are read. Send tensors as bytes ({BINARY_SIZE})"
        raise InvalidArgument("JSON_TOO_LARGE", message, size_bytes=len(data), limit=LARGEST_JSON)
    try:
        document = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidArgument("BAD_JSON", f"the request is no JSON object: {why}") from error
    if not isinstance(document, dict):
        raise InvalidArgument("BAD_JSON", f"the request is a JSON {_kind(document)}; it must be an object")
    return document


def rest_inputs(request: RestRequest, signature: Signature) -> tuple[list[Tensor], int]:
    """The inputs as the model takes them, and how many examples they hold. Raises InvalidArgument, Unimplemented."""
    found: dict[str, Tensor] = {}
    position = 0
    for each in objects(request.document, "inputs"):
        name = of_type(each, "name", str)
        rule = rule_of(signature, name, found)
        parameters = of_type(each, "parameters", dict, {})
        _refuse_shared_memory(name, parameters)
        datatype = of_type(each, "datatype", str)
        shape = checked_shape(rule, datatype, _shape(rule, each), signature.max_batch)
        size = parameters.get(BINARY_SIZE)
        if size is None:
            found[name] = Tensor(name, datatype, shape, _listed(rule, datatype, shape, each))
            continue
        data = _slice(rule, request.tail, position, size)
        position += len(data)
        found[name] = raw_tensor(rule, datatype, shape, data)
    if position != len(request.tail):
        left = len(request.tail) - position
        message = f"the body holds {left} bytes behind the tensors that its inputs announce with {BINARY_SIZE}"
        raise InvalidArgument("SIZE_MISMATCH", message, field="inputs", left=left)
    return complete(signature, found)


def rest_outputs(request: RestRequest, signature: Signature) -> list[Wanted]:
    """The outputs that are wanted, all when none is named. Raises InvalidArgument, Unimplemented."""
    binary = request.parameters.get(BINARY_OUTPUT) is True
    wanted: dict[int, Wanted] = {}
    for each in objects(request.document, "outputs", optional=True):
        name = of_type(each, "name", str)
        parameters = of_type(each, "parameters", dict, {})
        _refuse_shared_memory(name, parameters)
        index = output_index(signature, name, wanted)
        classes = class_count(name, parameters.get(CLASSIFICATION))
        wanted[index] = Wanted(index, classes, parameters.get(BINARY, binary) is True)
    return list(wanted.values()) or [Wanted(index, 0, binary) for index in range(len(signature.outputs))]


def objects(document: Object, key: str, *, optional: bool = False) -> Sequence[Object]:
    """A list of objects. Raises InvalidArgument BAD_JSON."""
    items = of_type(document, key, list, [] if optional else None)
    for item in items:
        if not isinstance(item, dict):
            raise InvalidArgument("BAD_JSON", f"{key} holds a {_kind(item)}; it must hold objects", field=key)
    return list(items)


def of_type(document: Object, key: str, kind: type, default: Any = None) -> Any:
    """A member of an object; `default`, when it is not there, None meaning that it must be. Raises InvalidArgument BAD_JSON."""
    value = document.get(key, default)
    if type(value) is not kind:
        found = "missing" if value is None else f"a {_kind(value)}"
        raise InvalidArgument("BAD_JSON", f"{key} is {found}; it must be a {_NAMES[kind]}", field=key)
    return value


def _listed(rule: InputRule, datatype: str, shape: tuple[int, ...], document: Object) -> bytes:
    """The raw bytes of a tensor given as a list, flat or nested like its shape."""
    name = rule.spec.name
    if datatype == BF16:
        raise wrong(rule, "RAW_ONLY", f"is BF16, which JSON cannot hold; send it with {BINARY_SIZE}")
    values = _flat(rule, of_type(document, "data", list), document["shape"])
    _ELEMENTS[datatype](rule, values)
    if datatype == BYTES:
        return pack(name, datatype, math.prod(shape), [_text(rule, value) for value in values])
    with np.errstate(over="ignore"):
        raw = pack(name, datatype, math.prod(shape), values)
    if datatype in FLOATS and not np.isfinite(np.frombuffer(raw, NUMERIC[datatype])).all():
        raise wrong(rule, "OUT_OF_RANGE", f"holds a number that is too large for {datatype}")
    return raw


def _text(rule: InputRule, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:  # JSON may escape half of a character
        raise wrong(rule, "NOT_UTF8", "holds a string with half a character in it") from error


def _flat(rule: InputRule, values: list[Any], shape: Sequence[int]) -> list[Any]:
    """The elements in order. A list of lists must be nested exactly as the shape says."""
    if not values or type(values[0]) is not list:
        return values
    for depth, size in enumerate(shape):
        if depth and not all(type(value) is list for value in values):
            raise wrong(rule, "WRONG_SHAPE", f"mixes lists and elements at depth {depth} of its data")
        rows = values if depth else [values]
        if any(len(row) != size for row in rows):
            raise wrong(rule, "WRONG_SHAPE", f"is nested otherwise than its shape {shape} says, at depth {depth}")
        values = list(itertools.chain.from_iterable(rows))
    return values


def _only(wanted: str, *kinds: type) -> Callable[[InputRule, list[Any]], None]:
    def check(rule: InputRule, values: list[Any]) -> None:
        others = set(map(type, values)) - set(kinds)
        if others:
            found = min(_NAMES.get(kind, "null") for kind in others)
            what = f"is {rule.datatype} and holds a {found}; its data must be {wanted}"
            raise wrong(rule, "WRONG_CONTENTS", what, found=found)

    return check


def _shape(rule: InputRule, document: Object) -> list[int]:
    shape = of_type(document, "shape", list)
    if not all(type(size) is int and abs(size) <= LARGEST_SIZE for size in shape):
        raise wrong(rule, "BAD_SHAPE", "has a shape with something else than whole numbers of 64 bits in it")
    return [int(size) for size in shape]


def _slice(rule: InputRule, tail: memoryview, position: int, size: Any) -> bytes:
    left = len(tail) - position
    if type(size) is not int or not 0 <= size <= left:
        what = f"has the {BINARY_SIZE} {str(size)[:40]}; it must be a whole number, and {left} bytes are left in the body"
        raise wrong(rule, "SIZE_MISMATCH", what, left=left)
    return bytes(tail[position : position + size])


def _refuse_shared_memory(name: str, parameters: Object) -> None:
    if SHARED_MEMORY in parameters:
        shown = name[:LONGEST_NAME]
        message = f"{shown!r} has the parameter {SHARED_MEMORY}, which this server does not offer; send the tensor itself"
        raise Unimplemented("UNSUPPORTED_PARAMETER", message, tensor=shown, parameter=SHARED_MEMORY)


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number; tensors with such values are sent as bytes ({BINARY_SIZE})")


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), "null")


_NAMES: Final = {dict: "object", list: "list", str: "string", int: "whole number", float: "number", bool: "truth value"}
_ELEMENTS: Final = {
    **dict.fromkeys(NUMERIC, _only("whole numbers", int)),
    **dict.fromkeys(FLOATS, _only("numbers", float, int)),
    "BOOL": _only("true or false", bool),
    BYTES: _only("strings", str),
}
