"""Model files that somebody changed: whatever they do to the process that loads them, the server lives and says what is wrong.

Native parsers crash on such files, so each is loaded as the server loads a version: in a process of its own. What may come of it
is a model that answers its test vectors, or an error of ours that names no file of this machine.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError, ResourceExhausted, Unavailable
from modelyard.formats.bundle import open_bundle
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.adapters.worker_process import WorkerOrder, start_worker
from modelyard.serving.handlers.proven_model import LoadOptions
from tests.support.bundles import mlp_bundle
from tests.support.mutants import mutant
from tests.support.runtime_bundles import model_files, needs_runtime, runtime_bundle
from tests.support.served import ask, read, rows, tensor

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")

MEMORY = 8 << 30
"""Address space of one process: a file may ask for as much as it likes."""
LONGEST_S = 30.0
FILES = {
    "onnx": "model.onnx",
    "litert-fp32": "model.tflite",
    "litert-int8": "model.tflite",
    "litert-batch3": "model.tflite",
    "torch_export": "model.pt2",
    "openvino": "model.xml",
    "savedmodel": "saved_model/saved_model.pb",
}
EXPECTED = (InvalidArgument, FailedPrecondition, Unavailable, ResourceExhausted)
_PLACE = re.compile(r"(?<![\w.])/[\w.-]+/|\.(cc|cpp|py|so)\b|site-packages|Traceback|0x[0-9a-f]{6,}")


@pytest.fixture(scope="module")
def loader() -> Iterator[ProcessLoader]:
    made = ProcessLoader(LoadOptions(1, 1))
    yield made
    made.close()


def check_error(error: ModelyardError, path: Path) -> None:
    """One of the kinds that a caller is told, without places on this machine or in anybody's source."""
    assert isinstance(error, EXPECTED), error
    assert not _PLACE.search(error.message), error.message
    assert str(path.parent) not in error.message


def outcome(loader: ProcessLoader, path: Path) -> str:
    """How loading ended: `answers`, or the reason of the error."""
    try:
        worker = start_worker(loader.zygote, WorkerOrder(path, loader.options, MEMORY, LONGEST_S), open_bundle(path).card)
    except ModelyardError as error:
        check_error(error, path)
        return error.reason
    worker.child.kill()
    worker.child.close()
    return "answers"


def outcomes(loader: ProcessLoader, folder: Path, form: str, seeds: range) -> Counter[str]:
    """Of the mutants of a form's file, one after the other."""
    needs_runtime(form)
    files, name = model_files(form), FILES[form]
    found: Counter[str] = Counter()
    for seed in seeds:
        path = runtime_bundle(folder / "m.bundle", form, {**files, name: mutant(files[name], seed)})
        try:
            found[outcome(loader, path)] += 1
        except AssertionError as error:
            raise AssertionError(f"mutant {seed} of {form}: {error}") from error
    return found


@pytest.mark.parametrize(("form", "count"), [("onnx", 80), ("litert-fp32", 40), ("litert-int8", 40)])
def test_mutants_end_cleanly(loader: ProcessLoader, tmp_path: Path, form: str, count: int) -> None:
    found = outcomes(loader, tmp_path, form, range(count))
    assert found.total() == count
    assert found["INVALID_BUNDLE"] > count / 2  # most are found before anything runs


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("form", "count"),
    [
        ("onnx", 400),
        ("litert-fp32", 200),
        ("litert-int8", 300),
        ("litert-batch3", 100),
        ("openvino", 40),
        ("torch_export", 20),
        ("savedmodel", 6),
    ],
)
def test_many_more_mutants(loader: ProcessLoader, tmp_path: Path, form: str, count: int) -> None:
    assert outcomes(loader, tmp_path, form, range(1000, 1000 + count)).total() == count


async def test_a_neighbour_answers_through_it_all(loader: ProcessLoader, tmp_path: Path) -> None:
    """A sound model answers while others are loaded that crash; none of their processes stays."""
    neighbour = loader.load(mlp_bundle(tmp_path / "sound.bundle"), model="sound", version="V001")
    given = rows(2)
    first = read((await ask(neighbour, tensor("x", "FP32", given))).tensors[0])
    files = model_files("litert-int8")
    for seed in range(500, 520):
        path = runtime_bundle(
            tmp_path / "m.bundle", "litert-int8", {**files, "model.tflite": mutant(files["model.tflite"], seed)}
        )
        try:
            loader.load(path, model="bad", version="V001").close()
        except ModelyardError as error:
            check_error(error, path)
        answer = await ask(neighbour, tensor("x", "FP32", given))
        np.testing.assert_array_equal(read(answer.tensors[0]), first)
    assert neighbour.statistics.crashes == 0
    neighbour.close()


def test_no_process_of_a_refused_model_stays(loader: ProcessLoader, tmp_path: Path) -> None:
    before = children()
    for seed in range(5):
        files = model_files("onnx")
        outcome(loader, runtime_bundle(tmp_path / "m.bundle", "onnx", {"model.onnx": mutant(files["model.onnx"], seed)}))
    assert children() <= before | {loader.zygote.pid}


def children() -> set[int]:
    """Processes whose parent is this one or the zygote of models."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                found[int(entry.name)] = int(fields[1])
    ours = {os.getpid()}
    for _ in range(3):
        ours |= {pid for pid, parent in found.items() if parent in ours}
    return ours


# What is known to be done, through the whole road


HARM: dict[str, Any] = {
    "onnx": b"\x08\x0a" + b"\x3a\x7f" * 50,
    "litert-fp32": b"\x1c\x00\x00\x00TFL3" + b"\xff" * 400,
    "torch_export": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("form", HARM)
def test_files_that_are_nothing(loader: ProcessLoader, tmp_path: Path, form: str) -> None:
    needs_runtime(form)
    path = runtime_bundle(tmp_path / "m.bundle", form, {FILES[form]: HARM[form]})
    assert outcome(loader, path) == "INVALID_BUNDLE"


@pytest.mark.parametrize(("elements", "reason"), [(1 << 42, "INVALID_BUNDLE"), (1 << 33, "")])
def test_a_graph_that_asks_for_terabytes(loader: ProcessLoader, tmp_path: Path, elements: int, reason: str) -> None:
    """A few bytes that make an array of 2^42 numbers, or of more than a process may have."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model_graph()
    graph.graph.initializer.append(numpy_helper.from_array(np.array([elements], np.int64), "much"))
    graph.graph.node.insert(0, helper.make_node("ConstantOfShape", ["much"], ["many"]))
    graph.graph.node.insert(1, helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0))
    graph.graph.node.insert(2, helper.make_node("Cast", ["most"], ["nothing"], to=TensorProto.FLOAT))
    last = graph.graph.node[-1]
    last.output[0] = "nearly"
    graph.graph.node.append(helper.make_node("Add", ["nearly", "nothing"], ["probabilities"]))
    path = runtime_bundle(tmp_path / "m.bundle", "onnx", {"model.onnx": graph.SerializeToString()})
    found = outcome(loader, path)
    assert found in ((reason,) if reason else ("INVALID_BUNDLE", "NOT_ENOUGH_MEMORY", "MODEL_CRASHED"))


def test_a_graph_that_never_ends(loader: ProcessLoader, tmp_path: Path) -> None:
    """A loop of 2^62 rounds is ended from outside."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [value("round", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("value", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    graph = model_graph()
    graph.graph.initializer.extend(
        [numpy_helper.from_array(np.array(1 << 62, np.int64), "rounds"), numpy_helper.from_array(np.array(True), "yes")]
    )
    graph.graph.node[-1].output[0] = "nearly"
    graph.graph.node.append(helper.make_node("Loop", ["rounds", "yes", "nearly"], ["probabilities"], body=body))
    path = runtime_bundle(tmp_path / "m.bundle", "onnx", {"model.onnx": graph.SerializeToString()})
    order = WorkerOrder(path, loader.options, MEMORY, 3.0)
    with pytest.raises(Unavailable, match="not loaded within 3 s"):
        start_worker(loader.zygote, order, open_bundle(path).card)


def model_graph() -> Any:
    from tests.support.runtime_bundles import onnx_graph

    return onnx_graph()
