"""Who gets in: one-time links, sessions, the names and origins that a call may come from."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard.console.door import LINK_S, Links, Sessions
from modelyard.console.gate import Gate

PORT = 8980
KEY = b"k" * 32


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    reached: bool = False


class World:
    """A gate before an application that notes that it was reached."""

    def __init__(self, folder: Path) -> None:
        self.links, self.sessions = Links(folder), Sessions(KEY)
        self.reached = False
        self.gate = Gate(self._app, port=PORT, links=self.links, sessions=self.sessions)

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.reached = True
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]})
            await send({"type": "http.response.body", "body": b"page"})
        else:
            await send({"type": "websocket.accept"})

    def ask(
        self, path: str = "/", *, kind: str = "http", host: str = f"127.0.0.1:{PORT}", origin: str = "", cookie: str = ""
    ) -> Answer:
        answer = Answer()
        self.reached = False

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                answer.body += message["body"].decode()
            elif message["type"] == "websocket.close":
                answer.status = message["code"]

        headers = [(b"host", host.encode())]
        headers += [(b"origin", origin.encode())] if origin else []
        headers += [(b"cookie", cookie.encode())] if cookie else []
        where, _, query = path.partition("?")
        scope = {"type": kind, "path": where, "query_string": query.encode(), "headers": headers, "method": "GET"}
        asyncio.run(self.gate(scope, receive, send))
        answer.reached = self.reached
        return answer

    @property
    def cookie(self) -> str:
        return f"modelyard-console-{PORT}={self.sessions.make()}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "console")


def test_a_link_lets_in_once(world: World) -> None:
    code = world.links.make()
    first = world.ask(f"/open?code={code}&next=/p/default/runs")
    assert first.status == 200
    assert 'content="0;url=/p/default/runs"' in first.body
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert world.ask("/", cookie=cookie.partition(";")[0]).reached
    second = world.ask(f"/open?code={code}")
    assert (second.status, "set-cookie" in second.headers) == (403, False)


def test_a_link_that_was_used_still_leads_who_is_in(world: World) -> None:
    code = world.links.make()
    world.links.take(code)
    answer = world.ask(f"/open?code={code}", cookie=world.cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_links_age(world: World) -> None:
    code = world.links.make()
    (path,) = world.links.folder.iterdir()
    old = time.time() - LINK_S - 1
    os.utime(path, (old, old))
    assert not world.links.take(code)


def test_links_are_for_the_user_alone(world: World) -> None:
    code = world.links.make()
    (path,) = world.links.folder.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert world.links.folder.stat().st_mode & 0o077 == 0
    assert code not in path.name


@pytest.mark.parametrize("code", ["", "x", "../../etc/passwd", "a\0b", "\udcff"])
def test_codes_that_nobody_made(world: World, code: str) -> None:
    world.links.make()
    assert not world.links.take(code)


def test_without_a_session_nothing_is_shown(world: World) -> None:
    for path in ("/", "/p/default", "/static/console.js", "/content/a/b", "/artifact/a/b", "/_nicegui/x"):
        answer = world.ask(path)
        assert (answer.status, answer.reached) == (401, False)
    assert "modelyard console" in world.ask("/").body
    assert world.ask("/_nicegui_ws/socket.io", kind="websocket", origin=f"http://127.0.0.1:{PORT}").status == 1008


def test_sessions_are_not_made_elsewhere() -> None:
    good = Sessions(KEY).make()
    assert Sessions(KEY).good(good)
    assert not Sessions(b"o" * 32).good(good)  # the server was started again
    end, nonce, signature = good.split(".")
    for forged in ("", "..", good + "0", f"{int(end) + 9}.{nonce}.{signature}", f"0.{nonce}.{signature}", "ü.ü.ü"):
        assert not Sessions(KEY).good(forged)


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Sessions(KEY).make()
    monkeypatch.setattr("time.time", lambda: float(good.split(".")[0]) + 1)
    assert not Sessions(KEY).good(good)


@pytest.mark.parametrize("host", ["evil.example:8980", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8980", ""])
def test_another_name_that_leads_here_is_refused(world: World, host: str) -> None:
    answer = world.ask("/", host=host, cookie=world.cookie)
    assert (answer.status, answer.reached) == (421, False)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9999", "null"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_another_site_is_refused(world: World, origin: str, kind: str) -> None:
    answer = world.ask("/", kind=kind, origin=origin, cookie=world.cookie)
    assert answer.status in (403, 1008)
    assert not answer.reached


def test_a_connection_names_its_origin(world: World) -> None:
    assert not world.ask("/", kind="websocket", cookie=world.cookie).reached
    assert world.ask(
        "/", kind="websocket", origin=f"http://localhost:{PORT}", host=f"localhost:{PORT}", cookie=world.cookie
    ).reached


def test_every_answer_says_that_nothing_comes_from_elsewhere(world: World) -> None:
    for answer in (world.ask("/", cookie=world.cookie), world.ask("/"), world.ask(f"/open?code={world.links.make()}")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"https?:|\*", policy)
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", '/"><script>']
)
def test_a_link_leads_to_pages_of_ours_only(world: World, target: str) -> None:
    body = world.ask(f"/open?code={world.links.make()}&next={target}").body
    assert "evil" not in body
    assert "<script" not in body
    assert "javascript" not in body
