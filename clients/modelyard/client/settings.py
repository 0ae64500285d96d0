"""Where the services are and how long to wait for them. Imports neither grpc nor protobuf."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from modelyard.client.errors import InvalidArgument, Violation

DEFAULT_ADDRESS: Final = "127.0.0.1:8970"
# Largest message either way, in bytes; the server's cap is the same.
MAX_MESSAGE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Addresses:
    """`host:port` of each service. One that is empty cannot be called."""

    dataset: str = ""
    trainer: str = ""
    evaluator: str = ""
    exporter: str = ""
    serving: str = ""
    pipeline: str = ""

    @classmethod
    def same(cls, address: str) -> Addresses:
        """All services behind one address, as `modelyard up` has them."""
        return cls(*(address for _ in fields(cls)))

    def of(self, service: str) -> str:
        """The address of a service; InvalidArgument when there is no such service, or no address for it."""
        known = [field.name for field in fields(self)]
        if service not in known:
            raise _no_address(service, f"there is no service {service!r}; there are {', '.join(known)}")
        address: str = getattr(self, service)
        if not address:
            raise _no_address(service, f"no address of the {service} service was given; give Addresses({service}='host:port')")
        return address


@dataclass(frozen=True)
class CallSettings:
    """How calls are made.

    timeout_s: deadline of a call that is not a stream, all its retries together.
    patience_s: how long an UNAVAILABLE call is tried again.
    watch_patience_s: how long a Watch stream that broke is reconnected without an answer.
    """

    timeout_s: float = 30.0
    patience_s: float = 30.0
    watch_patience_s: float = 120.0
    first_backoff_s: float = 0.1
    max_backoff_s: float = 3.0


def _no_address(service: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        message, reason="NO_ADDRESS", values={"service": service}, violations=(Violation(f"addresses.{service}", message),)
    )
