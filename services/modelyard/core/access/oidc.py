"""OIDC access tokens: signature by the issuer's keys, issuer, audience, times, and the roles in a claim. PyJWT checks them."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from modelyard.core.access.principal import Kind, Principal, Role
from modelyard.core.access.tokens_file import roles_from
from modelyard.core.errors import InvalidArgument, ModelyardError, Unauthenticated, Unavailable

log = structlog.get_logger()
ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures only: never `none`, never a shared secret (HS...), for which a public key could pass."""
LEEWAY_S: Final = 60.0
TRUSTED: Final = ("https://", "http://127.0.0.1:", "http://localhost:")
"""How the address of keys may begin."""
KEYS_S: Final = 3600.0
"""How long fetched keys are used."""
AGAIN_S: Final = 30.0
"""How often, at most, the keys are fetched for a key that is not among them, or after a failure."""
FETCH_S: Final = 5.0
MOST_BYTES: Final = 1 << 20


class OidcVerifier:
    """Knows the tokens of one issuer."""

    def __init__(self, issuer: str, audience: str, jwks: str, claim: str, ca: Path | None = None) -> None:
        """`jwks`: path, https:// address, or empty for what the issuer's discovery document says.

        Raises InvalidArgument BAD_OIDC when a setting is missing or wrong.
        """
        if not audience:
            raise InvalidArgument(
                "BAD_OIDC", "MODELYARD_OIDC_AUDIENCE is not set; tokens for others would pass", field="oidc_audience"
            )
        place = jwks or issuer
        if "://" in place and not place.startswith(TRUSTED):
            message = f"{place[:200]!r} is not https://: who changes the keys on their way could be anybody"
            raise InvalidArgument("BAD_OIDC", message, field="oidc_jwks")
        self._issuer, self._audience, self._jwks, self._claim, self._ca = issuer, audience, jwks, claim, ca
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._until = self._not_before = 0.0
        if jwks and "://" not in jwks:
            self._fetch()  # a file that is wrong is told at the start

    def looks_like_one(self, token: str) -> bool:
        """Whether it has the form of a JWT."""
        return token.count(".") == 2 and token.startswith("ey")

    def principal(self, token: str) -> Principal:
        """Whom the token names. May fetch keys, so never on an event loop. Raises Unauthenticated, Unavailable."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._key(str(header.get("kid", "")))
            claims = jwt.decode(
                token, key, algorithms=ALGORITHMS, audience=self._audience, issuer=self._issuer, leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("TOKEN_EXPIRED", "the token has expired; get a new one") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.info("token refused", why=type(error).__name__)
            raise Unauthenticated("TOKEN_INVALID", "the token is not known here") from None
        name = str(claims.get("preferred_username") or claims["sub"])[:120]
        until = time.monotonic() + max(0.0, float(claims["exp"]) - time.time())
        return Principal(Kind.USER, f"user:{name}", self._roles(claims.get(self._claim)), until=until)

    def _roles(self, claim: object) -> Mapping[str, Role]:
        """What cannot be read gives no role: the token is good, its bearer may nothing."""
        if isinstance(claim, list):
            claim = dict(item.rpartition(":")[::2] for item in claim if isinstance(item, str) and ":" in item)
        try:
            return roles_from(claim or {}, self._claim)
        except ModelyardError as error:
            log.warning("the roles of a token cannot be read", claim=self._claim, error=error.message)
            return {}

    def _key(self, kid: str) -> Any:
        with self._lock:
            now = time.monotonic()
            if (now > self._until or kid not in self._keys) and now >= self._not_before:
                self._not_before = now + AGAIN_S
                self._fetch()
            if kid in self._keys:
                return self._keys[kid]
            if not kid and len(self._keys) == 1:
                return next(iter(self._keys.values()))
        if not self._keys:
            raise Unavailable("KEYS_UNAVAILABLE", "the keys of the token's issuer cannot be fetched now", retry_after_s=AGAIN_S)
        raise Unauthenticated("TOKEN_INVALID", "the token is not known here")

    def _fetch(self) -> None:
        import jwt

        try:
            document = json.loads(self._read(self._jwks or self._discovered()))
            keys = {}
            for each in document["keys"]:
                if each.get("use", "sig") == "sig" and each.get("kty") != "oct":
                    keys[str(each.get("kid", ""))] = jwt.PyJWK(each).key
        except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            log.error("the issuer's keys cannot be read", issuer=self._issuer, error=str(error)[:300])
            if "://" not in (self._jwks or "://"):
                raise InvalidArgument(
                    "BAD_OIDC", f"{self._jwks} holds no keys (JWKS) that can be read", field="oidc_jwks"
                ) from error
            return
        self._keys, self._until = keys, time.monotonic() + KEYS_S

    def _discovered(self) -> str:
        document = json.loads(self._read(self._issuer.rstrip("/") + "/.well-known/openid-configuration"))
        address = str(document["jwks_uri"])
        if document.get("issuer") != self._issuer or not address.startswith(TRUSTED):
            raise ValueError("the discovery document is another issuer's, or names keys that do not come by https")
        return address

    def _read(self, place: str) -> bytes:
        if "://" not in place:
            return Path(place).read_bytes()
        context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects)
        with opener.open(place, timeout=FETCH_S) as answer:
            content: bytes = answer.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("the document is too large")
        return content


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes only where keys may come from: urllib's own would follow https:// to http://."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(TRUSTED):
            raise ValueError(f"a redirect to {newurl[:200]!r}, which is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
