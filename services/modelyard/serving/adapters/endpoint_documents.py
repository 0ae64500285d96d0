"""Endpoints, deployments and events as the JSON documents that are kept of them. Older documents lack what is newer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.resources import Resource
from modelyard.serving.domain.changes import Line
from modelyard.serving.domain.endpoint import Deployment, DeploymentEvent, Endpoint, EventKind
from modelyard.serving.domain.placement import Placement
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.shadow import Shadow
from modelyard.serving.domain.traffic import Routing
from modelyard.serving.ports import NewEndpoint

Document = dict[str, Any]


def new_document(wanted: NewEndpoint) -> Document:
    """An endpoint that serves nothing yet."""
    policy = dataclasses.asdict(wanted.policy)
    placements = [dataclasses.asdict(placement) for placement in wanted.placements]
    return {
        "display_name": wanted.display_name,
        "policy": policy,
        "sticky_header": wanted.sticky_header,
        "placements": placements,
    }


def endpoint_document(endpoint: Endpoint) -> Document:
    """All of an endpoint but its name, times and etag."""
    shadow = endpoint.shadow
    return {
        "display_name": endpoint.display_name,
        "routing": _routing_document(endpoint.routing),
        "previous": _routing_document(endpoint.previous) if endpoint.previous else None,
        "change": endpoint.change,
        "change_time": endpoint.change_time.isoformat() if endpoint.change_time else None,
        "watched": endpoint.watched,
        "shadow": {"version": shadow.version, "percent": shadow.percent, "time": shadow.time.isoformat()} if shadow else None,
        "policy": dataclasses.asdict(endpoint.policy),
        "sticky_header": endpoint.sticky_header,
        "placements": [dataclasses.asdict(placement) for placement in endpoint.placements],
    }


def endpoint_of(stored: Resource) -> Endpoint:
    """The endpoint that a row is."""
    document = stored.document
    shadow = document.get("shadow")
    return Endpoint(
        name=stored.name,
        display_name=document["display_name"],
        create_time=stored.create_time,
        update_time=stored.update_time,
        etag=stored.etag,
        routing=_routing(document.get("routing")) or Routing(),
        previous=_routing(document.get("previous")),
        change=document.get("change", 0),
        change_time=datetime.fromisoformat(document["change_time"]) if document.get("change_time") else None,
        watched=document.get("watched", False),
        shadow=Shadow(shadow["version"], shadow["percent"], datetime.fromisoformat(shadow["time"])) if shadow else None,
        policy=RollbackPolicy(**document.get("policy", {})),
        sticky_header=document.get("sticky_header", ""),
        placements=tuple(Placement(**placement) for placement in document.get("placements", ())),
        revision=stored.revision,
    )


def deployment_document(deployment: Deployment) -> Document:
    """All of a deployment but its name and time."""
    return {
        "export": deployment.export,
        "gate_decision": deployment.gate_decision,
        "model_version": deployment.model_version,
        "artifact": dataclasses.asdict(deployment.artifact),
        "passport": dataclasses.asdict(deployment.passport) if deployment.passport else None,
        "unhealthy": deployment.unhealthy,
    }


def deployment_of(stored: Resource) -> Deployment:
    """The deployment that a row is."""
    document = stored.document
    return Deployment(
        name=stored.name,
        export=document["export"],
        gate_decision=document["gate_decision"],
        model_version=document["model_version"],
        artifact=Blob(**document["artifact"]),
        create_time=stored.create_time,
        passport=Blob(**document["passport"]) if document.get("passport") else None,
        unhealthy=document.get("unhealthy", False),
    )


def event_document(sequence: int, endpoint: Endpoint, line: Line) -> Document:
    """A line of the record. No uri in it: what is not served any more need not be kept."""
    return {
        "sequence": sequence,
        "kind": line.kind.value,
        "deployment": line.deployment.name,
        "artifact_sha256": line.deployment.artifact.sha256,
        "model_version": line.deployment.model_version,
        "detail": line.detail,
        "shares": endpoint.routing.shares,
        "labels": dict(endpoint.routing.labels),
    }


def event_of(stored: Resource) -> DeploymentEvent:
    """The line of the record that a row is."""
    document = stored.document
    return DeploymentEvent(
        sequence=document["sequence"],
        time=stored.create_time,
        kind=EventKind(document["kind"]),
        deployment=document["deployment"],
        artifact_sha256=document["artifact_sha256"],
        model_version=document["model_version"],
        detail=document.get("detail", ""),
        shares=document.get("shares", {}),
        labels=document.get("labels", {}),
    )


def _routing_document(routing: Routing) -> Document:
    return {"slots": _runs(routing.slots), "labels": dict(routing.labels)}


def _routing(document: Document | None) -> Routing | None:
    if document is None:
        return None
    return Routing(tuple(version for version, count in document["slots"] for _ in range(count)), document["labels"])


def _runs(slots: Sequence[str]) -> list[tuple[str, int]]:
    """Slots as runs of the same version: [("V003", 90), ("V004", 10)]."""
    return [(version, len(list(run))) for version, run in groupby(slots)]
