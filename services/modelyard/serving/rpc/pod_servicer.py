"""What a pod says of the versions that it holds, to the service that it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard.core.names import DEPLOYMENT, ENDPOINT
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.handlers.figures import Figures
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.rpc.convert import figures_message
from modelyard.serving.v1 import serving_pb2, serving_service_pb2
from modelyard.serving.v1.serving_service_pb2_grpc import ServingServiceServicer


@dataclass(frozen=True)
class PodServicer(ServingServiceServicer):
    """GetDeploymentStatistics of ServingService; the rest is not a pod's."""

    registry: Registry

    def GetDeploymentStatistics(
        self, request: serving_service_pb2.GetDeploymentStatisticsRequest, context: Any
    ) -> serving_pb2.DeploymentStatistics:
        """See the contract: of this pod alone."""
        ids = DEPLOYMENT.parse(request.name)
        model = endpoint_model(ENDPOINT.format(ids["project"], ids["endpoint"]))
        _, loaded = self.registry.find(model, ids["deployment"])
        return figures_message(Figures(request.name, loaded.statistics, loaded.drift(), loaded.memory_bytes()))
