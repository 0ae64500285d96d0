"""The troubles that `modelyard doctor` finds, each made to happen, and the cure that it names."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelyard.access.v1 import access_service_pb2
from modelyard.cli import checkup_parts, checkup_server
from modelyard.cli.checks import FAIL, OK, WARN, Check
from modelyard.client.access import Access
from modelyard.core.settings import CoreSettings
from tests.support.certificates import Authority, Pair


@contextmanager
def tls_port(pair: Pair | None) -> Iterator[str]:
    """A port that shakes hands with this certificate and says no more; None: without TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        if pair is None:
                            connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")
                        else:
                            context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"localhost:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_fits(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with tls_port(authority.sign("good", "localhost")) as target:
        found = checkup_server.certificate(target, Access(ca=authority.ca))
    assert found.status == WARN, found  # the tests' certificates last a day
    assert "renew it" in found.cure


@pytest.mark.parametrize(
    ("names", "trusted", "words"), [(("elsewhere",), True, "is not for 'localhost'"), (("localhost",), False, "is not trusted")]
)
def test_a_certificate_that_does_not(tmp_path: Path, names: tuple[str, ...], trusted: bool, words: str) -> None:
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    with tls_port(authority.sign("server", *names)) as target:
        found = checkup_server.certificate(target, Access(ca=authority.ca if trusted else other.ca))
    assert found.status == FAIL
    assert words in found.found
    assert found.cure


def test_a_port_without_tls(tmp_path: Path) -> None:
    with tls_port(None) as target:
        found = checkup_server.certificate(target, Access(ca=Authority(tmp_path).ca))
    assert (found.status, "no TLS" in found.found) == (FAIL, True)


def caller(version: str = "", ahead_s: float = 0.0, **roles: str) -> Any:
    found = access_service_pb2.Caller(principal="user:ada", roles=roles, server_version=version)
    found.server_time.FromMilliseconds(int((time.time() - ahead_s) * 1000))
    return found


def test_who_one_is() -> None:
    assert checkup_server._token(caller(**{"*": "admin"})) == Check("token", OK, "you are user:ada: admin of everything")
    assert checkup_server._token(caller()).status == WARN


@pytest.mark.parametrize(
    ("ahead", "status", "words"), [(0, OK, "within a second"), (90, WARN, "90 s ahead of"), (-90, WARN, "90 s behind")]
)
def test_clocks(ahead: float, status: str, words: str) -> None:
    found = checkup_server._clock(caller(ahead_s=ahead), time.time())
    assert (found.status, words in found.found) == (status, True), found


def test_versions() -> None:
    assert checkup_server._version("7.1.0").status == WARN
    assert checkup_server._version("").status == OK


def test_a_server_that_is_none_of_ours() -> None:
    with tls_port(None) as target:
        found = checkup_server.check_server(target, Access())
    assert [check.status for check in found] == [FAIL]


def test_a_database_that_is_away() -> None:
    found = checkup_parts.database("postgresql+psycopg://ada:secret@127.0.0.1:1/yard")
    assert found is not None
    assert (found.status, "127.0.0.1:1/yard cannot be reached" in found.found) == (FAIL, True)
    assert "secret" not in f"{found}"
    assert checkup_parts.database("sqlite:////x") is None


def test_a_store_that_is_away() -> None:
    settings = CoreSettings(artifacts_url="s3://yard", s3_endpoint="http://127.0.0.1:1")
    found = checkup_parts.store(settings)
    assert found is not None
    assert (found.status, "cannot be reached" in found.found) == (FAIL, True)
    wrong = checkup_parts.store(CoreSettings(artifacts_url="s3://yard", s3_endpoint="127.0.0.1:1"))
    assert wrong is not None
    assert "s3_endpoint is '127.0.0.1:1'" in wrong.found


def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_PORT", "many")
    found = checkup_parts.check_parts(None)
    assert [(check.name, check.status) for check in found] == [("settings", FAIL)]
    assert "MODELYARD_PORT" in found[0].found


def test_a_gpu_that_is_asked_for_and_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checkup_parts.device("cuda")
    if Path("/dev/nvidia0").exists():
        pytest.skip("a GPU is here")
    assert found is not None
    assert found.status == FAIL
    assert checkup_parts.device("auto") is None


def test_a_source_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert checkup_parts.readable(tmp_path / "none").status == FAIL
    assert "holds no file" in checkup_parts.readable(tmp_path).found
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    assert checkup_parts.readable(tmp_path).found == f"{tmp_path}: 2 files"
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("b.png"))
    found = checkup_parts.readable(tmp_path)
    assert found.found == f"1 of 2 cannot be read: {tmp_path / 'b.png'}"
    assert "chmod" in found.cure
