"""Who calls, and what its roles let it do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from modelyard.core.errors import InvalidArgument

EVERY_PROJECT = "*"


class Role(IntEnum):
    """What a principal may do in a project; each includes those below it."""

    NONE = 0
    VIEWER = 1
    """Read everything; ask endpoints for predictions."""
    ANNOTATOR = 2
    """Label examples in annotation rounds; review where a round says so."""
    EDITOR = 3
    """Import, train, export, evaluate; cancel and delete that."""
    DEPLOYER = 4
    """Change what serves: endpoints, deployments, traffic, devices, inference tokens."""
    ADMIN = 5
    """See the audit log."""


class Kind(StrEnum):
    """What sort of principal it is."""

    USER = "user"
    SERVICE = "service"
    JOB = "job"
    INFERENCE = "inference"
    DEVICE = "device"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Principal:
    """Somebody whom a token, a certificate or the lack of any question has named.

    `name` is for people and the audit log: "user:anna", "service:trainer". `roles` by project or "*". `scope`: the one resource
    that a job, inference or device token is for. `until`: when it must be asked again, as time.monotonic(). `owner`: the
    user whose own server it is (embedded), and who can read by other means whatever it can.
    """

    kind: Kind
    name: str
    roles: Mapping[str, Role] = field(default_factory=dict)
    scope: str = ""
    until: float = math.inf
    owner: bool = False

    def role_in(self, project: str) -> Role:
        """Its role in a project; with "*": in every project."""
        everywhere = self.roles.get(EVERY_PROJECT, Role.NONE)
        return max(everywhere, self.roles.get(project, Role.NONE))

    def projects(self) -> list[str]:
        """Where it has any role."""
        return [project for project, role in self.roles.items() if role > Role.NONE]


ANYBODY = Principal(Kind.ANONYMOUS, "anonymous", {EVERY_PROJECT: Role.ADMIN})
"""Who calls where nobody is asked."""


def role_named(text: object, where: str) -> Role:
    """viewer, annotator, editor, deployer or admin. Raises InvalidArgument BAD_ROLE."""
    found = str(text).upper()
    if found in Role.__members__ and found != "NONE":
        return Role[found]
    known = ", ".join(role.name.lower() for role in Role if role)
    raise InvalidArgument("BAD_ROLE", f"{where} is {str(text)[:60]!r}; it must be one of {known}", field=where)
