"""What the centre of a fleet needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO, Protocol

from modelyard.core.artifacts import Blob
from modelyard.serving.domain.desired_state import Numbered
from modelyard.serving.domain.device import Device, DeviceReport, EnrolmentToken
from modelyard.serving.domain.rollout import Rollout
from modelyard.serving.ports import Listed, Request


class StateNumbers(Protocol):
    """Which number the desired state of a subject has.

    A content is numbered in three steps, so that an older one never gets the higher number: `held` first, then whatever the
    content is made of is read, then `next` gives it a number only where no other content was given one since `held`.
    """

    def held(self, subject: str) -> Numbered:
        """What was numbered last."""

    def next(self, held: Numbered, digest: str) -> Numbered | None:
        """A higher number, written down; None: something else was numbered since. The same content since then: its number."""


class FleetBundles(Protocol):
    """The bytes that followers fetch: serving's own copies."""

    def passport(self, passport: Blob) -> bytes:
        """All of a passport. Raises NotFound, DataLoss."""

    def open(self, artifact: Blob, offset: int) -> BinaryIO:
        """A bundle from a byte on, verified. Raises NotFound, DataLoss, InvalidArgument BAD_OFFSET."""


class DeviceStore(Protocol):
    """Devices and their tokens, as they are written down."""

    def create_token(self, token: EnrolmentToken) -> EnrolmentToken:
        """Raises AlreadyExists."""

    def token(self, name: str) -> EnrolmentToken:
        """Raises NotFound."""

    def tokens(self, parent: str, page_size: int, page_token: str) -> Listed[EnrolmentToken]:
        """Newest first."""

    def claim(self, name: str, change: Callable[[EnrolmentToken], EnrolmentToken]) -> EnrolmentToken:
        """Writes what `change` makes of a token; nobody else changes it meanwhile. Raises NotFound, and what `change` raises."""

    def delete_token(self, name: str) -> None:
        """Raises NotFound."""

    def create(self, device: Device) -> Device:
        """Raises AlreadyExists."""

    def get(self, name: str) -> Device:
        """Raises NotFound."""

    def find(self, name: str) -> Device | None:
        """None where there is none; without its report."""

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Device]:
        """Newest first."""

    def all(self, parent: str) -> Iterable[Device]:
        """All devices of a project."""

    def change(self, name: str, change: Callable[[Device], Device], etag: str = "") -> Device:
        """Writes what `change` makes of a device. Raises NotFound, Aborted ETAG_MISMATCH."""

    def delete(self, name: str) -> None:
        """With its report. Raises NotFound."""

    def report(self, name: str, report: DeviceReport) -> None:
        """Takes down what a device said; an empty inventory leaves the one before."""


class RolloutStore(Protocol):
    """Roll-outs, as they are written down."""

    def create(self, rollout: Rollout, request: Request) -> Rollout:
        """Raises AlreadyExists; FailedPrecondition ROLLOUT_IN_PROGRESS while another one has the endpoint."""

    def repeated(self, request: Request) -> Rollout | None:
        """What this same request made before, if it did. Raises InvalidArgument for the same id with another body."""

    def get(self, name: str) -> Rollout:
        """Raises NotFound."""

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Rollout]:
        """Newest first."""

    def unsettled(self) -> Iterable[Rollout]:
        """Those that something is still to be done about."""

    def change(self, name: str, change: Callable[[Rollout], Rollout]) -> Rollout:
        """Writes what `change` makes of a roll-out, alone meanwhile. Raises NotFound, and what `change` raises."""
