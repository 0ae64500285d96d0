"""Changes of who answers: shares, labels, shadow, the policy that watches over them, and the way back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from modelyard.core.clock import now
from modelyard.core.errors import FailedPrecondition
from modelyard.core.names import ENDPOINT
from modelyard.serving.domain.changes import Changed, new_routing, rerouted, rolled_back, shadowed
from modelyard.serving.domain.endpoint import (
    Condition,
    Deployment,
    DeploymentState,
    Endpoint,
    EndpointView,
    check_display_name,
    check_reason,
    check_sticky_header,
)
from modelyard.serving.domain.placement import Placement, check_placements
from modelyard.serving.domain.rollback import RollbackPolicy, check_policy
from modelyard.serving.domain.shadow import Shadow, check_shadow
from modelyard.serving.domain.traffic import Routing, check_labels, check_shares, gained
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.endpoints import model_of, view
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import Change

TAKE_OVER_S: Final = 30.0
"""Longest wait for a version that another server of the database has deployed: `reconcile_s`, and what loading takes."""


@dataclass(frozen=True)
class Update:
    """What a caller wants changed; None stays as it is. `shadow`: version ("" takes it away) and percent."""

    display_name: str | None = None
    traffic: Sequence[tuple[str, int]] | None = None
    labels: Sequence[tuple[str, str]] | None = None
    shadow: tuple[str, int] | None = None
    policy: RollbackPolicy | None = None
    sticky_header: str | None = None
    placements: tuple[Placement, ...] | None = None


def update_endpoint(deployer: Deployer, name: str, update: Update, etag: str = "") -> EndpointView:
    """Changes an endpoint; all of it in one step or, when this raises, nothing.

    Raises InvalidArgument (see check_shares, check_labels, check_shadow, check_policy), NotFound, Aborted ETAG_MISMATCH,
    FailedPrecondition VERSION_NOT_READY.
    """
    ENDPOINT.parse(name, "endpoint.name")
    _wait_for_versions(deployer, name, update)

    def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
        return _updated(deployer.registry, endpoint, deployments, update)

    changed = _changed(deployer, name, change, etag)
    if update.placements is not None and deployer.pods is not None and changed.deployments:
        deployer.pods.place(changed.endpoint)
        return view(deployer.store, deployer.registry, changed.endpoint, deployer.pods)
    return changed


def roll_back(
    deployer: Deployer, name: str, reason: str, *, only_change: int | None = None, by_itself: bool = False
) -> EndpointView:
    """Shares and labels as before their last change; again, as after it. Instant: all it needs is loaded already.

    `only_change`: the change (Endpoint.change) that is to be taken back; where another came meanwhile nothing happens.
    Raises InvalidArgument, NotFound, FailedPrecondition NOTHING_TO_ROLL_BACK or VERSION_NOT_READY.
    """
    ENDPOINT.parse(name)
    why = check_reason(reason) if not by_itself else f"by itself: {reason}"

    def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
        if only_change not in (None, endpoint.change):
            return Changed(endpoint)
        if endpoint.previous is not None:
            _check_any_ready(deployer.registry, model_of(name), endpoint.previous.shares)
        return rolled_back(endpoint, deployments, why, now())

    return _changed(deployer, name, change)


def _changed(deployer: Deployer, name: str, change: Change, etag: str = "") -> EndpointView:
    """Written in one step, then in memory in one step. Waits for no deployment that is under way: going back must be instant."""
    endpoint = deployer.store.change(name, change, etag)
    deployer.registry.assign(model_of(name), endpoint)
    return view(deployer.store, deployer.registry, endpoint, deployer.pods)


def _updated(registry: Registry, endpoint: Endpoint, deployments: Sequence[Deployment], update: Update) -> Changed:
    changed = rerouted(endpoint, deployments, _routing(registry, endpoint, deployments, update), now())
    changed = Changed(_described(changed.endpoint, update), changed.lines)
    if update.shadow is None:
        return changed
    shadow = _shadow(update.shadow, [deployment.version for deployment in deployments])
    beside = shadowed(changed.endpoint, deployments, shadow)
    return Changed(beside.endpoint, (*changed.lines, *beside.lines))


def _routing(registry: Registry, endpoint: Endpoint, deployments: Sequence[Deployment], update: Update) -> Routing:
    known = [deployment.version for deployment in deployments]
    shares = None if update.traffic is None else check_shares(update.traffic, known)
    labels = None if update.labels is None else check_labels(update.labels, known)
    newest = known[-1] if known else ""
    wanted, model = new_routing(endpoint, newest, shares, labels), model_of(endpoint.name)
    before = endpoint.routing.filled(newest)
    for version in gained(before, wanted.filled(newest)):
        _check_ready(registry, model, version, "endpoint.traffic")
    for label, version in wanted.labels.items():
        if before.labels.get(label) != version:
            _check_ready(registry, model, version, "endpoint.labels")
    return wanted


def _described(endpoint: Endpoint, update: Update) -> Endpoint:
    """The endpoint with what has no bearing on who answers."""
    return replace(
        endpoint,
        display_name=endpoint.display_name if update.display_name is None else check_display_name(update.display_name),
        policy=endpoint.policy if update.policy is None else check_policy(update.policy),
        sticky_header=endpoint.sticky_header if update.sticky_header is None else check_sticky_header(update.sticky_header),
        placements=endpoint.placements if update.placements is None else check_placements(update.placements),
    )


def _shadow(wanted: tuple[str, int], known: list[str]) -> Shadow | None:
    version, percent = wanted
    return check_shadow(Shadow(version, percent, now()), known) if version else None


def _wait_for_versions(deployer: Deployer, name: str, update: Update) -> None:
    """What another server of this database has deployed a moment ago is loaded here by the next look at what is written down.

    Callers do not know which server they meet: to them the version is ready since CreateDeployment ended.
    """
    named = {version for version, _ in update.traffic or ()} | {version for _, version in update.labels or ()}
    if not named or all(_is_loaded(deployer.registry, name, version) for version in named):
        return
    written = {deployment.version for deployment in deployer.store.deployments(name)}
    end = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < end and not all(_is_loaded(deployer.registry, name, version) for version in named & written):
        time.sleep(0.05)


def _is_loaded(registry: Registry, endpoint: str, version: str) -> bool:
    """Loaded, or known why not."""
    entry = registry.entry(model_of(endpoint), version)
    return entry is not None and entry.health.state != DeploymentState.LOADING


def _check_ready(registry: Registry, model: str, version: str, field: str) -> None:
    entry = registry.entry(model, version)
    if entry is not None and entry.is_ready:
        return
    health = entry.health if entry is not None else Condition(DeploymentState.LOADING)
    why = f": {health.message}" if health.message else ""
    message = f"{field} gives requests to {version}, which is {health.state}{why}; only a version that is READY can take them"
    raise FailedPrecondition("VERSION_NOT_READY", message, field=field, version=version, state=health.state)


def _check_any_ready(registry: Registry, model: str, versions: Iterable[str]) -> None:
    """Going back must find somebody who answers; for one of several that does not the others stand in."""
    named = list(versions)
    if not any(entry.is_ready for entry in registry.versions(model) if entry.version in named):
        _check_ready(registry, model, named[0], "name")
