"""What all jobs have in common: the machines they may run on, and what their workers write."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from modelyard.client._async.resource import AsyncResource
from modelyard.client._channels import JOBS_SERVICE, backoff_s
from modelyard.client.errors import Cancelled, InvalidArgument, Unavailable
from modelyard.jobs.v1 import jobs_service_pb2

# The service that runs the jobs of a collection.
SERVICES: Final = {
    "imports": "dataset",
    "qualityReports": "dataset",
    "versions": "dataset",
    "trainingJobs": "trainer",
    "exports": "exporter",
    "latencyProfiles": "exporter",
    "evaluations": "evaluator",
    "pipelineRuns": "pipeline",
    "reevaluationRuns": "pipeline",
}


class AsyncJobs(AsyncResource):
    """Jobs are given by full names; without the project and with its collection (`exports/ID`) will do."""

    service = "trainer"

    async def list_instance_flavors(self, service: str = "trainer") -> Sequence[jobs_service_pb2.InstanceFlavor]:
        """The sizes of machine that jobs of a service may ask for; the first is the default."""
        request, answer = jobs_service_pb2.ListInstanceFlavorsRequest(), jobs_service_pb2.ListInstanceFlavorsResponse
        settings = self._transport.settings
        found = await self._transport.unary(service, JOBS_SERVICE, "ListInstanceFlavors", request, answer, settings.timeout_s)
        return list(found.instance_flavors)

    async def get_job_log(self, job: str) -> Sequence[jobs_service_pb2.LogPiece]:
        """What the workers of a job have written so far, as far as it is kept."""
        name, service = self._job(job)
        request = jobs_service_pb2.GetJobLogRequest(name=name)
        pieces: list[jobs_service_pb2.LogPiece] = []
        while True:
            answer, timeout_s = jobs_service_pb2.GetJobLogResponse, self._transport.settings.timeout_s
            page = await self._transport.unary(service, JOBS_SERVICE, "GetJobLog", request, answer, timeout_s)
            pieces.extend(page.pieces)
            if not page.next_after_sequence:
                return pieces
            request.after_sequence = page.next_after_sequence

    async def watch_job_log(self, job: str, *, after_sequence: int = 0) -> AsyncIterator[jobs_service_pb2.LogPiece]:
        """What the workers have written, then what they write, until the job has ended; a stream that breaks is gone on with."""
        name, service = self._job(job)
        settings = self._transport.settings
        request = jobs_service_pb2.WatchJobLogRequest(name=name, after_sequence=after_sequence)
        heard, failures = time.monotonic(), 0
        while True:
            try:
                answer = jobs_service_pb2.WatchJobLogResponse
                async for message in self._transport.stream(service, JOBS_SERVICE, "WatchJobLog", request, answer, None):
                    heard, failures = time.monotonic(), 0
                    for piece in message.pieces:
                        request.after_sequence = piece.sequence
                        yield piece
                return
            except (Unavailable, Cancelled) as error:
                if time.monotonic() - heard > settings.watch_patience_s:
                    raise
                failures += 1
                await self._transport.sleep(backoff_s(failures, settings, error.retry_after_s))

    def _job(self, job: str) -> tuple[str, str]:
        """The full name of a job, and its service."""
        parts = job.strip("/").split("/")
        full = parts if parts[0] == "projects" else ["projects", self.names.project, *parts]
        service = SERVICES.get(full[-2], "") if len(full) >= 4 and len(full) % 2 == 0 else ""
        if full[2:3] == ["datasets"]:
            service = "dataset"
        if not service:
            known = ", ".join(f"{collection}/ID" for collection in ("trainingJobs", "exports", "evaluations"))
            raise InvalidArgument(f"job is {job!r}; give {known}, or a full name", reason="INVALID_NAME", values={"job": job})
        return "/".join(full), service
