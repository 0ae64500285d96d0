"""From what grpc raises to the named errors: decodes google.rpc.Status and its details from the trailing metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from modelyard.client.errors import BY_CODE, JobCancelled, JobFailed, ModelyardClientError, Unknown, Violation

DETAILS_KEY: Final = "grpc-status-details-bin"
REQUEST_ID_KEY: Final = "x-request-id"

E = TypeVar("E", bound=ModelyardClientError)


def from_rpc_error(error: grpc.RpcError, address: str = "") -> ModelyardClientError:
    """The named error for an error of a call; sync and asyncio calls raise the same kind."""
    code = error.code().name if error.code() is not None else "UNKNOWN"
    trailing = _pairs(error.trailing_metadata())
    status = _decoded(trailing.get(DETAILS_KEY), error.details() or "")
    named = _error(BY_CODE.get(code, Unknown), code, status, str(trailing.get(REQUEST_ID_KEY, "")))
    return _explained(named, address) if not status.details else named


def from_status(status: status_pb2.Status) -> ModelyardClientError:
    """The named error for a google.rpc.Status in a message."""
    code = _code_name(status.code)
    return _error(BY_CODE.get(code, Unknown), code, status, "")


def job_failed(name: str, job: Any, error: status_pb2.Status, cancelled: bool) -> JobFailed:
    """The error for a job that did not end well, carrying the job's own error."""
    if cancelled:
        failed: JobFailed = JobCancelled(f"{name} was cancelled", reason="CANCELLED", values={"name": name})
    else:
        failed = _error(JobFailed, _code_name(error.code), error, "")
    failed.name, failed.job = name, job
    return failed


def _code_name(code: int) -> str:
    return str(code_pb2.Code.Name(code)) if code in code_pb2.Code.values() else "UNKNOWN"


def _pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str | bytes]:
    return dict(metadata or ())


def _decoded(details: str | bytes | None, message: str) -> status_pb2.Status:
    """The status in the trailing metadata, or one of the message alone where there is none that can be read."""
    if isinstance(details, bytes):
        try:
            return status_pb2.Status.FromString(details)
        except DecodeError:
            pass
    return status_pb2.Status(message=message)


def _error(kind: type[E], code: str, status: status_pb2.Status, request_id: str) -> E:
    """An error of a kind, filled from a status and its details."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo(request_id=request_id)
    for detail in status.details:
        for known in (info, bad, retry, request):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    return kind(
        status.message or code.replace("_", " ").capitalize(),
        code=code,
        reason=info.reason,
        values=dict(info.metadata),
        violations=tuple(Violation(found.field, found.description) for found in bad.field_violations),
        request_id=request.request_id,
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
    )


def _explained(error: ModelyardClientError, address: str) -> ModelyardClientError:
    """Names the address where grpc itself, not a service, says that nobody answers."""
    if error.code == "UNAVAILABLE" and address:
        message = f"nobody answers at {address}: {error.message.rpartition(': ')[2]}"
        return type(error)(message, reason="NO_CONNECTION", values={"address": address}, request_id=error.request_id)
    return error
