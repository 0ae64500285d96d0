"""The error in a job's status, as the domain's."""

from __future__ import annotations

from modelyard.core import errors
from modelyard.core.jobs import convert
from modelyard.core.rpc.status import exception_of
from modelyard.type.v1 import job_pb2


def error_in(status: job_pb2.JobStatus) -> errors.ModelyardError | None:
    """Why a job failed; None where it has not."""
    return exception_of(convert.error_document(status.error)) if status.HasField("error") else None
