"""Runs model.tflite with LiteRT and nothing else of Modelyard: replays the test vectors, or classifies raw pictures.

    python runner.py                       replays test_vectors.safetensors; exit status 1 when an answer differs
    python runner.py picture.raw           picture.raw holds height * width * channels bytes, rows first, channels last

Needs numpy and ai-edge-litert. The files of the bundle stand beside this one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

HERE = Path(__file__).resolve().parent
DTYPES = {"U8": "u1", "I8": "i1", "F32": "<f4"}


def load_model() -> Any:
    """The model, ready to answer."""
    model = Interpreter(model_path=str(HERE / "model.tflite"), num_threads=1)
    model.allocate_tensors()
    return model


def answer(model: Any, picture: Any) -> Any:
    """What the model answers for one picture, uint8 [height, width, channels]: int8 [classes]."""
    entering, leaving = model.get_input_details()[0], model.get_output_details()[0]
    scale, zero_point = entering["quantization"]
    numbers = np.clip(np.round(picture / scale) + zero_point, -128, 127).astype(np.int8)
    model.set_tensor(entering["index"], numbers[None])
    model.invoke()
    return model.get_tensor(leaving["index"])[0].copy()


def probabilities(model: Any, numbers: Any) -> Any:
    """int8 answers as the probabilities they stand for, float32."""
    scale, zero_point = model.get_output_details()[0]["quantization"]
    return (numbers.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def read_vectors() -> dict[str, Any]:
    """The arrays of test_vectors.safetensors: 8 bytes of length, JSON, then the numbers (https://huggingface.co/docs/safetensors)."""
    data = (HERE / "test_vectors.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = np.frombuffer(data[start + first : start + last], np.dtype(DTYPES[entry["dtype"]]))
            arrays[name] = values.reshape(entry["shape"])
    return arrays


def replay() -> int:
    """Asks the model every test vector; the number of answers that are not exactly as expected."""
    model, vectors = load_model(), read_vectors()
    different = 0
    for picture, expected in zip(vectors["input.image"], vectors["output.probabilities"], strict=True):
        different += not np.array_equal(probabilities(model, answer(model, picture)), expected)
    sys.stdout.write(f"{len(vectors['input.image'])} test vectors, {different} answered otherwise\n")
    return different


def classify(path: Path) -> None:
    """Prints the most probable class of a raw picture."""
    model = load_model()
    shape = model.get_input_details()[0]["shape"][1:]
    found = probabilities(model, answer(model, np.fromfile(path, np.uint8).reshape(shape)))
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").split("\n")
    best = int(found.argmax())
    thresholds = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))["thresholds"]
    sure = not thresholds or float(found[best]) >= thresholds[best]
    sys.stdout.write(f"{labels[best]} {float(found[best]):.4f}{'' if sure else ' below its threshold'}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        classify(Path(sys.argv[1]))
    else:
        sys.exit(1 if replay() else 0)
