"""What both gates answer themselves, and what every answer carries: headers, plain pages without scripts, cookies read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import quote

from modelyard.client.drawing.markup import Markup, h, page_text

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
    (b"referrer-policy", b"same-origin"),  # with none at all, forms of ours would be sent from the origin "null"
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def local(target: str) -> str:
    """A path of ours, whatever was asked for."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target:
        return "/"
    return quote(target, safe="/?=&%-_.~:@,+")


def plain_page(title: str, *body: object) -> str:
    """A page that says something, in a paragraph each."""
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.5rem;color:#1d2433;background:#fff}"
        "code{background:#eef1f6;padding:.15em .4em;border-radius:4px}h1{font-size:1.5rem}"
        "@media(prefers-color-scheme:dark){body{background:#12151c;color:#e7eaf0}code{background:#262c38}}"
        "label{display:block;font-weight:600}"
        "input{width:100%;box-sizing:border-box;padding:.5rem;font:inherit;margin:.3rem 0 .8rem}"
        "button,.button{font:inherit;padding:.5rem 1rem;border-radius:8px;border:1px solid #1f5fd0;background:#1f5fd0;color:#fff;"
        "cursor:pointer;text-decoration:none;display:inline-block}.wrong{color:#b3261e;font-weight:550}"
        "@media(prefers-color-scheme:dark){.wrong{color:#ffb4ab}a:not(.button){color:#8ab4ff}}"
    )
    return page_text(
        title, style, h("main", h("h1", title), *(part if isinstance(part, Markup) else h("p", part) for part in body))
    )


async def answer(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    """Refuses a request, or a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await send_text(send, status, text)


async def send_text(send: Send, status: int, text: str, cookie: str = "") -> None:
    """A page, or a line of text."""
    html = text.lstrip().startswith("<!doctype")
    headers = [(b"content-type", b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8"), *HEADERS]
    headers += [(b"cache-control", b"no-store"), *([(b"set-cookie", cookie.encode())] if cookie else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def redirect(send: Send, target: str, *cookies: str) -> None:
    """Leads elsewhere, with cookies."""
    headers = [(b"location", target.encode()), (b"cache-control", b"no-store"), *HEADERS]
    headers += [(b"set-cookie", cookie.encode()) for cookie in cookies]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def with_headers(send: Send) -> Send:
    """Adds ours to what the application answers."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sent


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request, by their names in small letters."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def cookie_of(headers: Mapping[str, str], name: str) -> str:
    """A cookie's value; empty when it was not sent."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""
