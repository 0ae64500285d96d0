"""Who a caller is and whom it trusts: token, certificate authority, client certificate. Imports neither grpc nor protobuf."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from modelyard.client.errors import InvalidArgument, Violation

DEFAULT_DATA_DIR: Final = "~/.modelyard"
SERVER_FILE: Final = "server.json"
TOKEN_FILE: Final = "token"  # noqa: S105  a file's name
_HERE: Final = ("localhost", "127.0.0.1", "::1")
_HTTPS_PORT: Final = 443

LOOK_EVERY_S: Final = 2.0
_remembered: dict[str, str] = {}
_looked_up: dict[str, tuple[str, float]] = {}


@dataclass(frozen=True)
class Access:
    """What a connection is made with.

    token: sent with every call as `authorization: Bearer`; empty: none.
    ca: PEM file with the authorities that a server's certificate must come from; None: the system's, for https:// addresses.
    certificate, key: PEM files that this side shows of itself (mutual TLS); both or none.
    server_name: name that the server's certificate must have, where that is not the address's; empty: the address's.
    """

    token: str = field(default="", repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise _wrong("certificate", "", "a client certificate and its key go together; one of them is not given")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise _wrong("token", "", "the token must be printable ASCII")

    @property
    def secures(self) -> bool:
        """Whether addresses without https:// or http:// are meant to be TLS."""
        return self.ca is not None or self.certificate is not None

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes when one of the files does: whoever keeps a channel makes a new one then."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key) if path is not None)

    def with_token_for(self, address: str) -> Access:
        """The same with the token of a server of this user on this machine, where none is given (`token_of`)."""
        return self if self.token else replace(self, token=token_of(address))


@dataclass(frozen=True)
class Endpoint:
    """Where an address leads. `explicit`: it says itself, with http:// or https://, whether it is TLS."""

    target: str
    secure: bool
    explicit: bool

    @property
    def is_here(self) -> bool:
        """Whether nothing leaves this machine."""
        return self.target.startswith("unix:") or self.target.rpartition(":")[0].strip("[]") in _HERE


def access_from_environment(environment: Mapping[str, str] = os.environ) -> Access:
    """MODELYARD_TOKEN, MODELYARD_CA, MODELYARD_CERTIFICATE, MODELYARD_KEY, MODELYARD_SERVER_NAME: what clients are given."""
    paths = {name: environment.get(f"MODELYARD_{name.upper()}", "") for name in ("ca", "certificate", "key")}
    return Access(
        token=environment.get("MODELYARD_TOKEN", ""),
        server_name=environment.get("MODELYARD_SERVER_NAME", ""),
        **{name: Path(path).expanduser() for name, path in paths.items() if path},
    )


def endpoint_of(address: str, access: Access) -> Endpoint:
    """Reads `https://host[:port]`, `http://host:port`, `unix:path` or `host:port`. The last is TLS where a CA or a certificate is
    given. Raises InvalidArgument INVALID_ADDRESS, and TOKEN_IN_CLEAR for a token that others on the way could read.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    if scheme not in ("", "http", "https") or ("/" in rest.rstrip("/") and not rest.startswith("unix:")):
        raise _wrong("address", address, f"address is {address[:200]!r}; give HOST:PORT, https://HOST:PORT or http://HOST:PORT")
    rest = rest.rstrip("/")
    if rest.startswith("unix:"):
        return Endpoint(rest, False, True)
    if scheme == "https" and not rest.rpartition("]")[2].count(":"):
        rest = f"{rest}:{_HTTPS_PORT}"
    secure = scheme == "https" or (not scheme and access.secures)
    found = Endpoint(rest, secure, bool(scheme))
    if access.token and not secure and not found.explicit and not found.is_here:
        message = (
            f"a token would go to {address} unencrypted; give the server's certificate authority (--ca, MODELYARD_CA), "
            f"or https://{rest} where the system trusts it; http://{rest} sends it all the same"
        )
        raise InvalidArgument(message, reason="TOKEN_IN_CLEAR", values={"address": address})
    return found


def remember_token(address: str, token: str) -> None:
    """Clients of this process show this token to the server at an address, when they are given none."""
    _remembered[address] = token


def forget_token(address: str) -> None:
    """The server at the address is gone."""
    _remembered.pop(address, None)


def token_of(address: str) -> str:
    """The token of a server of this user on this machine: one that runs in this process, or that the default data folder
    (MODELYARD_DATA_DIR, ~/.modelyard) names. Empty for any other.
    """
    if address in _remembered:
        return _remembered[address]
    token, until = _looked_up.get(address, ("", 0.0))
    if time.monotonic() > until:
        data_dir = Path(os.environ.get("MODELYARD_DATA_DIR", "") or DEFAULT_DATA_DIR).expanduser()
        token = token_in(data_dir, address)
        _looked_up[address] = (token, time.monotonic() + LOOK_EVERY_S)
    return token


def token_in(data_dir: Path, address: str) -> str:
    """The token of the server that has a data folder, if it listens at that address; empty for any other."""
    address = address.removeprefix("http://").rstrip("/").replace("localhost:", "127.0.0.1:")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads((data_dir / SERVER_FILE).read_text())
        if address in (document["address"], document.get("listening", "")):
            return (data_dir / TOKEN_FILE).read_text().strip()
    return ""


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def _wrong(field_name: str, value: str, message: str) -> InvalidArgument:
    reason = f"INVALID_{field_name.upper()}"
    return InvalidArgument(message, reason=reason, values={field_name: value}, violations=(Violation(field_name, message),))
