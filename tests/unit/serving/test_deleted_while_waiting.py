"""A deployment that waits for its pods, and an endpoint that another server of the same database deletes meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modelyard.core.errors import NotFound, Unavailable
from modelyard.serving.adapters import remote_loader

ENDPOINT = "projects/default/endpoints/flowers"


class Store:
    """Has the endpoint until `error` is set."""

    error: Exception | None = None

    def get(self, name: str) -> str:
        if self.error is not None:
            raise self.error
        return name


def test_waiting_ends_when_the_endpoint_is_deleted_and_not_when_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_loader, "DELETED_S", -1.0)
    store, pods = Store(), SimpleNamespace(given_up=0.0)
    board: Any = SimpleNamespace(seen=lambda endpoint: pods)
    versions = remote_loader.PodVersions(store, board, None)  # type: ignore[arg-type]
    going = versions._worth_waiting(ENDPOINT)
    assert going()
    store.error = Unavailable("DATABASE_AWAY", "not now", retry_after_s=1.0)
    assert going()
    assert not pods.given_up
    store.error = NotFound("ENDPOINT_NOT_FOUND", f"{ENDPOINT} does not exist", name=ENDPOINT)
    assert going()
    assert pods.given_up, "wait_live raises ENDPOINT_DELETED"
    versions._stopped.set()
    assert not going()
