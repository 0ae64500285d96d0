"""TLS of every port, from PEM files that may change: what cert-manager renews is used from the next connection on.

With `tls_ca` clients may show a certificate, which then must come from there; who they are is in `names_in`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from modelyard.core.errors import InvalidArgument
from modelyard.core.settings import CoreSettings

log = structlog.get_logger()
PROTOCOLS: Final = ["h2", "http/1.1"]
LOOK_EVERY_S: Final = 1.0
"""How often, at most, the files are looked at."""


class Files:
    """Certificate, key and authorities of a port, and whether they have changed. Raises InvalidArgument BAD_TLS."""

    def __init__(self, certificate: Path, key: Path, ca: Path | None) -> None:
        self.certificate, self.key, self.ca = certificate, key, ca
        self._paths = [path for path in (certificate, key, ca) if path is not None]
        self._stamp = self._look()
        self._next = 0.0

    def changed(self) -> bool:
        """Whether they are others than when this was last true."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + LOOK_EVERY_S
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return True

    def context(self, protocols: list[str]) -> ssl.SSLContext:
        """A server's context from the files as they are now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(protocols)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            message = f"certificate {self.certificate} and key {self.key} do not make a pair that can be read: {error}"
            raise _bad(message) from error
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as error:
                raise _bad(f"{self.ca} does not hold certificates of authorities that can be read: {error}", "tls_ca") from error
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _look(self) -> list[tuple[int, int]]:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino))
        return found


def server_context(settings: CoreSettings) -> ssl.SSLContext | None:
    """For our front end; None without a certificate. Every handshake uses the files as they are then.

    Raises InvalidArgument BAD_TLS.
    """
    files = files_of(settings)
    if files is None:
        return None
    outer = files.context(PROTOCOLS)
    current = [outer]

    def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        if files.changed():
            try:
                current[0] = files.context(PROTOCOLS)
                log.info("certificate read again", file=str(files.certificate))
            except InvalidArgument as error:  # half written, or wrong: the one before goes on
                log.error("the changed certificate cannot be used", error=error.message)
        if current[0] is not outer:
            connection.context = current[0]

    outer.sni_callback = choose
    return outer


def server_credentials(settings: CoreSettings) -> Any:
    """For grpc.aio; None without a certificate. Raises InvalidArgument BAD_TLS."""
    files = files_of(settings)
    if files is None:
        return None
    files.context(["h2"])  # says what is wrong with them
    first = _configuration(files)

    def fetch() -> Any:
        if not files.changed():
            return None
        try:
            files.context(["h2"])
            return _configuration(files)
        except (InvalidArgument, OSError) as error:
            log.error("the changed certificate cannot be used", error=str(error))
            return None

    return grpc.dynamic_ssl_server_credentials(first, fetch)


def files_of(settings: CoreSettings) -> Files | None:
    """The files of the public port. Raises InvalidArgument BAD_TLS when one of two is not set."""
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise _bad("MODELYARD_TLS_CERTIFICATE and MODELYARD_TLS_KEY go together; one of them is not set")
    return Files(settings.tls_certificate, settings.tls_key, settings.tls_ca)


def names_in(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The DNS and URI names of a verified client certificate as `ssl` gives it; none without one."""
    named: Iterable[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return tuple(value for kind, value in named if kind in ("DNS", "URI"))


def _configuration(files: Files) -> Any:
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    return grpc.ssl_server_certificate_configuration([pair], files.ca.read_bytes() if files.ca is not None else None)


def _bad(message: str, field: str = "tls_certificate") -> InvalidArgument:
    return InvalidArgument("BAD_TLS", message, field=field)
