"""A small torch module as an ONNX graph with the batch size open: what models of series share."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import Final

import onnx
import torch

OPSET: Final = 18


def onnx_graph(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], *outputs: str) -> bytes:
    """The ONNX file of a module with inputs and outputs in these orders; the first axis of each is the batch."""
    buffer = io.BytesIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                tuple(inputs.values()),
                buffer,  # type: ignore[arg-type]  # this exporter writes to any binary file
                dynamo=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "N"} for name in (*inputs, *outputs)},
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logging.disable(before)
    data = buffer.getvalue()
    onnx.checker.check_model(data)
    return data
