"""From what a call brings (authorization, client certificate) to the principal who makes it.

`quick` looks only at memory, so that it may run on an event loop for every prediction; `slow` may ask databases and issuers.
Tokens are known by their sha256, here as well as where they are stored.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from modelyard.core.access.documents import WatchedFile
from modelyard.core.access.oidc import OidcVerifier
from modelyard.core.access.principal import EVERY_PROJECT, Kind, Principal, Role
from modelyard.core.access.tokens_file import StaticToken, static_tokens
from modelyard.core.errors import InvalidArgument, ResourceExhausted, Unauthenticated
from modelyard.core.settings import CoreSettings

Verifier = Callable[[str, bytes], Principal | None]
"""Takes a token and its sha256; gives whom it names, or None when it is not of this sort. May block; raises Unauthenticated."""

SERVICE_NAME: Final = re.compile(r"([a-z]{1,32})\.modelyard\.internal")
"""A client certificate with this DNS name is a service's."""
SERVICES: Final = frozenset(("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline"))
"""No gateway among them: it passes on what anybody sends, so its certificate must say nothing about who calls."""
SERVICE_ROLES: Final = {EVERY_PROJECT: Role.DEPLOYER}
REMEMBER_S: Final = 60.0
"""How long a token that was good is not asked about again, at most."""
MOST_REMEMBERED: Final = 4096
SHORTEST_SERVICE_TOKEN: Final = 32


class Authenticator:
    """Knows the principals of a process."""

    def __init__(self, settings: CoreSettings, verifiers: Iterable[Verifier] = ()) -> None:
        """Reads the files that the settings name. Raises InvalidArgument for what is wrong in them."""
        self._static: WatchedFile[dict[bytes, StaticToken]] | None = None
        if settings.tokens_file is not None:
            self._static = WatchedFile(settings.tokens_file, static_tokens)
        self._oidc: OidcVerifier | None = None
        if settings.oidc_issuer:
            self._oidc = OidcVerifier(
                settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks, settings.oidc_roles_claim, settings.oidc_ca
            )
        self._own: dict[bytes, Principal] = {}
        self._verifiers = list(verifiers)
        self._remembered: dict[bytes, Principal] = {}
        self._generation = 0
        self.attempts = Attempts()
        if given := settings.service_token.get_secret_value():
            if len(given) < SHORTEST_SERVICE_TOKEN:
                message = f"MODELYARD_SERVICE_TOKEN has {len(given)} characters; it must have {SHORTEST_SERVICE_TOKEN} or more"
                raise InvalidArgument("WEAK_TOKEN", message, field="service_token")
            self.know(given, Principal(Kind.SERVICE, "service:token", SERVICE_ROLES))

    @property
    def has_users(self) -> bool:
        """Whether anybody but services could ever be known."""
        return self._static is not None or self._oidc is not None or any(p.kind is Kind.USER for p in self._own.values())

    def know(self, token: str, principal: Principal) -> None:
        """A token of this process: its own, or the user's."""
        self._own[hashlib.sha256(token.encode()).digest()] = principal

    def add(self, verifier: Verifier) -> None:
        """One more sort of tokens."""
        self._verifiers.append(verifier)

    def forget(self) -> None:
        """Ask about every token anew: one was revoked."""
        self._remembered.clear()

    def quick(self, authorization: str, names: tuple[str, ...]) -> Principal | None:
        """The principal, if memory knows it; None: ask `slow`. `names` are those of the verified client certificate.

        Raises Unauthenticated. A token outranks the certificate.
        """
        if not authorization:
            return service_in(names)
        digest = hashlib.sha256(_token_in(authorization).encode()).digest()
        now = time.monotonic()
        if self._static is not None:
            tokens = self._static.content()
            if self._generation != self._static.generation:
                self._generation = self._static.generation
                self._remembered.clear()
        found = self._remembered.get(digest)
        if found is not None:
            if found.until > now:
                return found
            del self._remembered[digest]
        if digest in self._own:
            return self._own[digest]
        static = tokens.get(digest) if self._static is not None else None
        return None if static is None else self._remember(digest, _user(static))

    def slow(self, authorization: str, peer: str) -> Principal:
        """The principal that `quick` does not know. May block. Raises Unauthenticated, ResourceExhausted TOO_MANY_ATTEMPTS."""
        self.attempts.check(peer)
        token = _token_in(authorization)
        digest = hashlib.sha256(token.encode()).digest()
        try:
            if self._oidc is not None and self._oidc.looks_like_one(token):
                return self._remember(digest, self._oidc.principal(token))
            for verifier in self._verifiers:
                found = verifier(token, digest)
                if found is not None:
                    return self._remember(digest, found)
            raise Unauthenticated("TOKEN_INVALID", "the token is not known here")
        except Unauthenticated:
            self.attempts.failed(peer)
            raise

    def _remember(self, digest: bytes, principal: Principal) -> Principal:
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        found = replace(principal, until=min(principal.until, time.monotonic() + REMEMBER_S))
        self._remembered[digest] = found
        return found


def service_in(names: tuple[str, ...]) -> Principal:
    """The service that a certificate names. Raises Unauthenticated NO_TOKEN when it names none."""
    for name in names:
        match = SERVICE_NAME.fullmatch(name)
        if match and match[1] in SERVICES:
            return Principal(Kind.SERVICE, f"service:{match[1]}", SERVICE_ROLES)
    raise Unauthenticated("NO_TOKEN", "the call says not who makes it; send `authorization: Bearer TOKEN`")


def _token_in(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > 16_384:
        raise Unauthenticated("TOKEN_INVALID", "the authorization must be `Bearer TOKEN`")
    return token


def _user(static: StaticToken) -> Principal:
    left = float("inf")
    if static.expires is not None:
        left = (static.expires - datetime.now(UTC)).total_seconds()
        if left <= 0:
            raise Unauthenticated("TOKEN_EXPIRED", "the token has expired; get a new one")
    return Principal(Kind.USER, f"user:{static.name}", static.roles, until=time.monotonic() + left)


class Attempts:
    """How often each peer has failed lately. Only what costs something is refused: a token in memory is always heard, so that one
    caller behind a gateway cannot lock out the others."""

    MOST: Final = 30
    WINDOW_S: Final = 60.0
    PEERS: Final = 10_000

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, int]] = {}

    def check(self, peer: str) -> None:
        """Raises ResourceExhausted TOO_MANY_ATTEMPTS."""
        since, count = self._failures.get(_host(peer), (0.0, 0))
        left = since + self.WINDOW_S - time.monotonic()
        if count >= self.MOST and left > 0:
            message = f"{count} wrong tokens came from this address within {self.WINDOW_S:.0f} s; try again later"
            raise ResourceExhausted("TOO_MANY_ATTEMPTS", message, retry_after_s=left)

    def failed(self, peer: str) -> bool:
        """One more; says whether there were few enough so far for each to be written down."""
        key, now = _host(peer), time.monotonic()
        since, count = self._failures.get(key, (now, 0))
        if now - since > self.WINDOW_S:
            since, count = now, 0
        if len(self._failures) >= self.PEERS and key not in self._failures:
            self._failures.clear()
        self._failures[key] = (since, count + 1)
        return count < self.MOST


def _host(peer: str) -> str:
    """The peer without its port."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
