"""Endpoints, the versions they serve, and the record of what served when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import AlreadyExists, InvalidArgument
from modelyard.serving.domain.placement import Placement, Pod
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.shadow import Shadow
from modelyard.serving.domain.traffic import CANARY, CHAMPION, Routing

MAX_DISPLAY_NAME = 200
"""Characters of an endpoint's display name."""
MAX_REASON: Final = 500
"""Characters of the reason for a rollback."""

_DEPLOYMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_STICKY_HEADER = re.compile(r"[a-z0-9-]{1,64}")


class DeploymentState(StrEnum):
    """Where a deployment is in its life, on this server."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    UNHEALTHY = "UNHEALTHY"
    UNLOADED = "UNLOADED"
    """A caller of the inference protocol took it out of memory."""


class EventKind(StrEnum):
    """What happened."""

    DEPLOYED = "DEPLOYED"
    UNDEPLOYED = "UNDEPLOYED"
    TRAFFIC_CHANGED = "TRAFFIC_CHANGED"
    ROLLED_BACK = "ROLLED_BACK"
    UNHEALTHY = "UNHEALTHY"
    RECOVERED = "RECOVERED"
    SHADOW_CHANGED = "SHADOW_CHANGED"


@dataclass(frozen=True)
class Deployment:
    """A model version that an endpoint serves: what is written down about it. Its bytes belong to the serving service.

    `passport` is None where it was deployed before there were passports: it is not loaded until it is deployed again.
    `unhealthy`: the last line of the record about its health says so.
    """

    name: str
    export: str
    gate_decision: str
    model_version: str
    artifact: Blob
    create_time: datetime
    passport: Blob | None = None
    unhealthy: bool = False

    @property
    def version(self) -> str:
        """The version that callers name: V001..."""
        return self.name.rpartition("/")[2]

    @property
    def endpoint(self) -> str:
        """projects/{project}/endpoints/{endpoint}"""
        return self.name.rpartition("/deployments/")[0]


@dataclass(frozen=True)
class Condition:
    """How a deployment fares on this server; `message` says why it is FAILED."""

    state: DeploymentState
    message: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A name under which versions answer.

    `previous`: shares and labels before the last change of `routing`; None where there is nothing to go back to. `change` rises
    with each such change, of which the last was at `change_time`; `watched`: that change may be taken back by itself.
    `placements`: where its versions live when they live in pods; empty: as this server usually does. `revision` rises with
    whatever is written.
    """

    name: str
    display_name: str
    create_time: datetime
    update_time: datetime
    etag: str
    routing: Routing = field(default_factory=Routing)
    previous: Routing | None = None
    change: int = 0
    change_time: datetime | None = None
    watched: bool = False
    shadow: Shadow | None = None
    policy: RollbackPolicy = field(default_factory=RollbackPolicy)
    sticky_header: str = ""
    placements: tuple[Placement, ...] = ()
    revision: int = 0


@dataclass(frozen=True)
class DeploymentView:
    """A deployment as it fares on this server; `threads` is 0 where it is not loaded, `batching_note` says why not batched."""

    deployment: Deployment
    condition: Condition
    batched: bool = False
    batching_note: str = ""
    threads: int = 0


@dataclass(frozen=True)
class PlacementView:
    """A placement as it stands: pods wanted now, seconds of the last cold start, where callers reach them directly."""

    placement: Placement
    wanted: int
    cold_start_s: float = 0.0
    address: str = ""


@dataclass(frozen=True)
class EndpointView:
    """An endpoint with its deployments, oldest first, as they fare on this server, and its pods where it has some."""

    endpoint: Endpoint
    deployments: tuple[DeploymentView, ...]
    pods: tuple[Pod, ...] = ()
    placements: tuple[PlacementView, ...] = ()

    @property
    def default_version(self) -> str:
        """The version that most callers who name none get; empty when none is READY."""
        ready = [view.deployment.version for view in self.deployments if view.condition.state == DeploymentState.READY]
        return default_of(self.endpoint.routing, ready)


@dataclass(frozen=True)
class DeploymentEvent:
    """One line of the record. `sequence` rises by one from line to line of an endpoint."""

    sequence: int
    time: datetime
    kind: EventKind
    deployment: str
    artifact_sha256: str
    model_version: str
    detail: str = ""
    shares: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def default_of(routing: Routing, ready: Iterable[str]) -> str:
    """The version that most callers who name none get. `ready`: those that answer, oldest first; empty without any.

    Of those with a share the one with most, the champion before others; else the champion, else the newest.
    """
    answering = list(ready)
    champion = routing.labels.get(CHAMPION, "")
    shares = {version: percent for version, percent in routing.shares.items() if version in answering}
    if shares:
        return max(shares, key=lambda version: (shares[version], version == champion))
    if champion in answering:
        return champion
    return answering[-1] if answering else ""


def check_display_name(display_name: str) -> str:
    """Raises InvalidArgument DISPLAY_NAME_TOO_LONG."""
    if len(display_name) > MAX_DISPLAY_NAME:
        message = f"endpoint.display_name has {len(display_name)} characters; at most {MAX_DISPLAY_NAME} are allowed"
        raise InvalidArgument("DISPLAY_NAME_TOO_LONG", message, field="endpoint.display_name", length=len(display_name))
    return display_name


def oldest_first(deployments: Iterable[Deployment]) -> list[Deployment]:
    """In the order in which they began to answer."""
    return sorted(deployments, key=lambda deployment: (deployment.create_time, deployment.name))


def check_deployment_id(deployment_id: str, labels: Iterable[str]) -> str:
    """The id. Raises InvalidArgument BAD_DEPLOYMENT_ID where it has the wrong form or is a label of the endpoint."""
    if not _DEPLOYMENT_ID.fullmatch(deployment_id):
        right = "it must be 1 to 63 of A-Z, a-z, 0-9 and '-', starting with a letter; empty means the model version's"
    elif deployment_id.lower() in {CHAMPION, CANARY, *labels}:
        right = "it is a label; callers could not tell which is meant"
    else:
        return deployment_id
    message = f"deployment_id is {deployment_id[:100]!r}: {right}"
    raise InvalidArgument("BAD_DEPLOYMENT_ID", message, field="deployment_id", value=deployment_id[:100])


def check_sticky_header(header: str) -> str:
    """The name of a header; empty is none. Raises InvalidArgument BAD_STICKY_HEADER."""
    if not header or _STICKY_HEADER.fullmatch(header):
        return header
    message = f"endpoint.sticky_header is {header[:100]!r}; it must be 1 to 64 of a-z, 0-9 and '-', or empty"
    raise InvalidArgument("BAD_STICKY_HEADER", message, field="endpoint.sticky_header", value=header[:100])


def check_reason(reason: str) -> str:
    """Why somebody rolls back. Raises InvalidArgument REASON_TOO_LONG."""
    if len(reason) <= MAX_REASON:
        return reason
    message = f"reason has {len(reason)} characters; at most {MAX_REASON} are allowed"
    raise InvalidArgument("REASON_TOO_LONG", message, field="reason", length=len(reason))


def same_deployment(existing: Deployment, export: str, sha256: str, free_id: str = "") -> Deployment:
    """The deployment that is there already, if it is what is asked for. `free_id`: an id under which this export could be too.

    Raises AlreadyExists VERSION_DEPLOYED where the version's name is taken by another export or other bytes.
    """
    if existing.export == export and existing.artifact.sha256 == sha256:
        return existing
    advice = f"Give it another deployment_id, {free_id!r} is free, or delete" if free_id else "Delete"
    message = (
        f"{existing.name} exists and serves {existing.export}, not {export}. {advice} the old one first: the same version must "
        "not mean other bytes while callers name it."
    )
    raise AlreadyExists(
        "VERSION_DEPLOYED",
        message,
        field="deployment.export",
        deployment=existing.name,
        serves=existing.export,
        export=export,
        free_id=free_id,
    )


def free_id(version: str, precision: str, taken: Iterable[str]) -> str:
    """An id for one more export of a version: V003-int8, or with a number where that is taken too."""
    known = set(taken)
    ending = re.sub(r"[^A-Za-z0-9-]", "-", precision) or "2"
    wanted = f"{version[:50]}-{ending[:10]}"
    numbers = (f"{version[:50]}-{number}" for number in range(2, len(known) + 3))
    return wanted if wanted not in known else next(each for each in numbers if each not in known)
