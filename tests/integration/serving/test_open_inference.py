"""The Open Inference Protocol as tritonclient speaks it, against a real server on a free port."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray
from PIL import Image

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from modelyard.client import Client
from modelyard.formats import pictures
from modelyard.formats.bundle import open_bundle
from tests.support.bundles import mlp_bundle, picture_bundle, text_bundle
from tests.support.serving_server import ServingWorld, serving
from tests.support.triton import InferenceServerException, triton

Array = NDArray[Any]
X = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[ServingWorld]:
    """Endpoints `mlp` (V001, V002: other weights), `picture` and `person` (text and numbers)."""
    bundles = {
        "mlp": [mlp_bundle(folder / "1.zip", seed=1), mlp_bundle(folder / "2.zip", seed=2)],
        "picture": [picture_bundle(folder / "p.zip")],
        "person": [text_bundle(folder / "t.zip")],
    }
    with serving(folder / "data") as made, Client(made.address) as client:
        for endpoint, versions in bundles.items():
            client.endpoints.create_endpoint(endpoint)
            for number, bundle in enumerate(versions, 1):
                export, gate = made.exports.add(f"{endpoint}-{number}", f"V{number:03d}", bundle)
                client.endpoints.create_deployment(endpoint, export=export, gate_decision=gate)
        yield made


@pytest.fixture(scope="module")
def client(world: ServingWorld) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(world.address) as made:
        yield made


@pytest.fixture(scope="module")
def stub(world: ServingWorld) -> Iterator[Any]:
    with grpc.insecure_channel(world.address) as channel:
        yield GRPCInferenceServiceStub(channel)


def tensor(name: str, array: Array, datatype: str = "FP32") -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def expected(bundle: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(open_bundle(bundle).model_bytes(), providers=["CPUExecutionProvider"])
    answer: Array = session.run(["probabilities"], {"x": x})[0]
    return answer


def refusal(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Status code, reason and message of a call that fails."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error: Any = refused.value
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason, error.details()


def raw_request(shape: list[int], raw: bytes, **changes: Any) -> oip.ModelInferRequest:
    values = {"name": "x", "datatype": "FP32"} | changes
    request = oip.ModelInferRequest(model_name="mlp")
    request.inputs.add(**values, shape=shape)
    request.raw_input_contents.append(raw)
    return request


def test_the_server_is_live_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert wait_ready(client)


def wait_ready(client: triton.InferenceServerClient) -> bool:
    deadline = time.monotonic() + 10
    while not client.is_server_ready() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(client.is_server_ready())


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        ("mlp", "", True),
        ("mlp", "V001", True),
        ("mlp", "2", True),
        ("mlp", "V003", False),
        ("mlp", "-1", False),
        ("nothing", "", False),
        ("../mlp", "", False),
        ("mlp/", "", False),
        ("", "", False),
        ("/etc/passwd", "", False),
        (" mlp", "", False),
        ("default.mlp", "", False),
        ("mlp\n", "", False),
    ],
)
def test_only_what_is_there_is_ready(client: triton.InferenceServerClient, model: str, version: str, ready: bool) -> None:
    assert client.is_model_ready(model, version) is ready


def test_metadata_names_server_and_models(client: triton.InferenceServerClient) -> None:
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "modelyard"
    assert "model_configuration" in server["extensions"]
    model = client.get_model_metadata("mlp", as_json=True)
    assert model["versions"] == ["V001", "V002"]
    assert model["platform"] == "onnxruntime_onnx"
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert [output["name"] for output in model["outputs"]] == ["probabilities", "label"]
    picture = client.get_model_metadata("picture", as_json=True)
    assert picture["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "8", "8", "3"]}]


def test_the_configuration_leaves_out_the_batch(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("mlp", as_json=True)["config"]
    assert config["max_batch_size"] == 4096
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert config["output"][0] == {"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["3"]}
    assert config["output"][1]["data_type"] == "TYPE_STRING"
    assert config["backend"] == "onnxruntime"


def test_the_index_lists_every_version(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index(as_json=True)["models"]
    rows = [(row["name"], row["version"], row["state"]) for row in index]
    assert rows == [
        ("mlp", "V001", "READY"),
        ("mlp", "V002", "READY"),
        ("person", "V001", "READY"),
        ("picture", "V001", "READY"),
    ]


@pytest.mark.parametrize(
    ("version", "bundle", "answered"), [("", "2.zip", "V002"), ("V001", "1.zip", "V001"), ("1", "1.zip", "V001")]
)
def test_a_prediction_is_what_onnxruntime_answers(
    client: triton.InferenceServerClient, folder: Path, version: str, bundle: str, answered: str
) -> None:
    result = client.infer("mlp", [tensor("x", X)], model_version=version, request_id="r-1")
    wanted = expected(folder / bundle, X)
    np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)
    assert result.as_numpy("label").tolist() == [f"class {index}".encode() for index in wanted.argmax(axis=1)]
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("mlp", answered, "r-1")


def test_only_the_outputs_that_are_wanted_come(client: triton.InferenceServerClient) -> None:
    result = client.infer("mlp", [tensor("x", X)], outputs=[triton.InferRequestedOutput("label")])
    assert [output.name for output in result.get_response().outputs] == ["label"]
    assert result.as_numpy("label").shape == (5,)


def test_a_batch_answers_as_single_examples_do(client: triton.InferenceServerClient) -> None:
    batch = client.infer("mlp", [tensor("x", X)]).as_numpy("probabilities")
    single = [client.infer("mlp", [tensor("x", X[row : row + 1])]).as_numpy("probabilities")[0] for row in range(len(X))]
    np.testing.assert_allclose(batch, single, atol=1e-6)


def test_typed_contents_answer_as_raw_ones_do(stub: Any, client: triton.InferenceServerClient) -> None:
    request = oip.ModelInferRequest(model_name="mlp")
    request.inputs.add(name="x", datatype="FP32", shape=[5, 4])
    request.inputs[0].contents.fp32_contents.extend(X.ravel().tolist())
    typed = np.frombuffer(stub.ModelInfer(request).raw_output_contents[0], np.float32).reshape(5, 3)
    np.testing.assert_array_equal(typed, client.infer("mlp", [tensor("x", X)]).as_numpy("probabilities"))


def test_text_and_numbers_together(client: triton.InferenceServerClient) -> None:
    sex = np.array([["male"], ["female"], ["é"]], object)
    age = np.array([[1], [2], [3]], np.float32)
    result = client.infer("person", [tensor("age", age), tensor("sex", sex, "BYTES")])
    assert result.as_numpy("prediction").ravel().tolist() == [101, 2, 3]


def png(color: tuple[int, int, int], size: tuple[int, int] = (31, 17), form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, form)
    return out.getvalue()


def files(*data: bytes) -> triton.InferInput:
    return tensor("image", np.array(data, object), "BYTES")


def test_picture_files_are_decoded_as_in_training(client: triton.InferenceServerClient) -> None:
    chance = np.random.default_rng(3).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(chance).save(out, "JPEG", quality=90)
    jpeg = out.getvalue()
    pixels = pictures.decode(jpeg, height=8, width=8, channels=3)[np.newaxis]
    by_file = client.infer("picture", [files(jpeg)]).as_numpy("probabilities")
    by_pixels = client.infer("picture", [tensor("image", pixels, "UINT8")]).as_numpy("probabilities")
    np.testing.assert_array_equal(by_file, by_pixels)


def test_jpeg_and_png_in_one_batch(client: triton.InferenceServerClient) -> None:
    result = client.infer("picture", [files(png((255, 0, 0)), png((0, 0, 255), form="JPEG"), png((0, 0, 0)))])
    assert result.as_numpy("label").tolist() == [b"red", b"blue", b"dark"]


def test_picture_files_may_come_as_a_column(client: triton.InferenceServerClient) -> None:
    column = np.array([[png((255, 0, 0))], [png((0, 0, 255))]], object)
    assert client.infer("picture", [tensor("image", column, "BYTES")]).as_numpy("label").tolist() == [b"red", b"blue"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "EMPTY_FILE"), (b"no picture", "NOT_A_PICTURE"), (png((1, 2, 3), (300, 300))[:200], "TRUNCATED_PICTURE")],
)
def test_what_is_no_picture_is_refused_by_its_place(stub: Any, data: bytes, reason: str) -> None:
    good = png((255, 0, 0))
    request = oip.ModelInferRequest(model_name="picture")
    request.inputs.add(name="image", datatype="BYTES", shape=[2])
    request.raw_input_contents.append(b"".join(struct.pack("<I", len(item)) + item for item in (good, data)))
    code, found, message = refusal(lambda: stub.ModelInfer(request))
    assert (code, found) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert "image[1]" in message


ROW = np.zeros(4, np.float32).tobytes()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (raw_request([1, 4], ROW, name="y"), "UNKNOWN_INPUT"),
        (oip.ModelInferRequest(model_name="mlp"), "MISSING_INPUT"),
        (raw_request([1, 4], ROW, datatype="FP64"), "WRONG_DATATYPE"),
        (raw_request([1, 4], ROW, datatype="BYTES"), "WRONG_DATATYPE"),
        (raw_request([1, 4], ROW, datatype="float32"), "UNKNOWN_DATATYPE"),
        (raw_request([1, 4], ROW[:-1]), "SIZE_MISMATCH"),
        (raw_request([1, 4], b""), "SIZE_MISMATCH"),
        (raw_request([2, 4], ROW), "SIZE_MISMATCH"),
        (raw_request([4], ROW), "WRONG_SHAPE"),
        (raw_request([1, 2, 2], ROW), "WRONG_SHAPE"),
        (raw_request([1, 5], ROW), "WRONG_SHAPE"),
        (raw_request([2**31, 2**31], ROW), "WRONG_SHAPE"),
        (raw_request([2**62, 4], ROW), "BATCH_TOO_LARGE"),
        (raw_request([-1, 4], ROW), "BAD_SHAPE"),
        (raw_request([-1, -4], ROW), "BAD_SHAPE"),
        (raw_request([0, 4], b""), "BAD_SHAPE"),
        (raw_request([], ROW), "BAD_SHAPE"),
        (raw_request([1] * 100, ROW), "BAD_SHAPE"),
    ],
)
def test_wrong_tensors_are_refused_by_name(stub: Any, request_: oip.ModelInferRequest, reason: str) -> None:
    code, found, message = refusal(lambda: stub.ModelInfer(request_))
    assert (code, found) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert "'x'" in message or "'y'" in message


def test_raw_and_typed_contents_are_not_mixed(stub: Any) -> None:
    request = raw_request([1, 4], ROW)
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    assert refusal(lambda: stub.ModelInfer(request))[1] == "MIXED_CONTENTS"
    twice = raw_request([1, 4], ROW)
    twice.inputs.add().CopyFrom(twice.inputs[0])
    assert refusal(lambda: stub.ModelInfer(twice))[1] == "RAW_CONTENTS_MISMATCH"
    twice.raw_input_contents.append(ROW)
    assert refusal(lambda: stub.ModelInfer(twice))[1] == "REPEATED_INPUT"


def test_contents_in_the_wrong_field_are_refused(stub: Any) -> None:
    request = oip.ModelInferRequest(model_name="mlp")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.inputs[0].contents.fp64_contents.extend([1, 2, 3, 4])
    assert refusal(lambda: stub.ModelInfer(request))[1] == "WRONG_CONTENTS"
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    assert refusal(lambda: stub.ModelInfer(request))[1] == "WRONG_CONTENTS"


def test_unknown_outputs_are_refused(stub: Any) -> None:
    request = raw_request([1, 4], ROW)
    request.outputs.add(name="logits")
    assert refusal(lambda: stub.ModelInfer(request))[1] == "UNKNOWN_OUTPUT"


def test_parameters_that_would_change_the_meaning_are_refused(stub: Any) -> None:
    request = raw_request([1, 4], ROW)
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    code, reason, _ = refusal(lambda: stub.ModelInfer(request))
    assert (code, reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_PARAMETER")


@pytest.mark.parametrize(
    ("model", "version", "reason"),
    [
        ("nothing", "", "MODEL_NOT_FOUND"),
        ("../../etc/passwd", "", "MODEL_NOT_FOUND"),
        ("mlp/", "", "MODEL_NOT_FOUND"),
        ("x" * 5000, "", "MODEL_NOT_FOUND"),
        ("mlp", "V009", "VERSION_NOT_FOUND"),
        ("mlp", "../V001", "VERSION_NOT_FOUND"),
        ("mlp", "99999999999999999999", "VERSION_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelConfig"])
def test_what_is_not_there_is_not_found(stub: Any, folder: Path, method: str, model: str, version: str, reason: str) -> None:
    requests = {
        "ModelInfer": oip.ModelInferRequest(model_name=model, model_version=version),
        "ModelMetadata": oip.ModelMetadataRequest(name=model, version=version),
        "ModelConfig": oip.ModelConfigRequest(name=model, version=version),
    }
    code, found, message = refusal(lambda: getattr(stub, method)(requests[method]))
    assert (code, found) == (grpc.StatusCode.NOT_FOUND, reason)
    assert str(folder) not in message
    assert "onnx" not in message.lower()


def test_triton_clients_see_the_message(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("mlp", [tensor("x", X[:, :3])])
    assert "input 'x' has the shape [5, 3]; it must be [-1, 4]" in refused.value.message()


def test_many_callers_at_once_get_their_own_answers(world: ServingWorld, folder: Path) -> None:
    chance = np.random.default_rng(7)
    batches = [chance.normal(size=(1 + index % 7, 4)).astype(np.float32) for index in range(200)]
    local = threading.local()

    def ask(batch: Array) -> Array:
        if not hasattr(local, "client"):
            local.client = triton.InferenceServerClient(world.address)
        answer: Array = local.client.infer("mlp", [tensor("x", batch)], request_id=str(len(batch))).as_numpy("probabilities")
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, expected(folder / "2.zip", batch), atol=1e-6)


def test_a_deadline_that_is_over_is_answered_so(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(raw_request([1, 4], ROW), timeout=0)
    error: Any = refused.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_modelyards_own_client_predicts(world: ServingWorld) -> None:
    with Client(world.address) as client:
        assert client.predictions.predict("picture", image=[png((255, 0, 0)), png((0, 0, 255))]).labels == ["red", "blue"]
        rows = [{"sex": "male", "age": 20}, {"sex": "female", "age": 30}]
        assert client.predictions.predict("person", rows=rows).rows("prediction") == [120, 30]
        assert client.predictions.predict("mlp", tensors={"x": X}, version="V001").model_version == "V001"


def test_endpoints_tell_what_they_serve(world: ServingWorld) -> None:
    with Client(world.address) as client:
        got = client.endpoints.get_endpoint("mlp")
        assert got.default_version == "V002"
        assert [deployment.name.rpartition("/")[2] for deployment in got.deployments] == ["V001", "V002"]
        assert json.dumps([event.sequence for event in client.endpoints.list_deployment_events("mlp")]) == "[2, 1]"


def test_reflection_knows_the_protocol_beside_the_other_contracts(world: ServingWorld) -> None:
    """Its messages have a descriptor pool of their own, so that they stand beside other clients' in one process."""
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    symbols = ["inference.GRPCInferenceService", "modelyard.serving.v1.ServingService", "inference.ModelInferRequest", "no.such"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    with grpc.insecure_channel(world.address) as channel:
        answers = list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(requests), timeout=20))
    found = [len(answer.file_descriptor_response.file_descriptor_proto) for answer in answers]
    assert found[0] == found[2] == 1
    assert found[1] > 1
    assert answers[3].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
