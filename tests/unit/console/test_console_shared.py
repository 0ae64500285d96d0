"""A console that several people share: who gets in, as whom, and what others cannot do with that."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from modelyard.client import Unauthenticated
from modelyard.console.connection import Connection, connection
from modelyard.console.launch import Behind
from modelyard.console.oidc import Client, Issuer, SignInError, Tokens
from modelyard.console.people import People
from modelyard.console.shared import BadSettingError, settings_of
from modelyard.console.shared_gate import MOST_WRONG, SharedGate

HOST = "console.example"
TOKENS = {"t-anna": "user:anna", "t-ben": "user:ben", "o-1": "user:anna", "o-2": "user:anna"}


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    person: str | None = None

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def cookie(self, name: str) -> str:
        return next((v.split(";")[0] for k, v in self.headers if k == "set-cookie" and v.startswith(f"{name}=")), "")


async def caller(of: Connection, project: str) -> str:
    """The services: they know some tokens."""
    assert of.token is not None
    if of.token() not in TOKENS:
        raise Unauthenticated("nobody has this token", reason="UNKNOWN_TOKEN")
    return TOKENS[of.token()]


class World:
    """A gate before an application that says whose connection it has, with an issuer that has one user."""

    def __init__(self, *, open_to: Connection | None = None) -> None:
        self.now = 1e9
        self.asked: list[dict[str, str]] = []
        self.given = iter(("o-1", "o-2", "o-unknown"))
        self.refuses = False
        client = Client("https://id.example", "console", f"https://{HOST}", secret="s")
        self.issuer = Issuer(client, httpx.AsyncClient(transport=httpx.MockTransport(self._issuer)))
        self.people = People(Behind("127.0.0.1:1"), 3600, self.issuer, clock=lambda: self.now, caller=caller)
        self.gate = SharedGate(self._app, addresses=[f"https://{HOST}"], people=self.people, issuer=self.issuer, open_to=open_to)
        self.reached: str | None = None

    def _issuer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("openid-configuration"):
            places = {name: f"https://id.example/{name}" for name in ("authorization_endpoint", "token_endpoint")}
            return httpx.Response(200, json={"issuer": "https://id.example", **places})
        self.asked.append({key: values[0] for key, values in parse_qs(request.content.decode()).items()})
        if self.refuses:
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": "too old"})
        return httpx.Response(200, json={"access_token": next(self.given), "refresh_token": "r", "expires_in": 300})

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.reached = connection().person
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"page"})

    async def ask(
        self, path: str = "/", *, kind: str = "http", post: dict[str, str] | None = None, host: str = HOST, **headers: str
    ) -> Answer:
        answer, self.reached = Answer(), None
        body = urlencode(post).encode() if post is not None else b""

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
            elif message["type"] == "http.response.body":
                answer.body += message["body"].decode()
            elif message["type"] == "websocket.close":
                answer.status = message["code"]

        said = {"host": host, "accept": "text/html", **headers}
        if post is not None:
            said.setdefault("origin", f"https://{host}")
        where, _, query = path.partition("?")
        scope = {
            "type": kind,
            "path": where,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in said.items() if value],
            "method": "POST" if post is not None else "GET",
            "scheme": "http",
        }
        await self.gate(scope, receive, send)
        answer.person = self.reached
        return answer

    async def sign_in(self, token: str) -> str:
        return (await self.ask("/sign-in", post={"token": token})).cookie("__Host-modelyard-console")


def test_each_sees_as_themselves_what_the_services_let_them() -> None:
    async def check() -> None:
        world = World()
        anna, ben = await world.sign_in("t-anna"), await world.sign_in("t-ben")
        assert anna and ben and anna != ben  # noqa: PT018
        assert (await world.ask("/p/default", cookie=anna)).person == "user:anna"
        assert (await world.ask("/p/default", cookie=ben)).person == "user:ben"
        socket = await world.ask("/_nicegui_ws/", kind="websocket", cookie=ben, origin=f"https://{HOST}")
        assert socket.person == "user:ben"

    asyncio.run(check())


def test_who_has_not_signed_in_is_led_there_and_back() -> None:
    async def check() -> None:
        world = World()
        there = await world.ask("/p/default/runs?tab=jobs")
        assert (there.status, there.person) == (303, None)
        assert there.header("location") == "/sign-in?next=%2Fp%2Fdefault%2Fruns%3Ftab%3Djobs"
        form = await world.ask(there.header("location"))
        assert 'value="/p/default/runs?tab=jobs"' in form.body
        back = await world.ask("/sign-in", post={"token": "t-anna", "next": "/p/default/runs?tab=jobs"})
        assert (back.status, back.header("location")) == (303, "/p/default/runs?tab=jobs")
        cookie = next(value for name, value in back.headers if name == "set-cookie")
        assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/"} <= set(cookie.split("; "))
        assert "t-anna" not in cookie
        elsewhere = await world.ask("/sign-in", post={"token": "t-anna", "next": "https://evil.example"})
        assert elsewhere.header("location") == "/"
        for path in ("/static/console.js", "/content?of=projects/a/datasets/b/versions/V001&example=x", "/upload/k"):
            assert (await world.ask(path, accept="*/*")).status == 401

    asyncio.run(check())


def test_wrong_tokens_are_refused_and_after_many_none_is_asked_about() -> None:
    async def check() -> None:
        world = World()
        wrong = await world.ask("/sign-in", post={"token": "<b>no"})
        assert wrong.status == 403
        assert "nobody has this token" in wrong.body
        assert not wrong.cookie("__Host-modelyard-console")
        for _ in range(MOST_WRONG):
            await world.ask("/sign-in", post={"token": "no"})
        assert (await world.ask("/sign-in", post={"token": "t-anna"})).status == 429
        assert (await world.ask("/sign-in", post={"token": ""})).status == 429

    asyncio.run(check())


def test_signing_out_and_time_end_a_session_on_the_server() -> None:
    async def check() -> None:
        world = World()
        anna, ben = await world.sign_in("t-anna"), await world.sign_in("t-ben")
        session = await world.people.find(anna.partition("=")[2])
        assert session is not None
        await world.ask("/sign-out", post={}, cookie=anna)
        assert (await world.ask("/", cookie=anna)).status == 303
        assert session.token == "", "a page that is still open acts as nobody"
        assert (await world.ask("/", cookie=ben)).person == "user:ben"
        world.now += 3601
        assert (await world.ask("/", cookie=ben)).status == 303
        assert (await world.ask("/", cookie="__Host-modelyard-console=guessed")).status == 303

    asyncio.run(check())


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"https://{HOST}.evil.example", ""])
def test_another_site_cannot_make_a_browser_act(origin: str) -> None:
    async def check() -> None:
        world = World()
        anna = await world.sign_in("t-anna")
        assert (await world.ask("/upload/k", post={}, cookie=anna, origin=origin)).status == 403
        assert (await world.ask("/sign-in", post={"token": "t-ben"}, origin=origin)).status == 403
        assert (await world.ask("/_nicegui_ws/", kind="websocket", cookie=anna, origin=origin)).status == 1008
        assert world.reached is None

    asyncio.run(check())


def test_it_answers_for_its_own_names_and_probes() -> None:
    async def check() -> None:
        world = World()
        anna = await world.sign_in("t-anna")
        for host in ("evil.example", "10.0.0.7:8980", f"{HOST}:81"):
            refused = await world.ask("/", host=host, cookie=anna)
            assert (refused.status, refused.person) == (421, None)
        assert "MODELYARD_CONSOLE_ADDRESS" in refused.body
        assert (await world.ask("/healthz", host="10.0.0.7:8980")).status == 200
        form = await world.ask("/sign-in", host="localhost:8980")
        assert form.status == 200
        plain = await world.ask("/sign-in", host="localhost:8980", post={"token": "t-anna"}, origin="http://localhost:8980")
        assert plain.cookie("modelyard-console"), "a forwarded port without TLS has a cookie without Secure"

    asyncio.run(check())


def test_without_tokens_everybody_is_in_and_still_from_its_own_pages() -> None:
    async def check() -> None:
        world = World(open_to=Connection(Behind("127.0.0.1:1"), shared=True, token=str))
        assert (await world.ask("/p/default")).person == ""
        assert (await world.ask("/upload/k", post={}, origin="https://evil.example")).person is None

    asyncio.run(check())


def test_signing_in_at_the_issuer() -> None:
    async def check() -> None:
        world = World()
        away = await world.ask("/oidc/start?next=/p/default/models")
        place = urlsplit(away.header("location"))
        said = {key: values[0] for key, values in parse_qs(place.query).items()}
        assert (place.netloc, said["redirect_uri"]) == ("id.example", f"https://{HOST}/oidc/callback")
        assert (said["response_type"], said["code_challenge_method"]) == ("code", "S256")
        brought = away.cookie("__Host-modelyard-console-sign-in")
        callback = f"/oidc/callback?code=c&state={said['state']}"
        assert (await world.ask(callback)).status == 403, "another browser's sign-in"
        assert not world.asked

        away = await world.ask("/oidc/start?next=/p/default/models")
        brought = away.cookie("__Host-modelyard-console-sign-in")
        said = {key: values[0] for key, values in parse_qs(urlsplit(away.header("location")).query).items()}
        callback = f"/oidc/callback?code=c&state={said['state']}"
        back = await world.ask(callback, cookie=brought)
        assert (back.status, back.header("location")) == (303, "/p/default/models")
        (asked,) = world.asked
        challenge = urlsafe_b64encode(hashlib.sha256(asked["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        assert challenge == said["code_challenge"]
        assert (asked["client_secret"], asked["grant_type"]) == ("s", "authorization_code")
        cookie = back.cookie("__Host-modelyard-console")
        assert (await world.ask("/", cookie=cookie)).person == "user:anna"
        assert (await world.ask(callback, cookie=brought)).status == 403, "a state is good once"

    asyncio.run(check())


def test_an_issuers_token_is_renewed_and_when_it_cannot_be_the_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        world = World()
        cookie = await world.people.sign_in("o-1", Tokens("o-1", "r", time.time() + 30))
        found = await asyncio.gather(*(world.people.find(cookie) for _ in range(5)))
        assert len(world.asked) == 1, "five requests at once renew once"
        assert world.asked[0]["refresh_token"] == "r"
        assert found[0] is not None
        assert found[0].token == "o-1"
        assert found[0].tokens is not None
        found[0].tokens.ends = time.time() + 30
        world.refuses = True
        assert await world.people.find(cookie) is not None, "the one before still holds"
        found[0].tokens.ends = time.time() - 1
        assert await world.people.find(cookie) is None

    asyncio.run(check())


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        ({"issuer": "https://other.example"}, "calls itself"),
        ({"issuer": "https://id.example", "authorization_endpoint": "http://id.example/a"}, "no https"),
        ([], "refused"),
        ("no json", "does not answer"),
    ],
)
def test_an_issuer_that_is_none(configuration: Any, why: str) -> None:
    said = configuration if isinstance(configuration, str) else json.dumps(configuration)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=said))
    issuer = Issuer(Client("https://id.example", "c", "https://console.example"), httpx.AsyncClient(transport=transport))
    with pytest.raises(SignInError, match=why):
        asyncio.run(issuer.begin("/"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONSOLE_SERVER", ""),
        ("CONSOLE_ADDRESS", "console.example"),
        ("CONSOLE_ADDRESS", "https://console.example/pages"),
        ("CONSOLE_AUTH", "basic"),
        ("CONSOLE_SESSION_HOURS", "0"),
        ("CONSOLE_PORT", "http"),
        ("CONSOLE_UPLOAD_GIB", "0"),
        ("TLS_CERTIFICATE", "/c.pem"),
        ("CONSOLE_OIDC_TOKEN", "refresh_token"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    good = {
        "MODELYARD_CONSOLE_SERVER": "https://models.example",
        "MODELYARD_CONSOLE_ADDRESS": "https://console.example",
        "MODELYARD_OIDC_ISSUER": "https://id.example",
        "MODELYARD_CONSOLE_OIDC_CLIENT_ID": "console",
    }
    assert settings_of(good).oidc is not None
    with pytest.raises(BadSettingError, match=f"MODELYARD_(TLS_KEY|{name})"):
        settings_of({**good, f"MODELYARD_{name}": value})
