"""Jobs, blobs, times and durations as contract messages, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Job, JobState
from modelyard.type.v1 import blob_pb2, job_pb2

_STATES = {
    JobState.QUEUED: job_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: job_pb2.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: job_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: job_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: job_pb2.JOB_STATE_CANCELLED,
}
DOMAIN = "modelyard"
# A status travels in HTTP/2 trailers, whose size is limited; what is longer than this is cut.
LONGEST_MESSAGE = 2000
LONGEST_VALUE = 500


def job_state(state: JobState) -> job_pb2.JobState.ValueType:
    """A state as in the contract."""
    return _STATES[state]


def timestamp(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    """An aware datetime as a Timestamp; None stays None (an unset field)."""
    if time is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def duration(seconds: float | None) -> duration_pb2.Duration | None:
    """Seconds as a Duration; None and what is not finite give None."""
    if seconds is None or not math.isfinite(seconds):
        return None
    message = duration_pb2.Duration()
    message.FromNanoseconds(int(max(0.0, seconds) * 1e9))
    return message


def blob_message(blob: Blob | Mapping[str, Any] | None) -> blob_pb2.Blob | None:
    """A Blob, or its JSON document, as a message; None stays None."""
    if blob is None:
        return None
    if isinstance(blob, Mapping):
        return blob_pb2.Blob(uri=blob["uri"], sha256=blob["sha256"], size_bytes=blob["size_bytes"])
    return blob_pb2.Blob(uri=blob.uri, sha256=blob.sha256, size_bytes=blob.size_bytes)


def blob_from(message: blob_pb2.Blob) -> Blob:
    """A message as a Blob."""
    return Blob(uri=message.uri, sha256=message.sha256, size_bytes=message.size_bytes)


def struct(document: Mapping[str, Any]) -> struct_pb2.Struct:
    """A JSON document as a Struct."""
    return json_format.ParseDict(dict(document), struct_pb2.Struct())


def document(message: struct_pb2.Struct) -> dict[str, Any]:
    """A Struct as a JSON document. Whole numbers come back as int: a Struct knows only doubles."""
    return {key: _whole(value) for key, value in json_format.MessageToDict(message).items()}


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def status_message(job: Job) -> job_pb2.JobStatus:
    """State, progress, times and error of a job."""
    return job_pb2.JobStatus(
        state=job_state(job.state),
        reason=job.reason,
        progress=progress_message(job.progress) if job.progress else None,
        error=error_status(job.error) if job.error and job.state is JobState.FAILED else None,
        attempt=job.attempt,
        create_time=timestamp(job.create_time),
        start_time=timestamp(job.start_time),
        end_time=timestamp(job.end_time),
        sequence=job.sequence,
    )


def progress_message(progress: Mapping[str, Any]) -> job_pb2.Progress:
    """A progress document as a message."""
    waiting = progress.get("waiting") or None
    return job_pb2.Progress(
        waiting=job_pb2.Waiting(reason=waiting["reason"], message=waiting["message"]) if waiting else None,
        stage=str(progress.get("stage", "")),
        fraction=float(progress.get("fraction", 0.0)),
        done=int(progress.get("done", 0)),
        total=int(progress.get("total", 0)),
        unit=str(progress.get("unit", "")),
        eta=duration(progress.get("eta_s")),
    )


def progress_document(progress: job_pb2.Progress) -> dict[str, Any]:
    """A progress message as a document."""
    found: dict[str, Any] = {
        "stage": progress.stage,
        "fraction": min(1.0, max(0.0, progress.fraction)),
        "done": progress.done,
        "total": progress.total,
        "unit": progress.unit,
    }
    if progress.HasField("eta"):
        found["eta_s"] = progress.eta.ToNanoseconds() / 1e9
    return found


def error_status(error: Mapping[str, Any], request_id: str = "") -> status_pb2.Status:
    """An error document (code, reason, message, values, violations, quota, retry_after_s) as google.rpc.Status with details."""
    status = status_pb2.Status(code=int(error["code"]), message=str(error["message"])[:LONGEST_MESSAGE])
    values = {key[:60]: str(value)[:LONGEST_VALUE] for key, value in list(error.get("values", {}).items())[:12]}
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error["reason"], domain=DOMAIN, metadata=values))
    if error.get("violations"):
        bad = error_details_pb2.BadRequest()
        for violation in list(error["violations"])[:10]:
            bad.field_violations.add(field=violation["field"], description=violation["description"][:LONGEST_VALUE])
        status.details.add().Pack(bad)
    if error.get("quota"):
        subject, name = error["quota"]["subject"], error["quota"]["name"]
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=subject, description=f"{name}: {status.message}"[:LONGEST_VALUE])
        status.details.add().Pack(failure)
    if error.get("retry_after_s") is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(float(error["retry_after_s"]))))
    if request_id:
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    return status


def error_document(status: status_pb2.Status) -> dict[str, Any]:
    """A google.rpc.Status as an error document; a status without ErrorInfo gets the reason UNKNOWN."""
    found: dict[str, Any] = {"code": status.code, "reason": "UNKNOWN", "message": status.message, "values": {}, "violations": []}
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            found |= {"reason": info.reason, "values": dict(info.metadata)}
        elif detail.Unpack(bad):
            found["violations"] = [{"field": item.field, "description": item.description} for item in bad.field_violations]
    return found
