"""`python -m modelyard.console`: the pages as a deployment beside the services, for everybody who has a token of theirs."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from modelyard.console.connection import Connection
from modelyard.console.launch import Behind
from modelyard.console.oidc import Client, Issuer
from modelyard.console.people import People
from modelyard.console.server import application
from modelyard.console.shared_gate import SharedGate
from modelyard.console.uploads import limit

LOOK_EVERY_S: Final = 30.0
log = logging.getLogger("modelyard.console")


class BadSettingError(ValueError):
    """A setting that does not hold; the message names it, its value, and what would be right."""


@dataclass(frozen=True)
class Settings:
    """What a shared console is told, each by an environment variable."""

    server: str
    """MODELYARD_CONSOLE_SERVER: the gateway, as clients write it: HOST:PORT, https://HOST[:PORT] or http://HOST:PORT."""
    addresses: tuple[str, ...] = ()
    """MODELYARD_CONSOLE_ADDRESS: how people reach it, https://HOST[:PORT], several with commas; loopback always works."""
    signs_in: bool = True
    """MODELYARD_CONSOLE_AUTH: token (people sign in) or none (for services that ask nobody who calls)."""
    project: str = "default"
    """MODELYARD_CONSOLE_PROJECT: the project of the first page."""
    hours: float = 12.0
    """MODELYARD_CONSOLE_SESSION_HOURS: how long a sign-in lasts; 0.1 to 720."""
    upload_gib: int = 16
    """MODELYARD_CONSOLE_UPLOAD_GIB: how much may be on its way from browsers at a time, on /tmp; 1 to 10000."""
    host: str = "0.0.0.0"  # noqa: S104  a pod's
    """MODELYARD_CONSOLE_HOST: the address it listens on."""
    port: int = 8980
    """MODELYARD_CONSOLE_PORT: the port it listens on."""
    ca: str = ""
    """MODELYARD_CA: PEM file with the authorities that the gateway's certificate must come from."""
    server_name: str = ""
    """MODELYARD_SERVER_NAME: the name of the gateway's certificate, where it is not the address's."""
    certificate: str = ""
    """MODELYARD_TLS_CERTIFICATE: PEM file of its own certificate; empty: HTTP. It is read again when it changes."""
    key: str = ""
    """MODELYARD_TLS_KEY: PEM file of its key."""
    oidc: Client | None = field(default=None)
    """MODELYARD_OIDC_ISSUER, MODELYARD_CONSOLE_OIDC_CLIENT_ID, _CLIENT_SECRET, _SCOPES and _TOKEN (access_token or id_token)."""


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Reads the environment. Raises BadSettingError."""

    def said(name: str, default: str = "") -> str:
        return environment.get(f"MODELYARD_{name}", "") or default

    addresses = tuple(one.strip().rstrip("/") for one in said("CONSOLE_ADDRESS").split(",") if one.strip())
    for one in addresses:
        parts = urlsplit(one)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise _wrong("CONSOLE_ADDRESS", one, "give https://HOST[:PORT], as people open it")
    auth = said("CONSOLE_AUTH", "token")
    if auth not in ("token", "none"):
        raise _wrong("CONSOLE_AUTH", auth, "give token or none")
    if not said("CONSOLE_SERVER"):
        raise _wrong("CONSOLE_SERVER", "", "give the gateway's address, such as https://models.example.org")
    if bool(said("TLS_CERTIFICATE")) != bool(said("TLS_KEY")):
        raise _wrong("TLS_KEY", said("TLS_KEY"), "a certificate and its key go together; one of them is not given")
    return Settings(
        server=said("CONSOLE_SERVER"),
        addresses=addresses,
        signs_in=auth == "token",
        project=said("CONSOLE_PROJECT", "default"),
        hours=_number("CONSOLE_SESSION_HOURS", said("CONSOLE_SESSION_HOURS", "12"), 0.1, 720, float),
        upload_gib=_number("CONSOLE_UPLOAD_GIB", said("CONSOLE_UPLOAD_GIB", "16"), 1, 10000, int),
        host=said("CONSOLE_HOST", "0.0.0.0"),  # noqa: S104
        port=_number("CONSOLE_PORT", said("CONSOLE_PORT", "8980"), 0, 65535, int),
        ca=said("CA"),
        server_name=said("SERVER_NAME"),
        certificate=said("TLS_CERTIFICATE"),
        key=said("TLS_KEY"),
        oidc=_oidc(said, addresses),
    )


def _oidc(said: Callable[..., str], addresses: tuple[str, ...]) -> Client | None:
    issuer, client_id = said("OIDC_ISSUER"), said("CONSOLE_OIDC_CLIENT_ID")
    if not issuer or not client_id:
        return None
    if not addresses:
        raise _wrong("CONSOLE_ADDRESS", "", "signing in at an issuer needs the address that it sends people back to")
    sends = said("CONSOLE_OIDC_TOKEN", "access_token")
    if sends not in ("access_token", "id_token"):
        raise _wrong("CONSOLE_OIDC_TOKEN", sends, "give access_token or id_token")
    scopes = said("CONSOLE_OIDC_SCOPES", "openid profile email")
    return Client(issuer, client_id, addresses[0], said("CONSOLE_OIDC_CLIENT_SECRET"), scopes, sends)


def _number(name: str, value: str, least: float, most: float, kind: Callable[[str], Any]) -> Any:
    try:
        found = kind(value)
    except ValueError:
        found = None
    if found is None or not least <= found <= most:
        raise _wrong(name, value, f"give {least:g} to {most:g}")
    return found


def _wrong(name: str, value: str, right: str) -> BadSettingError:
    return BadSettingError(f"MODELYARD_{name} is {value[:200]!r}; {right}")


def main() -> int:
    """Serves until it is told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for name in ("asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        settings = settings_of(os.environ)
    except BadSettingError as error:
        print(error, file=sys.stderr)
        return 2
    asyncio.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    """The pages, behind the gate, until the process is told to end."""
    behind = Behind(settings.server, ca=settings.ca, server_name=settings.server_name, project=settings.project)
    limit(settings.upload_gib << 30)
    issuer = Issuer(settings.oidc) if settings.oidc is not None else None
    people = People(behind, 3600 * settings.hours, issuer)
    everybody = None if settings.signs_in else Connection(behind, shared=True, token=str)
    gate = SharedGate(application(), addresses=settings.addresses, people=people, issuer=issuer, open_to=everybody)
    config = uvicorn.Config(
        gate,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ws_max_size=16 << 20,
        lifespan="on",
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.key or None,
    )
    config.load()
    watching = asyncio.create_task(_renew_certificate(settings, config.ssl)) if config.ssl is not None else None
    log.info("the console listens on %s:%d, before %s", settings.host, settings.port, settings.server)
    try:
        await uvicorn.Server(config).serve()
    finally:
        if watching is not None:
            watching.cancel()
        await people.close()
        if everybody is not None:
            await everybody.close()


async def _renew_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    """Reads a certificate that has changed: connections that begin later are shown the new one."""
    seen = _stamp(settings)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now = _stamp(settings)
        if now == seen:
            continue
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:  # half written: the one before stays
            log.warning("the certificate that changed cannot be used yet: %s", error)
            continue
        seen = now


def _stamp(settings: Settings) -> tuple[float, ...]:
    try:
        return tuple(Path(path).stat().st_mtime for path in (settings.certificate, settings.key))
    except OSError:
        return ()
