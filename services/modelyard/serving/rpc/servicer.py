"""ServingService: convert, call, convert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2

from modelyard.core.errors import InvalidArgument
from modelyard.core.rpc.requests import fingerprint, mask_paths
from modelyard.serving.handlers import deployments, endpoints, figures, shadow, traffic
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import EndpointStore, Request
from modelyard.serving.rpc.convert import (
    UPDATABLE,
    deployment_message,
    endpoint_message,
    event_message,
    figures_message,
    new_endpoint,
    shadow_message,
    update_of,
)
from modelyard.serving.v1 import serving_pb2, serving_service_pb2
from modelyard.serving.v1.serving_service_pb2_grpc import ServingServiceServicer


@dataclass(frozen=True)
class ServingServicer(ServingServiceServicer):
    """Endpoints and deployments; each call runs in a thread of the rpc shell."""

    deployer: Deployer

    def _reads(self) -> tuple[EndpointStore, Registry]:
        return self.deployer.store, self.deployer.registry

    def CreateEndpoint(self, request: serving_service_pb2.CreateEndpointRequest, context: Any) -> serving_pb2.Endpoint:
        """See the contract."""
        wanted, endpoint_id = new_endpoint(request.endpoint), request.endpoint_id
        view = endpoints.create_endpoint(self.deployer.store, request.parent, endpoint_id, wanted, _repeatable(request))
        return endpoint_message(view)

    def GetEndpoint(self, request: serving_service_pb2.GetEndpointRequest, context: Any) -> serving_pb2.Endpoint:
        """See the contract."""
        return endpoint_message(endpoints.get_endpoint(*self._reads(), request.name, self.deployer.pods))

    def ListEndpoints(
        self, request: serving_service_pb2.ListEndpointsRequest, context: Any
    ) -> serving_service_pb2.ListEndpointsResponse:
        """See the contract."""
        store, registry, pods = *self._reads(), self.deployer.pods
        page = endpoints.list_endpoints(store, registry, request.parent, request.page_size, request.page_token, pods)
        found = [endpoint_message(view) for view in page.items]
        return serving_service_pb2.ListEndpointsResponse(endpoints=found, next_page_token=page.next_page_token)

    def UpdateEndpoint(self, request: serving_service_pb2.UpdateEndpointRequest, context: Any) -> serving_pb2.Endpoint:
        """See the contract."""
        wanted = request.endpoint
        update = update_of(wanted, _masked(request))
        return endpoint_message(traffic.update_endpoint(self.deployer, wanted.name, update, wanted.etag))

    def RollbackEndpoint(self, request: serving_service_pb2.RollbackEndpointRequest, context: Any) -> serving_pb2.Endpoint:
        """See the contract."""
        return endpoint_message(traffic.roll_back(self.deployer, request.name, request.reason))

    def GetShadowReport(self, request: serving_service_pb2.GetShadowReportRequest, context: Any) -> serving_pb2.ShadowReport:
        """See the contract."""
        return shadow_message(shadow.shadow_report(self.deployer.store, self.deployer.registry, request.name))

    def DeleteEndpoint(self, request: serving_service_pb2.DeleteEndpointRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        endpoints.delete_endpoint(self.deployer, request.name)
        return empty_pb2.Empty()

    def CreateDeployment(self, request: serving_service_pb2.CreateDeploymentRequest, context: Any) -> serving_pb2.Deployment:
        """See the contract."""
        percent = request.percent if request.HasField("percent") else None
        given = request.deployment
        wanted = deployments.Wanted(given.export, given.gate_decision, request.deployment_id, percent)
        made = deployments.create_deployment(self.deployer, request.parent, wanted, _repeatable(request))
        return deployment_message(made)

    def GetDeployment(self, request: serving_service_pb2.GetDeploymentRequest, context: Any) -> serving_pb2.Deployment:
        """See the contract."""
        return deployment_message(deployments.get_deployment(self.deployer.store, self.deployer.registry, request.name))

    def GetDeploymentStatistics(
        self, request: serving_service_pb2.GetDeploymentStatisticsRequest, context: Any
    ) -> serving_pb2.DeploymentStatistics:
        """See the contract."""
        return figures_message(figures.deployment_figures(self.deployer.store, self.deployer.registry, request.name))

    def DeleteDeployment(self, request: serving_service_pb2.DeleteDeploymentRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        deployments.delete_deployment(self.deployer, request.name)
        return empty_pb2.Empty()

    def ListDeploymentEvents(
        self, request: serving_service_pb2.ListDeploymentEventsRequest, context: Any
    ) -> serving_service_pb2.ListDeploymentEventsResponse:
        """See the contract."""
        page = deployments.list_events(self.deployer.store, request.parent, request.page_size, request.page_token)
        found = [event_message(event) for event in page.items]
        return serving_service_pb2.ListDeploymentEventsResponse(deployment_events=found, next_page_token=page.next_page_token)


def _masked(request: serving_service_pb2.UpdateEndpointRequest) -> set[str]:
    """What is to be changed. Nothing is not everything here: an empty message would take traffic, labels and shadow away."""
    if not request.update_mask.paths:
        message = f"update_mask is empty; name what to change: {', '.join(sorted(UPDATABLE))}"
        raise InvalidArgument("BAD_UPDATE_MASK", message, field="update_mask")
    return mask_paths(request.update_mask, UPDATABLE)


def _repeatable(
    request: serving_service_pb2.CreateEndpointRequest | serving_service_pb2.CreateDeploymentRequest,
) -> Request:
    return Request(request.request_id, fingerprint(request))
