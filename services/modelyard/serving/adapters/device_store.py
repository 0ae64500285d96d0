"""Devices, tokens and roll-outs in the `resource` table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.names import DEVICE, ENROLMENT_TOKEN, ROLLOUT, parent_of
from modelyard.core.resources import Document, Resource, ResourceStore
from modelyard.serving.adapters.device_documents import (
    device_document,
    device_of,
    report_document,
    rollout_document,
    rollout_of,
    token_document,
    token_of,
)
from modelyard.serving.domain.device import Device, DeviceReport, EnrolmentToken
from modelyard.serving.domain.rollout import Rollout
from modelyard.serving.ports import Listed, Request

REPORTS: Final = "deviceReports"
TURNS: Final = "rolloutTurns"
MOST: Final = 1000
CREATE: Final = "CreateRollout"


class SqlDeviceStore:
    """See fleet_ports.DeviceStore. A report has a row of its own: it changes all the time, and is no change of the device."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources

    def create_token(self, token: EnrolmentToken) -> EnrolmentToken:
        """See DeviceStore."""
        document = token_document(token)
        return token_of(self._resources.create(token.name, ENROLMENT_TOKEN.collection, parent_of(token.name), document))

    def token(self, name: str) -> EnrolmentToken:
        """See DeviceStore."""
        return token_of(self._resources.get(name))

    def tokens(self, parent: str, page_size: int, page_token: str) -> Listed[EnrolmentToken]:
        """See DeviceStore."""
        page = self._resources.list(ENROLMENT_TOKEN.collection, parent, page_size, page_token)
        return Listed(tuple(map(token_of, page.items)), page.next_page_token)

    def claim(self, name: str, change: Callable[[EnrolmentToken], EnrolmentToken]) -> EnrolmentToken:
        """See DeviceStore."""
        held = self._resources.get(name)

        def changed(document: Document) -> Document:
            return token_document(change(token_of(_with(held, document))))

        return token_of(self._resources.update(name, changed))

    def delete_token(self, name: str) -> None:
        """See DeviceStore."""
        self._resources.delete(name)

    def create(self, device: Device) -> Device:
        """See DeviceStore."""
        stored = self._resources.create(device.name, DEVICE.collection, parent_of(device.name), device_document(device))
        return device_of(stored, None)

    def get(self, name: str) -> Device:
        """See DeviceStore."""
        return device_of(self._resources.get(name), self._report(name))

    def find(self, name: str) -> Device | None:
        """See DeviceStore."""
        try:
            return device_of(self._resources.get(name), None)
        except NotFound:
            return None

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Device]:
        """See DeviceStore."""
        page = self._resources.list(DEVICE.collection, parent, page_size, page_token)
        return Listed(tuple(device_of(stored, self._report(stored.name)) for stored in page.items), page.next_page_token)

    def all(self, parent: str) -> Iterable[Device]:
        """See DeviceStore."""
        return (device_of(stored, None) for stored in _every(self._resources, DEVICE.collection, parent))

    def change(self, name: str, change: Callable[[Device], Device], etag: str = "") -> Device:
        """See DeviceStore."""
        held = self._resources.get(name)

        def changed(document: Document) -> Document:
            return device_document(change(device_of(_with(held, document), None)))

        return device_of(self._resources.update(name, changed, etag), self._report(name))

    def delete(self, name: str) -> None:
        """See DeviceStore."""
        self._resources.delete(name)
        with suppress(NotFound):
            self._resources.delete(_report_name(name))

    def report(self, name: str, report: DeviceReport) -> None:
        """See DeviceStore."""
        try:
            self._resources.update(_report_name(name), lambda before: report_document(report, before))
        except NotFound:
            self._resources.put(_report_name(name), REPORTS, name, report_document(report, None))

    def _report(self, name: str) -> Resource | None:
        try:
            return self._resources.get(_report_name(name))
        except NotFound:
            return None


class SqlRolloutStore:
    """See fleet_ports.RolloutStore."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources

    def create(self, rollout: Rollout, request: Request) -> Rollout:
        """See RolloutStore. An endpoint's turn is one row: of two roll-outs that begin at once, one takes it."""
        turn = f"{TURNS}/{rollout.assignment.endpoint}"
        try:
            self._resources.get(turn)
        except NotFound:
            self._resources.put(turn, TURNS, "", {"rollout": ""})
        self._resources.update(turn, lambda held: self._take(held, rollout))
        stored = self._resources.create(
            rollout.name,
            ROLLOUT.collection,
            parent_of(rollout.name),
            rollout_document(rollout),
            request_id=request.request_id,
            method=CREATE,
            fingerprint=request.fingerprint,
        )
        return rollout_of(stored)

    def repeated(self, request: Request) -> Rollout | None:
        """See RolloutStore."""
        name = self._resources.made_by(request.request_id, CREATE, request.fingerprint)
        return rollout_of(self._resources.get(name)) if name else None

    def get(self, name: str) -> Rollout:
        """See RolloutStore."""
        return rollout_of(self._resources.get(name))

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Rollout]:
        """See RolloutStore."""
        page = self._resources.list(ROLLOUT.collection, parent, page_size, page_token)
        return Listed(tuple(map(rollout_of, page.items)), page.next_page_token)

    def unsettled(self) -> Iterable[Rollout]:
        """See RolloutStore."""
        turns = _every(self._resources, TURNS, None)
        named = {turn.document["rollout"] for turn in turns} - {""}
        found = [rollout_of(stored) for name in sorted(named) if (stored := self._find(name)) is not None]
        return [rollout for rollout in found if not rollout.settled]

    def change(self, name: str, change: Callable[[Rollout], Rollout]) -> Rollout:
        """See RolloutStore. One that has work again (it is reverted after its end) takes the endpoint's turn first."""
        held = self._resources.get(name)
        before = rollout_of(held)
        if before.settled and not change(before).settled:
            self._resources.update(f"{TURNS}/{before.assignment.endpoint}", lambda turn: self._take(turn, before))

        def changed(document: Document) -> Document:
            return rollout_document(change(rollout_of(_with(held, document))))

        return rollout_of(self._resources.update(name, changed))

    def _take(self, held: Document, rollout: Rollout) -> Document:
        other = self._find(held["rollout"]) if held["rollout"] not in ("", rollout.name) else None
        if other is not None and not other.document["settled"]:
            message = f"{other.name} of the same endpoint is {other.document['state']}; wait for its end, or cancel it"
            raise FailedPrecondition("ROLLOUT_IN_PROGRESS", message, rollout=other.name, state=other.document["state"])
        return {"rollout": rollout.name}

    def _find(self, name: str) -> Resource | None:
        try:
            return self._resources.get(name)
        except NotFound:
            return None


def _every(resources: ResourceStore, collection: str, parent: str | None) -> Iterator[Resource]:
    token = ""
    while True:
        page = resources.list(collection, parent, MOST, token)
        yield from page.items
        token = page.next_page_token
        if not token:
            return


def _with(held: Resource, document: Document) -> Resource:
    return Resource(**{**vars(held), "document": document})


def _report_name(device: str) -> str:
    return f"{device}/report"
