"""Ports of the dataset service, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, PermissionDenied
from modelyard.core.jobs.job import Document, Instruction, Job, JobChange, JobPage, JobState
from modelyard.core.resources import Page, Resource
from modelyard.dataset.domain.records import LocalFolder
from modelyard.dataset.ports import ExampleLook, ExampleRow, Look, Selection, Use
from modelyard.formats.dataset import DatasetDescriptor

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeJobs:
    """Jobs that run only when a test says so."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._requests: dict[tuple[str, str], str] = {}

    def submit(
        self,
        name: str,
        kind: str,
        *,
        parent: str,
        spec: Document,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
        instance_flavor: str = "",
    ) -> Job:
        if request_id and (earlier := self._requests.get((request_id, method))):
            return self.get(earlier)
        if name in self.jobs:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} already exists", name=name)
        self._requests[request_id, method] = name
        self.jobs[name] = _job(name, kind, parent, spec, labels or {}, START + timedelta(seconds=len(self._requests)))
        return self.jobs[name]

    def get(self, name: str) -> Job:
        if name not in self.jobs:
            raise NotFound("NOT_FOUND", f"{name} does not exist", name=name)
        return self.jobs[name]

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> JobPage:
        return JobPage(list(reversed(self.find(kind, parent=parent))), "")

    def find(self, kind: str, *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        wanted = set(states) if states is not None else set(JobState)
        return [job for job in self.jobs.values() if job.kind == kind and job.parent == parent and job.state in wanted]

    def cancel(self, name: str) -> Job:
        return self.end(name, JobState.CANCELLED)

    def delete(self, name: str) -> None:
        if not self.get(name).state.terminal:
            raise FailedPrecondition("JOB_RUNNING", f"{name} runs", name=name)
        del self.jobs[name]

    def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]:
        raise NotImplementedError

    def end(self, name: str, state: JobState, result: Document | None = None) -> Job:
        """What the engine does at the end of a job."""
        self.jobs[name] = replace(self.get(name), state=state, result=result)
        return self.jobs[name]


class FakeResources:
    """Documents with etags."""

    def __init__(self) -> None:
        self.found: dict[str, Resource] = {}

    def create(self, name: str, collection: str, parent: str, document: Document, **request: str) -> Resource:
        if name in self.found:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)
        self.found[name] = Resource(name, collection, parent, document, 1, START, START)
        return self.found[name]

    def get(self, name: str) -> Resource:
        if name not in self.found:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.found[name]

    def list(self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "") -> Page:
        found = (each for each in self.found.values() if each.parent == parent and each.collection == collection)
        return Page(tuple(found), "")

    def put(self, name: str, collection: str, parent: str, document: Document) -> Resource:
        if name in self.found:
            return self.update(name, lambda _: document)
        return self.create(name, collection, parent, document)

    def update(self, name: str, change: Callable[[Document], Document], etag: str = "") -> Resource:
        current = self.get(name)
        if etag and etag != current.etag:
            raise Aborted("ETAG_MISMATCH", f"{name} has changed", name=name)
        self.found[name] = replace(current, document=change(current.document), revision=current.revision + 1)
        return self.found[name]

    def delete(self, name: str, etag: str = "") -> None:
        current = self.get(name)
        if etag and etag != current.etag:
            raise Aborted("ETAG_MISMATCH", f"{name} has changed", name=name)
        del self.found[name]


class FakeUsers:
    """Nothing stands on anything."""

    def standing(self, use: Use) -> str:
        return ""

    def models_of(self, versions: Collection[str]) -> Sequence[str]:
        return ()


class FakeSources:
    """An artifact store that has everything, 5 bytes each, but what starts with f."""

    def stat(self, blob: Blob | str) -> Blob:
        uri = blob.uri if isinstance(blob, Blob) else blob
        if uri.rsplit("/", 1)[-1].startswith("f"):
            raise NotFound("ARTIFACT_NOT_FOUND", f"{uri} is not in the artifact store.", uri=uri)
        return Blob(uri, uri.rsplit("/", 1)[-1], 5)


class FakeFolders:
    """Folders that the caller may have read, but what is below /secret."""

    def check(self, folder: LocalFolder) -> None:
        if folder.path.startswith("/secret"):
            raise PermissionDenied("NOT_THE_OWNER", f"{folder.path} is not yours")


class FakeExamples:
    """Ten examples, all of train."""

    def rows(self, descriptor: DatasetDescriptor, chosen: Selection, start: int, count: int) -> tuple[Sequence[ExampleRow], int]:
        rows = [ExampleRow(f"{i:020x}", "train", "a", f"a/{i}.png", "0" * 64) for i in range(10)]
        return rows[start : start + count], len(rows)

    def looks(self, descriptor: DatasetDescriptor, example_ids: Sequence[str], look: Look) -> Sequence[ExampleLook]:
        return [ExampleLook(row) for row in self.rows(descriptor, Selection(), 0, 10)[0] if row.example_id in example_ids]


def _job(name: str, kind: str, parent: str, spec: Document, labels: Mapping[str, str], time: datetime) -> Job:
    blank: dict[str, Any] = dict.fromkeys(("progress", "saved", "result", "error", "start_time", "end_time", "heartbeat_time"))
    return Job(
        name=name,
        kind=kind,
        parent=parent,
        service="dataset",
        state=JobState.QUEUED,
        reason="",
        attempt=0,
        instruction=Instruction.CONTINUE,
        spec=spec,
        sequence=1,
        labels=labels,
        create_time=time,
        running_seconds=0.0,
        **blank,
    )
