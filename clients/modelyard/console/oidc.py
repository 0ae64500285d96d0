"""Signing in at an OpenID Connect issuer: the authorization code flow with PKCE (RFC 7636), and tokens renewed while they can be.

Nothing here trusts a token: the services verify it when the console asks them who its bearer is.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx

_WAIT_S: Final = 10.0
BEGUN_S: Final = 600.0
"""How long somebody may take at the issuer."""
MOST_BEGUN: Final = 1000
_EARLY_S: Final = 60.0
_UNTOLD_S: Final = 300.0
"""How long a token is taken to hold when the issuer does not say."""


class SignInError(Exception):
    """What the issuer did not do, in words for who signs in."""


@dataclass(frozen=True)
class Client:
    """This console at the issuer. `sends`: which of its tokens the services take, "access_token" or "id_token"."""

    issuer: str
    client_id: str
    address: str
    secret: str = field(default="", repr=False)
    scopes: str = "openid profile email"
    sends: str = "access_token"

    @property
    def callback(self) -> str:
        """Where the issuer sends people back to; it must know this address."""
        return f"{self.address.rstrip('/')}/oidc/callback"


@dataclass
class Tokens:
    """What the issuer gave: what the services are shown, what renews it, and when it ends (time.time())."""

    shown: str = field(repr=False)
    renews: str = field(repr=False)
    ends: float

    @property
    def is_old(self) -> bool:
        """Whether it ends within a minute."""
        return time.time() > self.ends - _EARLY_S


@dataclass(frozen=True)
class _Begun:
    verifier: str
    target: str
    time: float


class Issuer:
    """The issuer, asked over HTTPS; `http`: how."""

    def __init__(self, client: Client, http: httpx.AsyncClient | None = None) -> None:
        self._client = client
        self._http = http or httpx.AsyncClient(timeout=_WAIT_S, follow_redirects=False)
        self._places: dict[str, str] = {}
        self._begun: dict[str, _Begun] = {}

    async def begin(self, target: str) -> tuple[str, str]:
        """Where to send somebody who wants to `target`, and the state that their browser must bring back."""
        places = await self._found()
        now = time.time()
        for state in [key for key, one in self._begun.items() if now - one.time > BEGUN_S]:
            del self._begun[state]
        while len(self._begun) >= MOST_BEGUN:
            del self._begun[next(iter(self._begun))]
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        self._begun[state] = _Begun(verifier, target, now)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        said = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.callback,
            "scope": self._client.scopes,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        place = places["authorization_endpoint"]
        return f"{place}{'&' if '?' in place else '?'}{urlencode(said)}", state

    async def end(self, code: str, state: str, brought: str) -> tuple[Tokens, str]:
        """The tokens of somebody who came back, and where they wanted to. `brought`: the state of their browser's cookie."""
        begun = self._begun.pop(state, None) if state and secrets.compare_digest(state.encode(), brought.encode()) else None
        if begun is None or time.time() - begun.time > BEGUN_S:
            raise SignInError("This sign-in was not begun in this browser, or too long ago. Begin again.")
        if not code:
            raise SignInError("The issuer let nobody in.")
        said = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._client.callback}
        return await self._asked({**said, "code_verifier": begun.verifier}), begun.target

    async def renew(self, old: Tokens) -> Tokens:
        """Newer tokens of the same person."""
        if not old.renews:
            raise SignInError("The issuer gave nothing to renew the sign-in with.")
        found = await self._asked({"grant_type": "refresh_token", "refresh_token": old.renews})
        return Tokens(found.shown, found.renews or old.renews, found.ends)

    async def close(self) -> None:
        await self._http.aclose()

    async def _found(self) -> dict[str, str]:
        if not self._places:
            issuer = self._client.issuer.rstrip("/")
            found = await self._json(self._http.get(f"{issuer}/.well-known/openid-configuration"))
            if str(found.get("issuer", "")).rstrip("/") != issuer:
                raise SignInError(f"The issuer calls itself {found.get('issuer')!r}, not {issuer!r}.")
            places = {name: str(found.get(name, "")) for name in ("authorization_endpoint", "token_endpoint")}
            for name, place in places.items():
                if not _safe(place):
                    raise SignInError(f"The issuer's {name} is {place!r}, no https address.")
            self._places = places
        return self._places

    async def _asked(self, said: dict[str, str]) -> Tokens:
        places = await self._found()
        said = {**said, "client_id": self._client.client_id}
        if self._client.secret:
            said["client_secret"] = self._client.secret
        found = await self._json(self._http.post(places["token_endpoint"], data=said, headers={"accept": "application/json"}))
        shown = found.get(self._client.sends)
        if not isinstance(shown, str) or not shown:
            raise SignInError(f"The issuer gave no {self._client.sends}.")
        seconds = found.get("expires_in")
        holds = float(seconds) if isinstance(seconds, int | float | str) and str(seconds).isdecimal() else _UNTOLD_S
        return Tokens(shown, str(found.get("refresh_token") or ""), time.time() + holds)

    async def _json(self, call: Any) -> dict[str, Any]:
        try:
            answer = await call
            found = answer.json()
        except (httpx.HTTPError, ValueError):
            raise SignInError(f"The issuer {self._client.issuer} does not answer as one.") from None
        if answer.status_code != 200 or not isinstance(found, dict):
            why = found.get("error_description") or found.get("error") if isinstance(found, dict) else ""
            raise SignInError(f"The issuer refused: {str(why or answer.status_code)[:300]}")
        return found


def _safe(address: str) -> bool:
    """https, or this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
