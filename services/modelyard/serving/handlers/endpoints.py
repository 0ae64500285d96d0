"""Endpoints: the names under which versions answer."""

from __future__ import annotations

from modelyard.core.names import ENDPOINT, PROJECT, check_id
from modelyard.serving.domain.endpoint import (
    Condition,
    Deployment,
    DeploymentState,
    DeploymentView,
    Endpoint,
    EndpointView,
    check_display_name,
    check_sticky_header,
    oldest_first,
)
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.placement import check_placements
from modelyard.serving.domain.rollback import check_policy
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import EndpointStore, Listed, NewEndpoint, PodVersions, Request


def create_endpoint(store: EndpointStore, parent: str, endpoint_id: str, wanted: NewEndpoint, request: Request) -> EndpointView:
    """An endpoint that serves nothing yet. Raises InvalidArgument, AlreadyExists."""
    project = PROJECT.parse(parent, "parent")["project"]
    name = ENDPOINT.format(project, check_id(endpoint_id, "endpoint_id"))
    check_display_name(wanted.display_name)
    check_policy(wanted.policy)
    check_sticky_header(wanted.sticky_header)
    check_placements(wanted.placements)
    return EndpointView(store.create(name, wanted, request), ())


def get_endpoint(store: EndpointStore, registry: Registry, name: str, pods: PodVersions | None = None) -> EndpointView:
    """An endpoint with what it serves, and its `pods`. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(name)
    return view(store, registry, store.get(name), pods)


def list_endpoints(
    store: EndpointStore,
    registry: Registry,
    parent: str,
    page_size: int,
    page_token: str,
    pods: PodVersions | None = None,
) -> Listed[EndpointView]:
    """The endpoints of a project, newest first. Raises InvalidArgument."""
    PROJECT.parse(parent, "parent")
    page = store.list(parent, page_size, page_token)
    return Listed(tuple(view(store, registry, endpoint, pods) for endpoint in page.items), page.next_page_token)


def delete_endpoint(deployer: Deployer, name: str) -> None:
    """Takes an endpoint away with all it serves; its record of events stays. Raises InvalidArgument, NotFound."""
    ENDPOINT.parse(name)
    if deployer.pods is not None:
        deployer.pods.give_up(name)
    with deployer.turns.hold(name):
        deployer.store.delete(name)
        deployer.registry.drop(model_of(name))
        if deployer.pods is not None:
            deployer.pods.drop(name)


def view(store: EndpointStore, registry: Registry, endpoint: Endpoint, pods: PodVersions | None = None) -> EndpointView:
    """An endpoint as it stands now."""
    deployments = oldest_first(store.deployments(endpoint.name))
    views = tuple(deployment_view(registry, deployment) for deployment in deployments)
    return EndpointView(endpoint, views, *pods.view(endpoint)) if pods is not None else EndpointView(endpoint, views)


def deployment_view(registry: Registry, deployment: Deployment) -> DeploymentView:
    """How a deployment fares on this server; what it has not come to yet is LOADING."""
    entry = registry.entry(model_of(deployment.endpoint), deployment.version)
    if entry is None or entry.since != deployment.create_time:
        return DeploymentView(deployment, Condition(DeploymentState.LOADING))
    loaded = entry.loaded
    if loaded is None:
        return DeploymentView(deployment, entry.condition)
    return DeploymentView(deployment, loaded.condition, loaded.batching.together, loaded.batching.note, loaded.threads)


def model_of(endpoint: str) -> str:
    """The model name under which an endpoint's resource name answers. Raises InvalidArgument."""
    ENDPOINT.parse(endpoint)
    return endpoint_model(endpoint)
