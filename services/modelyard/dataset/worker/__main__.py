"""python -m modelyard.dataset.worker: one import, quality report, publication or export."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import sys
import time
from dataclasses import replace

from modelyard.core import errors
from modelyard.core.artifacts import disk_full
from modelyard.core.documents import from_document, to_document
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker
from modelyard.core.names import IMPORT
from modelyard.dataset.domain.work import Work
from modelyard.dataset.handlers import kinds

_READY = "modelyard.dataset.worker.ready"


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Does what the assignment says."""
    try:
        return Completion(_run(assignment, link, _wires(link)))
    except errors.Cancelled as error:
        raise Cancelled from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise disk_full("the folder for temporary files") from error


def _run(assignment: Assignment, link: WorkerLink, wires: Work) -> dict[str, object]:
    from modelyard.dataset.domain.records import ExportSpec, ImportSpec, ReportSpec, VersionSpec

    if assignment.kind == kinds.IMPORT:
        from modelyard.dataset.worker import import_job  # each job loads what it needs, and no more

        spec = from_document(assignment.spec, ImportSpec)
        return to_document(import_job.run(spec, link.artifacts, link.workdir, wires))
    if assignment.kind == kinds.QUALITY_REPORT:
        from modelyard.dataset.worker import report_job
        from modelyard.dataset.worker.memory import StoredMemory

        report = from_document(assignment.spec, ReportSpec)
        memory = StoredMemory(link.artifacts, link.workdir, assignment.saved, lambda saved: link.report(saved=saved))
        try:
            made = to_document(report_job.run(report, link.artifacts, link.workdir, replace(wires, memory=memory)))
        except errors.Cancelled:  # also when the server stops: the attempt that follows wants it
            raise
        except Exception:
            memory.forget()
            raise
        memory.forget()
        return made
    if assignment.kind == kinds.DATASET_VERSION:
        from modelyard.dataset.worker import publish_job

        version = from_document(assignment.spec, VersionSpec)
        return to_document(publish_job.run(version, link.artifacts, link.workdir, wires))
    if assignment.kind == kinds.DATASET_EXPORT:
        from modelyard.dataset.worker import export_job

        export = from_document(assignment.spec, ExportSpec)
        return to_document(export_job.run(export, link.artifacts, link.workdir, wires))
    raise errors.Unimplemented("UNKNOWN_KIND", f"this worker does not do {assignment.kind!r}", kind=assignment.kind)


def _wires(link: WorkerLink) -> Work:
    start = time.monotonic()

    def report(stage: str, done: int, total: int, unit: str, fraction: float) -> None:
        elapsed = time.monotonic() - start
        eta_s = elapsed * (1 - fraction) / fraction if fraction > 0.02 else None
        link.report(stage=stage, fraction=fraction, done=done, total=total, unit=unit, eta_s=eta_s)

    return Work(report, lambda: link.instruction() == "cancel")


def _make_ready() -> None:
    """An import that no upload went before has had no process waiting for it (worker/ready.py): it forks those that read pictures
    here, while this one has no thread and no connection."""
    if IMPORT.matches(json.loads(os.environ["MODELYARD_JOB"])["job"]) and _READY not in sys.modules:
        importlib.import_module(_READY).prepare(sys.maxsize)


if __name__ == "__main__":
    _make_ready()
    status = run_worker(work)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # taking down all that was imported takes longer than much of the work
