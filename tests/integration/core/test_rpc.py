"""The rpc shell on a real server: errors with details for unary calls and streams, uploads and downloads, health, reflection."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from modelyard.artifact.v1 import artifact_service_pb2 as artifact_pb
from modelyard.artifact.v1 import artifact_service_pb2_grpc as artifact_rpc
from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.core.platform import Host, open_platform
from modelyard.core.rpc.loop import new_event_loop
from modelyard.core.rpc.server import Mount, Service
from modelyard.core.settings import CoreSettings
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2, dataset_service_pb2_grpc

HUGE = "x" * 100_000


class Faulty(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Answers by the name it is asked for."""

    def GetDataset(self, request: dataset_service_pb2.GetDatasetRequest, context: Any) -> dataset_pb2.Dataset:
        if request.name == "invalid":
            raise InvalidArgument("BAD_NAME", "name is 'invalid'; it must be good", field="name", given="invalid")
        if request.name == "busy":
            raise ResourceExhausted("QUEUE_FULL", "no room", retry_after_s=2.5)
        if request.name == "huge":
            raise InvalidArgument("HUGE", HUGE, field="name", **{f"value{number}": HUGE for number in range(50)})
        if request.name == "bug":
            raise KeyError("secret path /etc/shadow")
        if request.name == "thread":
            return dataset_pb2.Dataset(name=threading.current_thread().name)
        return dataset_pb2.Dataset(name=request.name)

    async def WatchImport(
        self, request: dataset_service_pb2.WatchImportRequest, context: Any
    ) -> AsyncIterator[dataset_service_pb2.WatchImportResponse]:
        for sequence in (1, 2):
            yield dataset_service_pb2.WatchImportResponse(sequence=sequence)
        if request.name == "invalid":
            raise InvalidArgument("BAD_NAME", "in the middle", field="name")
        if request.name == "bug":
            raise KeyError("secret")
        if request.name == "forever":
            await asyncio.sleep(600)


@pytest.fixture(scope="module", params=["grpc.aio", "front"])
def channel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To grpc.aio on the public port, and through our front end's proxy."""
    platform = open_platform(
        CoreSettings(data_dir=tmp_path_factory.mktemp("data"), drain_s=0.2, max_message_bytes=1 << 21), "sample"
    )
    mount = Mount(
        "modelyard.dataset.v1.DatasetService",
        lambda server: dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(Faulty(), server),
    )
    natives = {"/some.Service/Echo": lambda call, message: call.answer(message)} if request.param == "front" else {}
    host = Host(platform, [Service("sample", [mount], natives=natives)], ["sample"])
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    address = asyncio.run_coroutine_threadsafe(host.start(), loop).result(30)
    with grpc.insecure_channel(address, options=[("grpc.max_metadata_size", 32768)]) as open_channel:
        yield open_channel
    asyncio.run_coroutine_threadsafe(host.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)


@pytest.fixture
def datasets(channel: grpc.Channel) -> Any:
    return dataset_service_pb2_grpc.DatasetServiceStub(channel)


@pytest.fixture
def artifacts(channel: grpc.Channel) -> Any:
    return artifact_rpc.ArtifactServiceStub(channel)


def get(datasets: Any, name: str, **more: Any) -> dataset_pb2.Dataset:
    return datasets.GetDataset(dataset_service_pb2.GetDatasetRequest(name=name), timeout=10, **more)


def details(error: grpc.RpcError) -> tuple[status_pb2.Status, dict[str, Any]]:
    raw = next(value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    status = status_pb2.Status.FromString(raw)
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
    )
    found = {}
    for detail in status.details:
        for kind in kinds:
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return status, found


def test_a_domain_error_arrives_with_reason_values_field_and_request_id(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(datasets, "invalid", metadata=[("x-request-id", "my-id")])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, found = details(caught.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("BAD_NAME", "modelyard")
    assert dict(found["ErrorInfo"].metadata) == {"given": "invalid"}
    assert found["BadRequest"].field_violations[0].field == "name"
    assert found["RequestInfo"].request_id == "my-id"


def test_retry_info(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(datasets, "busy")
    assert details(caught.value)[1]["RetryInfo"].retry_delay.ToMilliseconds() == 2500


def test_an_error_with_huge_values_still_arrives(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(datasets, "huge")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)[1]["ErrorInfo"].reason == "HUGE"


def test_a_bug_shows_a_fixed_text_and_a_request_id_only(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(datasets, "bug")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert "shadow" not in repr(caught.value.trailing_metadata())
    assert details(caught.value)[1]["RequestInfo"].request_id


@pytest.mark.parametrize(("name", "code"), [("invalid", grpc.StatusCode.INVALID_ARGUMENT), ("bug", grpc.StatusCode.INTERNAL)])
def test_an_error_in_the_middle_of_a_stream_is_mapped_too(datasets: Any, name: str, code: grpc.StatusCode) -> None:
    seen = []
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012  what came before the error counts
        for message in datasets.WatchImport(dataset_service_pb2.WatchImportRequest(name=name), timeout=10):
            seen.append(message.sequence)  # noqa: PERF401
    assert seen == [1, 2]
    assert caught.value.code() is code
    assert details(caught.value)[1]["ErrorInfo"].reason == ("BAD_NAME" if name == "invalid" else "INTERNAL")
    assert "secret" not in str(caught.value)


def test_plain_methods_run_beside_the_event_loop(datasets: Any) -> None:
    assert get(datasets, "thread").name.startswith("rpc")


def test_a_deadline_ends_a_stream(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(datasets.WatchImport(dataset_service_pb2.WatchImportRequest(name="forever"), timeout=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert get(datasets, "still here").name == "still here"


def test_a_message_over_the_cap_is_refused_and_the_server_lives(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(datasets, "x" * (3 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert get(datasets, "still here").name == "still here"


def test_an_unimplemented_method(datasets: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def upload(artifacts: Any, data: bytes, *, chunk: int = 1 << 20, **header: Any) -> Any:
    def messages() -> Iterator[artifact_pb.UploadArtifactRequest]:
        yield artifact_pb.UploadArtifactRequest(header=artifact_pb.UploadHeader(parent="projects/default", **header))
        for start in range(0, len(data), chunk):
            yield artifact_pb.UploadArtifactRequest(chunk=data[start : start + chunk])

    return artifacts.UploadArtifact(messages(), timeout=30)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, 5_000_001])
def test_what_is_uploaded_can_be_downloaded(artifacts: Any, size: int) -> None:
    data = hashlib.shake_256(b"seed").digest(size)
    blob = upload(artifacts, data)
    assert (blob.sha256, blob.size_bytes) == (hashlib.sha256(data).hexdigest(), size)
    request = artifact_pb.DownloadArtifactRequest(uri=blob.uri)
    assert b"".join(message.chunk for message in artifacts.DownloadArtifact(request, timeout=30)) == data
    request = artifact_pb.DownloadArtifactRequest(uri=blob.uri, offset=size // 2)
    assert b"".join(message.chunk for message in artifacts.DownloadArtifact(request, timeout=30)) == data[size // 2 :]


def test_an_upload_that_is_not_what_it_said_leaves_nothing(artifacts: Any) -> None:
    data = b"other bytes"
    with pytest.raises(grpc.RpcError) as caught:
        upload(artifacts, data, sha256="0" * 64)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    uri = f"artifact://sample/{hashlib.sha256(data).hexdigest()}"
    with pytest.raises(grpc.RpcError) as caught:
        list(artifacts.DownloadArtifact(artifact_pb.DownloadArtifactRequest(uri=uri), timeout=10))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("uri", ["", "artifact://sample/../../etc/passwd", "file:///etc/passwd", "artifact://other/" + "0" * 64])
def test_a_wrong_uri_is_refused(artifacts: Any, uri: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(artifacts.DownloadArtifact(artifact_pb.DownloadArtifactRequest(uri=uri), timeout=10))
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def test_an_upload_without_header_or_broken_off(artifacts: Any, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        artifacts.UploadArtifact(iter([artifact_pb.UploadArtifactRequest(chunk=b"x")]), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    broken = b"half of it"

    def messages() -> Iterator[artifact_pb.UploadArtifactRequest]:
        yield artifact_pb.UploadArtifactRequest(header=artifact_pb.UploadHeader())
        yield artifact_pb.UploadArtifactRequest(chunk=broken)
        raise RuntimeError("the client dies")

    with pytest.raises(grpc.RpcError):
        artifacts.UploadArtifact(messages(), timeout=10)
    uri = f"artifact://sample/{hashlib.sha256(broken).hexdigest()}"
    with pytest.raises(grpc.RpcError) as caught:
        list(artifacts.DownloadArtifact(artifact_pb.DownloadArtifactRequest(uri=uri), timeout=10))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(iter(reflection.ServerReflectionInfo(iter([request]), timeout=10)))
    names = {service.name for service in answer.list_services_response.service}
    assert {"modelyard.dataset.v1.DatasetService", "modelyard.artifact.v1.ArtifactService", "grpc.health.v1.Health"} <= names
