"""What a device keeps on its disk beside bundles: its key, who it is, what it accepted last, what it remembers of each model.

Every file is written whole under another name, synced, and renamed, for its owner only (0600); the one before is kept, and
read where a worn-out card has spoiled the newest. So a power cut at any moment leaves the state before or the state after.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from modelyard.formats.passport_keys import SigningKey, own_signing_key
from modelyard.serving.adapters.bundle_cache import sync_folder
from modelyard.serving.domain.desired_state import DesiredVersion
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.trial import ModelMemory, Refusal

log = structlog.get_logger()
KEY: Final = "device.pem"
IDENTITY: Final = "identity.json"
MEMORY: Final = "memory.json"
COUNTS: Final = "counts.json"


@dataclass(frozen=True)
class Identity:
    """Who a device is. `device`: its resource name; `token_sha256`: of the token it enrolled with; `state_keys`: PEM."""

    device: str
    token_sha256: str
    state_keys: tuple[str, ...]


@dataclass(frozen=True)
class Accepted:
    """The desired state that was accepted last: the centre's signed bytes, and the keys that may sign the next one."""

    number: int = 0
    digest: str = ""
    envelope: bytes = b""
    state_keys: tuple[bytes, ...] = ()


class DeviceFile:
    """The files of a device in a folder of its own (0700). For one process; see handlers.follow_device.DeviceMemory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        found = read_json(folder / MEMORY) or {}
        self._models = {name: _memory(document) for name, document in found.get("models", {}).items()}
        self._accepted = _accepted(found.get("accepted"))

    @property
    def key(self) -> SigningKey:
        """The device's own key, made at the first call."""
        return own_signing_key(self._folder / KEY)

    @property
    def identity(self) -> Identity | None:
        """None before the device has enrolled."""
        found = read_json(self._folder / IDENTITY)
        return Identity(found["device"], found["token_sha256"], tuple(found["state_keys"])) if found else None

    def enrolled(self, identity: Identity) -> None:
        """Takes down who it is."""
        write_json(self._folder / IDENTITY, asdict(identity))

    @property
    def accepted(self) -> Accepted:
        """What was accepted last."""
        return self._accepted

    def accept(self, accepted: Accepted) -> None:
        """Takes down a desired state: on the disk when this returns."""
        self._accepted = accepted
        self._write()

    def models(self) -> dict[str, ModelMemory]:
        """See DeviceMemory."""
        return dict(self._models)

    def write(self, memory: ModelMemory) -> None:
        """See DeviceMemory."""
        if self._models.get(memory.endpoint) != memory:
            self._models = {**self._models, memory.endpoint: memory}
            self._write()

    def forget(self, endpoint: str) -> None:
        """See DeviceMemory."""
        self._models = {name: memory for name, memory in self._models.items() if name != endpoint}
        self._write()

    def counts(self) -> dict[str, Any]:
        """Totals of versions until the last stop; see adapters.follower_report."""
        return read_json(self._folder / COUNTS) or {}

    def keep_counts(self, counts: Mapping[str, Any]) -> None:
        """Takes totals down."""
        write_json(self._folder / COUNTS, dict(counts))

    def _write(self) -> None:
        models = {name: _document(memory) for name, memory in self._models.items()}
        kept = self._accepted
        accepted = {
            "number": kept.number,
            "digest": kept.digest,
            "envelope": base64.b64encode(kept.envelope).decode(),
            "state_keys": [pem.decode() for pem in kept.state_keys],
        }
        write_json(self._folder / MEMORY, {"models": models, "accepted": accepted})


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A document with its own checksum, whole or not at all."""
    body = json.dumps(document, sort_keys=True)
    data = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode()
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        before = path.with_name(f"{path.name}.before")
        before.unlink(missing_ok=True)
        os.link(path, before)
    os.replace(temporary, path)
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """A document, or the one before it where it cannot be read; None where there is neither."""
    for place in (path, path.with_name(f"{path.name}.before")):
        try:
            outer = json.loads(place.read_bytes())
            if hashlib.sha256(outer["body"].encode()).hexdigest() == outer["sha256"]:
                return dict(json.loads(outer["body"]))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        log.error("a file of this device is spoiled; the one before it is used", file=str(place))
    return None


def _document(memory: ModelMemory) -> dict[str, Any]:
    return {
        "endpoint": memory.endpoint,
        "model": memory.model,
        "confirmed": _version_document(memory.confirmed),
        "previous": _version_document(memory.previous),
        "trial": _version_document(memory.trial),
        "starts": memory.starts,
        "refused": [asdict(refusal) for refusal in memory.refused],
        "release": memory.release,
    }


def _memory(document: Mapping[str, Any]) -> ModelMemory:
    return ModelMemory(
        endpoint=document["endpoint"],
        model=document["model"],
        confirmed=_version(document["confirmed"]),
        previous=_version(document["previous"]),
        trial=_version(document["trial"]),
        starts=document["starts"],
        refused=tuple(Refusal(**{**each, "state": FollowedState(each["state"])}) for each in document["refused"]),
        release=document["release"],
    )


def _version_document(version: DesiredVersion | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {**asdict(version), "passport": base64.b64encode(version.passport).decode()}


def _version(document: Mapping[str, Any] | None) -> DesiredVersion | None:
    if document is None:
        return None
    return DesiredVersion(**{**document, "passport": base64.b64decode(document["passport"])})


def _accepted(document: Mapping[str, Any] | None) -> Accepted:
    if document is None:
        return Accepted()
    return Accepted(
        document["number"],
        document["digest"],
        base64.b64decode(document["envelope"]),
        tuple(pem.encode() for pem in document["state_keys"]),
    )
