"""Endpoints: the names under which versions answer."""

from __future__ import annotations

from modelyard.core.names import ENDPOINT, PROJECT, check_id
from modelyard.serving.domain.endpoint import (
    Condition,
    Deployment,
    DeploymentState,
    Endpoint,
    EndpointView,
    check_display_name,
    oldest_first,
)
from modelyard.serving.domain.names import model_name
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import EndpointStore, Listed, Request


def create_endpoint(store: EndpointStore, parent: str, endpoint_id: str, display_name: str, request: Request) -> EndpointView:
    """An endpoint that serves nothing yet. Raises InvalidArgument, AlreadyExists."""
    project = PROJECT.parse(parent, "parent")["project"]
    name = ENDPOINT.format(project, check_id(endpoint_id, "endpoint_id"))
    return EndpointView(store.create(name, check_display_name(display_name), request), ())


def get_endpoint(store: EndpointStore, registry: Registry, name: str) -> EndpointView:
    """An endpoint with what it serves. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(name)
    return view(store, registry, store.get(name))


def list_endpoints(
    store: EndpointStore, registry: Registry, parent: str, page_size: int, page_token: str
) -> Listed[EndpointView]:
    """The endpoints of a project, newest first. Raises InvalidArgument."""
    PROJECT.parse(parent, "parent")
    page = store.list(parent, page_size, page_token)
    return Listed(tuple(view(store, registry, endpoint) for endpoint in page.items), page.next_page_token)


def delete_endpoint(deployer: Deployer, name: str) -> None:
    """Takes an endpoint away with all it serves; its record of events stays. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(name)
    with deployer.turns.hold(name):
        deployer.store.delete(name)
        for entry in deployer.registry.versions(model_of(name)):
            deployer.registry.remove(entry.model, entry.version)


def view(store: EndpointStore, registry: Registry, endpoint: Endpoint) -> EndpointView:
    """An endpoint as it stands now."""
    deployments = oldest_first(store.deployments(endpoint.name))
    return EndpointView(endpoint, tuple((deployment, condition(registry, deployment)) for deployment in deployments))


def condition(registry: Registry, deployment: Deployment) -> Condition:
    """How a deployment fares on this server; what it has not come to yet is LOADING."""
    entry = registry.entry(model_of(deployment.endpoint), deployment.version)
    return entry.condition if entry else Condition(DeploymentState.LOADING)


def model_of(endpoint: str) -> str:
    """The model name under which an endpoint's resource name answers."""
    ids = ENDPOINT.parse(endpoint)
    return model_name(ids["project"], ids["endpoint"])
