"""Two services in processes of their own that know each other by their certificates alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from modelyard.client import Access, Client, NotFound, PermissionDenied
from tests.support.access_world import token_of, write_tokens
from tests.support.certificates import Authority
from tests.support.servers import Process, free_port


def environment(folder: Path, name: str, authority: Authority, ports: dict[str, int]) -> dict[str, str]:
    pair = authority.sign(name, f"{name}.modelyard.internal", "localhost", "127.0.0.1")
    return {
        "MODELYARD_DATA_DIR": str(folder / name),
        "MODELYARD_ARTIFACTS_URL": f"file://{folder / 'artifacts'}",
        "MODELYARD_AUTH": "token",
        "MODELYARD_TOKENS_FILE": str(write_tokens(folder / "tokens.json")),
        "MODELYARD_TLS_CERTIFICATE": str(pair.certificate),
        "MODELYARD_TLS_KEY": str(pair.key),
        "MODELYARD_TLS_CA": str(authority.ca),
        **{f"MODELYARD_{other.upper()}_ADDRESS": f"localhost:{port}" for other, port in ports.items()},
    }


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[tuple[str, Authority, Process]]:
    authority = Authority(tmp_path / "tls")
    ports = {name: free_port() for name in ("dataset", "trainer")}
    made = {
        name: Process(f"modelyard.{name}", port, environment(tmp_path, name, authority, ports), tmp_path / f"{name}.log")
        for name, port in ports.items()
    }
    yield f"localhost:{ports['trainer']}", authority, made["dataset"]
    for process in made.values():
        process.stop()


def test_a_service_asks_another_one(trainer: tuple[str, Authority, Process]) -> None:
    """The trainer asks the dataset service about a version, which says that there is none: so it has believed who asks."""
    address, authority, dataset = trainer
    with Client(
        address, project="flowers", access=Access(token_of("viewer"), authority.ca), patience_s=60, timeout_s=90
    ) as client:
        with pytest.raises(NotFound):
            client.training.suggest_recipes("roses/V001")
        with pytest.raises(PermissionDenied):
            client.training.suggest_recipes("projects/weeds/datasets/roses/versions/V001")
    assert '"code": "NOT_FOUND"' in dataset.log_tail()
    with pytest.raises(grpc.RpcError), grpc.insecure_channel(dataset.address) as channel:
        channel.unary_unary("/modelyard.dataset.v1.DatasetService/ListDatasets")(b"", timeout=5)
