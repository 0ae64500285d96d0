"""A model's answer over HTTP: JSON, with tensors as lists or as bytes behind it; compressed where the caller takes that."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelyard.core.errors import InvalidArgument
from modelyard.core.http.calls import HttpResponse
from modelyard.serving.domain.tensors import BYTES, unpack
from modelyard.serving.ports import Answer, Tensor
from modelyard.serving.rpc.infer_request import Wanted
from modelyard.serving.rpc.infer_response import chosen
from modelyard.serving.rpc.rest_request import BINARY_SIZE
from modelyard.serving.rpc.signature import Signature

LEAST_COMPRESSED: Final = 512
"""Bytes from which on an answer is compressed: less does not get smaller."""
ENCODINGS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content-Encoding (RFC 9110): the number that zlib gives each; deflate has zlib's own header."""
HEADER_LENGTH: Final = "Inference-Header-Content-Length"


def rest_answer(
    signature: Signature, request_id: str, wanted: Sequence[Wanted], answer: Answer, accept_encoding: str
) -> HttpResponse:
    """The response. Raises InvalidArgument NOT_IN_JSON for values that JSON cannot hold."""
    tensors = chosen(signature, wanted, answer)
    document: dict[str, Any] = {"model_name": signature.model, "model_version": signature.version}
    if request_id:
        document["id"] = request_id
    document["outputs"] = [_output(tensor, each.binary) for tensor, each in zip(tensors, wanted, strict=True)]
    head = to_json(document)
    tail = [bytes(tensor.data) for tensor, each in zip(tensors, wanted, strict=True) if each.binary]
    headers: dict[str, str] = {HEADER_LENGTH: str(len(head))} if tail else {}
    kind = "application/octet-stream" if tail else "application/json"
    return compressed(HttpResponse(200, b"".join([head, *tail]), kind, headers), accept_encoding)


def to_json(document: Any) -> bytes:
    """Compact JSON. Raises ValueError for NaN and infinities, which it cannot hold."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def compressed(response: HttpResponse, accept_encoding: str) -> HttpResponse:
    """The same response in the first encoding of ENCODINGS that the caller takes, where that can help."""
    encoding = next((name for name in ENCODINGS if _accepts(accept_encoding, name)), None)
    if encoding is None or len(response.body) < LEAST_COMPRESSED:
        return response
    packer = zlib.compressobj(1, zlib.DEFLATED, ENCODINGS[encoding])
    body = packer.compress(response.body) + packer.flush()
    headers: Mapping[str, str] = {**response.headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return HttpResponse(response.status, body, response.content_type, headers)


def _accepts(accept_encoding: str, name: str) -> bool:
    for item in accept_encoding.split(","):
        coding, _, weight = item.partition(";")
        if coding.strip().lower() == name:
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _output(tensor: Tensor, binary: bool) -> dict[str, Any]:
    made = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if binary:
        return {**made, "parameters": {BINARY_SIZE: len(tensor.data)}}
    return {**made, "data": _elements(tensor)}


def _elements(tensor: Tensor) -> list[Any]:
    values = unpack(tensor.datatype, tensor.data)
    try:
        if tensor.datatype == BYTES:
            return [value.decode() for value in values]
        if any(value != value or value in (float("inf"), float("-inf")) for value in values):
            raise ValueError("not finite")
    except ValueError as error:  # UnicodeDecodeError is one
        message = f"output {tensor.name!r} holds values that JSON cannot hold; ask for it with binary_data"
        raise InvalidArgument("NOT_IN_JSON", message, field=f"outputs.{tensor.name}", output=tensor.name) from error
    return values
