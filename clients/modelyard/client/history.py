"""Which bytes answered when, put together from the record of an endpoint: list_deployment_events holds all it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from modelyard.client.names import last_part
from modelyard.serving.v1 import serving_pb2

CHAMPION = "champion"

_DEPLOYED = serving_pb2.DeploymentEvent.KIND_DEPLOYED
_UNDEPLOYED = serving_pb2.DeploymentEvent.KIND_UNDEPLOYED
_UNHEALTHY = serving_pb2.DeploymentEvent.KIND_UNHEALTHY
_RECOVERED = serving_pb2.DeploymentEvent.KIND_RECOVERED


@dataclass(frozen=True)
class Answering:
    """A version that was there at a moment. `percent`: its share of the requests that named no version.

    `unhealthy`: its process had ended again and again on a server, where others took its share.
    """

    version: str
    percent: int
    artifact_sha256: str
    model_version: str
    unhealthy: bool = False


def answering_at(events: Iterable[serving_pb2.DeploymentEvent], time: datetime | None = None) -> dict[str, Answering]:
    """The versions that were there at a time (aware; None: after the last event), by the names callers used, oldest first.

    `events`: the endpoint's record, in any order, complete up to that time.
    """
    there: dict[str, Answering] = {}
    shares: dict[str, int] = {}
    for event in sorted(events, key=lambda event: event.sequence):
        if time is not None and event.time.ToDatetime(UTC) > time:
            break
        _follow(there, event)
        labels = {label.label: label.deployment for label in event.labels}
        set_ = {share.deployment: share.percent for share in event.traffic}
        shares = set_ or _without_shares(there, labels)
    return {version: replace(one, percent=shares.get(version, 0)) for version, one in there.items()}


def _follow(there: dict[str, Answering], event: serving_pb2.DeploymentEvent) -> None:
    version = last_part(event.deployment)
    if event.kind == _DEPLOYED:
        there.pop(version, None)  # made again: it is the newest now
        there[version] = Answering(version, 0, event.artifact_sha256, event.model_version)
    elif event.kind == _UNDEPLOYED:
        there.pop(version, None)
    elif event.kind in (_UNHEALTHY, _RECOVERED) and version in there:
        there[version] = replace(there[version], unhealthy=event.kind == _UNHEALTHY)


def _without_shares(there: dict[str, Answering], labels: dict[str, str]) -> dict[str, int]:
    """Where no shares are set the champion answers all, and where there is none the newest."""
    champion = labels.get(CHAMPION, "")
    answers = champion if champion in there else next(reversed(there), "")
    return {answers: 100} if answers else {}
