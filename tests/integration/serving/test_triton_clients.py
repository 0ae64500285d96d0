"""tritonclient, unchanged, over gRPC and HTTP, against a real server: all that it can ask."""

from __future__ import annotations

import queue
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from modelyard.formats.bundle import open_bundle
from tests.support.inference_world import inference_world
from tests.support.serving_server import ServingWorld
from tests.support.triton import InferenceServerException, triton, triton_http

Array = NDArray[Any]
X = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
MODULES = {"grpc": triton, "http": triton_http}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[ServingWorld]:
    with inference_world(folder) as made:
        yield made


class Protocol:
    """A client of one of the two, and its ways of saying the same."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.module = name, MODULES[name]
        self.client: Any = self.module.InferenceServerClient(address, **({"concurrency": 8} if name == "http" else {}))

    def tensor(self, name: str, array: Array, datatype: str = "FP32", **options: Any) -> Any:
        made = self.module.InferInput(name, list(array.shape), datatype)
        made.set_data_from_numpy(array, **options)
        return made

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """An answer as JSON: gRPC clients give messages unless told otherwise."""
        as_json = {"as_json": True} if self.name == "grpc" else {}
        return getattr(self.client, method)(*arguments, **options, **as_json)


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest, world: ServingWorld) -> Iterator[Protocol]:
    made = Protocol(request.param, world.address)
    yield made
    made.client.close()


def expected(bundle: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(open_bundle(bundle).model_bytes(), providers=["CPUExecutionProvider"])
    answer: Array = session.run(["probabilities"], {"x": x})[0]
    return answer


def test_health_and_metadata(protocol: Protocol) -> None:
    client = protocol.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.is_model_ready("mlp", "1")
    assert protocol.ask("get_server_metadata")["name"] == "modelyard"
    model = protocol.ask("get_model_metadata", "mlp")
    assert model["versions"] == ["V001", "V002"]
    assert [int(size) for size in model["inputs"][0]["shape"]] == [-1, 4]


@pytest.mark.parametrize(
    "name", ["../etc", "a/../b", "..", " ..", "/etc/passwd", "model/", " ", "...", "model..1", "%2e%2e%2f", "%252e", "..;/"]
)
def test_names_of_no_model_are_not_ready(protocol: Protocol, name: str) -> None:
    assert protocol.client.is_model_ready(name) is False
    with pytest.raises(InferenceServerException) as refused:
        protocol.client.infer(name, [protocol.tensor("x", X)])
    assert "root" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_the_configuration(protocol: Protocol) -> None:
    config = protocol.ask("get_model_config", "mlp")
    config = config.get("config", config)
    assert config["max_batch_size"] == 4096
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    assert "dynamic_batching" in config
    picture = protocol.ask("get_model_config", "picture")
    assert picture.get("config", picture)["input"][0]["format"] == "FORMAT_NHWC"


def test_a_prediction(protocol: Protocol, folder: Path) -> None:
    result = protocol.client.infer("mlp", [protocol.tensor("x", X)], request_id="r-1", priority=2, timeout=5_000_000)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected(folder / "2.zip", X), atol=1e-6)
    assert result.as_numpy("label").shape == (5,)
    response = result.get_response()
    found = response if protocol.name == "http" else {"id": response.id, "model_version": response.model_version}
    assert (found["id"], found["model_version"]) == ("r-1", "V002")


def test_a_version_by_number_or_name(protocol: Protocol, folder: Path) -> None:
    for version in ("1", "V001"):
        result = protocol.client.infer("mlp", [protocol.tensor("x", X)], model_version=version)
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected(folder / "1.zip", X), atol=1e-6)


def test_json_and_bytes_in_every_mixture_over_http(world: ServingWorld, folder: Path) -> None:
    http = Protocol("http", world.address)
    wanted = expected(folder / "2.zip", X)
    for sent in (True, False):
        for got in (True, False):
            output = triton_http.InferRequestedOutput("probabilities", binary_data=got)
            result = http.client.infer("mlp", [http.tensor("x", X, binary_data=sent)], outputs=[output])
            np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)


def test_classes_instead_of_values(protocol: Protocol, folder: Path) -> None:
    output = protocol.module.InferRequestedOutput("probabilities", class_count=2)
    told = protocol.client.infer("mlp", [protocol.tensor("x", X)], outputs=[output]).as_numpy("probabilities")
    wanted = expected(folder / "2.zip", X)
    assert told.shape == (5, 2)
    for row, values in zip(told, wanted, strict=True):
        value, index, label = row[0].decode().split(":")
        assert (int(index), label) == (values.argmax(), f"class {values.argmax()}")
        assert float(value) == pytest.approx(values.max(), abs=1e-6)


def test_text_and_halves(protocol: Protocol) -> None:
    sex, age = np.array([["male"], ["é"]], object), np.array([[1], [2]], np.float32)
    result = protocol.client.infer("person", [protocol.tensor("sex", sex, "BYTES"), protocol.tensor("age", age)])
    assert result.as_numpy("prediction").ravel().tolist() == [101, 2]
    halves = np.array([[1, 0.5, -2, 65504 / 2]], np.float16)
    twice = protocol.client.infer("half", [protocol.tensor("x", halves, "FP16")]).as_numpy("prediction")
    assert twice.dtype == np.float16
    assert twice.tolist() == (halves * 2).tolist()


def test_bf16_for_fp32(protocol: Protocol, folder: Path) -> None:
    coarse = X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    result = protocol.client.infer("mlp", [protocol.tensor("x", coarse, "BF16")])
    wanted = expected(folder / "2.zip", coarse.astype(np.float32))
    np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(world: ServingWorld, folder: Path, algorithm: str) -> None:
    many = np.tile(X, (200, 1))
    wanted = expected(folder / "2.zip", many)
    http, grpc = Protocol("http", world.address), Protocol("grpc", world.address)
    both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    result = http.client.infer("mlp", [http.tensor("x", many)], **both)
    np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)
    result = grpc.client.infer("mlp", [grpc.tensor("x", many)], compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)


def test_many_at_once_without_waiting(world: ServingWorld, folder: Path) -> None:
    wanted = expected(folder / "2.zip", X)
    http = Protocol("http", world.address)
    handles = [http.client.async_infer("mlp", [http.tensor("x", X)]) for _ in range(20)]
    for handle in handles:
        np.testing.assert_allclose(handle.get_result().as_numpy("probabilities"), wanted, atol=1e-6)
    grpc, answers = Protocol("grpc", world.address), queue.Queue[Any]()
    for _ in range(20):
        grpc.client.async_infer("mlp", [grpc.tensor("x", X)], callback=lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=20)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("probabilities"), wanted, atol=1e-6)


def test_a_stream_answers_in_order_and_goes_on_after_an_error(world: ServingWorld, folder: Path) -> None:
    grpc, answers = Protocol("grpc", world.address), queue.Queue[Any]()
    grpc.client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for index in range(50):
        columns = X[index % 5 : index % 5 + 1, : 3 if index == 20 else 4]
        grpc.client.async_stream_infer("mlp", [grpc.tensor("x", columns)], request_id=str(index))
    wanted = expected(folder / "2.zip", X)
    for index in range(50):
        result, error = answers.get(timeout=20)
        if index == 20:
            assert "it must be [-1, 4]" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(index)
        np.testing.assert_allclose(result.as_numpy("probabilities"), wanted[index % 5 : index % 5 + 1], atol=1e-6)
    grpc.client.stop_stream()


def test_streams_that_are_cancelled_half_way_leave_the_server_well(world: ServingWorld) -> None:
    for _ in range(20):
        grpc = Protocol("grpc", world.address)
        grpc.client.start_stream(callback=lambda result, error: None)
        for _ in range(10):
            grpc.client.async_stream_infer("mlp", [grpc.tensor("x", X)])
        grpc.client.stop_stream(cancel_requests=True)
        grpc.client.close()
    assert Protocol("grpc", world.address).client.infer("mlp", [Protocol("grpc", world.address).tensor("x", X)])


def test_counts_grow(protocol: Protocol) -> None:
    def counted() -> tuple[int, int, int]:
        (stats,) = protocol.ask("get_inference_statistics", "mlp", "2")["model_stats"]
        success = stats["inference_stats"]["success"]
        return int(stats["inference_count"]), int(success["count"]), int(success["ns"])

    protocol.client.infer("mlp", [protocol.tensor("x", X)])
    before = counted()
    for _ in range(3):
        protocol.client.infer("mlp", [protocol.tensor("x", X)])
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (15, 3)
    assert after[2] > before[2]
    rows = protocol.ask("get_inference_statistics")["model_stats"]
    assert [(row["name"], row["version"]) for row in rows if row["name"] == "mlp"] == [("mlp", "1"), ("mlp", "2")]
    batches = next(row["batch_stats"] for row in rows if (row["name"], row["version"]) == ("mlp", "2"))
    assert {"5"} <= {str(batch["batch_size"]) for batch in batches}


def test_a_model_is_taken_out_and_brought_back(protocol: Protocol) -> None:
    client = protocol.client
    client.unload_model("half", unload_dependents=True)
    assert not client.is_model_ready("half")
    index = protocol.ask("get_model_repository_index")
    rows = index if isinstance(index, list) else index["models"]
    assert next(row["state"] for row in rows if row["name"] == "half") == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="not in memory"):
        client.infer("half", [protocol.tensor("x", np.zeros((1, 4), np.float16), "FP16")])
    client.unload_model("half")
    client.load_model("half")
    assert client.is_model_ready("half")
    assert client.infer("half", [protocol.tensor("x", np.ones((1, 4), np.float16), "FP16")]).as_numpy("prediction")[0, 0] == 2


def test_nobody_brings_a_model_along(protocol: Protocol) -> None:
    for options in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        with pytest.raises(InferenceServerException, match="deployed"):
            protocol.client.load_model("mlp", **options)
    for call in (protocol.client.load_model, protocol.client.unload_model):
        with pytest.raises(InferenceServerException, match="does not exist"):
            call("nothing")


def test_shared_memory_and_settings_are_answered_or_refused(protocol: Protocol) -> None:
    client = protocol.client
    for status in (protocol.ask("get_system_shared_memory_status"), protocol.ask("get_cuda_shared_memory_status")):
        assert status in ([], {})
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    client.get_trace_settings()
    client.get_log_settings()
    for call in (
        lambda: client.register_system_shared_memory("r", "/key", 16),
        lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}),
        lambda: client.update_log_settings({"log_verbose_level": 1}),
    ):
        with pytest.raises(InferenceServerException) as refused:
            call()
        assert "offered" in str(refused.value) or "cannot be changed" in str(refused.value)


def test_a_timeout_that_is_over_is_told(protocol: Protocol) -> None:
    options = {"client_timeout": 1e-6} if protocol.name == "grpc" else {"timeout": 1}
    with pytest.raises(InferenceServerException) as refused:
        protocol.client.infer("mlp", [protocol.tensor("x", X)], **options)
    assert "eadline" in str(refused.value)
    assert protocol.client.infer("mlp", [protocol.tensor("x", X)], timeout=10_000_000) is not None


def test_many_threads_over_both_get_their_own_answers(world: ServingWorld, folder: Path) -> None:
    chance = np.random.default_rng(5)
    batches = [chance.normal(size=(1 + index % 6, 4)).astype(np.float32) for index in range(60)]
    wrong: list[int] = []

    def ask(protocol: Protocol, places: range) -> None:
        for place in places:
            got = protocol.client.infer("mlp", [protocol.tensor("x", batches[place])]).as_numpy("probabilities")
            if not np.allclose(got, expected(folder / "2.zip", batches[place]), atol=1e-6):
                wrong.append(place)

    threads = []
    for number in range(4):
        made = Protocol("grpc", world.address)
        threads.append(threading.Thread(target=ask, args=(made, range(number, 60, 4))))
    for thread in threads:
        thread.start()
    ask(Protocol("http", world.address), range(60))
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_metrics_stand_beside_the_protocol(world: ServingWorld) -> None:
    with urllib.request.urlopen(f"http://{world.address}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert 'model="mlp"' in text


def test_behind_grpc_alone_the_same_is_answered(tmp_path: Path) -> None:
    """MODELYARD_FRONT=grpc: no front end of ours, no HTTP."""
    with inference_world(tmp_path, front="grpc") as world:
        grpc, answers = Protocol("grpc", world.address), queue.Queue[Any]()
        result = grpc.client.infer("mlp", [grpc.tensor("x", X)], request_id="r-1")
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected(tmp_path / "2.zip", X), atol=1e-6)
        assert result.get_response().id == "r-1"
        with pytest.raises(InferenceServerException, match="it must be"):
            grpc.client.infer("mlp", [grpc.tensor("x", X[:, :3])])
        grpc.client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for index in range(10):
            grpc.client.async_stream_infer("mlp", [grpc.tensor("x", X)], request_id=str(index))
        assert [answers.get(timeout=20)[0].get_response().id for _ in range(10)] == [str(index) for index in range(10)]
        grpc.client.stop_stream()
        assert grpc.client.get_inference_statistics("mlp", "2").model_stats[0].inference_stats.success.count == 11
