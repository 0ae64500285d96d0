"""An issuer that is asked over https: its discovery document, its keys, and what may go wrong on the way to them."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from modelyard.core.access import oidc
from modelyard.core.access.oidc import OidcVerifier
from modelyard.core.access.principal import Role
from modelyard.core.errors import InvalidArgument, Unauthenticated, Unavailable
from tests.support.certificates import Authority

DISCOVERY = "/realms/yard/.well-known/openid-configuration"


class Issuer:
    """An https server with a certificate of its own authority; `answers` by path: (status, headers, body)."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.keys: dict[str, Any] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, headers, body = issuer.answers.get(self.path, (404, {}, b"{}"))
                self.send_response(status)
                for key, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        pair = self.authority.sign("issuer", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.origin = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.name = f"{self.origin}/realms/yard"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.say(DISCOVERY, {"issuer": self.name, "jwks_uri": f"{self.origin}/keys"})
        self.new_key("one")

    def say(self, path: str, document: Any) -> None:
        self.answers[path] = (200, {}, json.dumps(document).encode())

    def new_key(self, kid: str) -> None:
        """From now on tokens are signed with this key alone."""
        self.keys[kid] = key = rsa.generate_private_key(65537, 2048)
        document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        self.say("/keys", {"keys": [{**document, "kid": kid, "use": "sig"}]})

    def token(self, kid: str = "one") -> str:
        claims = {"iss": self.name, "aud": "modelyard", "sub": "1", "exp": time.time() + 300, "roles": ["flowers:editor"]}
        return jwt.encode(claims, self.keys[kid], "RS256", headers={"kid": kid})

    def verifier(self, ca: Path | None = None, issuer: str = "") -> OidcVerifier:
        return OidcVerifier(issuer or self.name, "modelyard", "", "roles", ca or self.authority.ca)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Plain:
    """A server without TLS, under a name that is not this machine's loopback."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: tuple[int, dict[str, str], bytes] = (404, {}, b"")
        plain = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                plain.asked.append(self.path)
                self.send_response(plain.answer[0])
                self.send_header("content-length", str(len(plain.answer[2])))
                self.end_headers()
                self.wfile.write(plain.answer[2])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
        self.origin = f"http://127.0.0.2:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def plain() -> Iterator[Plain]:
    made = Plain()
    yield made
    made.close()


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    made = Issuer(tmp_path / "issuer")
    yield made
    made.close()


def test_the_keys_are_found_through_the_issuers_document_and_kept(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert verifier.principal(issuer.token()).roles == {"flowers": Role.EDITOR}
    assert verifier.principal(issuer.token()).name == "user:1"
    assert issuer.asked == [DISCOVERY, "/keys"]


def test_a_key_that_is_new_is_fetched_but_not_for_every_stranger(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = issuer.verifier()
    verifier.principal(issuer.token())
    issuer.new_key("two")
    for _ in range(5):  # within AGAIN_S of the last time
        with pytest.raises(Unauthenticated):
            verifier.principal(issuer.token("two"))
    assert len(issuer.asked) == 2
    monkeypatch.setattr(oidc, "AGAIN_S", 0.0)
    again = issuer.verifier()
    issuer.new_key("three")
    assert again.principal(issuer.token("three")).name == "user:1"
    issuer.new_key("four")
    assert again.principal(issuer.token("four")).name == "user:1"
    with pytest.raises(Unauthenticated):  # a key that was withdrawn
        again.principal(issuer.token("three"))


def test_an_issuer_that_was_away_is_asked_again(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "AGAIN_S", 0.2)
    document = issuer.answers.pop(DISCOVERY)
    verifier = issuer.verifier()
    with pytest.raises(Unavailable) as caught:
        verifier.principal(issuer.token())
    assert caught.value.reason == "KEYS_UNAVAILABLE"
    issuer.answers[DISCOVERY] = document
    time.sleep(0.25)
    assert verifier.principal(issuer.token()).name == "user:1"


def test_an_authority_that_is_not_trusted_gives_no_keys(issuer: Issuer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        issuer.verifier(Authority(tmp_path / "another").ca).principal(issuer.token())
    assert issuer.asked == []


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://another.example", "jwks_uri": "{origin}/keys"},
        {"issuer": "{name}", "jwks_uri": "http://keys.example/keys"},
        {"issuer": "{name}", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "{name}"},
        ["no document"],
    ],
)
def test_a_document_that_is_not_the_issuers_own_is_not_followed(issuer: Issuer, document: Any) -> None:
    text = json.dumps(document).replace("{origin}", issuer.origin).replace("{name}", issuer.name)
    issuer.say(DISCOVERY, json.loads(text))
    with pytest.raises(Unavailable):
        issuer.verifier().principal(issuer.token())
    assert issuer.asked == [DISCOVERY]


def test_a_redirect_is_followed_over_https_alone(issuer: Issuer, plain: Plain) -> None:
    issuer.answers["/moved"] = plain.answer = issuer.answers["/keys"]
    issuer.answers["/keys"] = (302, {"location": f"{issuer.origin}/moved"}, b"")
    assert issuer.verifier().principal(issuer.token()).name == "user:1"
    issuer.answers["/keys"] = (302, {"location": f"{plain.origin}/keys"}, b"")
    with pytest.raises(Unavailable):  # the very same keys, where anybody on the way could have changed them
        issuer.verifier().principal(issuer.token())
    assert plain.asked == []


def test_a_document_without_an_end_is_not_read_to_it(issuer: Issuer) -> None:
    issuer.answers["/keys"] = (200, {}, issuer.answers["/keys"][2] + b" " * oidc.MOST_BYTES)
    with pytest.raises(Unavailable):
        issuer.verifier().principal(issuer.token())


def test_an_issuer_in_plain_text_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidArgument) as caught:
        OidcVerifier("http://issuer.example", "modelyard", "", "roles")
    assert caught.value.reason == "BAD_OIDC"
