"""The embedded server is its user's: a token file that nobody else reads, predictions that need none, and no other address."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelyard import embedded
from modelyard.cli.options import Common
from modelyard.cli.session import session
from modelyard.client import Access, Client
from modelyard.client.channels import open_channel
from modelyard.core.errors import FailedPrecondition
from tests.support.access_world import ask

LIST = "/modelyard.dataset.v1.DatasetService/ListDatasets"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("owned") / "data"
    made = embedded.start(folder)
    yield made, folder
    made.stop()


def test_the_token_is_for_its_user_alone(running: tuple[Any, Path]) -> None:
    made, folder = running
    path = folder / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() == made.token
    assert made.token not in (folder / "server.json").read_text()


def test_management_needs_the_token_and_predictions_do_not(running: tuple[Any, Path]) -> None:
    made, _ = running
    for access, expected in ((Access(), "UNAUTHENTICATED"), (Access("x" * 43), "UNAUTHENTICATED"), (Access(made.token), "OK")):
        with open_channel(made.address, access) as channel:
            assert ask(channel, LIST, "default")[0] == expected
    with open_channel(made.address, Access()) as channel:
        assert ask(channel, "/inference.GRPCInferenceService/ModelInfer", "default")[0] == "NOT_FOUND"
        assert ask(channel, "/inference.GRPCInferenceService/RepositoryIndex", "default")[0] == "OK"
        assert ask(channel, "/inference.GRPCInferenceService/RepositoryModelUnload", "default")[0] == "UNAUTHENTICATED"


def test_this_users_clients_find_the_token(running: tuple[Any, Path]) -> None:
    made, folder = running
    with Client(made.address) as client:
        assert client.access.get_caller().principal == "user:owner"
    code = f"""
from modelyard.client import Client
with Client({made.address!r}) as client:
    print(client.access.get_caller().principal)
"""
    environment = {**os.environ, "MODELYARD_DATA_DIR": str(folder)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert said.stdout == "user:owner\n", said.stderr
    for server in ("", made.address):
        with session(Common(server, folder, "default", False, False)) as here:
            assert list(here.client.datasets.list_datasets()) == []


def test_the_token_stays_when_the_server_starts_again(tmp_path: Path) -> None:
    first = embedded.user_token(tmp_path)
    assert embedded.user_token(tmp_path) == first
    (tmp_path / "token").write_text("half")
    assert embedded.user_token(tmp_path) not in ("half", first)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(FailedPrecondition, match="others can read"):
        embedded.user_token(tmp_path)
    (tmp_path / "token").unlink()
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPrecondition):
        embedded.user_token(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_another_address_is_refused_and_what_to_set_is_said(tmp_path: Path, host: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        embedded.start(tmp_path, host=host)
    assert caught.value.reason == "UNSAFE_ADDRESS"
    for setting in ("MODELYARD_AUTH=token", "MODELYARD_TOKENS_FILE", "MODELYARD_TLS_CERTIFICATE", "127.0.0.1"):
        assert setting in caught.value.message


def test_a_stranger_sees_no_server_of_another_folder(running: tuple[Any, Path], tmp_path: Path) -> None:
    from modelyard.client.access import token_in

    made, folder = running
    assert token_in(tmp_path, made.address) == ""
    assert token_in(folder, "127.0.0.1:1") == ""
    assert token_in(folder, made.address) == made.token
    assert json.loads((folder / "server.json").read_text())["listening"] == made.address


def test_calls_say_what_is_missing(running: tuple[Any, Path]) -> None:
    made, _ = running
    with open_channel(made.address, Access()) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(LIST)(b"", timeout=10)
    assert "authorization: Bearer" in caught.value.details()
