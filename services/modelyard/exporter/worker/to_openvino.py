"""Writes an ONNX graph as OpenVINO IR: model.xml and model.bin. The int8 form comes from the QDQ graph, scales and all."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument


def openvino_files(model: onnx.ModelProto, *, half: bool = False) -> dict[str, bytes]:
    """The two files; half: weights in 16-bit floating point.

    Raises InvalidArgument UNSUPPORTED_OPERATOR with OpenVINO's own words, which name the operators it lacks.
    """
    core = openvino.Core()
    try:
        converted = core.read_model(model.SerializeToString(), b"")
    except RuntimeError as error:
        message = f"OpenVINO cannot read this network: {_last_words(str(error))}"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, field="format", format="openvino") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(converted, path, compress_to_fp16=half)
        graph = re.sub(rb">\s+<", b"><", path.read_bytes())  # the indentation is a sixth of it
        return {"model.xml": graph, "model.bin": path.with_suffix(".bin").read_bytes()}


def openvino_answers(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What OpenVINO answers on this processor: the graph's first output for pictures [N, H, W, C], one at a time."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled([pictures[at : at + 1]])[0] for at in range(len(pictures))])


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-3:])[:400]
