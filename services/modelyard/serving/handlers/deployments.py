"""Deployments: which bytes an endpoint serves under which version, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelyard.core.clock import now
from modelyard.core.errors import AlreadyExists, NotFound
from modelyard.core.names import DEPLOYMENT, ENDPOINT, EXPORT, GATE_DECISION
from modelyard.serving.domain.admission import Admitted, admit, version_of
from modelyard.serving.domain.changes import Changed, deployed, undeployed
from modelyard.serving.domain.endpoint import (
    Condition,
    Deployment,
    DeploymentEvent,
    DeploymentState,
    DeploymentView,
    Endpoint,
    check_deployment_id,
    free_id,
    same_deployment,
)
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.endpoints import deployment_view, model_of
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import Change, EndpointStore, Listed, Request, ServedModel


@dataclass(frozen=True)
class Wanted:
    """What a caller wants to be served: names of an export and of a gate decision; see CreateDeploymentRequest for the rest."""

    export: str
    gate_decision: str
    deployment_id: str = ""
    percent: int | None = None


def create_deployment(deployer: Deployer, parent: str, wanted: Wanted, request: Request) -> DeploymentView:
    """Serves an export and moves traffic to it in one step. It answers when this returns; if this raises nothing has changed.

    Raises InvalidArgument, NotFound, FailedPrecondition (see admit, Passports.check, ServedModelLoader.load, changes.deployed),
    AlreadyExists VERSION_DEPLOYED. An export that the endpoint serves already stays as it is, and traffic moves to it; where it
    could not be loaded (its passport is missing, or signed with a key that is not trusted any more) it takes this decision's.
    """
    ENDPOINT.parse(parent, "parent")
    EXPORT.parse(wanted.export, "deployment.export")
    GATE_DECISION.parse(wanted.gate_decision, "deployment.gate_decision")
    with deployer.turns.hold(parent):
        earlier = deployer.store.repeated(request)
        return deployment_view(deployer.registry, earlier or _deploy(deployer, parent, wanted, request))


def get_deployment(store: EndpointStore, registry: Registry, name: str) -> DeploymentView:
    """Raises InvalidArgument, NotFound."""
    DEPLOYMENT.parse(name)
    return deployment_view(registry, store.deployment(name))


def delete_deployment(deployer: Deployer, name: str) -> None:
    """Takes a version off its endpoint. Raises InvalidArgument, NotFound, FailedPrecondition DEPLOYMENT_HAS_TRAFFIC."""
    ids = DEPLOYMENT.parse(name)
    parent, version = ENDPOINT.format(ids["project"], ids["endpoint"]), ids["deployment"]
    model, registry = model_of(parent), deployer.registry
    with deployer.turns.hold(parent):
        others_ready = any(entry.is_ready for entry in registry.versions(model) if entry.version != version)

        def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
            return undeployed(endpoint, deployments, version, others_ready=others_ready)

        deployment = deployer.store.deployment(name)
        endpoint = deployer.store.undeploy(name, change)
        registry.remove(model, version, endpoint=endpoint)
        if deployer.pods is not None:
            deployer.pods.forget(deployment)


def list_events(store: EndpointStore, parent: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
    """What served when, newest first. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(parent, "parent")
    return store.events(parent, page_size, page_token)


def ready(deployment: Deployment, loaded: ServedModel) -> Entry:
    """What the registry holds of a deployment that answers."""
    model = model_of(deployment.endpoint)
    return Entry(model, deployment.version, deployment.create_time, Condition(DeploymentState.READY), loaded)


def _deploy(deployer: Deployer, parent: str, wanted: Wanted, request: Request) -> Deployment:
    endpoint = deployer.store.get(parent)
    export = deployer.exports.get(wanted.export)
    admitted = admit(export, deployer.gates.get(wanted.gate_decision))
    version = check_deployment_id(wanted.deployment_id, endpoint.routing.labels) if wanted.deployment_id else version_of(export)
    name = f"{parent}/deployments/{version}"
    existing = _existing(deployer.store, name)
    if existing is not None:
        taken = [deployment.version for deployment in deployer.store.deployments(parent)]
        free = free_id(version, export.precision, taken)
        same = same_deployment(existing, wanted.export, admitted.artifact.sha256, free)
        return _again(deployer, same, wanted, admitted)
    own, passport = deployer.exports.fetch(admitted.artifact), deployer.passports.fetch(admitted.passport)
    planned = Deployment(name, wanted.export, wanted.gate_decision, export.model_version, own, now(), passport)
    _check_percent(endpoint, deployer.store, planned, wanted.percent)
    return _begin(deployer, planned, wanted.percent, request)


def _check_percent(endpoint: Endpoint, store: EndpointStore, planned: Deployment, percent: int | None) -> None:
    """What would be refused in the end is refused before anything is loaded."""
    deployed(endpoint, list(store.deployments(endpoint.name)), planned, percent, now())


def _again(deployer: Deployer, existing: Deployment, wanted: Wanted, admitted: Admitted) -> Deployment:
    """The same bytes under the same version: loaded by this decision's passport where they were not; traffic moves to them."""
    state = deployment_view(deployer.registry, existing).condition.state
    if state in (DeploymentState.FAILED, DeploymentState.UNLOADED) or existing.passport is None:
        own, passport = deployer.exports.fetch(admitted.artifact), deployer.passports.fetch(admitted.passport)
        loaded = deployer.load(replace(existing, artifact=own, passport=passport))
        existing = deployer.store.renew(replace(existing, gate_decision=wanted.gate_decision, artifact=own, passport=passport))
        deployer.registry.put(ready(existing, loaded))
    endpoint = deployer.store.change(existing.endpoint, _change(existing, wanted.percent, again=True))
    deployer.registry.assign(model_of(existing.endpoint), endpoint)
    return existing


def _begin(deployer: Deployer, planned: Deployment, percent: int | None, request: Request) -> Deployment:
    """Loads it, writes it down with the new shares and labels, then lets it answer: one step there, one step here."""
    loaded = deployer.load(planned)
    try:
        deployment, endpoint = deployer.store.deploy(planned, request, _change(planned, percent))
    except AlreadyExists:  # another server of the same database was quicker: what it wrote counts
        deployment, endpoint = _written(deployer, planned, loaded)
    except BaseException:
        loaded.close()
        raise
    deployer.registry.put(ready(deployment, loaded), endpoint)
    return deployment


def _written(deployer: Deployer, planned: Deployment, loaded: ServedModel) -> tuple[Deployment, Endpoint]:
    """What another server has written, if it is the same."""
    try:
        there = deployer.store.deployment(planned.name)
        return same_deployment(there, planned.export, planned.artifact.sha256), deployer.store.get(planned.endpoint)
    except BaseException:
        loaded.close()
        raise


def _change(deployment: Deployment, percent: int | None, *, again: bool = False) -> Change:
    time = now()

    def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
        return deployed(endpoint, deployments, deployment, percent, time, again=again)

    return change


def _existing(store: EndpointStore, name: str) -> Deployment | None:
    try:
        return store.deployment(name)
    except NotFound:
        return None
