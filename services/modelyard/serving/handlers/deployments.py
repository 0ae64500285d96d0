"""Deployments: which bytes an endpoint serves under which version, and the record of it."""

from __future__ import annotations

from dataclasses import replace

from modelyard.core.database import now
from modelyard.core.errors import AlreadyExists, NotFound
from modelyard.core.names import DEPLOYMENT, ENDPOINT, EXPORT, GATE_DECISION
from modelyard.serving.domain.admission import Admitted, admit, version_of
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentEvent, DeploymentState, same_deployment
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.endpoints import condition, model_of
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import EndpointStore, Listed, LoadedModel, Request


def create_deployment(
    deployer: Deployer, parent: str, export: str, gate_decision: str, request: Request
) -> tuple[Deployment, Condition]:
    """Serves an export under its model version's name. It answers when this returns; if this raises nothing has changed.

    Raises InvalidArgument, NotFound, FailedPrecondition (see admit, Passports.check and ModelLoader.load), AlreadyExists
    VERSION_DEPLOYED. An export that the endpoint serves already gives the deployment that is there; where that could not be
    loaded (its passport is missing, or signed with a key that is not trusted any more) it takes this decision's passport.
    """
    ENDPOINT.parse(parent, "parent")
    EXPORT.parse(export, "deployment.export")
    GATE_DECISION.parse(gate_decision, "deployment.gate_decision")
    with deployer.turns.hold(parent):
        earlier = deployer.store.repeated(request)
        deployment = earlier or _deploy(deployer, parent, export, gate_decision, request)
        return deployment, condition(deployer.registry, deployment)


def get_deployment(store: EndpointStore, registry: Registry, name: str) -> tuple[Deployment, Condition]:
    """Raises InvalidArgument, NotFound."""
    DEPLOYMENT.parse(name)
    deployment = store.deployment(name)
    return deployment, condition(registry, deployment)


def delete_deployment(deployer: Deployer, name: str) -> None:
    """Takes a version off its endpoint. Raises InvalidArgument, NotFound."""
    ids = DEPLOYMENT.parse(name)
    endpoint = ENDPOINT.format(ids["project"], ids["endpoint"])
    with deployer.turns.hold(endpoint):
        deployer.store.undeploy(name)
        deployer.registry.remove(model_of(endpoint), ids["deployment"])


def list_events(store: EndpointStore, parent: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
    """What served when, newest first. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(parent, "parent")
    return store.events(parent, page_size, page_token)


def _deploy(deployer: Deployer, parent: str, export_name: str, gate_decision: str, request: Request) -> Deployment:
    deployer.store.get(parent)
    export = deployer.exports.get(export_name)
    admitted = admit(export, deployer.gates.get(gate_decision))
    name = f"{parent}/deployments/{version_of(export)}"
    existing = _existing(deployer.store, name)
    if existing is not None:
        same = same_deployment(existing, export_name, admitted.artifact.sha256)
        failed = condition(deployer.registry, same).state is DeploymentState.FAILED
        return _renewed(deployer, same, gate_decision, admitted) if failed or same.passport is None else same
    own, passport = deployer.exports.fetch(admitted.artifact), deployer.passports.fetch(admitted.passport)
    loaded = deployer.load(own, passport)
    planned = Deployment(name, export_name, gate_decision, export.model_version, own, now(), passport)
    return _begin(deployer, planned, loaded, request)


def _renewed(deployer: Deployer, failed: Deployment, gate_decision: str, admitted: Admitted) -> Deployment:
    """The same bytes under the same version, by another decision."""
    own, passport = deployer.exports.fetch(admitted.artifact), deployer.passports.fetch(admitted.passport)
    loaded = deployer.load(own, passport)
    deployment = deployer.store.renew(replace(failed, gate_decision=gate_decision, artifact=own, passport=passport))
    deployer.registry.put(ready(deployment, loaded))
    return deployment


def _begin(deployer: Deployer, planned: Deployment, loaded: LoadedModel, request: Request) -> Deployment:
    """Writes it down, then lets it answer."""
    try:
        deployment = deployer.store.deploy(planned, request)
    except AlreadyExists:  # another server of the same database was quicker
        return same_deployment(deployer.store.deployment(planned.name), planned.export, planned.artifact.sha256)
    deployer.registry.put(ready(deployment, loaded))
    return deployment


def ready(deployment: Deployment, loaded: LoadedModel) -> Entry:
    """What the registry holds of a deployment that answers."""
    model = model_of(deployment.endpoint)
    return Entry(model, deployment.version, deployment.create_time, Condition(DeploymentState.READY), loaded)


def _existing(store: EndpointStore, name: str) -> Deployment | None:
    try:
        return store.deployment(name)
    except NotFound:
        return None
