"""The guard of a process, from its settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from modelyard.core.access.authentication import Authenticator, Verifier
from modelyard.core.access.guard import Guard, JobToken, Ownership
from modelyard.core.access.principal import EVERY_PROJECT, Kind, Principal, Role
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.settings import CoreSettings


def build_guard(
    settings: CoreSettings,
    *,
    ownership: Ownership | None = None,
    job_token: JobToken | None = None,
    verifiers: Iterable[Verifier] = (),
    own_token: str = "",
    user_token: str = "",
) -> Guard | None:
    """The guard, or None where nobody is asked.

    `own_token`: this process's, for the calls it makes to itself. `user_token`: of the user whose embedded server it is; it asks
    for it by `embedded_auth` also where `auth` is none. Raises InvalidArgument for settings that are wrong, or let nobody in.
    """
    if settings.auth == "none" and (not user_token or settings.embedded_auth == "none"):
        return None
    authenticator = Authenticator(settings, verifiers)
    if user_token:
        authenticator.know(user_token, Principal(Kind.USER, "user:owner", {EVERY_PROJECT: Role.ADMIN}, owner=True))
    if own_token:
        authenticator.know(own_token, Principal(Kind.SERVICE, "service:self", {EVERY_PROJECT: Role.DEPLOYER}))
    known = settings.service_token.get_secret_value() or settings.tls_ca is not None or authenticator.has_users
    if not known:
        message = (
            "MODELYARD_AUTH is token, and nobody could have one: set MODELYARD_TOKENS_FILE or MODELYARD_OIDC_ISSUER for users, "
            "MODELYARD_SERVICE_TOKEN or MODELYARD_TLS_CA for services"
        )
        raise InvalidArgument("NO_TOKENS", message, field="auth")
    open_predictions = settings.auth == "none" and settings.embedded_auth == "management"
    return Guard(authenticator, ownership=ownership, job_token=job_token, open_predictions=open_predictions)


def check_embedded(settings: CoreSettings) -> None:
    """An embedded server may be reached from other machines only where it asks who calls, and nobody can listen.

    Raises FailedPrecondition UNSAFE_ADDRESS, which says what to set.
    """
    if is_loopback(settings.host):
        return
    missing = []
    if settings.auth != "token":
        missing.append("MODELYARD_AUTH=token with MODELYARD_TOKENS_FILE or MODELYARD_OIDC_ISSUER")
    if settings.tls_certificate is None:
        missing.append("MODELYARD_TLS_CERTIFICATE and MODELYARD_TLS_KEY")
    if missing:
        message = (
            f"host is {settings.host!r}, which other machines can reach, and this server would not be safe there: set "
            f"{', and '.join(missing)}; or listen on 127.0.0.1"
        )
        raise FailedPrecondition("UNSAFE_ADDRESS", message, field="host", host=settings.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
