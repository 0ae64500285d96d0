"""ONNX files that reach outside themselves, call what is not of the standard, or say what is not true."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelyard.core.errors import InvalidArgument
from modelyard.runtime.onnx_check import OF_ONNXRUNTIME, check_onnx

Graph = onnx.GraphProto
WHAT = "the file"


def model_of(graph: Graph, **named: Any) -> bytes:
    return bytes(helper.make_model(graph, **named).SerializeToString())


def graph_of(*nodes: Any, initializer: Any = ()) -> Graph:
    return helper.make_graph(list(nodes), "g", [], [], list(initializer))


def outside(location: str = "elsewhere", **keys: str) -> TensorProto:
    tensor = TensorProto(name="t", data_location=TensorProto.EXTERNAL, dims=[1], data_type=TensorProto.FLOAT)
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def refusal(data: bytes) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        check_onnx(data, WHAT)
    assert caught.value.message.startswith(WHAT)
    return caught.value


def as_initializer(tensor: TensorProto) -> bytes:
    return model_of(graph_of(initializer=[tensor]))


def as_attribute(tensor: TensorProto) -> bytes:
    return model_of(graph_of(helper.make_node("Constant", [], ["c"], value=tensor)))


def in_a_branch(tensor: TensorProto) -> bytes:
    branch = graph_of(helper.make_node("Constant", [], ["c"], value=tensor))
    return model_of(graph_of(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=graph_of())))


def function_of(node: Any) -> Any:
    return helper.make_function("own", "F", [*node.input], [*node.output], [node], [helper.make_opsetid("", 18)])


def in_a_function(tensor: TensorProto) -> bytes:
    function = function_of(helper.make_node("Constant", [], ["c"], value=tensor))
    return model_of(graph_of(helper.make_node("F", [], ["c"], domain="own")), functions=[function])


def in_training(tensor: TensorProto) -> bytes:
    model = helper.make_model(graph_of())
    model.training_info.add().initialization.CopyFrom(graph_of(initializer=[tensor]))
    return bytes(model.SerializeToString())


def as_sparse_values(tensor: TensorProto) -> bytes:
    graph = graph_of()
    graph.sparse_initializer.add(dims=[1]).values.CopyFrom(tensor)
    return model_of(graph)


PLACES = (as_initializer, as_attribute, in_a_branch, in_a_function, in_training, as_sparse_values)


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_it_is(place: Callable[[TensorProto], bytes]) -> None:
    assert refusal(place(outside())).reason == "EXTERNAL_DATA"


@pytest.mark.parametrize(
    "keys",
    [
        {"location": "a/../../x"},
        {"location": "/etc/passwd"},
        {"location": "weights.bin", "offset": "0", "length": str(1 << 60)},
        {"location": "weights.bin", "offset": "-1"},
        {"location": "weights.bin", "unknown_key": "value"},
        {"location": "*/_ORT_MEM_ADDR_/*", "offset": "140000000000", "length": "64"},
        {"location": ""},
    ],
)
def test_every_kind_of_reference_is_refused(keys: dict[str, str]) -> None:
    """CVE-2022-25882, CVE-2024-27318, CVE-2026-27489: no reference is right, so none is looked at closer."""
    assert refusal(as_initializer(outside(**keys))).reason == "EXTERNAL_DATA"


def test_a_location_without_keys_and_keys_without_a_location() -> None:
    told = TensorProto(name="t", data_location=TensorProto.EXTERNAL)
    untold = TensorProto(name="t", dims=[1], data_type=TensorProto.FLOAT)
    untold.external_data.add(key="checksum", value="x")
    assert refusal(as_initializer(told)).reason == refusal(as_initializer(untold)).reason == "EXTERNAL_DATA"


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "ATen"),
        ("org.pytorch.aten", "ATen"),
        ("ai.onnx.contrib", "PyCustomOpDef"),
        ("ai.onnx.preview.training", "Adam"),
        ("strange", "Conv"),
        ("none", "Conv"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_operators_that_are_not_in_the_list(domain: str, name: str, nested: bool) -> None:
    node = helper.make_node(name, ["x"], ["y"], domain=domain)
    if nested:
        node = helper.make_node("Loop", ["n", "c"], ["y"], body=graph_of(node))
    error = refusal(model_of(graph_of(node)))
    assert error.reason == "UNSUPPORTED_OPERATOR"
    assert name in error.message
    assert "ONNX standard" in error.message


def test_operators_that_are() -> None:
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx"),
        helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml"),
        helper.make_node("QLinearAdd", ["x"], ["y"], domain="com.microsoft"),
        helper.make_node("F", ["x"], ["y"], domain="own"),
    ]
    check_onnx(model_of(graph_of(*nodes), functions=[function]), WHAT)


def test_a_function_lends_its_name_to_no_other_operator() -> None:
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    data = model_of(graph_of(helper.make_node("G", ["x"], ["y"], domain="own")), functions=[function])
    assert refusal(data).reason == "UNSUPPORTED_OPERATOR"


def test_operators_of_onnxruntime_are_its_own() -> None:
    """Names that this onnxruntime does not know would be a wrong promise; a few are known to newer ones or GPUs alone."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    known = {schema.name for schema in get_all_operator_schema() if schema.domain == "com.microsoft"}
    assert sorted(OF_ONNXRUNTIME - known) == []


@pytest.mark.parametrize("place", PLACES[:4])
def test_tensors_say_what_is_there(place: Callable[[TensorProto], bytes]) -> None:
    for changes in ({"dims": [1 << 31, 1 << 31]}, {"dims": [-1]}, {"dims": [5]}, {"dims": [1 << 62, 1 << 62, 0, 1 << 62]}):
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "t")
        tensor.dims[:] = changes["dims"]
        error = refusal(place(tensor))
        assert error.reason == "INVALID_BUNDLE"
        assert "'t'" in error.message


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float64, np.float16, np.int64, np.bool_, np.uint16, np.complex64])
def test_tensors_as_they_should_be(dtype: Any) -> None:
    for shape in ((), (0,), (3, 2), (1, 0, 5)):
        check_onnx(as_initializer(numpy_helper.from_array(np.zeros(shape, dtype), "t")), WHAT)


def test_half_bytes_are_counted_up() -> None:
    check_onnx(as_initializer(TensorProto(name="t", dims=[3], data_type=TensorProto.INT4, raw_data=b"\0\0")), WHAT)


def test_graphs_in_graphs_without_end() -> None:
    """Model, graph, node, attribute, graph and so on; written by hand, since protobuf does not even write it."""
    data = b""
    for _ in range(100):
        for field in (6, 5, 1):  # attribute.g, node.attribute, graph.node
            data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    assert "nested too deep" in refusal(bytes([7 << 3 | 2]) + _varint(len(data)) + data).message


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"\x3a\xff\x01", b"not onnx at all", b"\x07", b"\x80\x04\x95K."])
def test_what_is_no_onnx_file(data: bytes) -> None:
    assert refusal(data).reason == "INVALID_BUNDLE"


def test_cut_short_anywhere() -> None:
    data = as_initializer(numpy_helper.from_array(np.zeros(4, np.float32), "t"))
    for end in range(0, len(data), 3):
        with contextlib.suppress(InvalidArgument):  # cut between two fields it may still be a message
            check_onnx(data[:end], WHAT)


def test_large_trees_are_read_quickly() -> None:
    """A million numbers in an attribute: they are skipped, not walked through."""
    import time

    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml", nodes_featureids=list(range(1_000_000)))
    data = model_of(graph_of(node))
    begin = time.perf_counter()
    check_onnx(data, WHAT)
    assert time.perf_counter() - begin < 2
