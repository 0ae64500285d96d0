"""Tracing on a real server: calls, predictions and jobs in one trace; nothing at all where it is off."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from modelyard.client import Client, NotFound
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.rpc import tracing
from modelyard.serving.served_models import model_loader
from modelyard.serving.settings import ServingSettings
from tests.support.bundles import mlp_bundle
from tests.support.serving_server import ServingWorld, serving
from tests.support.spans import Spans, traced

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
INFER = "inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def spans() -> Iterator[Spans]:
    with traced() as found:
        yield found


@pytest.fixture(scope="module")
def world(spans: Spans, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingWorld]:
    folder = tmp_path_factory.mktemp("traced")
    with serving(folder / "data") as made, Client(made.address) as client:
        client.endpoints.create_endpoint("mlp")
        export, gate = made.exports.add("mlp-1", "V001", mlp_bundle(folder / "1.zip", seed=1))
        client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
        yield made


def request(model: str = "mlp") -> oip.ModelInferRequest:
    made = oip.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    made.raw_input_contents.append(np.zeros((2, 4), np.float32).tobytes())
    return made


def identity(span: Any) -> tuple[str, str]:
    return format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x") if span.parent else ""


def test_a_prediction_is_part_of_its_callers_trace(world: ServingWorld, spans: Spans) -> None:
    spans.clear()
    with grpc.insecure_channel(world.address) as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(request(), metadata=TRACEPARENT)
    (call,) = spans.named(INFER)
    assert identity(call) == (TRACE, PARENT)
    assert call.attributes["rpc.method"] == "ModelInfer"
    (queue,), (compute,) = spans.named("queue"), spans.named("compute")
    own = format(call.context.span_id, "016x")
    assert identity(queue) == identity(compute) == (TRACE, own)
    assert compute.attributes["modelyard.model"] == "mlp"
    assert compute.attributes["modelyard.version"] == "V001"
    assert compute.attributes["modelyard.examples"] == 2
    assert call.start_time <= queue.start_time <= queue.end_time <= compute.start_time < compute.end_time <= call.end_time


def test_a_refused_prediction_says_why(world: ServingWorld, spans: Spans) -> None:
    spans.clear()
    with grpc.insecure_channel(world.address) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(request("nobody"), metadata=TRACEPARENT)
    (call,) = spans.named(INFER)
    assert not call.status.is_ok
    assert call.status.description == "MODEL_NOT_FOUND"


def test_rest(world: ServingWorld, spans: Spans) -> None:
    spans.clear()
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
    url = f"http://{world.address}/v2/models/mlp/infer"
    asked = urllib.request.Request(url, json.dumps(body).encode(), dict(TRACEPARENT))
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200
    (call,) = spans.named("HTTP POST")
    assert identity(call) == (TRACE, PARENT)
    assert call.attributes["http.response.status_code"] == 200
    assert identity(spans.named("compute")[0]) == (TRACE, format(call.context.span_id, "016x"))


def test_a_call_of_a_servicer_and_its_error(world: ServingWorld, spans: Spans) -> None:
    spans.clear()
    with Client(world.address) as client, tracing.span("mine"):
        client.endpoints.get_endpoint("mlp")
        with pytest.raises(NotFound):
            client.endpoints.get_endpoint("nobody")
    good, bad = sorted(spans.named("modelyard.serving.v1.ServingService/GetEndpoint"), key=lambda span: span.start_time)
    (mine,) = spans.named("mine")
    assert identity(good)[1] == identity(bad)[1] == format(mine.context.span_id, "016x")  # the client carried it
    assert good.status.is_ok
    assert not bad.status.is_ok


def test_wrong_settings_are_named() -> None:
    tracing.stop()
    with pytest.raises(InvalidArgument, match="tracing_endpoint is 'collector:4317'"):
        tracing.start("collector:4317", "serving")


def test_off_nothing_is_wrapped_and_nothing_is_imported() -> None:
    tracing.stop()
    natives: dict[str, Any] = {"/a/b": lambda call, message: None}
    assert tracing.traced_natives(natives) is natives
    handler: Any = object()
    assert tracing.traced_http(handler) is handler
    assert tracing.carrier() == {}
    assert tracing.span("a") is tracing.span("b")
    loader = model_loader(ServingSettings())
    assert type(loader).__name__ == "ProcessLoader"
    loader.close()
    code = (
        "import sys, modelyard.serving.bootstrap, modelyard.embedded\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith('opentelemetry')) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.stop()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(FailedPrecondition, match=r"modelyard\[tracing\]"):
        tracing.start("http://127.0.0.1:4317", "serving")
    assert not tracing.active()
