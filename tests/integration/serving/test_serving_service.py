"""Endpoints and deployments over a real server: restarts, refusals, and many at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modelyard.client import AlreadyExists, Client, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from modelyard.serving.ports import ServedModel
from modelyard.serving.served_models import model_loader
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1 import serving_pb2
from tests.support.bundles import mlp_bundle, spoil_vectors
from tests.support.serving_server import ServingWorld, serving
from tests.support.triton import triton

READY = serving_pb2.Deployment.STATE_READY


def deploy(client: Client, world: ServingWorld, bundle: Path, version: str = "V001") -> serving_pb2.Deployment:
    export, gate = world.exports.add(f"x-{version.lower()}", version, bundle)
    return client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)


def answer(client: triton.InferenceServerClient, version: str = "") -> list[float]:
    x = triton.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    row: list[float] = client.infer("mlp", [x], model_version=version).as_numpy("probabilities")[0].tolist()
    return row


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true within 20 s"
        time.sleep(0.02)


def test_a_restarted_server_answers_as_before(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp", display_name="A net")
        deploy(client, world, mlp_bundle(tmp_path / "1.zip", seed=1))
        deploy(client, world, mlp_bundle(tmp_path / "2.zip", seed=2), "V002")
        with triton.InferenceServerClient(world.address) as before:
            answers = [answer(before, version) for version in ("", "V001", "V002")]
    assert answers[0] == answers[2] != answers[1]
    with serving(tmp_path / "data", earlier=world) as again:
        with triton.InferenceServerClient(again.address) as after:
            wait_for(after.is_server_ready)
            assert [answer(after, version) for version in ("", "V001", "V002")] == answers
        with Client(again.address) as client:
            got = client.endpoints.get_endpoint("mlp")
            assert (got.display_name, got.default_version) == ("A net", "V002")
            assert [deployment.state for deployment in got.deployments] == [READY, READY]


class SlowLoader:
    """Loads only when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self._loader = model_loader(ServingSettings())

    def load(self, bundle: Path, *, model: str, version: str) -> ServedModel:
        assert self.may.wait(20)
        return self._loader.load(bundle, model=model, version=version)

    def close(self) -> None:
        self._loader.close()


def test_while_it_loads_the_server_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        deploy(client, world, mlp_bundle(tmp_path / "1.zip"))
    slow = SlowLoader()
    with serving(tmp_path / "data", earlier=world, loader=slow) as again, triton.InferenceServerClient(again.address) as after:
        assert after.is_server_live()
        wait_for(lambda: after.get_model_repository_index(as_json=True).get("models"))
        assert after.get_model_repository_index(as_json=True)["models"][0]["state"] == "LOADING"
        assert not after.is_server_ready()
        assert not after.is_model_ready("mlp")
        slow.may.set()
        wait_for(after.is_server_ready)
        assert after.is_model_ready("mlp", "V001")


def test_bytes_that_rot_do_not_answer(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        deployment = deploy(client, world, mlp_bundle(tmp_path / "1.zip"))
    stored = world.exports.artifacts.path(deployment.artifact.uri)
    stored.chmod(0o644)
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 0xFF
    stored.write_bytes(data)
    with serving(tmp_path / "data") as again, Client(again.address) as client:
        wait_for(lambda: client.endpoints.get_deployment("mlp/V001").state == serving_pb2.Deployment.STATE_FAILED)
        assert str(tmp_path) not in client.endpoints.get_deployment("mlp/V001").error_message
        with triton.InferenceServerClient(again.address) as after:
            assert not after.is_model_ready("mlp")
            assert after.get_model_repository_index(as_json=True)["models"][0]["state"] == "UNAVAILABLE"


def test_what_the_gate_refused_is_not_served(tmp_path: Path) -> None:
    bundle = mlp_bundle(tmp_path / "1.zip")
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        export, gate = world.exports.add("x", "V001", bundle)
        world.exports.gates.add("x", world.exports.exports[export].artifact.sha256, "BACK_TO_DATA", ("Too few right.",))  # type: ignore[union-attr]
        with pytest.raises(FailedPrecondition, match="Too few right") as refused:
            client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
        assert refused.value.reason == "GATE_REFUSED"
        world.exports.gates.add("x", "0")
        with pytest.raises(FailedPrecondition) as refused:
            client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
        assert refused.value.reason == "ARTIFACT_NOT_EVALUATED"
        assert list(client.endpoints.list_deployment_events("mlp")) == []
        assert client.endpoints.get_endpoint("mlp").default_version == ""


def test_a_bundle_that_answers_otherwise_is_not_served(tmp_path: Path) -> None:
    wrong = spoil_vectors(tmp_path / "wrong.zip", mlp_bundle(tmp_path / "1.zip"))
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        with pytest.raises(FailedPrecondition) as refused:
            deploy(client, world, wrong)
        assert refused.value.reason == "TEST_VECTORS_DIFFER"
        with pytest.raises(NotFound):
            client.endpoints.get_deployment("mlp/V001")


def test_many_deploying_the_same_at_once_make_one(tmp_path: Path) -> None:
    bundle = mlp_bundle(tmp_path / "1.zip")
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        export, gate = world.exports.add("x", "V001", bundle)
        with ThreadPoolExecutor(6) as pool:
            made = list(
                pool.map(lambda _: client.endpoints.create_deployment("mlp", export=export, gate_decision=gate), range(6))
            )
        assert len({deployment.create_time.ToNanoseconds() for deployment in made}) == 1
        assert len(list(client.endpoints.list_deployment_events("mlp"))) == 1


def test_taking_off_and_deleting(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        with pytest.raises(AlreadyExists):
            client.endpoints.create_endpoint("mlp")
        with pytest.raises(InvalidArgument):
            client.endpoints.create_endpoint("No Name")
        deploy(client, world, mlp_bundle(tmp_path / "1.zip", seed=1))
        deploy(client, world, mlp_bundle(tmp_path / "2.zip", seed=2), "V002")
        with pytest.raises(FailedPrecondition) as refused:
            client.endpoints.delete_deployment("mlp/V002")
        assert refused.value.reason == "DEPLOYMENT_HAS_TRAFFIC"
        client.endpoints.update_endpoint("mlp", traffic={"V001": 100})
        client.endpoints.delete_deployment("mlp/V002")
        assert client.endpoints.get_endpoint("mlp").default_version == "V001"
        client.endpoints.delete_endpoint("mlp")
        with triton.InferenceServerClient(world.address) as other:
            assert not other.is_model_ready("mlp")
        with pytest.raises(NotFound):
            client.endpoints.get_endpoint("mlp")
        kinds = [event.kind for event in client.endpoints.list_deployment_events("mlp")]
        assert sorted(kind for kind in kinds if kind <= 2) == [1, 1, 2, 2]


def test_beyond_the_queue_callers_are_told_when_to_come_back(tmp_path: Path) -> None:
    """Room for one to wait, and a model that takes a while: of many at once some are refused, and none is answered wrongly."""
    bundle = mlp_bundle(tmp_path / "1.zip", features=512, hidden=2048, layers=3)
    server = serving(tmp_path / "data", inference_threads=1, inference_queue=1)
    with server as world, Client(world.address, patience_s=0) as client:
        client.endpoints.create_endpoint("mlp")
        deploy(client, world, bundle)
        tensors = {"x": np.ones((64, 512), np.float32)}

        def ask(_: int) -> tuple[str, float]:
            try:
                return client.predictions.predict("mlp", tensors=tensors).model_version, 0.0
            except ResourceExhausted as error:
                return error.reason, error.retry_after_s or 0.0

        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(ask, range(40)))
    assert {outcome for outcome, _ in got} == {"V001", "QUEUE_FULL"}
    assert all(wait > 0 for outcome, wait in got if outcome == "QUEUE_FULL")
