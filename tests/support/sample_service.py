"""A service with one kind of job, `sample` (tests.support.sample_worker): python -m tests.support.sample_service.

Jobs are submitted and read over HTTP on port 8080, which saves the tests a contract of their own:
POST /jobs {"name", "spec", "flavor"}; GET /jobs/NAME; POST /jobs/NAME/cancel; GET /logs/NAME.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.jobs.job import Job, JobKind
from modelyard.core.jobs.logs import LogPiece
from modelyard.core.platform import Host, Platform, open_platform, serve_until_signalled
from modelyard.core.rpc.logs import configure_logs
from modelyard.core.rpc.loop import run
from modelyard.core.settings import CoreSettings

PARENT = "projects/default"


def shown(job: Job) -> dict[str, Any]:
    """A job as the tests read it."""
    fields = ("name", "reason", "attempt", "progress", "saved", "result", "error", "labels", "running_seconds")
    return {"state": job.state.value, **{field: getattr(job, field) for field in fields}}


class Handler(BaseHTTPRequestHandler):
    """The calls above."""

    platform: Platform

    def do_GET(self) -> None:
        kind, name = self.path[1:].split("/", 1) if "/" in self.path[1:] else (self.path[1:], "")
        if kind == "logs":
            pieces: list[LogPiece] = []
            while more := self.platform.job_logs.read(f"{PARENT}/samples/{name}", pieces[-1].sequence if pieces else 0):
                pieces.extend(more)
            text = [{"attempt": piece.attempt, "node": piece.node, "text": piece.data.decode()} for piece in pieces]
            return self._answer(200, text)
        return self._try(lambda: shown(self.platform.jobs.get(f"{PARENT}/samples/{name}")))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        jobs = self.platform.jobs
        if self.path.endswith("/cancel"):
            name = self.path.removeprefix("/jobs/").removesuffix("/cancel")
            return self._try(lambda: shown(jobs.cancel(f"{PARENT}/samples/{name}")))
        name, flavor = f"{PARENT}/samples/{body['name']}", body.get("flavor", "")
        return self._try(lambda: shown(jobs.submit(name, "sample", parent=PARENT, spec=body["spec"], instance_flavor=flavor)))

    def _try(self, function: Any) -> None:
        try:
            self._answer(200, function())
        except ModelyardError as error:
            self._answer(400, {"reason": error.reason, "message": error.message})

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document, default=dict).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


def main() -> int:
    """Serve until a signal."""
    settings = CoreSettings()
    configure_logs(settings.log_format, settings.log_level)
    limits = JobLimits(heartbeat_timeout_s=float(os.environ.get("SAMPLE_HEARTBEAT_S", "120")), cancel_grace_s=10)
    platform = open_platform(settings, "sample", limits)
    module = "tests.support.sample_worker"
    platform.jobs.register(JobKind("sample", "sample", worker_module=module, slots=16, distributed=True))
    Handler.platform = platform
    server = ThreadingHTTPServer(("", 8080), Handler)  # a test's own cluster
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run(serve_until_signalled(Host(platform, [], ["sample"]), lambda address: print("ready", address, flush=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
