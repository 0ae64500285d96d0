"""modelyard.worker.v1.WorkerService: what worker processes talk to."""

from __future__ import annotations

import hashlib
from typing import Any

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Instruction
from modelyard.core.jobs.store import JobStore
from modelyard.worker.v1 import worker_service_pb2 as pb
from modelyard.worker.v1 import worker_service_pb2_grpc as rpc

_INSTRUCTIONS = {
    Instruction.CONTINUE: pb.ReportResponse.INSTRUCTION_CONTINUE,
    Instruction.STOP: pb.ReportResponse.INSTRUCTION_STOP,
    Instruction.CANCEL: pb.ReportResponse.INSTRUCTION_CANCEL,
}


def hash_token(token: str) -> str:
    """The token as it is stored: whoever reads the database cannot speak for a worker."""
    return hashlib.sha256(token.encode()).hexdigest()


class WorkerServicer(rpc.WorkerServiceServicer):
    """Converts, calls the store, converts."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def GetAssignment(self, request: pb.GetAssignmentRequest, context: Any) -> pb.GetAssignmentResponse:
        job = self._store.assign(request.identity.job, **_identity(request.identity))
        return pb.GetAssignmentResponse(
            kind=job.kind,
            spec=convert.struct(job.spec),
            saved=convert.struct(job.saved or {}),
            elapsed=convert.duration(job.running_seconds),
        )

    def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportResponse:
        progress = convert.progress_document(request.progress) if request.HasField("progress") else None
        saved = convert.document(request.saved) if request.HasField("saved") else None
        events = [convert.document(event) for event in request.events]
        job = self._store.report(
            request.identity.job,
            **_identity(request.identity),
            progress=progress,
            saved=saved,
            events=events,
            report_id=request.report_id[:64],
        )
        return pb.ReportResponse(instruction=_INSTRUCTIONS[job.instruction])

    def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        identity = _identity(request.identity)
        self._store.complete(request.identity.job, **identity, result=convert.document(request.result), reason=request.reason)
        return pb.CompleteResponse()

    def Fail(self, request: pb.FailRequest, context: Any) -> pb.FailResponse:
        self._store.fail(request.identity.job, convert.error_document(request.error), **_identity(request.identity))
        return pb.FailResponse()


def _identity(identity: pb.WorkerIdentity) -> dict[str, Any]:
    return {"attempt": identity.attempt, "token_hash": hash_token(identity.token)}
