"""Requests that mean harm, over gRPC and HTTP, against a real server: each is answered with its status, none ends the server.

What the errors say names no file, no module and no class of the inside.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.support.inference_world import inference_world
from tests.support.serving_server import ServingWorld

SERVICE = "inference.GRPCInferenceService"
METHODS = sorted(method.name for method in oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods)
STREAMS = {"ModelStreamInfer"}
EXPECTED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
INSIDE = re.compile(
    r"Traceback|\.py\b|site-packages|/tmp|/home|/root|modelyard\.(serving|core|runtime)|google\.|onnx|numpy|Error:|0x[0-9a-f]{6}"
)
NAMES = ["../etc", "a/../b", "..", " ..", "/etc/passwd", "model/", "", " ", "...", "model..1", "x" * 100_000, "a\x00b", "é😀"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingWorld]:
    with inference_world(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(scope="module")
def channel(world: ServingWorld) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(world.address, options=[("grpc.max_send_message_length", -1)]) as made:
        yield made


@pytest.fixture(autouse=True)
def _the_server_is_well_after_each(world: ServingWorld) -> Iterator[None]:
    yield
    with grpc.insecure_channel(world.address) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(good_request(), timeout=20)
    assert len(answer.raw_output_contents) == 2
    assert asked(world, "POST", "/v2/models/mlp/infer", json.dumps(REST).encode())[0] == 200


REST = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def good_request() -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="mlp")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(bytes(16))
    return request


def asked(
    world: ServingWorld, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(world.address, timeout=20)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        given = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that fails; the message is checked to say nothing of the inside."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error: Any = refused.value
    assert not INSIDE.search(error.details()), error.details()
    return error.code(), error.details()


def raw_call(channel: grpc.Channel, method: str, *messages: bytes) -> list[bytes]:
    """Calls a method with bytes as its messages."""
    path = f"/{SERVICE}/{method}"
    if method in STREAMS:
        return list(channel.stream_stream(path)(iter(messages), timeout=20))
    return [channel.unary_unary(path)(messages[0], timeout=20)]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_names_over_grpc(channel: grpc.Channel, name: str) -> None:
    stub = GRPCInferenceServiceStub(channel)
    assert stub.ModelReady(oip.ModelReadyRequest(name=name)).ready is False
    assert stub.ModelReady(oip.ModelReadyRequest(name="mlp", version=name or "V999")).ready is False
    request = good_request()
    request.model_name = name
    missing = grpc.StatusCode.NOT_FOUND
    calls: list[Callable[[], Any]] = [
        lambda: stub.ModelInfer(request),
        lambda: stub.ModelMetadata(oip.ModelMetadataRequest(name=name)),
        lambda: stub.ModelConfig(oip.ModelConfigRequest(name=name)),
        lambda: stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name)),
        lambda: stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name)),
    ]
    if name:  # without one the statistics are those of all models
        calls.append(lambda: stub.ModelStatistics(oip.ModelStatisticsRequest(name=name)))
    for call in calls:
        assert refusal(call)[0] == missing


@pytest.mark.parametrize(
    "target",
    [
        "/v2/models/../../etc/passwd",
        "/v2/models/..%2f..%2fetc%2fpasswd/config",
        "/v2/models/%2e%2e%2f%2e%2e%2fetc",
        "/v2/models/%252e%252e%252fetc/config",
        "/v2/models/..;/..;/etc/config",
        "/v2/models/%20..",
        "/v2/models/%2Fetc%2Fpasswd",
        "/v2/models/model%2F/config",
        "/v2/models/%20",
        "/v2/models/...",
        "/v2/models/model..1",
        "/v2/models/mlp/versions/..%2f..",
        "/v2/models/mlp/versions/1/../../../x",
        "/v2/models/a%00b",
        "/v2/models/%c0%ae%c0%ae",
        "/v2/models/%zz",
        "/../../etc/passwd",
        "//etc/passwd",
        "/metrics/../v2/models/x",
        "/v2/repository/models/..%2f../load",
    ],
)
def test_paths_over_http(world: ServingWorld, target: str) -> None:
    for method in ("GET", "POST"):
        status, body = asked(world, method, target)
        assert status in (400, 404, 405)
        assert list(json.loads(body)) == ["error"]
        assert not INSIDE.search(body.decode()), body


@pytest.mark.parametrize("method", METHODS)
def test_random_bytes_to_every_method(channel: grpc.Channel, method: str) -> None:
    """Messages of chance, and some that begin well; the same ones each time."""
    chance = random.Random(method)
    good = good_request().SerializeToString()
    for attempt in range(30):
        message = chance.randbytes(chance.randrange(1, 200))
        if attempt % 3 == 0:
            mutated = bytearray(good)
            mutated[chance.randrange(len(mutated))] ^= 1 << chance.randrange(8)
            message = bytes(mutated)
        try:
            raw_call(channel, method, message)
        except grpc.RpcError as error:
            known: Any = error
            assert known.code() in EXPECTED, (known.code(), known.details())
            assert not INSIDE.search(known.details()), known.details()


@pytest.mark.parametrize("method", METHODS)
def test_messages_that_nest_deep(channel: grpc.Channel, method: str) -> None:
    """Groups within groups of an unknown field, and InferParameter's map within itself as far as bytes go."""
    for depth in (99, 101, 20_000):
        try:
            raw_call(channel, method, b"\xfb\x01" * depth + b"\xfc\x01" * depth)
        except grpc.RpcError as error:
            known: Any = error
            assert known.code() in EXPECTED, (known.code(), known.details())
            assert not INSIDE.search(known.details())


BIG = 2**31
SHAPES = [[BIG, BIG], [-1, 4], [1, -4], [0, 4], [2**62, 4], [2**63 - 1, 2**63 - 1], [], [1] * 1000, [2, 4], [1, 4, 1], [4]]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:30])
def test_shapes(world: ServingWorld, channel: grpc.Channel, shape: list[int]) -> None:
    request = good_request()
    request.inputs[0].shape[:] = shape
    stub = GRPCInferenceServiceStub(channel)
    assert refusal(lambda: stub.ModelInfer(request))[0] == grpc.StatusCode.INVALID_ARGUMENT
    status, body = asked(
        world, "POST", "/v2/models/mlp/infer", json.dumps({"inputs": [{**REST["inputs"][0], "shape": shape}]}).encode()
    )
    assert status == 400
    assert not INSIDE.search(body.decode())


@pytest.mark.parametrize("datatype", ["", "FLOAT", "fp32", "TYPE_FP32", "BF17", "OBJECT", "x" * 100_000, "FP64", "BYTES"])
def test_datatypes(channel: grpc.Channel, datatype: str) -> None:
    request = good_request()
    request.inputs[0].datatype = datatype
    code, message = refusal(lambda: GRPCInferenceServiceStub(channel).ModelInfer(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(message) < 500


def test_ten_thousand_inputs(world: ServingWorld, channel: grpc.Channel) -> None:
    request = good_request()
    for index in range(10_000):
        request.inputs.add(name=f"x{index}", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(bytes(16))
    code, message = refusal(lambda: GRPCInferenceServiceStub(channel).ModelInfer(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(message) < 500
    many = [{**REST["inputs"][0], "name": f"x{index}"} for index in range(10_000)]
    assert asked(world, "POST", "/v2/models/mlp/infer", json.dumps({"inputs": many}).encode())[0] == 400


def test_ten_thousand_inputs_of_the_same_name(channel: grpc.Channel) -> None:
    request = good_request()
    for _ in range(10_000):
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(bytes(16))
    assert "twice" in refusal(lambda: GRPCInferenceServiceStub(channel).ModelInfer(request))[1]


def field(name: str, value: str) -> bytes:
    """A header field, literal, never indexed (RFC 7541 section 6.2.3); both short."""
    return b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata"])
def test_a_message_of_two_gibibytes_is_refused_when_it_is_announced(world: ServingWorld, method: str) -> None:
    """Its length alone is sent: the answer comes before any of it, and no memory is taken for it."""
    host, _, port = world.address.rpartition(":")
    fields = {":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/{method}", ":authority": "x", "te": "trailers"}
    head = b"".join(field(name, value) for name, value in fields.items()) + field("content-type", "application/grpc")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, head))
        connection.sendall(frame(0, 0, 1, struct.pack(">BI", 0, 2**31) + bytes(1000)))
        heard = b""
        while b"grpc-status" not in heard:
            more = connection.recv(65536)
            assert more, "the connection was closed without an answer"
            heard += more
    assert b"larger than" in heard.replace(b"%20", b" ")


def test_a_body_of_two_gibibytes_is_refused_when_it_is_announced(world: ServingWorld) -> None:
    status, body = asked(world, "POST", "/v2/models/mlp/infer", b"{}", {"Content-Length": str(2**31)})
    assert status == 413
    assert b"larger than" in body


def test_messages_beyond_the_cap_are_refused(channel: grpc.Channel) -> None:
    request = good_request()
    request.raw_input_contents[0] = bytes(70 << 20)
    code, message = refusal(lambda: GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not INSIDE.search(message)


HOSTILE_JSON = [
    b"[" * 200_000,
    b'{"inputs":' * 50_000,
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, ' + b"9" * 100_000 + b"]}]}",
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1e400, 4], "data": []}]}',
    b'{"id": "\\ud800", "inputs": []}',
    b"\x00" * 1000,
    b"\xff" * 1000,
    json.dumps({"inputs": [{**REST["inputs"][0], "data": ["x"] * 100_000}]}).encode(),
    json.dumps({"inputs": [{**REST["inputs"][0], "parameters": {"binary_data_size": 2**62}}]}).encode(),
    json.dumps({"inputs": [{**REST["inputs"][0], "parameters": {"shared_memory_region": "../../etc"}}]}).encode(),
]


@pytest.mark.parametrize("body", HOSTILE_JSON, ids=range(len(HOSTILE_JSON)))
def test_hostile_json(world: ServingWorld, body: bytes) -> None:
    status, said = asked(world, "POST", "/v2/models/mlp/infer", body)
    assert status in (400, 501)
    assert not INSIDE.search(said.decode()), said


def test_a_small_body_that_unpacks_to_a_giant_is_refused(world: ServingWorld) -> None:
    import gzip

    bomb = gzip.compress(b" " * (200 << 20), 9)
    assert len(bomb) < 1 << 20
    status, _ = asked(world, "POST", "/v2/models/mlp/infer", bomb, {"Content-Encoding": "gzip"})
    assert status == 413


def test_streams_cancelled_half_way(world: ServingWorld) -> None:
    """In the middle of a request, of an answer, and of a message."""
    for cancel_after in range(15):
        with grpc.insecure_channel(world.address) as channel:
            answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(good_request() for _ in range(200))
            for _ in range(cancel_after):
                next(answers)
            answers.cancel()
    host, _, port = world.address.rpartition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
            connection.sendall(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01")


def test_a_stream_of_bad_requests_has_an_error_for_each(channel: grpc.Channel) -> None:
    bad, good = good_request(), good_request()
    bad.inputs[0].shape[:] = [BIG, BIG]
    answers = list(GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([bad, good, bad, good]), timeout=20))
    assert [bool(answer.error_message) for answer in answers] == [True, False, True, False]
    assert not INSIDE.search(answers[0].error_message)


def test_values_that_are_no_numbers_are_the_models_to_answer(channel: grpc.Channel) -> None:
    request = good_request()
    request.raw_input_contents[0] = np.array([np.nan, np.inf, -np.inf, 3e38], "<f4").tobytes()
    assert len(GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20).raw_output_contents) == 2


def test_pictures_that_are_none(channel: grpc.Channel, tmp_path: Path) -> None:
    for data in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\xff" * 100, b"\xff\xd8\xff\xe0" + bytes(500), b"%PDF-1.4"):
        request = oip.ModelInferRequest(model_name="picture")
        request.inputs.add(name="image", datatype="BYTES", shape=[1])
        request.raw_input_contents.append(struct.pack("<I", len(data)) + data)
        code, _ = refusal(lambda: GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20))  # noqa: B023
        assert code == grpc.StatusCode.INVALID_ARGUMENT
