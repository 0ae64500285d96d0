"""The client's errors as the domain's: what an adapter that calls another service wraps its calls in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelyard.core import errors


@contextmanager
def named_errors(service: str = "") -> Iterator[None]:
    """Raises what the client raises as the domain error of the same name, with reason, message, values and request id kept.

    With `service` given, FailedPrecondition NO_SUCH_SERVICE when what answers at its address is another one.
    """
    from modelyard.client.errors import ModelyardClientError, Unimplemented

    try:
        yield
    except ModelyardClientError as error:
        if service and isinstance(error, Unimplemented):
            message = f"there is no {service} service at its address; set MODELYARD_{service.upper()}_ADDRESS to its host:port"
            raise errors.FailedPrecondition("NO_SUCH_SERVICE", message, service=service) from error
        kind = getattr(errors, type(error).__name__, errors.ModelyardError)
        violations = tuple(errors.FieldViolation(item.field, item.description) for item in error.violations)
        named = kind(error.reason, error.message, violations=violations, retry_after_s=error.retry_after_s)
        named.values = {**error.values, **({"request_id": error.request_id} if error.request_id else {})}
        raise named from error
