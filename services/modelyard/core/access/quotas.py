"""Quotas of projects, from MODELYARD_QUOTAS_FILE, and what is used of them in the database of a service.

    defaults: {jobs_running: 4, jobs_queued: 50}
    projects:
      flowers: {gpus: 2, artifact_bytes: 100GiB, endpoints: 10, upload_bytes: 2GiB}

A service counts what is its own: jobs of its kinds, artifacts of its namespaces. Jobs beyond `jobs_running` or `gpus` wait in the
queue; what would go beyond the others is refused with RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Text, func, select, type_coerce

from modelyard.core.access.audit import project_of
from modelyard.core.access.documents import WatchedFile, table
from modelyard.core.artifacts import parse_uri
from modelyard.core.database import job as job_table
from modelyard.core.database import reading, resource, upload
from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.names import ENDPOINT

QUOTAS: Final = ("jobs_running", "jobs_queued", "gpus", "artifact_bytes", "endpoints", "upload_bytes")
COUNT_AGAIN_S: Final = 30.0
"""How old the count of a project's bytes may be."""
NO_LIMIT: Final = -1
_SIZE: Final = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|TiB)?")
_FACTORS: Final = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_WAITING, _RUNNING = JobState.QUEUED.value, JobState.RUNNING.value

Limits = Mapping[str, int]


class Quotas:
    """What projects may use: `admit` and the others raise ResourceExhausted QUOTA_EXCEEDED, naming quota, value and use."""

    def __init__(
        self,
        engine: Engine,
        namespaces: Collection[str],
        path: Path | None,
        *,
        gpus_of: Callable[[Job], int] = lambda job: 0,
        is_worker: Callable[[str], bool] = lambda kind: True,
    ) -> None:
        """`gpus_of` a job; `is_worker`: whether jobs of a kind compute (and do not only wait for others, as pipelines do).

        Raises InvalidArgument BAD_FILE.
        """
        self._engine, self._namespaces = engine, frozenset(namespaces)
        self._file = WatchedFile(path, _read) if path is not None else None
        self._gpus_of, self._is_worker = gpus_of, is_worker
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._running: dict[str, dict[str, int]] = {}
        self._bytes: dict[str, tuple[float, int]] = {}

    def limits(self, project: str) -> Limits:
        """The limits of a project; what is not in it has none."""
        if self._file is None:
            return {}
        defaults, projects = self._file.content()
        return {**defaults, **projects.get(project, {})}

    def use(self, project: str) -> list[tuple[str, int, int]]:
        """Every quota with its limit (-1: none) and what is used."""
        limits = self.limits(project)
        with reading(self._engine) as connection:
            counts = self._counts(connection, project)
            counts["endpoints"] = _endpoints(connection, project)
        counts["artifact_bytes"] = self._artifact_bytes(project)
        return [(quota, limits.get(quota, NO_LIMIT), counts.get(quota, 0)) for quota in QUOTAS]

    def admit(self, connection: Connection, job: Job) -> None:
        """Whether a job may be written down: called in the transaction that does so."""
        project = project_of(job.name)
        limits = self.limits(project)
        if not limits or not self._is_worker(job.kind):
            return
        gpus = self._gpus_of(job)
        if "gpus" in limits and gpus > limits["gpus"]:
            raise _exceeded(project, "gpus", limits["gpus"], gpus, f"the job needs {gpus}")
        if limits.get("jobs_running") == 0:
            raise _exceeded(project, "jobs_running", 0, 0, "no job may run")
        if "jobs_queued" in limits:
            counts = self._counts(connection, project)
            running, waiting = counts["jobs_running"], counts["jobs_queued"]
            free = max(0, limits["jobs_running"] - running) if "jobs_running" in limits else 0
            if waiting >= limits["jobs_queued"] + free:
                raise _exceeded(project, "jobs_queued", limits["jobs_queued"], waiting, f"{running} run and {waiting} wait")
        if "artifact_bytes" in limits and (used := self._artifact_bytes(project)) >= limits["artifact_bytes"]:
            raise _exceeded(project, "artifact_bytes", limits["artifact_bytes"], used, "delete something first")

    def enter(self, job: Job) -> bool:
        """Whether a job may run now; then it is counted until `leave`."""
        project = project_of(job.name)
        limits, gpus = self.limits(project), self._gpus_of(job)
        with self._lock:
            running = self._running.setdefault(project, {})
            if job.name in running:
                return True
            if len(running) >= limits.get("jobs_running", len(running) + 1):
                return False
            if gpus and sum(running.values()) + gpus > limits.get("gpus", sum(running.values()) + gpus):
                return False
            running[job.name] = gpus
            return True

    def leave(self, name: str) -> None:
        """The job does not run any more."""
        with self._lock:
            self._running.get(project_of(name), {}).pop(name, None)

    def upload_room(self, project: str, announced: int) -> int | None:
        """How many bytes an upload may have at most; None: any number."""
        limits = self.limits(project)
        room = limits.get("upload_bytes")
        if room is not None and announced > room:
            raise _exceeded(project, "upload_bytes", room, announced, "send less at once")
        if "artifact_bytes" in limits:
            used = self._artifact_bytes(project)
            left = limits["artifact_bytes"] - used
            if left <= 0 or announced > left:
                raise _exceeded(project, "artifact_bytes", limits["artifact_bytes"], used, f"{announced} more would come")
            room = left if room is None else min(room, left)
        return room

    def too_much(self, project: str, size: int) -> ResourceExhausted:
        """The error for an upload that is larger than its room."""
        limits = self.limits(project)
        quota = "upload_bytes" if size > limits.get("upload_bytes", size) else "artifact_bytes"
        return _exceeded(project, quota, limits.get(quota, 0), size, "the upload is larger")

    def admit_endpoint(self, parent: str) -> None:
        """Whether a project may have one more endpoint."""
        project = project_of(parent)
        limit = self.limits(project).get("endpoints")
        if limit is None:
            return
        with reading(self._engine) as connection:
            used = _endpoints(connection, project)
        if used >= limit:
            raise _exceeded(project, "endpoints", limit, used, "delete one first")

    def admission(self) -> dict[str, Callable[[Any], None]]:
        """What is asked before a method runs, by path."""
        return {"/modelyard.serving.v1.ServingService/CreateEndpoint": lambda request: self.admit_endpoint(request.parent)}

    def _counts(self, connection: Connection, project: str) -> dict[str, int]:
        columns = (job_table.c.name, job_table.c.kind, job_table.c.state, job_table.c.labels)
        query = select(*columns).where(
            job_table.c.state.in_((_WAITING, _RUNNING)), job_table.c.name.like(f"projects/{project}/%")
        )
        rows = [row for row in connection.execute(query) if self._is_worker(row.kind)]
        running = [row for row in rows if row.state == _RUNNING]
        with self._lock:
            gpus = sum(self._running.get(project, {}).values())
        return {"jobs_running": len(running), "jobs_queued": len(rows) - len(running), "gpus": gpus}

    def _artifact_bytes(self, project: str) -> int:
        with self._counting:  # who asks meanwhile waits for this count instead of making the same one
            at, counted = self._bytes.get(project, (-math.inf, 0))
            if time.monotonic() - at > COUNT_AGAIN_S:
                with reading(self._engine) as connection:
                    sizes = dict(self._blobs(connection, project))
                counted = sum(sizes.values())
                self._bytes[project] = (time.monotonic(), counted)
            return counted

    def added(self, project: str, size: int) -> None:
        """Bytes were stored: counted at once, until they are counted anew."""
        at, counted = self._bytes.get(project, (-math.inf, 0))
        self._bytes[project] = (at, counted + size)

    def _blobs(self, connection: Connection, project: str) -> Iterator[tuple[str, int]]:
        """Artifacts of our namespaces that the project's documents name, or that it uploaded, with their sizes."""
        for sent in connection.execute(select(upload.c.uri, upload.c.size_bytes).where(upload.c.project == project)):
            yield sent.uri, sent.size_bytes
        for columns in ((resource.c.document,), (job_table.c.spec, job_table.c.saved, job_table.c.result)):
            of = columns[0].table
            texts = [type_coerce(column, Text) for column in columns]
            query = select(*texts).where(of.c.name.like(f"projects/{project}/%")).execution_options(yield_per=500)
            for row in connection.execute(query):
                for text in row:
                    if text:
                        yield from self._in_text(text)

    def _in_text(self, text: str) -> Iterator[tuple[str, int]]:
        """What a document names, found in its text: parsing all of a project's documents took seconds at a thousand runs. An
        artifact is an object without others in it, so what is around its uri is parsed alone; if that is not it, all is."""
        at = text.find('"artifact://')
        while at >= 0:
            begin, end = text.rfind("{", 0, at), text.find("}", at) + 1
            try:
                found = json.loads(text[begin:end])
            except ValueError:
                yield from self._in_document(json.loads(text))
                return
            yield from self._in_document(found)
            at = text.find('"artifact://', end)

    def _in_document(self, value: Any) -> Iterator[tuple[str, int]]:
        if isinstance(value, dict):
            uri, size = value.get("uri"), value.get("size_bytes")
            if isinstance(uri, str) and isinstance(size, int) and uri.startswith("artifact://") and self._is_own(uri):
                yield uri, size
            for item in value.values():
                yield from self._in_document(item)
        elif isinstance(value, list):
            for item in value:
                yield from self._in_document(item)

    def _is_own(self, uri: str) -> bool:
        try:
            return parse_uri(uri)[0] in self._namespaces
        except InvalidArgument:
            return False


def _endpoints(connection: Connection, project: str) -> int:
    query = select(func.count()).where(resource.c.collection == ENDPOINT.collection, resource.c.parent == f"projects/{project}")
    return int(connection.scalar(query) or 0)


def _exceeded(project: str, quota: str, limit: int, used: int, why: str) -> ResourceExhausted:
    message = f"the quota {quota} of projects/{project} is {limit}, used are {used}: {why}"
    error = ResourceExhausted("QUOTA_EXCEEDED", message, quota=quota, limit=limit, used=used, project=project)
    error.subject, error.quota = f"projects/{project}", quota
    return error


def _read(document: Any, where: str) -> tuple[Limits, Mapping[str, Limits]]:
    content = table(document, where)
    unknown = set(content) - {"defaults", "projects"}
    if unknown:
        raise InvalidArgument("BAD_FILE", f"{where} has {', '.join(sorted(unknown))}; known are defaults and projects")
    projects = table(content.get("projects") or {}, f"{where}: projects")
    found = {name: _limits(limits, f"{where}: projects.{name}") for name, limits in projects.items()}
    return _limits(content.get("defaults") or {}, f"{where}: defaults"), found


def _limits(document: Any, where: str) -> Limits:
    found = {}
    for quota, value in table(document, where).items():
        match = _SIZE.fullmatch(str(value))
        if quota not in QUOTAS or match is None:
            message = f"{where}.{quota[:60]} is {str(value)[:60]!r}; quotas are {', '.join(QUOTAS)}, whole numbers or 10GiB"
            raise InvalidArgument("BAD_FILE", message, field="quotas_file")
        found[quota] = int(match[1]) * _FACTORS[match[2]]
    return found
