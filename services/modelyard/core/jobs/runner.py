"""The port behind which attempts of jobs run: as processes of this machine, or as Jobs of a Kubernetes cluster.

A runner starts what it is ordered to; the worker itself says by gRPC what came of it (WorkerService). The runner only tells
whether the attempt waits, runs or has ended, and why, where the worker could not say so: it was evicted, or had no memory left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.job import Document

IDENTITY = "MODELYARD_JOB"
"""Environment variable of a worker: JSON with job, attempt, token, address and service. It is a secret."""


@dataclass(frozen=True)
class Order:
    """An attempt that is to run. `identity` is the value of MODELYARD_JOB, empty where an attempt is only looked for."""

    job: str
    kind: str
    service: str
    attempt: int
    module: str
    flavor: Flavor
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    distributed: bool = False


class Stage(StrEnum):
    """Where an attempt is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True)
class RunStatus:
    """What is known of an attempt.

    `reason` (UPPER_SNAKE_CASE) and `message` say what a waiting attempt waits for. Of an ended one whose worker said nothing:
    `disrupted` means that it was no fault of the worker's (its node was lost or drained), so that it may start again without
    counting; `error` (a document as in Job.error) means that another attempt would end alike, so that the job fails.
    """

    stage: Stage
    reason: str = ""
    message: str = ""
    disrupted: bool = False
    error: Document | None = None


RUNNING = RunStatus(Stage.RUNNING)


@dataclass(frozen=True)
class Output:
    """Bytes that a worker wrote to stdout and stderr: `node` is 0 or its index, `offset` where they stand in all it wrote."""

    node: int
    offset: int
    data: bytes


class Run(Protocol):
    """An attempt that was started or adopted. Used by one thread."""

    def status(self) -> RunStatus:
        """What is known of it now. Never raises for what may pass: it says that it waits, or what it knew before."""

    def output(self) -> Sequence[Output]:
        """What the workers wrote since the last call."""

    def ask_to_end(self) -> None:
        """Tell the worker to save what it can and exit."""

    def end(self, grace_s: float, *, decided: bool) -> None:
        """Make sure that nothing of it goes on. `decided`: the worker said what came of it, so it is about to exit by itself."""

    def leave(self, grace_s: float) -> None:
        """This server stops: end what cannot live without it, leave what can."""


class Runner(Protocol):
    """Where attempts run. Every adapter passes tests/contract/core/test_runners.py."""

    def prepare(self) -> None:
        """Called once, before the first attempt: removes what an earlier server left that nobody can adopt."""

    def start(self, order: Order) -> Run:
        """Start an attempt. What prevents it for now shows in the run's status; ModelyardErrors fail the job."""

    def adopt(self, order: Order, stored: Mapping[int, int]) -> Run | None:
        """The attempt that an earlier server started, if it can be followed; else None, and nothing of it goes on.

        `stored`: how many bytes of its output are known already, by node.
        """

    def discard(self, order: Order) -> None:
        """Make sure that nothing of an attempt goes on. Does nothing where there is none."""

    def expect(self, module: str, size_bytes: int) -> None:
        """An attempt of a module is likely to come soon, which may have to read so much (0: unknown): what can be begun before
        may begin. Never raises."""

    def close(self) -> None:
        """This server stops: what was begun for attempts that have not come ends."""
