"""Endpoints, deployments and events as contract messages."""

from __future__ import annotations

from typing import Final

from modelyard.core.jobs.convert import blob_message, timestamp
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentEvent, DeploymentState, EndpointView, EventKind
from modelyard.serving.v1 import serving_pb2

_STATES: Final = {
    DeploymentState.LOADING: serving_pb2.Deployment.STATE_LOADING,
    DeploymentState.READY: serving_pb2.Deployment.STATE_READY,
    DeploymentState.FAILED: serving_pb2.Deployment.STATE_FAILED,
    DeploymentState.UNHEALTHY: serving_pb2.Deployment.STATE_UNHEALTHY,
}
_KINDS: Final = {
    EventKind.DEPLOYED: serving_pb2.DeploymentEvent.KIND_DEPLOYED,
    EventKind.UNDEPLOYED: serving_pb2.DeploymentEvent.KIND_UNDEPLOYED,
}


def endpoint_message(view: EndpointView) -> serving_pb2.Endpoint:
    """An endpoint with what it serves."""
    endpoint = view.endpoint
    return serving_pb2.Endpoint(
        name=endpoint.name,
        display_name=endpoint.display_name,
        deployments=[deployment_message(deployment, condition) for deployment, condition in view.deployments],
        default_version=view.default_version,
        create_time=timestamp(endpoint.create_time),
        update_time=timestamp(endpoint.update_time),
        etag=endpoint.etag,
    )


def deployment_message(deployment: Deployment, condition: Condition) -> serving_pb2.Deployment:
    """A deployment as it fares on this server."""
    return serving_pb2.Deployment(
        name=deployment.name,
        export=deployment.export,
        gate_decision=deployment.gate_decision,
        model_version=deployment.model_version,
        artifact=blob_message(deployment.artifact),
        state=_STATES[condition.state],
        error_message=condition.message,
        create_time=timestamp(deployment.create_time),
    )


def event_message(event: DeploymentEvent) -> serving_pb2.DeploymentEvent:
    """A line of the record."""
    return serving_pb2.DeploymentEvent(
        sequence=event.sequence,
        time=timestamp(event.time),
        kind=_KINDS[event.kind],
        deployment=event.deployment,
        artifact_sha256=event.artifact_sha256,
        model_version=event.model_version,
    )
