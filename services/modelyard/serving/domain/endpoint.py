"""Endpoints, the versions they serve, and the record of what served when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from modelyard.core.artifacts import Blob
from modelyard.core.errors import AlreadyExists, InvalidArgument

MAX_DISPLAY_NAME = 200
"""Characters of an endpoint's display name."""


class DeploymentState(StrEnum):
    """Where a deployment is in its life, on this server."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    UNHEALTHY = "UNHEALTHY"


class EventKind(StrEnum):
    """What happened to a version."""

    DEPLOYED = "DEPLOYED"
    UNDEPLOYED = "UNDEPLOYED"


@dataclass(frozen=True)
class Deployment:
    """A model version that an endpoint serves: what is written down about it. Its bytes belong to the serving service.

    `passport` is None where it was deployed before there were passports: it is not loaded until it is deployed again.
    """

    name: str
    export: str
    gate_decision: str
    model_version: str
    artifact: Blob
    create_time: datetime
    passport: Blob | None = None

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
    """A name under which versions answer."""

    name: str
    display_name: str
    create_time: datetime
    update_time: datetime
    etag: str


@dataclass(frozen=True)
class EndpointView:
    """An endpoint with its deployments, oldest first, as they fare on this server."""

    endpoint: Endpoint
    deployments: tuple[tuple[Deployment, Condition], ...]

    @property
    def default_version(self) -> str:
        """The version that answers when the caller names none; empty when none is READY."""
        ready = [deployment for deployment, condition in self.deployments if condition.state == DeploymentState.READY]
        return ready[-1].version if ready else ""


@dataclass(frozen=True)
class DeploymentEvent:
    """One line of the record. `sequence` rises by one from line to line of an endpoint."""

    sequence: int
    time: datetime
    kind: EventKind
    deployment: str
    artifact_sha256: str
    model_version: str


def check_display_name(display_name: str) -> str:
    """Raises InvalidArgument DISPLAY_NAME_TOO_LONG."""
    if len(display_name) > MAX_DISPLAY_NAME:
        message = f"endpoint.display_name has {len(display_name)} characters; at most {MAX_DISPLAY_NAME} are allowed"
        raise InvalidArgument("DISPLAY_NAME_TOO_LONG", message, field="endpoint.display_name", length=len(display_name))
    return display_name


def oldest_first(deployments: Iterable[Deployment]) -> list[Deployment]:
    """In the order in which they began to answer."""
    return sorted(deployments, key=lambda deployment: (deployment.create_time, deployment.name))


def same_deployment(existing: Deployment, export: str, sha256: str) -> Deployment:
    """The deployment that is there already, if it is what is asked for.

    Raises AlreadyExists VERSION_DEPLOYED where the version's name is taken by another export or other bytes.
    """
    if existing.export == export and existing.artifact.sha256 == sha256:
        return existing
    message = (
        f"{existing.name} exists and serves {existing.export}, not {export}. Delete it first: the same version must not "
        "mean other bytes while callers name it."
    )
    raise AlreadyExists(
        "VERSION_DEPLOYED", message, field="deployment.export", deployment=existing.name, serves=existing.export, export=export
    )
