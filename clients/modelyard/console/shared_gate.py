"""In front of a console that several people share: each signs in with a token of their own, or at an OpenID Connect issuer.

The console has no right of its own. What a page shows and does is what the services let the bearer of the token see and do.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from modelyard.client import InvalidArgument, ModelyardClientError, PermissionDenied, Unauthenticated
from modelyard.client.drawing.markup import Markup, h
from modelyard.console.connection import Connection, on_behalf_of
from modelyard.console.oidc import BEGUN_S, Issuer, SignInError
from modelyard.console.people import People
from modelyard.console.replies import (
    App,
    Receive,
    Scope,
    Send,
    answer,
    cookie_of,
    headers_of,
    local,
    plain_page,
    redirect,
    send_text,
    with_headers,
)

HEALTH: Final = "/healthz"
MOST_WRONG: Final = 20
"""Wrong tokens a minute, of all visitors together: then tokens are not even asked about, so that the services are left alone."""
_MOST_FORM: Final = 16 << 10
_HERE: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

log = logging.getLogger("modelyard.console")


class SharedGate:
    """Lets in who has signed in. `addresses`: how people reach it, such as "https://console.example.org"; loopback (a port that
    is forwarded) always works. `open_to`: the connection of everybody, where the services ask nobody who calls: nobody signs in.
    """

    def __init__(
        self,
        app: App,
        *,
        addresses: Sequence[str],
        people: People,
        issuer: Issuer | None = None,
        open_to: Connection | None = None,
    ) -> None:
        self._app, self._people, self._issuer, self._open_to = app, people, issuer, open_to
        self._hosts = {urlsplit(address).netloc.lower() for address in addresses}
        self._secure = any(address.startswith("https://") for address in addresses)
        self._wrong: deque[float] = deque(maxlen=MOST_WRONG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == HEALTH:
            await send_text(send, 200, "ok")
            return
        headers = headers_of(scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await answer(scope, receive, send, *refused)
            return
        if self._open_to is not None:
            await self._inside(self._open_to, scope, receive, send)
            return
        if scope["type"] == "http" and await self._at_the_door(scope, receive, send, headers):
            return
        session = await self._people.find(cookie_of(headers, self._cookie(scope)))
        if session is not None:
            await self._inside(session.connection, scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
            await redirect(send, f"/sign-in?{urlencode({'next': wanted})}")
        else:
            await answer(scope, receive, send, 401, "Sign in at /sign-in first.")

    async def _inside(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        with on_behalf_of(connection):
            await self._app(scope, receive, with_headers(send))

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Why a call is none of ours: another site's name that leads here (DNS rebinding), or another site's page that sends the
        user's cookie along."""
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if host not in self._hosts and host.rpartition(":")[0] not in _HERE and host not in _HERE:
            said = ", ".join(sorted(self._hosts)) or "this machine alone"
            return (
                421,
                f"This console answers for {said}, not for {host[:200]!r}. MODELYARD_CONSOLE_ADDRESS says how people reach it.",
            )
        if origin and urlsplit(origin).netloc != host:
            return 403, "Another site asked for this; the console answers its own pages only."
        if not origin and (scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")):
            return 403, "A page that changes something names its origin; this one does not."
        return None

    async def _at_the_door(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> bool:
        """Answers what is about signing in and out; False for everything else."""
        said = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        where, posted = scope["path"], scope["method"] == "POST"
        target = local(said.get("next", ["/"])[0])
        if where == "/sign-in" and posted:
            await self._sign_in(scope, receive, send)
        elif where == "/sign-in":
            await send_text(send, 200, self._form(target))
        elif where == "/sign-out" and posted:
            self._people.sign_out(cookie_of(headers, self._cookie(scope)))
            await redirect(send, "/sign-in", self._cookie_text(scope, self._cookie(scope), "", 0))
        elif where == "/oidc/start" and self._issuer is not None:
            await self._begin(scope, send, self._issuer, target)
        elif where == "/oidc/callback" and self._issuer is not None:
            brought = cookie_of(headers, self._cookie(scope, "-sign-in"))
            await self._come_back(scope, send, self._issuer, said, brought)
        else:
            return False
        return True

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = parse_qs((await _body(receive)).decode("utf-8", "replace"))
        token, target = said.get("token", [""])[0].strip(), local(said.get("next", ["/"])[0])
        now = time.monotonic()
        if len(self._wrong) == MOST_WRONG and now - self._wrong[0] < 60:
            await send_text(send, 429, self._form(target, "Too many wrong tokens have been tried; wait a minute."))
            return
        try:
            if not token:
                raise InvalidArgument("Give a token.")
            cookie = await self._people.sign_in(token)
        except (Unauthenticated, InvalidArgument, PermissionDenied) as error:
            self._wrong.append(now)
            await send_text(send, 403, self._form(target, error.message))
        except ModelyardClientError as error:
            await send_text(send, 502, self._form(target, f"The services do not answer: {error.message}"))
        else:
            await redirect(send, target, self._cookie_text(scope, self._cookie(scope), cookie))

    async def _begin(self, scope: Scope, send: Send, issuer: Issuer, target: str) -> None:
        try:
            place, state = await issuer.begin(target)
        except SignInError as error:
            await send_text(send, 502, self._form(target, str(error)))
            return
        await redirect(send, place, self._cookie_text(scope, self._cookie(scope, "-sign-in"), state, int(BEGUN_S)))

    async def _come_back(self, scope: Scope, send: Send, issuer: Issuer, said: Mapping[str, list[str]], brought: str) -> None:
        try:
            tokens, target = await issuer.end(said.get("code", [""])[0], said.get("state", [""])[0], brought)
            cookie = await self._people.sign_in(tokens.shown, tokens)
        except SignInError as error:
            await send_text(send, 403, self._form("/", str(error)))
        except ModelyardClientError as error:
            log.warning("a token of the issuer was refused: %s", error.message)
            await send_text(send, 403, self._form("/", f"The services refuse the issuer's token: {error.message}"))
        else:
            gone = self._cookie_text(scope, self._cookie(scope, "-sign-in"), "", 0)
            await redirect(send, target, self._cookie_text(scope, self._cookie(scope), cookie), gone)

    def _form(self, target: str, wrong: str = "") -> str:
        trouble: list[Markup] = [h("span", wrong, cls="wrong", role="alert")] if wrong else []
        issuer = [h("a", "Sign in with your organisation", href=f"/oidc/start?{urlencode({'next': target})}", cls="button")]
        form = h(
            "form",
            h("label", "Token", for_="token"),
            h(
                "input",
                type_="password",
                id="token",
                name="token",
                autocomplete="current-password",
                required=True,
                autofocus=True,
            ),
            h("input", type_="hidden", name="next", value=target),
            h("button", "Sign in", type_="submit"),
            method="post",
            action="/sign-in",
        )
        about = (
            "A token of yours for this server, the same that MODELYARD_TOKEN or --token is given. "
            "It stays in this console's memory until you sign out."
        )
        return plain_page("Sign in to Modelyard", *trouble, *(issuer if self._issuer else []), form, about)

    def _cookie(self, scope: Scope, of: str = "") -> str:
        return f"{'__Host-' if self._is_secure(scope) else ''}modelyard-console{of}"

    def _cookie_text(self, scope: Scope, name: str, value: str, seconds: int | None = None) -> str:
        """Lax: links from elsewhere lead in, and what changes something names its origin. It ends with the browser."""
        age = "" if seconds is None else f"; Max-Age={seconds}"
        return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}{'; Secure' if self._is_secure(scope) else ''}"

    def _is_secure(self, scope: Scope) -> bool:
        """Whether the browser came over HTTPS: here, or at the address that people use. A forwarded port need not be."""
        host = headers_of(scope).get("host", "").lower()
        return scope.get("scheme") in ("https", "wss") or (self._secure and host in self._hosts)


async def _body(receive: Receive) -> bytes:
    """A form; nothing of one that is too long."""
    found = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        found += bytes(message.get("body", b""))
        if len(found) > _MOST_FORM:
            return b""
        if not message.get("more_body", False):
            return found
