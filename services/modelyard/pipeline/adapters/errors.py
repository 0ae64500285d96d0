"""The client's errors, and those in a job's status, as the domain's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelyard.core import errors
from modelyard.core.jobs import convert
from modelyard.core.rpc.status import exception_of
from modelyard.type.v1 import job_pb2


@contextmanager
def named_errors() -> Iterator[None]:
    """The client's errors as the domain's, with reason, message, values and the request id kept."""
    from modelyard.client.errors import ModelyardClientError

    try:
        yield
    except ModelyardClientError as error:
        kind = getattr(errors, type(error).__name__, errors.ModelyardError)
        violations = tuple(errors.FieldViolation(item.field, item.description) for item in error.violations)
        named = kind(error.reason, error.message, violations=violations, retry_after_s=error.retry_after_s)
        named.values = {**error.values, **({"request_id": error.request_id} if error.request_id else {})}
        raise named from error


def error_in(status: job_pb2.JobStatus) -> errors.ModelyardError | None:
    """Why a job failed; None where it has not."""
    return exception_of(convert.error_document(status.error)) if status.HasField("error") else None
