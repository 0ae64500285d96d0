"""What changes of an endpoint make of it, and the lines of the record they write. Each is decided in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.serving.domain.endpoint import Deployment, Endpoint, EventKind
from modelyard.serving.domain.shadow import Shadow
from modelyard.serving.domain.traffic import CANARY, CHAMPION, Routing, described, gained, moved, with_share


@dataclass(frozen=True)
class Line:
    """A line of the record to be written; shares and labels are those of the endpoint after the change."""

    kind: EventKind
    deployment: Deployment
    detail: str = ""


@dataclass(frozen=True)
class Changed:
    """An endpoint after a change, and what the record says of it; without lines and changes nothing is written."""

    endpoint: Endpoint
    lines: tuple[Line, ...] = ()


def deployed(
    endpoint: Endpoint,
    existing: Sequence[Deployment],
    new: Deployment,
    percent: int | None,
    time: datetime,
    *,
    again: bool = False,
) -> Changed:
    """A version begins to answer, with `percent` of the traffic (None: all of it, and the champion label).

    `existing`: the versions there are already, oldest first; `again`: it is one of them. Raises FailedPrecondition
    NOTHING_ELSE_ANSWERS where it shall not have all, and there is no other to have the rest.
    """
    newest = _newest(existing)
    before = endpoint.routing.filled(newest)
    after = _with_new(before, new.version, 100 if percent is None else percent)
    changed = _moved(endpoint, newest, after, time)
    detail = described(before, after)
    if again:
        return Changed(changed, (Line(EventKind.TRAFFIC_CHANGED, new, detail),) if changed is not endpoint else ())
    return Changed(changed, (Line(EventKind.DEPLOYED, new, detail),))


def undeployed(endpoint: Endpoint, deployments: Sequence[Deployment], version: str, *, others_ready: bool) -> Changed:
    """A version goes, with its labels. `deployments`: with it, oldest first.

    Raises FailedPrecondition DEPLOYMENT_HAS_TRAFFIC where it has a share that others are ready to take.
    """
    gone = next(each for each in deployments if each.version == version)
    others = [each.version for each in deployments if each is not gone]
    percent = endpoint.routing.filled(_newest(deployments)).shares.get(version, 0)
    if percent and others and others_ready:
        raise _has_traffic(gone, percent, others[-1])
    previous = endpoint.previous.without(version) if endpoint.previous else None
    shadow = endpoint.shadow if endpoint.shadow and endpoint.shadow.version != version else None
    after = endpoint.routing.without(version)
    changed = replace(endpoint, routing=after, previous=previous if previous and previous.slots else None, shadow=shadow)
    details = [described(endpoint.routing, after), "" if shadow == endpoint.shadow else "no shadow any more"]
    return Changed(changed, (Line(EventKind.UNDEPLOYED, gone, "; ".join(filter(None, details))),))


def rerouted(endpoint: Endpoint, deployments: Sequence[Deployment], wanted: Routing, time: datetime) -> Changed:
    """Shares and labels become what a caller wants. `deployments`: oldest first."""
    newest = _newest(deployments)
    changed = _moved(endpoint, newest, wanted, time)
    if changed is endpoint or not deployments:
        return Changed(endpoint)
    before, after = endpoint.routing.filled(newest), wanted.filled(newest)
    line = Line(EventKind.TRAFFIC_CHANGED, _subject(before, after, deployments), described(before, after))
    return Changed(changed, (line,))


def rolled_back(endpoint: Endpoint, deployments: Sequence[Deployment], why: str, time: datetime) -> Changed:
    """Shares and labels as before their last change; done again, as after it. Raises FailedPrecondition NOTHING_TO_ROLL_BACK."""
    previous = endpoint.previous
    if previous is None:
        message = f"{endpoint.name} has no earlier traffic to go back to: it never changed, or a version that had a share is gone"
        raise FailedPrecondition("NOTHING_TO_ROLL_BACK", message, endpoint=endpoint.name)
    newest = _newest(deployments)
    before = endpoint.routing.filled(newest)
    changed = replace(_moved(endpoint, newest, previous, time), watched=False)
    detail = "; ".join(filter(None, (described(before, previous), why)))
    return Changed(changed, (Line(EventKind.ROLLED_BACK, _subject(previous, before, deployments), detail),))


def shadowed(endpoint: Endpoint, deployments: Sequence[Deployment], shadow: Shadow | None) -> Changed:
    """The shadow is set or taken away; the same one set again goes on as it is."""
    old = endpoint.shadow
    if (old and (old.version, old.percent)) == (shadow and (shadow.version, shadow.percent)):
        return Changed(endpoint)
    named = shadow or old
    subject = next((each for each in deployments if named and each.version == named.version), None)
    detail = f"{shadow.version} is asked beside for {shadow.percent} %" if shadow else "no shadow any more"
    lines = (Line(EventKind.SHADOW_CHANGED, subject, detail),) if subject else ()
    return Changed(replace(endpoint, shadow=shadow), lines)


def new_routing(endpoint: Endpoint, newest: str, shares: dict[str, int] | None, labels: dict[str, str] | None) -> Routing:
    """The routing with other shares, other labels, or both; None: as they are. Nobody moves who need not."""
    wanted = endpoint.routing.labels if labels is None else labels
    if shares is None:
        return Routing(endpoint.routing.slots, wanted)
    return Routing(moved(endpoint.routing.filled(newest).slots, shares), wanted)


def _with_new(before: Routing, version: str, percent: int) -> Routing:
    if not 0 <= percent <= 100:
        raise InvalidArgument("BAD_PERCENT", f"percent is {percent}; it must be 0 to 100", field="percent", value=percent)
    if percent < 100 and not any(other != version for other in before.shares):
        message = f"percent is {percent}, but no other version is there for the rest; leave it out to give {version} all"
        raise FailedPrecondition("NOTHING_ELSE_ANSWERS", message, field="percent", percent=percent)
    label = CHAMPION if percent == 100 else CANARY
    shares = with_share(before.shares, version, percent)
    return Routing(moved(before.slots, shares), dict(sorted({**before.labels, label: version}.items())))


def _newest(deployments: Sequence[Deployment]) -> str:
    return deployments[-1].version if deployments else ""


def _moved(endpoint: Endpoint, newest: str, after: Routing, time: datetime) -> Endpoint:
    """The endpoint with another routing; itself where nothing changes. `newest`: who answers where not even a champion is."""
    if after == endpoint.routing:
        return endpoint
    before = endpoint.routing.filled(newest)
    return replace(
        endpoint,
        routing=after,
        previous=before if before.slots else None,
        change=endpoint.change + 1,
        change_time=time,
        watched=bool(before.slots and gained(before, after.filled(newest))),
    )


def _subject(before: Routing, after: Routing, deployments: Sequence[Deployment]) -> Deployment:
    """The version a change is most about: that which gained most, else that which a changed label names, else the newest."""
    had, has = before.shares, after.shares
    more = max(has, key=lambda version: has[version] - had.get(version, 0), default="")
    if not more or has[more] <= had.get(more, 0):
        more = next((version for label, version in after.labels.items() if before.labels.get(label) != version), "")
    return next((each for each in deployments if each.version == more), deployments[-1])


def _has_traffic(gone: Deployment, percent: int, other: str) -> FailedPrecondition:
    endpoint = gone.endpoint.rpartition("/")[2]
    message = (
        f"{gone.name} answers {percent} % of the requests. Give its share to another version first, for example with traffic "
        f"{other}=100 (modelyard endpoint traffic {endpoint} {other}=100), or roll back"
    )
    return FailedPrecondition("DEPLOYMENT_HAS_TRAFFIC", message, field="name", deployment=gone.name, percent=percent)
