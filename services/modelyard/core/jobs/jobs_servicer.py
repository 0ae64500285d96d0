"""modelyard.jobs.v1.JobsService: flavors and logs of the jobs of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs import convert
from modelyard.core.jobs.flavors import Flavor, Flavors
from modelyard.core.jobs.job import Job
from modelyard.core.jobs.logs import PIECES_AT_ONCE, JobLogs, LogPiece
from modelyard.jobs.v1 import jobs_service_pb2 as pb
from modelyard.jobs.v1 import jobs_service_pb2_grpc as rpc

LOOK_EVERY_S = 0.5


class Jobs(Protocol):
    """What is needed of the engine."""

    flavors: Flavors

    @property
    def stopping(self) -> bool:
        """Whether this server stops."""

    def get(self, name: str) -> Job:
        """Raises NotFound."""


class JobsServicer(rpc.JobsServiceServicer):
    """Converts, reads, converts."""

    def __init__(self, jobs: Jobs, logs: JobLogs) -> None:
        self._jobs = jobs
        self._logs = logs

    def ListInstanceFlavors(self, request: pb.ListInstanceFlavorsRequest, context: Any) -> pb.ListInstanceFlavorsResponse:
        return pb.ListInstanceFlavorsResponse(instance_flavors=[_flavor(flavor) for flavor in self._jobs.flavors.known])

    def GetJobLog(self, request: pb.GetJobLogRequest, context: Any) -> pb.GetJobLogResponse:
        self._jobs.get(request.name)
        pieces = self._logs.read(request.name, _checked(request.after_sequence))
        more = pieces[-1].sequence if len(pieces) == PIECES_AT_ONCE else 0
        return pb.GetJobLogResponse(pieces=_pieces(pieces), next_after_sequence=more)

    async def WatchJobLog(self, request: pb.WatchJobLogRequest, context: Any) -> AsyncIterator[pb.WatchJobLogResponse]:
        after = _checked(request.after_sequence)
        while not self._jobs.stopping:
            ended = (await asyncio.to_thread(self._jobs.get, request.name)).state.terminal
            while pieces := await asyncio.to_thread(self._logs.read, request.name, after):
                after = pieces[-1].sequence
                yield pb.WatchJobLogResponse(pieces=_pieces(pieces))
            if ended:
                return
            await asyncio.sleep(LOOK_EVERY_S)


def _checked(after: int) -> int:
    if after < 0:
        message = f"after_sequence is {after}; it must be 0 or more"
        raise InvalidArgument("NEGATIVE_SEQUENCE", message, field="after_sequence", value=after)
    return after


def _pieces(pieces: Iterable[LogPiece]) -> list[pb.LogPiece]:
    return [
        pb.LogPiece(
            sequence=piece.sequence,
            attempt=piece.attempt,
            node=piece.node,
            offset=piece.offset,
            time=convert.timestamp(piece.time),
            data=piece.data,
        )
        for piece in pieces
    ]


def _flavor(flavor: Flavor) -> pb.InstanceFlavor:
    return pb.InstanceFlavor(
        name=flavor.name,
        description=flavor.description,
        cpu_cores=flavor.cores,
        memory_bytes=flavor.memory_bytes,
        gpu_count=flavor.gpu,
        gpu_resource=flavor.gpu_resource if flavor.gpu else "",
        node_count=flavor.nodes,
        max_run_time=convert.duration(flavor.max_seconds or None),
        max_wait_time=convert.duration(flavor.max_wait_seconds or None),
        default_for=flavor.default_for,
    )
