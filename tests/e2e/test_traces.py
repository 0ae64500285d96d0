"""One trace from a caller over a service to the worker of its job, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from modelyard.client import Client
from modelyard.client._channels import outgoing
from tests.support.servers import start_embedded
from tests.support.sources import breast_cancer_csv

pytestmark = pytest.mark.slow
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps spans with the service they are of."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            service = next(item.value.string_value for item in resource.resource.attributes if item.key == "service.name")
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    made, server = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_job_is_one_trace_in_two_processes(
    collector: tuple[Collector, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, endpoint = collector
    server = start_embedded(tmp_path / "data", tmp_path / "log", {"MODELYARD_TRACING_ENDPOINT": endpoint})
    server.wait_ready()
    monkeypatch.setitem(outgoing, "metadata", lambda: (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),))
    with Client(server.address) as client:
        client.datasets.create_dataset("cancer")
        blob = client.artifacts.upload(breast_cancer_csv(tmp_path / "cancer.csv"))
        started = client.datasets.create_import("cancer", blob, file_name="cancer.csv", label_column="target")
        client.datasets.wait_import(started.name, timeout_s=60)
    assert server.stop() == 0  # it sends what is waiting
    own = {(service, span.name): span for service, span in made.spans if span.trace_id.hex() == TRACE}
    call = own["modelyard", "modelyard.dataset.v1.DatasetService/CreateImport"]
    job = own["modelyard", "job Import"]
    attempt = own["modelyard-worker", "attempt"]
    assert job.parent_span_id == call.span_id
    assert attempt.parent_span_id == job.span_id
