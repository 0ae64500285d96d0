"""The client's errors as the domain's: what an adapter that calls another service wraps its calls in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelyard.core import errors


@contextmanager
def named_errors() -> Iterator[None]:
    """Raises what the client raises as the domain error of the same name, with reason, message and values kept."""
    from modelyard.client.errors import ModelyardClientError

    try:
        yield
    except ModelyardClientError as error:
        kind = getattr(errors, type(error).__name__, errors.ModelyardError)
        violations = tuple(errors.FieldViolation(item.field, item.description) for item in error.violations)
        named = kind(error.reason, error.message, violations=violations, retry_after_s=error.retry_after_s)
        named.values = dict(error.values)
        raise named from error
