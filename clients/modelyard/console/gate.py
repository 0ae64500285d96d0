"""In front of every page: is it really us who is called, by somebody who came in by the door? As an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from modelyard.client.drawing.markup import h, page_text
from modelyard.console.door import SESSION_S, Links, Sessions
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


class Gate:
    """Lets in what is asked of one of our own names, from one of our own pages, with a session."""

    def __init__(self, app: App, *, port: int, links: Links, sessions: Sessions) -> None:
        self._app, self._links, self._sessions = app, links, sessions
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._cookie = f"modelyard-console-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await answer(scope, receive, send, *refused)
            return
        if scope["type"] == "http" and scope["path"] == "/open":
            await self._open(scope, send, headers)
            return
        if not self._sessions.good(cookie_of(headers, self._cookie)):
            await answer(scope, receive, send, 401, CLOSED)
            return
        await self._app(scope, receive, with_headers(send))

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Why a call is none of ours. A page elsewhere whose name leads here (DNS rebinding) has another Host; one that sends the
        user's cookie along, another Origin.
        """
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if host.lower() not in self._hosts:
            return 421, f"This is the console of {sorted(self._hosts)[0]}; it does not answer for {host[:200]!r}."
        if origin and origin.lower() not in self._origins:
            return 403, "Another site asked for this; the console answers its own pages only."
        if not origin and scope["type"] == "websocket":
            return 403, "A page's connection names its origin; this one does not."
        return None

    async def _open(self, scope: Scope, send: Send, headers: Mapping[str, str]) -> None:
        said = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if not self._links.take(said.get("code", [""])[0]):
            if self._sessions.good(cookie_of(headers, self._cookie)):
                await redirect(send, local(said.get("next", ["/"])[0]))
                return
            await send_text(send, 403, USED)
            return
        cookie = f"{self._cookie}={self._sessions.make()}; Path=/; Max-Age={int(SESSION_S)}; HttpOnly; SameSite=Strict"
        # A page of our own first: a cookie that is Strict is not sent along when another site's link led here.
        await send_text(send, 200, _entered(local(said.get("next", ["/"])[0])), cookie)


CLOSED: Final = plain_page(
    "This console is yours alone",
    "Open it with the link that “modelyard up” printed, or run “modelyard console” for a new one.",
    "A link lets in once and is good for a day; a browser that came in stays in until the server is started again.",
)
USED: Final = plain_page(
    "This link has been used, or is too old",
    "Run “modelyard console” for a new one. If it was not you who used it, restart “modelyard up”: that ends every session.",
)


def _entered(target: str) -> str:
    return page_text("Modelyard", "", h("p", h("a", "Go to the console", href=target)), refresh=target)
