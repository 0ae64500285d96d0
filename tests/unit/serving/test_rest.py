"""The REST side as an HttpHandler: routes, JSON and binary tensors, status codes, and what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import DeadlineExceeded, ModelyardError, ResourceExhausted, Unavailable
from modelyard.core.http.calls import HttpRequest, HttpResponse
from modelyard.serving.domain.version_statistics import Timing
from modelyard.serving.ports import Answer, Tensor
from modelyard.serving.rpc.rest import Rest
from tests.support.inference_fakes import MAX_BATCH, MODEL, PICTURE, TABLE, Answering, calls_of

INFER = f"/v2/models/{MODEL}/infer"
X = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, 3, 4]}


class Loaded:
    """A Repository that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def load(self, model: str) -> None:
        self.calls.append(("load", model))

    def unload(self, model: str) -> None:
        self.calls.append(("unload", model))


def rest(model: Answering | None = None, repository: Loaded | None = None) -> Rest:
    return Rest(calls_of(model or Answering()), repository or Loaded(), MAX_BATCH)


async def ask(
    handler: Rest, method: str, path: str, body: bytes | Any = b"", headers: dict[str, str] | None = None
) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await handler(HttpRequest(method, path, "", headers or {}, data))


async def posted(body: bytes | Any, model: Answering | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    response = await ask(rest(model), "POST", INFER, body, {key.replace("_", "-"): value for key, value in headers.items()})
    found: dict[str, Any] = json.loads(response.body)
    return response.status, found


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v2", "extensions"),
        ("/v2/", "extensions"),
        ("/v2/health/live", "live"),
        ("/v2/health/ready", "ready"),
        (f"/v2/models/{MODEL}", "inputs"),
        (f"/v2/models/{MODEL}/versions/1", "inputs"),
        (f"/v2/models/{MODEL}/ready", "ready"),
        (f"/v2/models/{MODEL}/versions/V001/ready", "ready"),
        (f"/v2/models/{MODEL}/config", "max_batch_size"),
        (f"/v2/models/{MODEL}/stats", "model_stats"),
        ("/v2/models/stats", "model_stats"),
        ("/v2/trace/setting", "trace_level"),
    ],
)
async def test_what_there_is_to_ask(path: str, key: str) -> None:
    for method in ("GET", "HEAD"):
        response = await ask(rest(), method, path)
        assert response.status == 200
        assert key in json.loads(response.body)


async def test_metrics_are_for_prometheus() -> None:
    response = await ask(rest(), "GET", "/metrics")
    assert response.content_type.startswith("text/plain")
    assert b"# TYPE" in response.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v2/../../etc/passwd", 404),
        ("GET", "/v2/models/..", 404),
        ("GET", "/v2/models/../config", 404),
        ("GET", "/v2/models/../../etc", 404),
        ("GET", "/v2/models/%2e%2e", 404),
        ("GET", "/v2/models/..;/config", 404),
        ("GET", "/v2/models/a/../b", 404),
        ("GET", "/v2/models/ ..", 404),
        ("GET", "/v2/models/...", 404),
        ("GET", "/v2/models/model..1", 404),
        ("GET", f"/v2/models/{MODEL}//config", 404),
        ("GET", f"/v2/models/{MODEL}/versions/../config", 404),
        ("GET", "/v2/models/ /ready", 404),
        ("GET", "/v2/models//ready", 404),
        ("GET", f"/v2/models/{MODEL}\x00", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
        ("POST", f"/v2/models/{MODEL}", 405),
        ("POST", "/v2/systemsharedmemory/region/r/register", 501),
        ("POST", "/v2/logging", 501),
        ("POST", "/v2/trace/setting", 501),
        ("POST", "/v2/cudasharedmemory/unregister", 200),
        ("GET", "/v2/systemsharedmemory/status", 200),
    ],
)
async def test_every_path_is_answered_with_its_status(method: str, path: str, status: int) -> None:
    response = await ask(rest(), method, path)
    assert response.status == status
    body = json.loads(response.body)
    if status != 200:
        assert list(body) == ["error"]
        assert "root" not in body["error"]
    if status == 405:
        assert response.headers["Allow"]


async def test_a_prediction_in_json() -> None:
    model = Answering()
    status, found = await posted({"id": "7", "inputs": [X]}, model)
    assert status == 200
    assert bytes(model.asked[0][0].data) == struct.pack("<4f", 1, 2.5, 3, 4)
    assert found == {
        "model_name": MODEL,
        "model_version": "V001",
        "id": "7",
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 0.0]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ],
    }
    assert model.statistics.successes == 1


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4), min_size=1, max_size=5)
)
async def test_flat_and_nested_lists_are_the_same(rows: list[list[float]]) -> None:
    model = Answering()
    shape = {"shape": [len(rows), 4]}
    for data in (rows, [value for row in rows for value in row]):
        assert (await posted({"inputs": [X | shape | {"data": data}]}, model))[0] == 200
    assert model.asked[0] == model.asked[1]
    np.testing.assert_array_equal(np.frombuffer(model.asked[0][0].data, "<f4"), np.array(rows, "<f4").ravel())


WRONG: list[tuple[dict[str, Any] | bytes, str]] = [
    (b"", "no JSON object"),
    (b"[]", "a JSON list"),
    (b"\xff\xfe{}", "no JSON object"),
    (b"[" * 100_000, "nests too deep"),
    (b'{"inputs": ' + b"[" * 100_000, "nests too deep"),
    ({}, "inputs is missing"),
    ({"inputs": {}}, "inputs is a object"),
    ({"inputs": [1]}, "it must hold objects"),
    ({"inputs": []}, "input 'x' is missing"),
    ({"inputs": [X, X]}, "is there twice"),
    ({"inputs": [X | {"name": "y"}]}, "is unknown"),
    ({"inputs": [X | {"name": 3}]}, "name is a whole number"),
    ({"inputs": [X | {"datatype": "FLOAT"}]}, "datatype"),
    ({"inputs": [X | {"datatype": "INT32"}]}, "it must be FP32"),
    ({"inputs": [X | {"datatype": "BF16"}]}, "binary_data_size"),
    ({"inputs": [X | {"shape": [2**31, 2**31]}]}, "shape"),
    ({"inputs": [X | {"shape": [10**30, 4]}]}, "shape"),
    ({"inputs": [X | {"shape": [-1, 4]}]}, "shape"),
    ({"inputs": [X | {"shape": [0, 4]}]}, "shape"),
    ({"inputs": [X | {"shape": []}]}, "dimensions"),
    ({"inputs": [X | {"shape": [1.0, 4]}]}, "whole numbers"),
    ({"inputs": [X | {"shape": "1,4"}]}, "shape is a string"),
    ({"inputs": [X | {"shape": [MAX_BATCH + 1, 4]}]}, "at most"),
    ({"inputs": [X | {"data": [1, 2, 3]}]}, "holds 3 elements"),
    ({"inputs": [X | {"data": [1, 2, 3, 4, 5]}]}, "holds 5 elements"),
    ({"inputs": [X | {"data": [1, 2, 3, "4"]}]}, "holds a string"),
    ({"inputs": [X | {"data": [1, 2, 3, True]}]}, "holds a truth value"),
    ({"inputs": [X | {"data": [1, 2, 3, None]}]}, "holds a null"),
    ({"inputs": [X | {"data": [1, 2, 3, 1e39]}]}, "too large"),
    ({"inputs": [X | {"data": [1, 2, 3, 10**400]}]}, "cannot"),
    (json.dumps({"inputs": [X]}).replace("2.5", "NaN").encode(), "NaN is no JSON number"),
    (json.dumps({"inputs": [X]}).replace("2.5", "-Infinity").encode(), "no JSON number"),
    (json.dumps({"inputs": [X]}).replace("2.5", "1e999").encode(), "too large"),
    (json.dumps({"inputs": [X]}).replace("2.5", "1" * 5000).encode(), "no JSON object"),
    ({"inputs": [X | {"data": [[1, 2], [3, 4]]}]}, "nested otherwise"),
    ({"inputs": [X | {"data": [[1, 2, 3, 4], [5, 6, 7, 8]]}]}, "nested otherwise"),
    ({"inputs": [X | {"data": [[[1, 2, 3, 4]]]}]}, "nested otherwise"),
    ({"inputs": [X | {"data": [[1, 2, 3, [4]]]}]}, "holds a list"),
    ({"inputs": [X | {"shape": [2, 4], "data": [[1, 2, 3, 4], 5]}]}, "mixes"),
    ({"inputs": [{key: value for key, value in X.items() if key != "data"}]}, "data is missing"),
    ({"inputs": [X], "id": "i" * 2000}, "id has"),
    ({"inputs": [X], "id": "\ud800"}, "half a character"),
    ({"inputs": [X], "parameters": {"timeout": "soon"}}, "timeout"),
    ({"inputs": [X], "parameters": []}, "parameters is a list"),
    ({"inputs": [X], "outputs": [{"name": "y"}]}, "is unknown"),
    ({"inputs": [X], "outputs": [{"name": "label"}] * 2}, "named twice"),
    ({"inputs": [X], "outputs": [{"name": "label", "parameters": {"classification": "2"}}]}, "classification"),
    ({"inputs": [X | {"parameters": {"binary_data_size": 16}}]}, "0 bytes are left"),
    ({"inputs": [X | {"parameters": {"binary_data_size": -1}}]}, "binary_data_size"),
    ({"inputs": [X | {"parameters": {"binary_data_size": 1e3}}]}, "binary_data_size"),
]


@pytest.mark.parametrize(("body", "said"), WRONG, ids=[f"{index}" for index in range(len(WRONG))])
async def test_what_is_wrong_is_refused_by_name(body: dict[str, Any] | bytes, said: str) -> None:
    model = Answering()
    status, found = await posted(body, model)
    assert status == 400
    assert said in found["error"]
    assert len(found["error"]) < 600
    assert model.asked == []


def binary(document: dict[str, Any], *tails: bytes) -> tuple[bytes, str]:
    head = json.dumps(document).encode()
    return head + b"".join(tails), str(len(head))


async def test_a_prediction_with_bytes_behind_the_json() -> None:
    model = Answering()
    raw = struct.pack("<4f", 1, float("nan"), 3, 4)
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    body, length = binary({"inputs": [entry], "parameters": {"binary_data_output": True}}, raw)
    response = await ask(rest(model), "POST", INFER, body, {"inference-header-content-length": length})
    assert bytes(model.asked[0][0].data) == raw
    assert response.content_type == "application/octet-stream"
    head_size = int(response.headers["Inference-Header-Content-Length"])
    head, tail = json.loads(response.body[:head_size]), response.body[head_size:]
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [12, 5]
    assert tail == bytes(12) + b"\1\0\0\0a"


async def test_each_output_may_be_asked_for_in_its_own_way() -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    response = await ask(rest(), "POST", INFER, {"inputs": [X], "outputs": outputs})
    head_size = int(response.headers["Inference-Header-Content-Length"])
    label, probabilities = json.loads(response.body[:head_size])["outputs"]
    assert (label["name"], "data" in label) == ("label", False)
    assert probabilities["data"] == [0, 0, 0]
    assert response.body[head_size:] == b"\1\0\0\0a"


@pytest.mark.parametrize("length", ["x", "-1", "999999", "1" * 50, "²", "", "1.0"])
async def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    status, found = await posted({"inputs": [X]}, inference_header_content_length=length)
    assert status == 400
    assert "Inference-Header-Content-Length" in found["error"]


async def test_bytes_that_nobody_announced_are_refused() -> None:
    body, length = binary({"inputs": [X]}, b"more")
    status, found = await posted(body, inference_header_content_length=length)
    assert (status, "4 bytes behind" in found["error"]) == (400, True)


async def test_text_truth_values_and_whole_numbers() -> None:
    model = Answering(card=TABLE)
    inputs = [
        {"name": "sex", "datatype": "BYTES", "shape": [2, 1], "data": [["f"], ["é"]]},
        {"name": "age", "datatype": "INT16", "shape": [2, 1], "data": [5, -6]},
        {"name": "here", "datatype": "BOOL", "shape": [2, 1], "data": [True, False]},
    ]
    assert (await posted({"inputs": inputs}, model))[0] == 200
    assert [bytes(tensor.data) for tensor in model.asked[0]] == [b"\1\0\0\0f\2\0\0\0\xc3\xa9", b"\5\0\xfa\xff", b"\1\0"]
    for index, data, said in (
        (1, [5, 40_000], "cannot"),
        (1, [5, 6.0], "holds a number"),
        (2, [1, 0], "true or false"),
        (0, ["a", "\ud800"], "half"),
    ):
        wrong = [entry | ({"data": data} if place == index else {}) for place, entry in enumerate(inputs)]
        status, found = await posted({"inputs": wrong}, model)
        assert (status, said in found["error"]) == (400, True), found


async def test_picture_files_come_as_bytes() -> None:
    model = Answering(card=PICTURE)
    entry = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 7}}
    body, length = binary({"inputs": [entry]}, b"\3\0\0\0abc")
    assert (await posted(body, model, inference_header_content_length=length))[0] == 200
    assert model.asked[0][0].shape == (1,)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_answers_that_json_cannot_hold_say_how_to_get_them(value: float) -> None:
    raw = struct.pack("<3f", 0, value, 0)
    answer = Answer((Tensor("probabilities", "FP32", (1, 3), raw), Tensor("label", "BYTES", (1,), b"\1\0\0\0a")), Timing())
    status, found = await posted({"inputs": [X]}, Answering(outcome=answer))
    assert (status, "binary_data" in found["error"]) == (400, True)
    asked = {"inputs": [X], "parameters": {"binary_data_output": True}}
    assert raw in (await ask(rest(Answering(outcome=answer)), "POST", INFER, asked)).body


@pytest.mark.parametrize(
    ("accepted", "used"), [("gzip", "gzip"), ("deflate", "deflate"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("br", None)]
)
async def test_answers_are_compressed_for_whom_takes_that(accepted: str, used: str | None) -> None:
    entry = X | {"shape": [MAX_BATCH, 4], "data": [0] * 4 * MAX_BATCH}
    response = await ask(rest(), "POST", INFER, {"inputs": [entry]}, {"accept-encoding": accepted})
    assert response.headers.get("Content-Encoding") == used
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(used or "", bytes)
    assert len(json.loads(unpack(response.body))["outputs"]) == 2


async def test_small_answers_are_not_compressed() -> None:
    response = await ask(rest(), "POST", INFER, {"inputs": [X]}, {"accept-encoding": "gzip"})
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ResourceExhausted("QUEUE_FULL", "full", retry_after_s=0.4), 429),
        (Unavailable("MODEL_UNHEALTHY", "ended", retry_after_s=3), 503),
        (DeadlineExceeded("DEADLINE_EXCEEDED", "too late"), 504),
    ],
)
async def test_trouble_has_its_status_and_says_when_to_come_back(error: ModelyardError, status: int) -> None:
    response = await ask(rest(Answering(refusal=error)), "POST", INFER, {"inputs": [X]})
    assert response.status == status
    assert ("Retry-After" in response.headers) is (error.retry_after_s is not None)


async def test_only_what_is_deployed_is_loaded() -> None:
    repository = Loaded()
    handler = rest(repository=repository)
    for body in (b"", {}, {"parameters": {"unload_dependents": True}}):
        assert (await ask(handler, "POST", f"/v2/repository/models/{MODEL}/unload", body)).status == 200
    assert (await ask(handler, "POST", f"/v2/repository/models/{MODEL}/load", {})).status == 200
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"file:../../etc/passwd": "AAAA"}):
        response = await ask(handler, "POST", f"/v2/repository/models/{MODEL}/load", {"parameters": parameters})
        assert response.status == 400
    assert repository.calls == [("unload", MODEL)] * 3 + [("load", MODEL)]


async def test_a_caller_that_goes_away_takes_its_request_back() -> None:
    model = Answering(hold=True)
    waiting = asyncio.create_task(ask(rest(model), "POST", INFER, {"inputs": [X]}))
    while not model.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert model.taken_back == 1
    model.release()  # an answer that comes after all harms nobody


async def test_json_that_would_take_long_to_read_is_refused() -> None:
    status, found = await posted(b" " * (16 << 20) + b"{}")
    assert (status, "binary_data_size" in found["error"]) == (400, True)


async def test_the_index_lists_versions() -> None:
    row = {"name": MODEL, "version": "V001", "state": "READY", "reason": ""}
    for body in (b"", {}, {"ready": True}):
        assert json.loads((await ask(rest(), "POST", "/v2/repository/index", body)).body) == [row]
    assert (await ask(rest(), "POST", "/v2/repository/index", {"ready": "yes"})).status == 400


async def test_statistics_name_versions_by_number() -> None:
    """perf_analyzer reads a whole number there, and ends when it is none."""
    handler = rest()
    await ask(handler, "POST", INFER, {"inputs": [X]})
    (found,) = json.loads((await ask(handler, "GET", f"/v2/models/{MODEL}/versions/1/stats")).body)["model_stats"]
    assert (found["version"], found["inference_count"]) == ("1", 1)
    assert found["inference_stats"]["success"]["count"] == 1


@given(st.binary(max_size=200), st.text(max_size=60))
async def test_whatever_comes_is_answered(body: bytes, path: str) -> None:
    for target in (INFER, f"/{path}", f"/v2/models/{path}/infer", f"/v2/repository/models/{path}/load", "/v2/repository/index"):
        response = await ask(rest(), "POST", target, body)
        assert response.status in (200, 400, 404, 405, 501, 503)
        json.loads(response.body)
