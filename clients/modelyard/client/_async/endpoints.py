"""Endpoints and deployments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from google.protobuf import field_mask_pb2

from modelyard.client._async.resource import AsyncResource
from modelyard.client._messages import EMPTY
from modelyard.client.names import new_request_id
from modelyard.serving.v1 import serving_pb2, serving_service_pb2

# A deployment is answered when it is loaded and has replayed its test vectors.
DEPLOYMENT_TIMEOUT_S: Final = 300.0


class AsyncEndpoints(AsyncResource):
    """Names under which versions of a model answer. Names may be short: the endpoint's id."""

    service = "serving"

    async def create_endpoint(
        self,
        endpoint_id: str,
        *,
        display_name: str = "",
        sticky_header: str = "",
        rollback_policy: serving_pb2.RollbackPolicy | None = None,
        placements: Iterable[serving_pb2.Placement] = (),
        request_id: str = "",
    ) -> serving_pb2.Endpoint:
        """Creates an endpoint that serves nothing yet. AlreadyExists when the id is taken.

        placements: its pods, where the service has versions live in pods.
        """
        request = serving_service_pb2.CreateEndpointRequest(
            parent=self.names.parent,
            endpoint=serving_pb2.Endpoint(
                display_name=display_name,
                sticky_header=sticky_header,
                rollback_policy=rollback_policy,
                placements=placements,
            ),
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

    async def update_endpoint(
        self,
        endpoint: str,
        *,
        display_name: str | None = None,
        traffic: Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
        shadow: serving_pb2.Shadow | None = None,
        no_shadow: bool = False,
        rollback_policy: serving_pb2.RollbackPolicy | None = None,
        sticky_header: str | None = None,
        placements: Iterable[serving_pb2.Placement] | None = None,
        etag: str = "",
    ) -> serving_pb2.Endpoint:
        """Changes what is given, all of it in one step; the rest stays. Aborted when `etag` is set and old.

        traffic: percent by version, 100 in all; empty: the champion answers. labels: version by label, all there shall be.
        placements: its pods, all there shall be.
        """
        placed = None if placements is None else list(placements)
        changed = serving_pb2.Endpoint(
            name=self.names.endpoint(endpoint),
            display_name=display_name or "",
            traffic=[serving_pb2.TrafficShare(deployment=one, percent=percent) for one, percent in (traffic or {}).items()],
            labels=[serving_pb2.Label(label=label, deployment=one) for label, one in (labels or {}).items()],
            shadow=shadow,
            rollback_policy=rollback_policy,
            sticky_header=sticky_header or "",
            placements=placed,
            etag=etag,
        )
        given = {
            "display_name": display_name,
            "traffic": traffic,
            "labels": labels,
            "shadow": shadow if not no_shadow else "",
            "rollback_policy": rollback_policy,
            "sticky_header": sticky_header,
            "placements": placed,
        }
        mask = field_mask_pb2.FieldMask(paths=[path for path, value in given.items() if value is not None])
        request = serving_service_pb2.UpdateEndpointRequest(endpoint=changed, update_mask=mask)
        return await self._call("UpdateEndpoint", request, serving_pb2.Endpoint)

    async def rollback_endpoint(self, endpoint: str, *, reason: str = "") -> serving_pb2.Endpoint:
        """Puts traffic and labels back to what they were before their last change, at once; again: forward."""
        request = serving_service_pb2.RollbackEndpointRequest(name=self.names.endpoint(endpoint), reason=reason)
        return await self._call("RollbackEndpoint", request, serving_pb2.Endpoint)

    async def get_shadow_report(self, endpoint: str) -> serving_pb2.ShadowReport:
        """How the shadow's answers compare with those given, on the server that is asked. FailedPrecondition without one."""
        request = serving_service_pb2.GetShadowReportRequest(name=self.names.endpoint(endpoint))
        return await self._call("GetShadowReport", request, serving_pb2.ShadowReport)

    async def delete_endpoint(self, endpoint: str) -> None:
        """Deletes an endpoint with its deployments; its record of events stays."""
        request = serving_service_pb2.DeleteEndpointRequest(name=self.names.endpoint(endpoint))
        await self._call("DeleteEndpoint", request, EMPTY)

    async def create_deployment(
        self,
        endpoint: str,
        *,
        export: str,
        gate_decision: str,
        deployment_id: str = "",
        percent: int | None = None,
        request_id: str = "",
        timeout_s: float = DEPLOYMENT_TIMEOUT_S,
    ) -> serving_pb2.Deployment:
        """Serves an export that a gate decision allows. Returns when it answers.

        deployment_id: the version callers name; empty: the model version's. percent: its share of the traffic at once; None: all
        of it, and the champion label.
        """
        deployment = serving_pb2.Deployment(
            export=self.names.export(export), gate_decision=self.names.gate_decision(gate_decision)
        )
        request = serving_service_pb2.CreateDeploymentRequest(
            parent=self.names.endpoint(endpoint),
            deployment=deployment,
            request_id=request_id or new_request_id(),
            deployment_id=deployment_id,
            percent=percent,
        )
        return await self._call("CreateDeployment", request, serving_pb2.Deployment, timeout_s)

    async def get_deployment_statistics(self, deployment: str) -> serving_pb2.DeploymentStatistics:
        """How a deployment (`flowers/V002`) fares on the server that is asked: counts, latency, drift."""
        request = serving_service_pb2.GetDeploymentStatisticsRequest(name=self.names.deployment(deployment))
        return await self._call("GetDeploymentStatistics", request, serving_pb2.DeploymentStatistics)

    async def get_deployment(self, deployment: str) -> serving_pb2.Deployment:
        """`flowers/V002`."""
        request = serving_service_pb2.GetDeploymentRequest(name=self.names.deployment(deployment))
        return await self._call("GetDeployment", request, serving_pb2.Deployment)

    async def delete_deployment(self, deployment: str) -> None:
        """Takes a version off an endpoint. FailedPrecondition while it has traffic that another could take."""
        request = serving_service_pb2.DeleteDeploymentRequest(name=self.names.deployment(deployment))
        await self._call("DeleteDeployment", request, EMPTY)

    def list_deployment_events(self, endpoint: str, *, page_size: int = 0) -> AsyncIterator[serving_pb2.DeploymentEvent]:
        """What served when, newest first."""
        request = serving_service_pb2.ListDeploymentEventsRequest(parent=self.names.endpoint(endpoint), page_size=page_size)
        return self._items("ListDeploymentEvents", request, serving_service_pb2.ListDeploymentEventsResponse, "deployment_events")
