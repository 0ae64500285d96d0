"""The worker's side of a job: fetch the assignment, report progress, hear instructions, complete or fail.

A worker's main module is

    def work(assignment: Assignment, link: WorkerLink) -> Completion: ...

    if __name__ == "__main__":
        sys.exit(run_worker(work))

`report` is cheap: it only notes; one background thread sends what was noted, at most every REPORT_EVERY_S, and a heartbeat
at least every HEARTBEAT_EVERY_S. The lifeline pipe ends the worker when the server that started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from modelyard.client.access import Access
from modelyard.client.channels import open_channel
from modelyard.core.artifacts import ArtifactStore, open_store
from modelyard.core.errors import ModelyardError
from modelyard.core.jobs import convert
from modelyard.core.jobs.process_runner import LIFELINE, WORK_FOLDER
from modelyard.core.jobs.worker_settings import WorkerSettings, worker_settings
from modelyard.core.rpc import tracing
from modelyard.core.rpc.status import error_of
from modelyard.worker.v1 import worker_service_pb2 as pb
from modelyard.worker.v1 import worker_service_pb2_grpc as rpc

if TYPE_CHECKING:
    from modelyard.core.settings import CoreSettings

REPORT_EVERY_S = 0.25
HEARTBEAT_EVERY_S = 5.0
LONGEST_WAIT_S = 5.0
# What a service may answer that stops, starts, or cannot reach its database: the same call works later.
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
# What may be a call that was cut off, or a bug: tried again, but not for long.
DOUBTFUL, DOUBTFUL_S = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), 60.0
EXIT_STALE, EXIT_ORPHANED, EXIT_CANCELLED, EXIT_ERROR = 3, 4, 5, 6

log = logging.getLogger("modelyard.worker")


class Cancelled(Exception):
    """Raise it (from work) when the instruction is "cancel": the worker exits, nothing is completed."""


@dataclass(frozen=True)
class Assignment:
    """What to do. `saved` is what an earlier attempt reported last as saved; `elapsed_s` the time earlier attempts ran."""

    job: str
    kind: str
    attempt: int
    spec: dict[str, Any]
    saved: dict[str, Any]
    elapsed_s: float


@dataclass(frozen=True)
class Completion:
    """What came of it."""

    result: dict[str, Any]
    reason: str = "COMPLETED"


class WorkerLink:
    """The connection to the service that started this worker."""

    def __init__(
        self, identity: dict[str, Any], settings: WorkerSettings | CoreSettings, over: Callable[[], int] = lambda: EXIT_STALE
    ) -> None:
        """over: called when the service says that this attempt is over; gives the status to exit with, at once."""
        self._over = over
        self._identity = pb.WorkerIdentity(job=identity["job"], attempt=identity["attempt"], token=identity["token"])
        self._service = identity["service"]
        self._settings = settings
        options = [
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.enable_http_proxy", 0),
            # A service that moved to another node has another address: look for it often.
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.keepalive_time_ms", 60_000),
        ]
        self._channel = open_channel(identity["address"], Access(ca=settings.tls_ca), options)
        self._stub = rpc.WorkerServiceStub(self._channel)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._noted = pb.ReportRequest(identity=self._identity)
        self._instruction = "continue"
        self._wake = threading.Event()
        self._closed = False
        self._last_sent = time.monotonic()
        self.workdir = _work_folder()

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """The artifact store, in the namespace of the service that started this worker."""
        patience_s = self._settings.worker_patience_s
        return open_store(self._settings.artifacts_url_or_default(), self._service, self._settings, patience_s=patience_s)

    def assignment(self) -> Assignment:
        """Fetch what to do, and begin to send heartbeats."""
        answer = self._call(self._stub.GetAssignment, pb.GetAssignmentRequest(identity=self._identity))
        threading.Thread(target=self._send_until_closed, name="worker-link", daemon=True).start()
        return Assignment(
            job=self._identity.job,
            kind=answer.kind,
            attempt=self._identity.attempt,
            spec=convert.document(answer.spec),
            saved=convert.document(answer.saved),
            elapsed_s=answer.elapsed.ToNanoseconds() / 1e9,
        )

    def report(
        self,
        *,
        stage: str | None = None,
        fraction: float = 0.0,
        done: int = 0,
        total: int = 0,
        unit: str = "",
        eta_s: float | None = None,
        events: Sequence[dict[str, Any]] = (),
        saved: dict[str, Any] | None = None,
    ) -> None:
        """Note progress (when `stage` is given), events, and what a later attempt needs. Sent soon by the background thread."""
        with self._lock:
            if stage is not None:
                progress = {"stage": stage, "fraction": fraction, "done": done, "total": total, "unit": unit, "eta_s": eta_s}
                self._noted.progress.CopyFrom(convert.progress_message(progress))
            self._noted.events.extend(convert.struct(event) for event in events)
            if saved is not None:
                self._noted.saved.CopyFrom(convert.struct(saved))

    def flush(self) -> None:
        """Send what was noted now, and wait until the service has it."""
        self._send()

    def instruction(self) -> str:
        """What the service last said: "continue", "stop" (save, complete with reason STOPPED) or "cancel" (raise Cancelled)."""
        return self._instruction

    def complete(self, completion: Completion) -> None:
        """Send what is left, then the result."""
        self.flush()
        request = pb.CompleteRequest(identity=self._identity, result=convert.struct(completion.result), reason=completion.reason)
        self._call(self._stub.Complete, request)

    def fail(self, error: BaseException) -> None:
        """Send why the work cannot be done."""
        with contextlib.suppress(grpc.RpcError):
            self.flush()
        self._call(self._stub.Fail, pb.FailRequest(identity=self._identity, error=convert.error_status(error_of(error))))

    def close(self) -> None:
        """End the background thread and remove the work folder."""
        self._closed = True
        self._wake.set()
        self._channel.close()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def cancel(self) -> None:
        """Act as if the service had said cancel (SIGTERM)."""
        self._instruction = "cancel"

    def _send_until_closed(self) -> None:
        while not self._closed:
            self._wake.wait(REPORT_EVERY_S)
            silent_s = time.monotonic() - self._last_sent
            if not self._closed and (self._something_noted() or silent_s > HEARTBEAT_EVERY_S):
                self._send_or_exit()

    def _send_or_exit(self) -> None:
        """Without its service a worker works for nobody: the attempt that follows goes on from what was reported last."""
        try:
            self._send()
        except Exception:
            if not self._closed:
                log.exception("the service is lost")
                os._exit(EXIT_ORPHANED)

    def _something_noted(self) -> bool:
        with self._lock:
            return self._noted.HasField("progress") or self._noted.HasField("saved") or bool(self._noted.events)

    def _send(self) -> None:
        with self._sending:
            with self._lock:
                request, self._noted = self._noted, pb.ReportRequest(identity=self._identity)
            request.report_id = uuid.uuid4().hex
            answer = self._call(self._stub.Report, request)
            self._last_sent = time.monotonic()
            if self._instruction != "cancel":
                self._instruction = {2: "stop", 3: "cancel"}.get(answer.instruction, "continue")

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        """Call, with patience while the service is away. A stale worker exits at once: somebody else does its job now."""
        start, patience_s = time.monotonic(), self._settings.worker_patience_s
        wait_s = 0.1
        while True:
            try:
                return method(request, timeout=60.0)
            except grpc.RpcError as error:
                code = error.code()
                if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED):
                    log.error("this attempt is over: %s", error.details())
                    os._exit(self._over())
                longest_s = patience_s if code in PASSING else min(patience_s, DOUBTFUL_S) if code in DOUBTFUL else 0.0
                if time.monotonic() - start > longest_s:
                    raise
                if wait_s == LONGEST_WAIT_S:
                    log.warning("the service does not answer; waiting: %s", error.details())
                time.sleep(wait_s)
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)


def _work_folder() -> Path:
    """The folder that the engine gives an attempt and removes after it; in a pod, which has none, one of its own."""
    given = os.environ.get(WORK_FOLDER, "")
    if not given:
        return Path(tempfile.mkdtemp(prefix="modelyard-"))
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # torchrun starts its processes again in the same pod
    return folder


def run_worker(work: Callable[[Assignment, WorkerLink], Completion], over: Callable[[], int] = lambda: EXIT_STALE) -> int:
    """The whole life of a worker process. Gives the exit status. over: as for WorkerLink."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    identity, settings = json.loads(os.environ["MODELYARD_JOB"]), worker_settings()
    link = WorkerLink(identity, settings, over)
    _hold_lifeline(link)
    signal.signal(signal.SIGTERM, lambda *_: link.cancel())
    tracing.start(settings.tracing_endpoint, "worker")
    parent = {key: os.environ[key.upper()] for key in tracing.CARRIED if key.upper() in os.environ}
    try:
        of = {"modelyard.job": identity["job"], "modelyard.attempt": identity["attempt"]}
        with tracing.span("attempt", parent=parent, **of):
            return _work(work, link)
    finally:
        link.close()
        tracing.stop()


def _work(work: Callable[[Assignment, WorkerLink], Completion], link: WorkerLink) -> int:
    try:
        link.complete(work(link.assignment(), link))
    except Cancelled:
        log.info("cancelled")
        return EXIT_CANCELLED
    except ModelyardError as error:
        log.info("failed: %s: %s", error.reason, error.message)
        link.fail(error)
    except Exception as error:
        log.exception("failed")
        link.fail(error)
        return EXIT_ERROR
    return 0


def _hold_lifeline(link: WorkerLink) -> None:
    """Exit when the server that started this process is gone. Pods have no lifeline: there the service may come back."""
    number = os.environ.pop(LIFELINE, "")
    if number:
        threading.Thread(target=_wait_for_end_of_server, args=(int(number), link), name="lifeline", daemon=True).start()


def _wait_for_end_of_server(lifeline: int, link: WorkerLink) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    shutil.rmtree(link.workdir, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)  # the group is this worker's own: take what it started along
    os._exit(EXIT_ORPHANED)
