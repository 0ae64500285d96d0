"""Tokens that say whose calls they are: bound by the centre's secret to a subject, a key and a time. None is stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.errors import Unauthenticated

PREFIX: Final = "myf1."
"""How every token of a follower begins: other tokens of this system begin otherwise."""
MAX_LENGTH: Final = 2048


class TokenKind(StrEnum):
    """What a token lets its bearer do."""

    DEVICE = "device"
    POD = "pod"
    CHALLENGE = "challenge"


@dataclass(frozen=True)
class Follower:
    """Who calls: a device, or a pod of an endpoint and target. `key_id`: of the device's key; empty for a pod."""

    kind: TokenKind
    subject: str
    key_id: str = ""


def mint(secret: bytes, follower: Follower, expires: float = 0.0, nonce: str = "") -> str:
    """A token. `expires`: seconds since 1970 by the centre's clock; 0: never."""
    body = {"k": follower.kind.value, "s": follower.subject, "f": follower.key_id, "e": round(expires, 3), "n": nonce}
    payload = _text(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    return f"{PREFIX}{payload}.{_text(_mac(secret, payload))}"


def read(secret: bytes, token: str, now: float, *kinds: TokenKind) -> Follower:
    """Who bears a token. Raises Unauthenticated BAD_TOKEN, SESSION_EXPIRED."""
    payload, dot, mac = token.removeprefix(PREFIX).partition(".")
    sound = token.startswith(PREFIX) and len(token) <= MAX_LENGTH and token.isascii() and dot
    if not sound or not hmac.compare_digest(mac, _text(_mac(secret, payload))):
        raise _bad("it was not given out by this service")
    try:
        body = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        follower, expires = Follower(TokenKind(body["k"]), str(body["s"]), str(body["f"])), float(body["e"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:  # signed by us, so an older form of ours
        raise _bad("it is of another version of this service") from error
    if follower.kind not in kinds:
        raise _bad(f"it is for a {follower.kind.value}, and this call takes {' or '.join(kinds)}")
    if expires and now >= expires:
        raise Unauthenticated("SESSION_EXPIRED", "the token has expired; open another session", field="authorization")
    return follower


def _mac(secret: bytes, payload: str) -> bytes:
    return hmac.new(secret, payload.encode("ascii", "replace"), hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bad(what: str) -> Unauthenticated:
    return Unauthenticated("BAD_TOKEN", f"the token is refused: {what}", field="authorization")
