"""Where the time of an evaluation goes: model and decoding, or figures. python tests/bench/evaluating.py [CLASSES [PICTURES]]"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "clients")]

import numpy as np  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from modelyard.evaluator.domain.evaluation import EvaluationSpec  # noqa: E402
from modelyard.evaluator.worker import scoring  # noqa: E402
from modelyard.formats.bundle import BundleCard, PictureInput, Source, TensorSpec, TestVectors, write_bundle  # noqa: E402
from tests.support.datasets import file_store, publish_pictures  # noqa: E402

SIDE = 28


def small_network(classes: int) -> bytes:
    """Two convolutions of random weights: about a millisecond a picture."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (32, 1, 3, 3), "w1": (64, 32, 3, 3), "w2": (classes, 64)}
    constants = [numpy_helper.from_array(rng.normal(0, 0.1, shape).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["turned", "w0"], ["first"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["kept"]),
        helper.make_node("Conv", ["kept", "w1"], ["second"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["second"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [None, SIDE, SIDE, 1])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes])]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())


def bundle(path: Path, names: tuple[str, ...]) -> Path:
    """The network as a bundle."""
    card = BundleCard(
        "image_classification",
        (TensorSpec("image", "UINT8", (-1, SIDE, SIDE, 1)),),
        (TensorSpec("probabilities", "FP32", (-1, len(names))),),
        Source(),
        picture=PictureInput(SIDE, SIDE, 1),
        classes=names,
    )
    even = np.full((1, len(names)), 1 / len(names), np.float32)
    vectors = TestVectors({"image": np.zeros((1, SIDE, SIDE, 1), np.uint8)}, {"probabilities": even})
    write_bundle(path, card, small_network(len(names)), vectors)
    return path


def main(classes: int = 10, count: int = 10_000) -> None:
    """Prints the time until the model is done, and after."""
    names = tuple(f"c{index:04d}" for index in range(classes))
    pictures = np.random.default_rng(1).integers(0, 255, (count, 7, 7), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    usage = ["train" if row % 20 == 0 else "validation" if row % 20 == 1 else "test" for row in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        store = file_store(Path(folder, "artifacts"), "evaluator")
        data = publish_pictures(store, pictures, [names[row % classes] for row in range(count)], usage=usage)
        artifact = store.put_file(bundle(Path(folder, "bundle.zip"), names))
        usages = ("train", "validation", "test")
        spec = EvaluationSpec("x", artifact, "v", data, "", "image_classification", usages, slice_columns=("width", "bytes"))
        marks: dict[str, tuple[float, float]] = {}
        begin = _clocks()
        scoring.evaluate(spec, store, Path(folder), lambda stage, *_: marks.update({stage: _clocks()}))
        end = _clocks()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers, figures = _between(begin, marks["figures"]), _between(marks["figures"], end)
    print(f"{count} pictures, {classes} classes: answers {answers}, figures {figures}, peak {peak:.0f} MiB")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _between(begin: tuple[float, float], end: tuple[float, float]) -> str:
    return f"{end[0] - begin[0]:.1f} s ({end[1] - begin[1]:.1f} s of processor time)"


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
