"""Tensors and predictions against a server that answers with what it got."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc
from modelyard.client import DataLoss, InvalidArgument, NotFound
from modelyard.client.tensors import array_tensor, pack_bytes, prediction, unpack_bytes
from tests.support.client_fakes import Connect, Server, abort

TensorMetadata = oip.ModelMetadataResponse.TensorMetadata


class Echo(oip_grpc.GRPCInferenceServiceServicer):
    """Answers with its inputs as outputs."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        columns = [("age", "FP32"), ("sex", "BYTES"), ("alone", "BOOL"), ("count", "INT64")]
        inputs = [TensorMetadata(name=name, datatype=datatype, shape=[-1, 1]) for name, datatype in columns]
        return oip.ModelMetadataResponse(name=request.name, inputs=inputs)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return oip.ModelReadyResponse(ready=request.name == "titanic")

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if request.model_version == "V404":
            abort(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_VERSION", "there is no V404", version="V404")
        outputs = [
            oip.ModelInferResponse.InferOutputTensor(name=given.name, datatype=given.datatype, shape=given.shape)
            for given in request.inputs
        ]
        return oip.ModelInferResponse(
            model_name=request.model_name,
            model_version=request.model_version or "V001",
            outputs=outputs,
            raw_output_contents=request.raw_input_contents,
        )


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(serve: Callable[..., Server], echo: Echo) -> Server:
    return serve(lambda server: oip_grpc.add_GRPCInferenceServiceServicer_to_server(echo, server))


ROW = {"age": 3, "sex": "é", "alone": True, "count": 5, "not used": 1}


def test_rows_become_one_tensor_a_column(connect: Connect, server: Server) -> None:
    answer = connect(server.address).predictions.predict(
        "titanic", rows=[ROW, {"age": None, "sex": None, "alone": 0, "count": "7"}]
    )
    assert (answer.model_name, answer.model_version) == ("titanic", "V001")
    assert answer.outputs["age"][0] == 3.0
    assert np.isnan(answer.outputs["age"][1])
    assert answer.outputs["sex"] == ["é", ""]
    assert answer.outputs["alone"] == [True, False]
    assert answer.outputs["count"] == [5, 7]
    assert answer.shapes["age"] == (2, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({key: value for key, value in ROW.items() if key != "sex"}, "has no column 'sex'"),
        ({**ROW, "age": "old"}, r"rows\[0\].age is 'old'; the model takes a number"),
        ({**ROW, "count": 2**70}, r"rows\[0\].count is"),
        ({**ROW, "count": None}, r"rows\[0\].count is None"),
    ],
)
def test_a_wrong_row_is_named(connect: Connect, server: Server, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        connect(server.address).predictions.predict("titanic", rows=[row])


def test_pictures_go_as_their_bytes(connect: Connect, server: Server, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpeg bytes")
    client = connect(server.address, project="lab")
    client.predictions.predict("flowers", image=tmp_path / "a.jpg", version="V002")
    client.predictions.predict("flowers", image=[b"one", str(tmp_path / "a.jpg")])
    first, second = echo.requests
    assert (first.model_name, first.model_version) == ("lab.flowers", "V002")
    assert (first.inputs[0].name, first.inputs[0].datatype, list(first.inputs[0].shape)) == ("image", "BYTES", [1])
    assert unpack_bytes(first.raw_input_contents[0]) == [b"jpeg bytes"]
    assert unpack_bytes(second.raw_input_contents[0]) == [b"one", b"jpeg bytes"]
    with pytest.raises(InvalidArgument, match="No such file"):
        client.predictions.predict("flowers", image=tmp_path / "missing.jpg")


def test_arrays_come_back_as_they_went(connect: Connect, server: Server) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([[True], [False]]),
        "c": np.array(["x", "yé"], dtype=object),
        "d": np.arange(4, dtype=">i8"),
        "e": np.arange(4, dtype=np.uint8)[::2],
    }
    answer = connect(server.address).predictions.predict("any", tensors=arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(answer.numpy(name), array)
    assert answer.rows("a") == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(InvalidArgument, match="complex128"):
        array_tensor("z", np.zeros(2, complex))


def test_exactly_one_kind_of_input(connect: Connect, server: Server) -> None:
    client = connect(server.address)
    with pytest.raises(InvalidArgument, match="exactly one"):
        client.predictions.predict("titanic")
    with pytest.raises(InvalidArgument, match="exactly one"):
        client.predictions.predict("titanic", rows=[ROW], image=b"x")


def test_errors_and_readiness(connect: Connect, server: Server) -> None:
    client = connect(server.address)
    with pytest.raises(NotFound) as caught:
        client.predictions.predict("titanic", image=b"x", version="V404")
    assert caught.value.values == {"version": "V404"}
    assert client.predictions.ready("titanic")
    assert not client.predictions.ready("other")


def test_typed_contents_are_read_too_and_a_wrong_count_is_refused() -> None:
    contents = oip.InferTensorContents(fp32_contents=[1.0, 2.0])
    output = oip.ModelInferResponse.InferOutputTensor(name="p", datatype="FP32", shape=[1, 2], contents=contents)
    assert prediction(oip.ModelInferResponse(outputs=[output])).rows("p") == [[1.0, 2.0]]
    output.shape[1] = 3
    with pytest.raises(DataLoss):
        prediction(oip.ModelInferResponse(outputs=[output]))


@given(st.lists(st.binary(max_size=20)))
def test_byte_elements_round_trip(items: list[bytes]) -> None:
    assert unpack_bytes(pack_bytes(items)) == items
