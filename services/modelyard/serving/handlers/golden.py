"""Golden requests once more, of a version that answers already: through the road that callers take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, ModelyardError
from modelyard.formats.bundle import open_bundle
from modelyard.serving.domain.tensors import NUMERIC, encode_raw
from modelyard.serving.handlers.proven_model import check_answers
from modelyard.serving.ports import Answer, ServedModel, Tensor

ANSWER_S: Final = 120.0


async def replay(model: ServedModel, bundle: Path) -> None:
    """Asks the bundle's test vectors. On the event loop. Raises TEST_VECTORS_DIFFER, and what the model does."""
    opened = await asyncio.to_thread(open_bundle, bundle)
    vectors = await asyncio.to_thread(opened.test_vectors)
    datatypes = {spec.name: spec.datatype for spec in opened.card.inputs}
    inputs = [_tensor(name, datatypes[name], array) for name, array in vectors.inputs.items()]
    rows = len(next(iter(vectors.inputs.values())))
    ended: asyncio.Future[dict[str, NDArray[Any]]] = asyncio.get_running_loop().create_future()

    def done(answer: Answer | ModelyardError) -> None:
        if ended.done():
            return
        if isinstance(answer, ModelyardError):
            ended.set_exception(answer)
            return
        try:  # their memory is lent for the length of this call
            ended.set_result({one.name: _array(one) for one in answer.tensors if one.name in vectors.outputs})
        except Exception as error:
            ended.set_exception(error)

    model.submit(inputs, rows, None, done)
    answers = await asyncio.wait_for(ended, ANSWER_S)
    missing = set(vectors.outputs) - set(answers)
    if missing:
        message = f"the model gives no {', '.join(sorted(missing))} any more"
        raise FailedPrecondition("TEST_VECTORS_DIFFER", message)
    check_answers(opened.card, vectors, answers)


def _tensor(name: str, datatype: str, array: NDArray[Any]) -> Tensor:
    raw = encode_raw(array) if datatype == "BYTES" else np.ascontiguousarray(array, NUMERIC[datatype]).tobytes()
    return Tensor(name, datatype, np.shape(array), raw)


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.frombuffer(bytes(tensor.data), NUMERIC[tensor.datatype]).reshape(tensor.shape)
