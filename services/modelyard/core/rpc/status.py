"""Domain errors to gRPC status codes: the only such mapping there is."""

from __future__ import annotations

from typing import Any

import grpc

from modelyard.core import errors

_CODES: dict[type[errors.ModelyardError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}
INTERNAL_MESSAGE = "Something went wrong inside the service. Its log has the details under the request id."


def status_code(error: errors.ModelyardError) -> grpc.StatusCode:
    """The code of an error, by its nearest class."""
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), grpc.StatusCode.UNKNOWN)


def code_from_number(number: int) -> grpc.StatusCode:
    """The status code of a number as it stands in google.rpc.Status."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)


def error_of(error: BaseException) -> dict[str, Any]:
    """An exception as an error document. What is no ModelyardError tells the caller nothing of the inside."""
    if isinstance(error, NotImplementedError):  # what a generated servicer raises for a method that nobody wrote
        number = grpc.StatusCode.UNIMPLEMENTED.value[0]
        return {"code": number, "reason": "UNIMPLEMENTED", "message": "This service does not do that.", "values": {}}
    if not isinstance(error, errors.ModelyardError):
        return {"code": grpc.StatusCode.INTERNAL.value[0], "reason": "INTERNAL", "message": INTERNAL_MESSAGE, "values": {}}
    quota = {}
    if isinstance(error, errors.ResourceExhausted) and error.quota:
        quota = {"quota": {"subject": error.subject, "name": error.quota}}
    return {
        "code": status_code(error).value[0],
        "reason": error.reason,
        "message": error.message,
        "values": dict(error.values),
        "violations": [{"field": item.field, "description": item.description} for item in error.violations],
        "retry_after_s": error.retry_after_s,
        **quota,
    }


def exception_of(error: dict[str, Any]) -> errors.ModelyardError:
    """An error document as the exception it came from, by its code."""
    code = code_from_number(int(error["code"]))
    cls = next((cls for cls, known in _CODES.items() if known is code), errors.ModelyardError)
    violations = tuple(errors.FieldViolation(item["field"], item["description"]) for item in error.get("violations", ()))
    made = cls(error["reason"], error["message"], violations=violations, retry_after_s=error.get("retry_after_s"))
    made.values = dict(error.get("values", {}))
    return made
