"""Writes a network as a torch.export program (.pt2) that holds no pickle.

Batch norms are folded as in the ONNX graph. What torch.export.save writes beside graph and tensors is left out
(worker/torch_records.py).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Final

import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.worker.fold import folded
from modelyard.exporter.worker.torch_records import without_pickles
from modelyard.formats.model import PictureInput
from modelyard.recipes.build_image import ServedImageModel
from modelyard.runtime.torch_program import OperatorError, ProgramError, read_program

IMAGE: Final = "image"


def torch_program(model: ServedImageModel, picture: PictureInput) -> bytes:
    """The program, batch size open: uint8 [N, H, W, C] in, float32 [N, classes] out.

    Raises InvalidArgument NOT_EXPORTABLE, UNSUPPORTED_OPERATOR.
    """
    example = torch.zeros((2, picture.height, picture.width, picture.channels), dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.export.export(
                _without_gradients(model), (example,), dynamic_shapes={IMAGE: {0: torch.export.Dim("N")}}, strict=False
            ).run_decompositions({})
    except Exception as error:  # torch raises whatever the network raises
        message = f"torch.export cannot write this network: {str(error)[:300]}"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture") from error
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    data = without_pickles(buffer.getvalue())
    _check(data)
    return data


def _check(data: bytes) -> None:
    """What the runtime cannot read is not written. Raises InvalidArgument UNSUPPORTED_OPERATOR, NOT_EXPORTABLE."""
    try:
        read_program(data)
    except OperatorError as error:
        message = f"the network uses {error.operator}, which no torch.export program of ours holds; export it as onnx"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, field="format", operators=error.operator) from error
    except ProgramError as error:
        message = f"torch.export wrote a program that cannot be served: {error}"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture") from error


def _without_gradients(model: ServedImageModel) -> ServedImageModel:
    """A copy with its batch norms folded where the network can be traced, and nothing to be trained."""
    try:
        lean = folded(model)
    except FailedPrecondition:
        lean = model
    return lean.eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
