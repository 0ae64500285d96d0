"""How serving reaches its pods when certificates are renewed: the connections that begin later use the new ones."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from pathlib import Path

from modelyard.client.access import Access
from modelyard.serving.pods import RenewedContext
from tests.support.certificates import Authority, Pair


def shown(context: ssl.SSLContext, server: Pair, ca: Path) -> bytes:
    """The certificate that a server is shown by a client with this context."""
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outer.load_cert_chain(server.certificate, server.key)
    outer.load_verify_locations(ca)
    outer.verify_mode = ssl.CERT_REQUIRED
    here, there = socket.socketpair()
    found: list[bytes] = []

    def serve() -> None:
        with outer.wrap_socket(there, server_side=True) as connection:
            found.append(connection.getpeercert(binary_form=True) or b"")
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context.wrap_socket(here, server_hostname="pod") as connection:
            connection.send(b"x")
    finally:
        thread.join(10)
    return found[0]


def of(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


def test_a_renewed_certificate_is_shown_and_half_of_a_pair_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pod, first, second = (authority.sign(name, name) for name in ("pod", "first", "second"))
    own = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    shutil.copy(first.certificate, own.certificate)
    shutil.copy(first.key, own.key)
    context = RenewedContext(Access(ca=authority.ca, certificate=own.certificate, key=own.key))
    assert shown(context(), pod, authority.ca) == of(first)
    shutil.copy(second.key, own.key)
    assert shown(context(), pod, authority.ca) == of(first)
    shutil.copy(second.certificate, own.certificate)
    assert shown(context(), pod, authority.ca) == of(second)
