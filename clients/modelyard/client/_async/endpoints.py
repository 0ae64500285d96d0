"""Endpoints and deployments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from modelyard.client._async.resource import AsyncResource
from modelyard.client._messages import EMPTY
from modelyard.client.names import new_request_id
from modelyard.serving.v1 import serving_pb2, serving_service_pb2

# A deployment is answered when it is loaded and has replayed its test vectors.
DEPLOYMENT_TIMEOUT_S: Final = 300.0


class AsyncEndpoints(AsyncResource):
    """Names under which versions of a model answer. Names may be short: the endpoint's id."""

    service = "serving"

    async def create_endpoint(self, endpoint_id: str, *, display_name: str = "", request_id: str = "") -> serving_pb2.Endpoint:
        """Creates an endpoint that serves nothing yet. AlreadyExists when the id is taken."""
        request = serving_service_pb2.CreateEndpointRequest(
            parent=self.names.parent,
            endpoint=serving_pb2.Endpoint(display_name=display_name),
            endpoint_id=endpoint_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateEndpoint", request, serving_pb2.Endpoint)

    async def get_endpoint(self, endpoint: str) -> serving_pb2.Endpoint:
        request = serving_service_pb2.GetEndpointRequest(name=self.names.endpoint(endpoint))
        return await self._call("GetEndpoint", request, serving_pb2.Endpoint)

    def list_endpoints(self, *, page_size: int = 0) -> AsyncIterator[serving_pb2.Endpoint]:
        """All endpoints of the project, newest first."""
        request = serving_service_pb2.ListEndpointsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListEndpoints", request, serving_service_pb2.ListEndpointsResponse, "endpoints")

    async def delete_endpoint(self, endpoint: str) -> None:
        """Deletes an endpoint with its deployments; its record of events stays."""
        request = serving_service_pb2.DeleteEndpointRequest(name=self.names.endpoint(endpoint))
        await self._call("DeleteEndpoint", request, EMPTY)

    async def create_deployment(
        self, endpoint: str, *, export: str, gate_decision: str, request_id: str = "", timeout_s: float = DEPLOYMENT_TIMEOUT_S
    ) -> serving_pb2.Deployment:
        """Serves an export that a gate decision allows. Returns when it answers."""
        deployment = serving_pb2.Deployment(
            export=self.names.export(export), gate_decision=self.names.gate_decision(gate_decision)
        )
        request = serving_service_pb2.CreateDeploymentRequest(
            parent=self.names.endpoint(endpoint), deployment=deployment, request_id=request_id or new_request_id()
        )
        return await self._call("CreateDeployment", request, serving_pb2.Deployment, timeout_s)

    async def get_deployment(self, deployment: str) -> serving_pb2.Deployment:
        """`flowers/V002`."""
        request = serving_service_pb2.GetDeploymentRequest(name=self.names.deployment(deployment))
        return await self._call("GetDeployment", request, serving_pb2.Deployment)

    async def delete_deployment(self, deployment: str) -> None:
        """Takes a version off an endpoint."""
        request = serving_service_pb2.DeleteDeploymentRequest(name=self.names.deployment(deployment))
        await self._call("DeleteDeployment", request, EMPTY)

    def list_deployment_events(self, endpoint: str, *, page_size: int = 0) -> AsyncIterator[serving_pb2.DeploymentEvent]:
        """What served when, newest first."""
        request = serving_service_pb2.ListDeploymentEventsRequest(parent=self.names.endpoint(endpoint), page_size=page_size)
        return self._items("ListDeploymentEvents", request, serving_service_pb2.ListDeploymentEventsResponse, "deployment_events")
