"""The classification extension: an output told by its largest values instead of all of them.

Each is the text "value:index:label"; the label is left out where the model has none for the index. Source: Triton Inference
Server's documentation of the protocol, "Classification extension".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.tensors import BYTES, NUMERIC, join_bytes
from modelyard.serving.ports import Tensor


def top_classes(tensor: Tensor, count: int, labels: Sequence[str]) -> Tensor:
    """BYTES [N, count]: the `count` largest of each example's values, the largest first, of equals the one that comes first.

    `count` (1 or more) is cut to the values that an example has. Raises InvalidArgument CLASSIFICATION_OF_TEXT for BYTES.
    """
    if tensor.datatype == BYTES:
        message = f"output {tensor.name!r} holds text, of which no largest values can be told; leave out classification for it"
        raise InvalidArgument("CLASSIFICATION_OF_TEXT", message, field=f"outputs.{tensor.name}", output=tensor.name)
    rows = np.frombuffer(tensor.data, NUMERIC[tensor.datatype]).reshape(tensor.shape[0], -1)
    count = min(count, rows.shape[1])
    order = np.argsort(_descending(rows), axis=1, kind="stable")[:, :count]
    names = labels if len(labels) == rows.shape[1] else ()
    elements = [_text(rows[row, index].item(), index, names) for row in range(len(rows)) for index in order[row].tolist()]
    return Tensor(tensor.name, BYTES, (len(rows), count), join_bytes(elements))


def _descending(rows: NDArray[Any]) -> NDArray[Any]:
    """Numbers whose order is the reverse, without overflow: the smallest signed integer has no opposite."""
    return -rows if rows.dtype.kind == "f" else ~rows


def _text(value: float, index: int, names: Sequence[str]) -> bytes:
    number = f"{value:f}" if isinstance(value, float) else str(int(value))
    return f"{number}:{index}:{names[index]}".encode() if names else f"{number}:{index}".encode()
