"""Tokens of an endpoint, for those who only ask it: made, listed, revoked, and known again when they come with a call."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from modelyard.core.access.principal import Kind, Principal
from modelyard.core.errors import InvalidArgument, NotFound, Unauthenticated
from modelyard.core.names import ENDPOINT, INFERENCE_TOKEN, new_id, parent_of
from modelyard.core.ports import Resources
from modelyard.core.resources import Resource

PREFIX: Final = "myi_"
LONGEST_NAME: Final = 200
LONGEST_LIFE: Final = timedelta(days=3653)
BELIEVED_S: Final = 5.0
"""How long a token is believed without a look at whether it was revoked."""
_TOKEN: Final = re.compile(rf"{PREFIX}([a-z][a-z0-9-]*)\.([a-z][a-z0-9-]*)\.([a-z][a-z0-9-]*)\.[A-Za-z0-9_-]{{43}}")


class Tokens(Resources, Protocol):
    """Where tokens are kept: among the service's resources."""

    def delete(self, name: str) -> None:
        """Raises NotFound."""


@dataclass(frozen=True)
class InferenceToken:
    """A token without what it is. `expires` None: never."""

    name: str
    display_name: str
    expires: datetime | None
    created: datetime
    creator: str


def create_token(
    tokens: Tokens, endpoint: str, display_name: str, expires: datetime | None, creator: str
) -> tuple[InferenceToken, str]:
    """Makes a token for an endpoint; gives it, and what it is, which is kept nowhere.

    Raises NotFound for an endpoint that is not there, InvalidArgument BAD_EXPIRE_TIME, DISPLAY_NAME_TOO_LONG.
    """
    ids = ENDPOINT.parse(endpoint, "parent")
    if len(display_name) > LONGEST_NAME:
        message = f"inference_token.display_name has {len(display_name)} characters; at most {LONGEST_NAME} are allowed"
        raise InvalidArgument("DISPLAY_NAME_TOO_LONG", message, field="inference_token.display_name")
    now = datetime.now(UTC)
    if expires is not None and not now < expires <= now + LONGEST_LIFE:
        message = f"inference_token.expire_time is {expires.isoformat()}; it must be after now, within ten years"
        raise InvalidArgument("BAD_EXPIRE_TIME", message, field="inference_token.expire_time")
    tokens.get(endpoint)
    token_id = new_id()
    secret = f"{PREFIX}{ids['project']}.{ids['endpoint']}.{token_id}.{secrets.token_urlsafe(32)}"
    document = {
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "display_name": display_name,
        "expires": expires.isoformat() if expires else "",
        "creator": creator,
    }
    name = INFERENCE_TOKEN.format(ids["project"], ids["endpoint"], token_id)
    return token_of(tokens.create(name, INFERENCE_TOKEN.collection, endpoint, document)), secret


def list_tokens(tokens: Tokens, endpoint: str, page_size: int, page_token: str) -> tuple[list[InferenceToken], str]:
    """A page of an endpoint's tokens, and the token of the next page. Raises NotFound."""
    ENDPOINT.parse(endpoint, "parent")
    tokens.get(endpoint)
    page = tokens.list(INFERENCE_TOKEN.collection, endpoint, page_size, page_token)
    return [token_of(item) for item in page.items], page.next_page_token


def revoke_token(tokens: Tokens, name: str) -> None:
    """Nobody is answered for it any more. Raises NotFound."""
    INFERENCE_TOKEN.parse(name)
    tokens.delete(name)


def principal_of(tokens: Tokens, token: str, digest: bytes) -> Principal | None:
    """Whom a token names (a core.access Verifier); None for what is no token of this sort.

    Raises Unauthenticated TOKEN_INVALID, TOKEN_EXPIRED.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    name = INFERENCE_TOKEN.template.format(project=found[1], endpoint=found[2], inference_token=found[3])
    endpoint = parent_of(name)
    try:
        kept, owner = tokens.get(name), tokens.get(endpoint)
    except NotFound:
        raise _unknown() from None
    same = hmac.compare_digest(str(kept.document["sha256"]), digest.hex())
    if not same or kept.create_time < owner.create_time:  # of an earlier endpoint of that name, which is gone
        raise _unknown()
    expires = token_of(kept).expires
    left = (expires - datetime.now(UTC)).total_seconds() if expires is not None else BELIEVED_S
    if left <= 0:
        raise Unauthenticated("TOKEN_EXPIRED", "the token has expired; get a new one")
    until = time.monotonic() + min(left, BELIEVED_S)
    return Principal(Kind.INFERENCE, f"inference:{found[1]}/{found[2]}/{found[3]}", scope=endpoint, until=until)


def token_of(resource: Resource) -> InferenceToken:
    """A stored token."""
    document = resource.document
    expires = datetime.fromisoformat(document["expires"]) if document["expires"] else None
    return InferenceToken(resource.name, document["display_name"], expires, resource.create_time, document["creator"])


def _unknown() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "the token is not known here")
