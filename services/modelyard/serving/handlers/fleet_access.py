"""Who may call FleetService, and as whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelyard.core.errors import Unauthenticated
from modelyard.core.names import ENDPOINT, ENDPOINT_TARGET
from modelyard.serving.domain.fleet_tokens import Follower, TokenKind, mint, read


@dataclass(frozen=True)
class FleetAccess:
    """`secret`: what tokens are bound by. `clock`: seconds since 1970. `check_device`: whether a device's token is still good."""

    secret: Callable[[], bytes]
    clock: Callable[[], float]
    check_device: Callable[[Follower], None] = lambda _: None

    def follower(self, token: str) -> Follower:
        """Who bears a token. Raises Unauthenticated NO_TOKEN, BAD_TOKEN, SESSION_EXPIRED."""
        if not token:
            message = "the call carries no token; followers send `authorization: Bearer TOKEN`"
            raise Unauthenticated("NO_TOKEN", message, field="authorization")
        follower = read(self.secret(), token, self.clock(), TokenKind.DEVICE, TokenKind.POD)
        if follower.kind is TokenKind.DEVICE:
            self.check_device(follower)
        return follower

    def pod_token(self, endpoint: str, target: str) -> str:
        """The token of the pods of an endpoint and target: good until the centre's key changes. Raises InvalidArgument."""
        ids = ENDPOINT.parse(endpoint, "endpoint")
        subject = ENDPOINT_TARGET.format(ids["project"], ids["endpoint"], target)
        return mint(self.secret(), Follower(TokenKind.POD, subject))
