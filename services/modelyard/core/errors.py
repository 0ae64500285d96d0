"""The errors of the domain. Raised anywhere below the rpc shell, mapped to gRPC status codes there and nowhere else.

Every error carries a reason (UPPER_SNAKE_CASE, stable, part of the contract), a message for people that names the field or
file, the value and what would be right, the values the message names (for google.rpc.ErrorInfo.metadata), and optionally the
request fields at fault (for google.rpc.BadRequest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldViolation:
    """A request field that is wrong: its path ("split.train_ratio") and what would be right."""

    field: str
    description: str


class ModelyardError(Exception):
    """Base of all errors that a caller may see. `message` is shown to the caller as it is."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        **values: object,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = violations or ((FieldViolation(field, message),) if field else ())
        self.values: Mapping[str, str] = {key: str(value) for key, value in values.items()}
        self.retry_after_s = retry_after_s


class InvalidArgument(ModelyardError):
    """The request is wrong whatever the state of the system. INVALID_ARGUMENT."""


class NotFound(ModelyardError):
    """What the request names does not exist. NOT_FOUND."""


class AlreadyExists(ModelyardError):
    """What the request would create exists. ALREADY_EXISTS."""


class FailedPrecondition(ModelyardError):
    """The system is not in a state in which this can be done. FAILED_PRECONDITION."""


class Aborted(ModelyardError):
    """Somebody else changed it meanwhile (etag). ABORTED."""


class ResourceExhausted(ModelyardError):
    """A cap, a quota or the disk is used up. RESOURCE_EXHAUSTED. For a quota: `subject` is the project and `quota` its name."""

    subject: str = ""
    quota: str = ""


class Unavailable(ModelyardError):
    """Not now; the same call may work in a moment. UNAVAILABLE."""


class PermissionDenied(ModelyardError):
    """The caller may not. PERMISSION_DENIED."""


class Unauthenticated(ModelyardError):
    """The caller has not said who it is, or not so that it is believed. UNAUTHENTICATED."""


class Unimplemented(ModelyardError):
    """This service does not do that. UNIMPLEMENTED."""


class DataLoss(ModelyardError):
    """Stored bytes are not what they were. DATA_LOSS."""


class Cancelled(ModelyardError):
    """The caller or a user cancelled it. CANCELLED."""


class DeadlineExceeded(ModelyardError):
    """The caller's deadline passed before the work could be done. DEADLINE_EXCEEDED."""
