"""Spans reach a collector over OTLP; one that is away holds nobody up for long."""

from __future__ import annotations

import time
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from modelyard.core.rpc import tracing


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_reach_a_collector() -> None:
    collector, server = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tracing.start(f"http://127.0.0.1:{port}", "serving")
    with tracing.span("a"), tracing.span("b"):
        pass
    tracing.stop()
    server.stop(None).wait()
    resources = [resource for request in collector.requests for resource in request.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert {span.name for span in spans} == {"a", "b"}
    names = {item.value.string_value for item in resources[0].resource.attributes if item.key == "service.name"}
    assert names == {"modelyard-serving"}


def test_a_collector_that_is_away_holds_up_nobody_for_long() -> None:
    tracing.start("http://127.0.0.1:9", "serving")
    with tracing.span("a"):
        pass
    begin = time.monotonic()
    tracing.stop()
    assert time.monotonic() - begin < 5
