"""modelyard.access.v1.AccessService: who calls, what was done, what is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from modelyard.access.v1 import access_service_pb2 as pb
from modelyard.access.v1 import access_service_pb2_grpc as rpc
from modelyard.core.access.audit import AuditEvent, AuditLog
from modelyard.core.access.guard import CALLER
from modelyard.core.access.quotas import Quotas
from modelyard.core.jobs.convert import timestamp
from modelyard.core.names import PROJECT

ALL = "projects/-"


@dataclass(frozen=True)
class AccessServicer(rpc.AccessServiceServicer):
    """Converts, asks the audit log and the quotas, converts."""

    audit: AuditLog
    quotas: Quotas

    def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.Caller:
        """See the contract."""
        caller = CALLER.get()
        said = pb.Caller(principal=caller.name, roles={project: role.name.lower() for project, role in caller.roles.items()})
        said.server_version = installed_version()
        said.server_time.GetCurrentTime()
        return said

    def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        """See the contract."""
        project = "" if request.parent == ALL else PROJECT.parse(request.parent, "parent")["project"]
        size, token = request.page_size, request.page_token
        page = self.audit.page(project, principal=request.principal, refused=request.refused, page_size=size, page_token=token)
        return pb.ListAuditEventsResponse(audit_events=[_event(event) for event in page[0]], next_page_token=page[1])

    def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.Usage:
        """See the contract."""
        project = PROJECT.parse(request.name)["project"]
        quotas = [pb.QuotaUse(quota=quota, limit=limit, used=used) for quota, limit, used in self.quotas.use(project)]
        return pb.Usage(name=request.name, quotas=quotas)


def installed_version() -> str:
    """Of this installation; empty where it runs from its source."""
    try:
        return version("modelyard")
    except PackageNotFoundError:
        return ""


def _event(event: AuditEvent) -> pb.AuditEvent:
    return pb.AuditEvent(
        name=event.name,
        create_time=timestamp(event.create_time),
        principal=event.principal,
        method=event.method,
        resource=event.resource,
        peer=event.peer,
        code=event.code,
        reason=event.reason,
        request_id=event.request_id,
    )
