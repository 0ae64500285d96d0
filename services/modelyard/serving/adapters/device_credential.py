"""How a device becomes known to the centre, and how it shows at each call that it is that device."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Final

from modelyard.core.errors import PermissionDenied
from modelyard.formats.passport import encode
from modelyard.formats.passport_keys import SigningKey, public_key_of
from modelyard.serving.adapters.device_file import DeviceFile, Identity
from modelyard.serving.adapters.fleet_link import FleetLink
from modelyard.serving.domain.device import token_parts, token_sha256
from modelyard.serving.state_messages import ENROL_TYPE, SESSION_TYPE
from modelyard.serving.v1 import fleet_pb2

RENEW: Final = 0.8
"""Share of a session's life after which another one is opened."""


def enrol(link: FleetLink, file: DeviceFile, token: str, device_id: str, inventory: fleet_pb2.Inventory) -> Identity:
    """Makes this device known, or finds that it is. The key is on the disk before anybody hears of it, so an answer that is lost
    is asked for again with the same key. Raises PermissionDenied CENTRE_UNKNOWN where the centre has not the key that the token
    names, and what FleetService.Enrol raises.
    """
    _, expected = token_parts(token)
    key = file.key
    proof = key.sign(encode(hashlib.sha256(token.encode()).digest(), ENROL_TYPE))
    answer = link.enrol(token, device_id, key.public.pem, proof, inventory)
    found = [public_key_of(pem).key_id for pem in answer.state_keys]
    if expected not in found:
        message = f"the centre shows the keys {', '.join(found)}; the token was given out by one with {expected}"
        raise PermissionDenied("CENTRE_UNKNOWN", message, field="token")
    identity = Identity(answer.device, token_sha256(token), tuple(pem.decode() for pem in answer.state_keys))
    file.enrolled(identity)
    return identity


class DeviceSession:
    """The token for a device's calls: asked for when it is needed, by signing what the centre says. Times are monotonic."""

    def __init__(self, open_link: Callable[[], FleetLink], key: SigningKey, device: str) -> None:
        self._open_link, self._key, self._device = open_link, key, device
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        """A token that holds. Raises what the centre says, and Unavailable."""
        with self._lock:
            if not self._token or time.monotonic() >= self._until:
                self._open()
            return self._token

    def forget(self) -> None:
        """The token was refused: another one is asked for at the next call."""
        with self._lock:
            self._token = ""

    def _open(self) -> None:
        link = self._open_link()
        challenge = link.challenge(self._device)
        signature = self._key.sign(encode(challenge, SESSION_TYPE))
        self._token, lifetime_s = link.open_session(self._device, challenge, signature)
        self._until = time.monotonic() + RENEW * lifetime_s
