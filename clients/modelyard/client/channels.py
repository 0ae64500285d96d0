"""Every outgoing gRPC channel of this code base is made here, from an address and an `Access`."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from modelyard.client.access import Access, endpoint_of
from modelyard.client.errors import InvalidArgument, Violation

Options = Sequence[tuple[str, Any]]
AUTHORIZATION = "authorization"


def open_channel(address: str, access: Access, options: Options = ()) -> grpc.Channel:
    """A channel whose calls carry the access's token. Raises InvalidArgument INVALID_ADDRESS, TOKEN_IN_CLEAR, BAD_TLS_FILE."""
    channel = bare_channel(address, access, options)
    return grpc.intercept_channel(channel, _Token(access.token)) if access.token else channel


def bare_channel(address: str, access: Access, options: Options = ()) -> grpc.Channel:
    """A channel for callers that put the token (`authorization`) into their metadata themselves."""
    target, credentials, chosen = _prepared(address, access, options)
    if credentials is None:
        return grpc.insecure_channel(target, options=chosen)
    return grpc.secure_channel(target, credentials, options=chosen)


def bare_async_channel(address: str, access: Access, options: Options = ()) -> grpc.aio.Channel:
    """The asyncio twin of `bare_channel`."""
    target, credentials, chosen = _prepared(address, access, options)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=chosen)
    return grpc.aio.secure_channel(target, credentials, options=chosen)


def authorization(access: Access) -> tuple[tuple[str, str], ...]:
    """The metadata that says who calls; nothing without a token."""
    return ((AUTHORIZATION, f"Bearer {access.token}"),) if access.token else ()


def _prepared(
    address: str, access: Access, options: Options
) -> tuple[str, grpc.ChannelCredentials | None, list[tuple[str, Any]]]:
    endpoint = endpoint_of(address, access)
    chosen = list(options)
    if endpoint.is_here and not any(name == "grpc.enable_http_proxy" for name, _ in chosen):
        chosen.append(("grpc.enable_http_proxy", 0))
    if not endpoint.secure:
        return endpoint.target, None, chosen
    if access.server_name:
        chosen.append(("grpc.ssl_target_name_override", access.server_name))
    return endpoint.target, _credentials(access), chosen


def _credentials(access: Access) -> grpc.ChannelCredentials:
    ca, key, certificate = (_read(path) for path in (access.ca, access.key, access.certificate))
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _bad_file(path, str(error.strerror)) from error
    if b"-----BEGIN " not in content:
        raise _bad_file(path, "it is no PEM file")
    return content


def _bad_file(path: Path, why: str) -> InvalidArgument:
    message = f"{path} cannot be used for TLS: {why}"
    return InvalidArgument(message, reason="BAD_TLS_FILE", values={"file": str(path)}, violations=(Violation("tls", message),))


_Details = namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"))


# grpc ships no types.
class _Token(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds the token to every call."""

    def __init__(self, token: str) -> None:
        self._field = (AUTHORIZATION, f"Bearer {token}")

    def _with_token(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._field]
        more = (details.credentials, details.wait_for_ready, details.compression)
        return continuation(_Details(details.method, details.timeout, metadata, *more), request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._with_token(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._with_token(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._with_token(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._with_token(continuation, client_call_details, request_iterator)
