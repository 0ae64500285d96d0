"""Numbers of desired states, in the `resource` table: one row a subject."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

from modelyard.core.errors import AlreadyExists, NotFound
from modelyard.core.resources import Document, ResourceStore
from modelyard.serving.domain.desired_state import Numbered, next_number

STATES: Final = "fleetStates"


class SqlStateNumbers:
    """See fleet_ports.StateNumbers. A number is written before anybody is told of it, in one transaction with the comparison."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources

    def held(self, subject: str) -> Numbered:
        """See fleet_ports.StateNumbers."""
        try:
            return _numbered(subject, self._resources.get(_name(subject)).document)
        except NotFound:
            return Numbered(subject, 0, "")

    def next(self, held: Numbered, digest: str) -> Numbered | None:
        """See fleet_ports.StateNumbers."""

        def change(document: Document) -> Document:
            if _numbered(held.subject, document) != held:  # another reader was quicker
                return document
            return {"number": next_number(held.number, time.time_ns() // 1_000_000), "digest": digest}

        name = _name(held.subject)
        if not held.number:
            with suppress(AlreadyExists):
                self._resources.create(name, STATES, "", {"number": 0, "digest": ""})
        after = _numbered(held.subject, self._resources.update(name, change).document)
        return after if after.digest == digest else None


def _name(subject: str) -> str:
    return f"{STATES}/{subject}"


def _numbered(subject: str, document: dict[str, Any]) -> Numbered:
    return Numbered(subject, int(document["number"]), str(document["digest"]))
