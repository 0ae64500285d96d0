"""Checks of `modelyard doctor` that ask the server: its certificate, who one is to it, its version, its clock."""

from __future__ import annotations

import contextlib
import importlib.metadata
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.checks import FAIL, OK, WARN, Check

if TYPE_CHECKING:
    from modelyard.client import Access

PATIENCE_S: Final = 5.0
MOST_SKEW_S: Final = 30.0
EXPIRES_SOON_S: Final = 14 * 86_400.0
_EXPIRED, _NOT_YET, _WRONG_NAME = 10, 9, 62
"""Codes of OpenSSL's verification."""


def check_server(address: str, access: Access) -> list[Check]:
    """Every check of a server that answers at an address."""
    from modelyard.client.access import endpoint_of
    from modelyard.client.errors import ModelyardClientError

    try:
        endpoint = endpoint_of(address, access)
    except ModelyardClientError as error:
        return [Check("address", FAIL, str(error), "give --ca, or https:// where the system trusts the server")]
    found = []
    if endpoint.secure:
        found.append(certificate(endpoint.target, access))
        if found[0].status == FAIL:
            return found
    return [*found, *caller(address, access)]


def certificate(target: str, access: Access) -> Check:
    """Whether the server's certificate is trusted, for this name, and good for a while."""
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=str(access.ca) if access.ca else None)
        if access.certificate and access.key:
            context.load_cert_chain(access.certificate, access.key)
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
            context.set_alpn_protocols(["h2"])
            with context.wrap_socket(plain, server_hostname=access.server_name or host) as secured:
                return _lasting(secured.getpeercert() or {})
    except ssl.SSLCertVerificationError as error:
        return _refused(error, access.server_name or host)
    except ssl.SSLError as error:
        cure = "the port may have no TLS: use http:// or leave --ca out; or it asks for a client certificate: --cert, --cert-key"
        return Check("tls", FAIL, f"no TLS with {target}: {error.reason or error}", cure)
    except (OSError, ValueError) as error:
        return Check(
            "tls", FAIL, f"{target} or a PEM file cannot be read: {error}", "correct --server, --ca, --cert and --cert-key"
        )


def _refused(error: ssl.SSLCertVerificationError, name: str) -> Check:
    said = error.verify_message or str(error)
    if error.verify_code == _WRONG_NAME:
        cure = "use a name that is in it, or MODELYARD_SERVER_NAME; in the chart: tls.gatewayNames"
        return Check("tls", FAIL, f"the certificate is not for {name!r}: {said}", cure)
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return Check("tls", FAIL, f"the certificate is out of date: {said}", "renew it; or set this machine's clock right")
    return Check("tls", FAIL, f"the certificate is not trusted: {said}", "give its authority as --ca FILE or MODELYARD_CA")


def _lasting(certificate: Any) -> Check:
    until = str(certificate.get("notAfter", ""))
    if not until:
        return Check("tls", OK, "trusted")
    left = ssl.cert_time_to_seconds(until) - time.time()
    day = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC).strftime("%Y-%m-%d")
    if left < EXPIRES_SOON_S:
        return Check("tls", WARN, f"the certificate ends on {day}", "renew it: it is read again without a restart")
    return Check("tls", OK, f"trusted, until {day}")


def caller(address: str, access: Access) -> list[Check]:
    """Who one is to the server, and whether versions and clocks agree."""
    from modelyard.client import Client, ModelyardClientError, PermissionDenied, Unauthenticated, Unimplemented

    began = time.time()
    try:
        with Client(address, timeout_s=PATIENCE_S, patience_s=0.0, access=access) as client:
            found = client.access.get_caller()
    except (Unauthenticated, PermissionDenied) as error:
        given = "the token is not known" if access.token else "it asks for a token, and none is given"
        return [Check("token", FAIL, f"{given}: {error}", "give the right one as --token or MODELYARD_TOKEN")]
    except Unimplemented:
        return [Check("version", WARN, "the server is older than this: it does not say who it is", "upgrade the server")]
    except ModelyardClientError as error:
        return [Check("server", FAIL, f"{address} answers, but not as Modelyard does: {error}", "correct --server")]
    return [_token(found), _version(found.server_version), _clock(found, (began + time.time()) / 2)]


def _token(found: Any) -> Check:
    roles = ", ".join(f"{role} of {'everything' if project == '*' else project}" for project, role in sorted(found.roles.items()))
    if not roles and found.principal != "anonymous":
        return Check("token", WARN, f"you are {found.principal}, who may nothing", "ask the server's administrator for a role")
    return Check("token", OK, f"you are {found.principal}" + (f": {roles}" if roles else ""))


def _version(theirs: str) -> Check:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        ours = importlib.metadata.version("modelyard")
        if theirs and theirs.split(".")[:2] != ours.split(".")[:2]:
            cure = "install the same version here as there: contracts only grow, but commands may know what the server does not"
            return Check("version", WARN, f"this is {ours}, the server is {theirs}", cure)
        return Check("version", OK, ours if theirs else f"{ours}; the server does not say its own")
    return Check("version", OK, theirs)


def _clock(found: Any, now: float) -> Check:
    if not found.HasField("server_time"):
        return Check("clock", OK, "the server does not say its time")
    ahead = now - found.server_time.ToMilliseconds() / 1000
    if abs(ahead) > MOST_SKEW_S:
        words = f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server"
        return Check("clock", WARN, words, "set both by NTP: certificates and tokens are judged by the clock")
    return Check("clock", OK, "within a second of the server's" if abs(ahead) < 1 else f"{abs(ahead):.0f} s from the server's")
