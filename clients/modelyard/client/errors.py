"""What can go wrong, by name.

Every error carries the gRPC status code's name, the stable reason, the message for people, the values it names, the request
fields at fault, and the request id that the server's log knows it by.

This module imports neither grpc nor protobuf, so that a command line can name the errors without loading them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """A request field that is wrong: its path ("pipeline_run.split.train_ratio") and what would be right."""

    field: str
    description: str


class ModelyardClientError(Exception):
    """Base of all errors of the client. `str(error)` is the message."""

    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        values: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.reason = reason or self.code
        self.message = message
        self.values: Mapping[str, str] = dict(values or {})
        self.violations = violations
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InvalidArgument(ModelyardClientError):
    """The request is wrong, whatever the state of the system."""

    code = "INVALID_ARGUMENT"


class NotFound(ModelyardClientError):
    """What the request names does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(ModelyardClientError):
    """What the request would create exists."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(ModelyardClientError):
    """The system is not in a state in which this can be done."""

    code = "FAILED_PRECONDITION"


class Aborted(ModelyardClientError):
    """Somebody else changed it meanwhile."""

    code = "ABORTED"


class ResourceExhausted(ModelyardClientError):
    """A cap, a quota or the disk is used up, or a message is too large."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(ModelyardClientError):
    """Nobody answers at the address, or not now."""

    code = "UNAVAILABLE"


class DeadlineExceeded(ModelyardClientError):
    """The deadline passed before the answer came."""

    code = "DEADLINE_EXCEEDED"


class WaitTimeout(DeadlineExceeded):
    """A job had not ended when the time to wait for it was up. The job goes on."""


class PermissionDenied(ModelyardClientError):
    """The caller may not."""

    code = "PERMISSION_DENIED"


class Unauthenticated(ModelyardClientError):
    """The server does not know who the caller is."""

    code = "UNAUTHENTICATED"


class Unimplemented(ModelyardClientError):
    """The server does not do that."""

    code = "UNIMPLEMENTED"


class OutOfRange(ModelyardClientError):
    """Past the end."""

    code = "OUT_OF_RANGE"


class DataLoss(ModelyardClientError):
    """Bytes are not what their sha256 says."""

    code = "DATA_LOSS"


class Cancelled(ModelyardClientError):
    """The call was cancelled."""

    code = "CANCELLED"


class Internal(ModelyardClientError):
    """A fault of the server; its log has the rest under `request_id`."""

    code = "INTERNAL"


class Unknown(ModelyardClientError):
    """The server answered with something else."""

    code = "UNKNOWN"


class JobFailed(ModelyardClientError):
    """A job that was waited for ended FAILED. Carries the job's own error; `name` and `job` (the resource) say which."""

    name: str = ""
    job: Any = None


class JobCancelled(JobFailed):
    """A job that was waited for ended CANCELLED."""

    code = "CANCELLED"


BY_CODE: Mapping[str, type[ModelyardClientError]] = {
    error.code: error
    for error in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        PermissionDenied,
        Unauthenticated,
        Unimplemented,
        OutOfRange,
        DataLoss,
        Cancelled,
        Internal,
        Unknown,
    )
}
