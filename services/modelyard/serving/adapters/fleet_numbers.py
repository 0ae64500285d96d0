"""Numbers of desired states, in the `resource` table: one row a subject."""

from __future__ import annotations

import time
from typing import Final

from modelyard.core.errors import NotFound
from modelyard.core.resources import Document, ResourceStore
from modelyard.serving.domain.desired_state import next_number

STATES: Final = "fleetStates"


class SqlStateNumbers:
    """See fleet_ports.StateNumbers. A number is written before anybody is told of it."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources

    def number(self, subject: str, digest: str) -> int:
        """See fleet_ports.StateNumbers."""
        name = f"{STATES}/{subject}"
        try:
            held = self._resources.get(name).document
        except NotFound:
            self._resources.create(name, STATES, "", {"number": 0, "digest": ""})
            held = {"number": 0, "digest": ""}
        if held["digest"] != digest:
            held = self._resources.update(name, lambda document: _numbered(document, digest)).document
        return int(held["number"])


def _numbered(document: Document, digest: str) -> Document:
    if document["digest"] == digest:  # another server was quicker
        return document
    return {"number": next_number(int(document["number"]), time.time_ns() // 1_000_000), "digest": digest}
