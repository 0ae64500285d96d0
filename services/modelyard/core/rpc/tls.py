"""TLS of the public port, from two PEM files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from modelyard.core.errors import InvalidArgument
from modelyard.core.settings import CoreSettings

PROTOCOLS = ["h2", "http/1.1"]


def server_context(settings: CoreSettings) -> ssl.SSLContext | None:
    """For our front end; None without a certificate. Raises InvalidArgument BAD_TLS."""
    files = _files(settings)
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)
    try:
        context.load_cert_chain(*files)
    except (OSError, ssl.SSLError) as error:
        raise _bad(f"certificate {files[0]} and key {files[1]} do not make a pair that can be read: {error}") from error
    return context


def server_credentials(settings: CoreSettings) -> Any:
    """For grpc.aio; None without a certificate. Raises InvalidArgument BAD_TLS."""
    if server_context(settings) is None:  # which has said what is wrong with the files
        return None
    assert settings.tls_certificate is not None
    assert settings.tls_key is not None
    return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())])


def _files(settings: CoreSettings) -> tuple[Path, Path] | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise _bad("MODELYARD_TLS_CERTIFICATE and MODELYARD_TLS_KEY go together; one of them is not set")
    return settings.tls_certificate, settings.tls_key


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument("BAD_TLS", message, field="tls_certificate")
