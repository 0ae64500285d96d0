"""Devices: how they become known, how they show who they are, and what people say about them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from modelyard.core.errors import AlreadyExists, NotFound, PermissionDenied
from modelyard.core.names import DEVICE, ENROLMENT_TOKEN, PROJECT, check_id, new_id
from modelyard.serving.domain import device as rules
from modelyard.serving.domain.device import Device, DeviceReport, EnrolmentToken
from modelyard.serving.domain.fleet_tokens import Follower, TokenKind, mint, read
from modelyard.serving.fleet_ports import DeviceStore
from modelyard.serving.ports import Listed

CHALLENGE_S: Final = 300.0
SESSION_S: Final = 3600.0
DERIVED_ID: Final = 16

Verify = Callable[[bytes, bytes, bytes, str], str]
"""Given a public key (PEM), a signature, what is signed and its type: the key's id. Raises InvalidArgument, PermissionDenied."""


@dataclass(frozen=True)
class Devices:
    """`verify`: checks a device's signature. `secret`: what tokens are bound by. `state_key_id`: of the centre's key."""

    store: DeviceStore
    verify: Verify
    secret: Callable[[], bytes]
    state_key_id: Callable[[], str]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    # --- for devices

    def enrol(self, text: str, device_id: str, public_key: bytes, proof: bytes, report: DeviceReport, enrol_type: str) -> Device:
        """Makes a device known. Raises PermissionDenied (see domain.device.claimed), InvalidArgument.

        In this order: the token is claimed for this key and name in one step, then the device is written. Whoever comes again
        with the same token and key finds the same device.
        """
        token_id, _ = rules.token_parts(text)
        token = self._token(token_id)
        key_id = self.verify(public_key, proof, hashlib.sha256(text.encode()).digest(), enrol_type)
        project = token.name.split("/")[1]
        name = DEVICE.format(
            project, check_id(device_id or token.device.rpartition("/")[2] or f"d{key_id[:DERIVED_ID]}", "device_id")
        )
        rules.claimed(token, text, name, key_id, self.clock())  # before anything is told of devices
        existing = self.store.find(name)
        if existing is not None:
            rules.check_same_key(existing, token, key_id)
        token = self.store.claim(token.name, lambda held: rules.claimed(held, text, name, key_id, self.clock()))
        device = self._written(token, name, key_id, public_key.decode(), existing)
        self.store.report(name, report)
        return device

    def challenge(self, name: str) -> bytes:
        """Bytes for a device to sign; given to anybody, so that nobody learns which devices there are. Raises InvalidArgument."""
        DEVICE.parse(name, "device")
        follower = Follower(TokenKind.CHALLENGE, hashlib.sha256(name.encode()).hexdigest()[:32])
        return mint(self.secret(), follower, self._now_s() + CHALLENGE_S, secrets.token_urlsafe(12)).encode()

    def session(self, name: str, challenge: bytes, signature: bytes, session_type: str) -> tuple[str, float]:
        """A token, and for how many seconds it holds. Raises PermissionDenied, InvalidArgument."""
        DEVICE.parse(name, "device")
        asked = read(self.secret(), challenge.decode("ascii", "replace"), self._now_s(), TokenKind.CHALLENGE)
        if asked.subject != hashlib.sha256(name.encode()).hexdigest()[:32]:
            raise PermissionDenied("BAD_TOKEN", "the challenge was given to another device", field="challenge")
        device = rules.check_credential(self.store.find(name), name, "")
        key_id = self.verify(device.public_key.encode(), signature, challenge, session_type)
        return mint(self.secret(), Follower(TokenKind.DEVICE, name, key_id), self._now_s() + SESSION_S), SESSION_S

    def check(self, follower: Follower) -> None:
        """Whether a device's token is still good. Raises PermissionDenied DEVICE_UNKNOWN, DEVICE_REVOKED, KEY_REPLACED."""
        rules.check_credential(self.store.find(follower.subject), follower.subject, follower.key_id)

    # --- for people

    def create_token(
        self, parent: str, pattern: str, labels: Mapping[str, str], expire_time: datetime | None, replace_: bool
    ) -> tuple[EnrolmentToken, str]:
        """A one-time token, and what the device is given. Raises InvalidArgument."""
        project = PROJECT.parse(parent, "parent")["project"]
        id_ = new_id()
        text = rules.token_text(f"{project}~{id_}", secrets.token_urlsafe(32), self.state_key_id())
        token = EnrolmentToken(
            name=ENROLMENT_TOKEN.format(project, id_),
            sha256=rules.token_sha256(text),
            expire_time=rules.check_expiry(expire_time, self.clock()),
            name_pattern=rules.check_pattern(pattern),
            labels=rules.check_device_labels(labels, "enrolment_token.labels"),
            replace=replace_,
        )
        return self.store.create_token(token), text

    def list_tokens(self, parent: str, page_size: int, page_token: str) -> Listed[EnrolmentToken]:
        """Newest first. Raises InvalidArgument."""
        PROJECT.parse(parent, "parent")
        return self.store.tokens(parent, page_size, page_token)

    def delete_token(self, name: str) -> None:
        """Raises InvalidArgument, NotFound."""
        ENROLMENT_TOKEN.parse(name)
        self.store.delete_token(name)

    def get(self, name: str) -> Device:
        """Raises InvalidArgument, NotFound."""
        DEVICE.parse(name)
        return self.store.get(name)

    def list(self, parent: str, page_size: int, page_token: str, labels: Mapping[str, str]) -> Listed[Device]:
        """Newest first. Raises InvalidArgument."""
        PROJECT.parse(parent, "parent")
        page = self.store.list(parent, page_size, page_token)
        return Listed(tuple(device for device in page.items if rules.has_labels(device, labels)), page.next_page_token)

    def update(self, name: str, labels: Mapping[str, str] | None, description: str | None, etag: str) -> Device:
        """Raises InvalidArgument, NotFound, Aborted ETAG_MISMATCH."""
        DEVICE.parse(name)
        checked = None if labels is None else rules.check_device_labels(labels, "device.labels")
        text = None if description is None else rules.check_description(description)

        def change(device: Device) -> Device:
            return replace(
                device,
                labels=device.labels if checked is None else checked,
                description=device.description if text is None else text,
            )

        return self.store.change(name, change, etag)

    def revoke(self, name: str) -> Device:
        """Raises InvalidArgument, NotFound."""
        DEVICE.parse(name)
        return self.store.change(name, lambda device: replace(device, revoked=True))

    def delete(self, name: str) -> None:
        """Raises InvalidArgument, NotFound."""
        DEVICE.parse(name)
        self.store.delete(name)

    def _token(self, token_id: str) -> EnrolmentToken:
        project, dot, id_ = token_id.partition("~")
        name = f"projects/{project}/enrolmentTokens/{id_}"
        if not dot or not ENROLMENT_TOKEN.matches(name):
            raise rules.bad_token()
        try:
            return self.store.token(name)
        except NotFound:
            raise rules.bad_token() from None

    def _written(self, token: EnrolmentToken, name: str, key_id: str, public_key: str, existing: Device | None) -> Device:
        fresh = Device(name, key_id, public_key, self.clock(), dict(token.labels))
        if existing is None:
            try:
                return self.store.create(fresh)
            except AlreadyExists:  # another one took the name since it was looked for
                existing = self.store.get(name)
                rules.check_same_key(existing, token, key_id)
        if existing.key_id == key_id and not existing.revoked:
            return existing

        def change(device: Device) -> Device:
            labels = {**device.labels, **token.labels}
            return replace(device, key_id=key_id, public_key=public_key, enrol_time=self.clock(), labels=labels, revoked=False)

        return self.store.change(name, change)

    def _now_s(self) -> float:
        return self.clock().timestamp()
