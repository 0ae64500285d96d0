"""Devices outside the cluster, and the tokens they enrol with."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from modelyard.serving.domain.desired_state import Trial
from modelyard.serving.domain.following import FollowedState

MAX_LABELS: Final = 64
MAX_TEXT: Final = 500
MAX_TOKEN_LIFE: Final = timedelta(days=90)
TOKEN_LIFE: Final = timedelta(hours=24)
TOKEN_PREFIX: Final = "mye1"  # noqa: S105  how each begins, no secret

_LABEL_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_LABEL_VALUE = re.compile(r"[\x20-\x7e]{0,63}")
_PATTERN = re.compile(r"[a-z0-9*-]{1,63}")


class DeviceState(StrEnum):
    """Where a device is: computed when it is asked for."""

    ENROLLED = "ENROLLED"
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    REVOKED = "REVOKED"


@dataclass(frozen=True)
class Assignment:
    """A version that a device is to serve for an endpoint; `attempt`: the roll-out that brought it."""

    endpoint: str
    version: str
    artifact: Blob
    passport: Blob
    release: int
    attempt: str
    model_version: str = ""
    downgrade_allowed: bool = False
    trial: Trial | None = None


@dataclass(frozen=True)
class ReportedVersion:
    """How far a version is on a device, as the device says."""

    endpoint: str
    version: str
    sha256: str
    attempt: str
    state: FollowedState
    message: str = ""


@dataclass(frozen=True)
class DeviceReport:
    """What a device said last, and when. `content` and `inventory`: all of it, as JSON documents of the contract."""

    time: datetime
    versions: tuple[ReportedVersion, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    inventory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """A device. `public_key`: PEM; `key_id`: the sha256 of it."""

    name: str
    key_id: str
    public_key: str
    enrol_time: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    revoked: bool = False
    assignments: Mapping[str, Assignment] = field(default_factory=dict)
    report: DeviceReport | None = None
    create_time: datetime | None = None
    etag: str = ""

    def state(self, now: datetime, offline_after: timedelta) -> DeviceState:
        """Where it is now."""
        if self.revoked:
            return DeviceState.REVOKED
        if self.report is None:
            return DeviceState.ENROLLED
        return DeviceState.ONLINE if now - self.report.time < offline_after else DeviceState.OFFLINE


@dataclass(frozen=True)
class EnrolmentToken:
    """Lets one device enrol once. `sha256`: of what the device is given. `device`, `key_id`: who used it."""

    name: str
    sha256: str
    expire_time: datetime
    name_pattern: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False
    device: str = ""
    key_id: str = ""
    create_time: datetime | None = None


def token_text(token_id: str, secret: str, state_key_id: str) -> str:
    """What a device is given: which token, the secret, and by which key it will know the centre."""
    return f"{TOKEN_PREFIX}.{token_id}.{secret}.{state_key_id}"


def token_parts(text: str) -> tuple[str, str]:
    """The token's id, and the key that the centre must show. Raises PermissionDenied BAD_ENROLMENT_TOKEN."""
    parts = text.split(".")
    if len(parts) != 4 or parts[0] != TOKEN_PREFIX or len(text) > 500 or not text.isascii() or not all(parts):
        raise bad_token()
    return parts[1], parts[3]


def token_sha256(text: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def bad_token() -> PermissionDenied:
    """The error for a token that nobody gave out: which part of it is wrong is not told."""
    return PermissionDenied("BAD_ENROLMENT_TOKEN", "the enrolment token is not known here", field="token")


def claimed(token: EnrolmentToken, text: str, device: str, key_id: str, now: datetime) -> EnrolmentToken:
    """The token once a device has used it; the same device with the same key may say so again.

    Raises PermissionDenied BAD_ENROLMENT_TOKEN, ENROLMENT_TOKEN_USED, ENROLMENT_TOKEN_EXPIRED, NAME_NOT_ALLOWED.
    """
    if not hmac.compare_digest(token.sha256, token_sha256(text)):
        raise bad_token()
    if token.device:
        if (token.device, token.key_id) == (device, key_id):
            return token
        message = "the enrolment token was used already, by another key; if that was not this device, revoke that device"
        raise PermissionDenied("ENROLMENT_TOKEN_USED", message, field="token", device=token.device)
    if now >= token.expire_time:
        message = f"the enrolment token expired at {token.expire_time.isoformat(timespec='seconds')}; ask for a new one"
        raise PermissionDenied("ENROLMENT_TOKEN_EXPIRED", message, field="token")
    id_ = device.rpartition("/")[2]
    if token.name_pattern and not fnmatchcase(id_, token.name_pattern):
        message = f"device_id is {id_!r}; this token lets names through that look like {token.name_pattern!r}"
        raise PermissionDenied("NAME_NOT_ALLOWED", message, field="device_id", value=id_, pattern=token.name_pattern)
    return EnrolmentToken(**{**vars(token), "device": device, "key_id": key_id})


def check_same_key(existing: Device, token: EnrolmentToken, key_id: str) -> None:
    """Whether a device that is there may enrol (again). Raises PermissionDenied DEVICE_EXISTS."""
    if existing.key_id == key_id and not existing.revoked:
        return
    if not token.replace:
        message = (
            f"{existing.name} is there already, with another key. A token with `replace` puts this device in its place; "
            "else give it another name"
        )
        raise PermissionDenied("DEVICE_EXISTS", message, field="device_id", device=existing.name)


def check_expiry(expire_time: datetime | None, now: datetime) -> datetime:
    """When a token stops being good. Raises InvalidArgument BAD_EXPIRE_TIME."""
    chosen = expire_time or now + TOKEN_LIFE
    if not now < chosen <= now + MAX_TOKEN_LIFE:
        message = f"enrolment_token.expire_time is {chosen.isoformat()}; it must be after now, and at most 90 days ahead"
        raise InvalidArgument("BAD_EXPIRE_TIME", message, field="enrolment_token.expire_time", value=chosen.isoformat())
    return chosen


def check_pattern(pattern: str) -> str:
    """Raises InvalidArgument BAD_NAME_PATTERN."""
    if pattern and not _PATTERN.fullmatch(pattern):
        right = "1 to 63 of a-z, 0-9, '-' and '*'"
        message = f"enrolment_token.name_pattern is {pattern[:100]!r}; it must be {right}, or empty"
        raise InvalidArgument("BAD_NAME_PATTERN", message, field="enrolment_token.name_pattern", value=pattern[:100])
    return pattern


def check_device_labels(labels: Mapping[str, str], field_: str) -> dict[str, str]:
    """Raises InvalidArgument TOO_MANY_LABELS, BAD_LABEL."""
    if len(labels) > MAX_LABELS:
        message = f"{field_} has {len(labels)} labels; at most {MAX_LABELS} are allowed"
        raise InvalidArgument("TOO_MANY_LABELS", message, field=field_)
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            right = "a key is 1 to 63 letters, digits, '.', '_' and '-', first a letter; a value up to 63 printable characters"
            raise InvalidArgument("BAD_LABEL", f"{field_} has {key[:80]!r}={value[:80]!r}; {right}", field=field_, value=key[:80])
    return dict(sorted(labels.items()))


def check_description(text: str) -> str:
    """Raises InvalidArgument DESCRIPTION_TOO_LONG."""
    if len(text) > MAX_TEXT:
        message = f"device.description has {len(text)} characters; at most {MAX_TEXT} are allowed"
        raise InvalidArgument("DESCRIPTION_TOO_LONG", message, field="device.description", length=len(text))
    return text


def has_labels(device: Device, labels: Mapping[str, str]) -> bool:
    """Whether a device has all of these labels, with these values."""
    return all(device.labels.get(key) == value for key, value in labels.items())


def check_credential(device: Device | None, name: str, key_id: str) -> Device:
    """The device, if what it calls with is still good. Raises PermissionDenied DEVICE_UNKNOWN, DEVICE_REVOKED, KEY_REPLACED."""
    if device is None:
        raise PermissionDenied("DEVICE_UNKNOWN", f"{name} is not known here; it was deleted, or never enrolled", device=name)
    if device.revoked:
        raise PermissionDenied(
            "DEVICE_REVOKED", f"{name} was revoked; it may enrol again with a token that replaces", device=name
        )
    if key_id and key_id != device.key_id:
        raise PermissionDenied("KEY_REPLACED", f"{name} has enrolled anew with another key", device=name)
    return device


def no_devices(selector: str) -> FailedPrecondition:
    """The error for a selector that fits nothing."""
    message = f"no device that is not revoked fits the selector ({selector})"
    return FailedPrecondition("NO_DEVICES", message, field="rollout.selector")
