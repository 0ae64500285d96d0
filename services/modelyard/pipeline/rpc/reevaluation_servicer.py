"""ReevaluationService: convert, call, convert."""

from __future__ import annotations

from typing import Any

from google.protobuf import empty_pb2

from modelyard.core import names
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint
from modelyard.pipeline.handlers import reevaluations
from modelyard.pipeline.handlers.reevaluations import COLLECTION, SHOWN, Reevaluating
from modelyard.pipeline.rpc import convert_reevaluation as convert
from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from modelyard.pipeline.v1 import reevaluation_service_pb2 as messages
from modelyard.pipeline.v1.reevaluation_service_pb2_grpc import ReevaluationServiceServicer


class ReevaluationServicer(ReevaluationServiceServicer):
    """Re-evaluations."""

    def __init__(self, ports: Reevaluating) -> None:
        self._ports = ports

    def CreateReevaluation(self, request: messages.CreateReevaluationRequest, context: Any) -> pb.Reevaluation:
        """Creates a re-evaluation; its first run starts at once."""
        made = reevaluations.create(
            self._ports,
            parent=request.parent,
            reevaluation_id=request.reevaluation_id,
            spec=convert.spec_from(request.reevaluation),
            request=Request(request.request_id, "CreateReevaluation", fingerprint(request)),
        )
        return convert.reevaluation_message(made, SHOWN)

    def GetReevaluation(self, request: messages.GetReevaluationRequest, context: Any) -> pb.Reevaluation:
        """Reads a re-evaluation with its last runs."""
        return convert.reevaluation_message(reevaluations.get(self._ports, request.name), SHOWN)

    def ListReevaluations(self, request: messages.ListReevaluationsRequest, context: Any) -> messages.ListReevaluationsResponse:
        """Lists the re-evaluations of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        page = self._ports.resources.list(COLLECTION, request.parent, request.page_size, request.page_token)
        found = [convert.reevaluation_message(reevaluations.view(self._ports, item), 1) for item in page.items]
        return messages.ListReevaluationsResponse(reevaluations=found, next_page_token=page.next_page_token)

    def DeleteReevaluation(self, request: messages.DeleteReevaluationRequest, context: Any) -> empty_pb2.Empty:
        """Deletes a re-evaluation and its runs."""
        reevaluations.delete(self._ports, request.name)
        return empty_pb2.Empty()

    def RunReevaluation(self, request: messages.RunReevaluationRequest, context: Any) -> pb.ReevaluationResult:
        """Starts a run now, or gives the one that is under way."""
        return convert.result_message(reevaluations.run_now(self._ports, request.name))
