"""In front of every page: is it really us who is called, by somebody who came in by the door? As an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs, quote

from modelyard.console.door import SESSION_S, Links, Sessions
from modelyard.console.parts.markup import h, page_text

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# NiceGUI's page is made of inline scripts and of templates that Vue compiles in the browser; nothing comes from anywhere else.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
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
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(scope, receive, send, *refused)
            return
        if scope["type"] == "http" and scope["path"] == "/open":
            await self._open(scope, send, headers)
            return
        if not self._sessions.good(self._cookie_of(headers)):
            await _answer(scope, receive, send, 401, CLOSED)
            return
        await self._app(scope, receive, _with_headers(send))

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
            if self._sessions.good(self._cookie_of(headers)):
                await _redirect(send, _local(said.get("next", ["/"])[0]))
                return
            await _send(send, 403, USED)
            return
        cookie = f"{self._cookie}={self._sessions.make()}; Path=/; Max-Age={int(SESSION_S)}; HttpOnly; SameSite=Strict"
        # A page of our own first: a cookie that is Strict is not sent along when another site's link led here.
        await _send(send, 200, _entered(_local(said.get("next", ["/"])[0])), cookie)

    def _cookie_of(self, headers: Mapping[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""


def _local(target: str) -> str:
    """A path of ours, whatever was asked for."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target:
        return "/"
    return quote(target, safe="/?=&%-_.~:@,+")


def _page(title: str, *body: str) -> str:
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.5rem;color:#1d2433;background:#fff}"
        "code{background:#eef1f6;padding:.15em .4em;border-radius:4px}h1{font-size:1.5rem}"
        "@media(prefers-color-scheme:dark){body{background:#12151c;color:#e7eaf0}code{background:#262c38}}"
    )
    return page_text(title, style, h("main", h("h1", title), *(h("p", part) for part in body)))


CLOSED: Final = _page(
    "This console is yours alone",
    "Open it with the link that “modelyard up” printed, or run “modelyard console” for a new one.",
    "A link lets in once and is good for a day; a browser that came in stays in until the server is started again.",
)
USED: Final = _page(
    "This link has been used, or is too old",
    "Run “modelyard console” for a new one. If it was not you who used it, restart “modelyard up”: that ends every session.",
)


def _entered(target: str) -> str:
    return page_text("Modelyard", "", h("p", h("a", "Go to the console", href=target)), refresh=target)


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await _send(send, status, text)


async def _send(send: Send, status: int, text: str, cookie: str = "") -> None:
    html = text.lstrip().startswith("<!doctype")
    headers = [(b"content-type", b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8"), *HEADERS]
    headers += [(b"cache-control", b"no-store"), *([(b"set-cookie", cookie.encode())] if cookie else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def _redirect(send: Send, target: str) -> None:
    headers = [(b"location", target.encode()), (b"cache-control", b"no-store"), *HEADERS]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sent
