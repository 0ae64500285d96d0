"""The trainer's ports from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from modelyard.core.jobs.job import Instruction, Job, JobState
from modelyard.core.names import parent_of
from modelyard.core.resources import Page, Resource
from modelyard.recipes.catalogue import DatasetFacts
from modelyard.trainer.ports import DatasetVersion

PARENT = "projects/p"
PICTURES = f"{PARENT}/datasets/digits/versions/V001"
OTHER_PICTURES = f"{PARENT}/datasets/digits/versions/V002"
ROWS = f"{PARENT}/datasets/rows/versions/V001"
MODEL = f"{PARENT}/models/m"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def blob(letter: str) -> Blob:
    """A blob that no store has."""
    return Blob(f"artifact://trainer/{letter * 64}", letter * 64, 7)


def a_job(name: str, spec: Mapping[str, Any] | None = None, **more: Any) -> Job:
    """A job as the engine would give it."""
    values: dict[str, Any] = {
        "kind": "training",
        "parent": parent_of(name),
        "service": "trainer",
        "state": JobState.QUEUED,
        "reason": "",
        "attempt": 0,
        "instruction": Instruction.CONTINUE,
        "spec": dict(spec or {}),
        "progress": None,
        "saved": None,
        "result": None,
        "error": None,
        "sequence": 1,
        "labels": {},
        "create_time": NOON,
        "start_time": None,
        "end_time": None,
        "heartbeat_time": None,
        "running_seconds": 0.0,
    }
    return Job(name=name, **values | more)


@dataclass(frozen=True)
class FakeJobPage:
    items: Sequence[Job]
    next_page_token: str = ""


@dataclass
class FakeJobs:
    """ports.Jobs: jobs that never run by themselves."""

    known: dict[str, Job] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def submit(self, name: str, kind: str, *, parent: str, spec: dict[str, Any], **more: Any) -> Job:
        if name in self.known:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists", name=name)
        self.submitted.append({"name": name, "kind": kind, "parent": parent, **more})
        return self.put(a_job(name, spec, kind=kind, labels=dict(more.get("labels") or {})))

    def put(self, job: Job) -> Job:
        self.known[job.name] = job
        return job

    def get(self, name: str) -> Job:
        if name not in self.known:
            raise NotFound("NOT_FOUND", f"{name} does not exist", name=name)
        return self.known[name]

    def find(self, kind: str, *, parent: str | None = None) -> list[Job]:
        return [job for job in self.known.values() if job.kind == kind and parent in (None, job.parent)]

    def specs(self, kind: str, parent: str) -> list[tuple[str, dict[str, Any]]]:
        return [(job.name, job.spec) for job in reversed(self.find(kind, parent=parent))]

    def events(self, name: str) -> list[dict[str, Any]]:
        self.get(name)
        return self.curves.get(name, [])

    def relabel(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Job:
        return self.put(replace(self.get(name), labels=dict(change(self.get(name).labels))))

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> FakeJobPage:
        return FakeJobPage([job for job in reversed(self.known.values()) if (job.kind, job.parent) == (kind, parent)])

    def stop(self, name: str) -> Job:
        return self.put(replace(self.get(name), instruction=Instruction.STOP))

    def cancel(self, name: str) -> Job:
        return self.put(replace(self.get(name), instruction=Instruction.CANCEL))

    def delete(self, name: str) -> None:
        if not self.get(name).state.terminal:
            raise FailedPrecondition("JOB_RUNNING", f"{name} runs", name=name)
        del self.known[name]


@dataclass
class FakeResources:
    """ports.Resources."""

    known: dict[str, Resource] = field(default_factory=dict)
    time: datetime = NOON
    requests: dict[str, str] = field(default_factory=dict)

    def made_by(self, request_id: str, method: str, fingerprint: str) -> str | None:
        return self.requests.get(request_id)

    def create(self, name: str, collection: str, parent: str, document: dict[str, Any]) -> Resource:
        if name in self.known:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists", name=name)
        self.time += timedelta(seconds=1)
        self.known[name] = Resource(name, collection, parent, document, 1, self.time, self.time)
        return self.known[name]

    def get(self, name: str) -> Resource:
        if name not in self.known:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return self.known[name]

    def list(self, collection: str, parent: str | None = None, page_size: int = 0, page_token: str = "") -> Page:
        found = [item for item in self.known.values() if (item.collection, item.parent) == (collection, parent)]
        ordered = sorted(found, key=lambda item: item.create_time, reverse=True)
        size, start = page_size or 50, int(page_token or 0)
        more = str(start + size) if start + size < len(ordered) else ""
        return Page(tuple(ordered[start : start + size]), more)

    def update(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]], etag: str = "") -> Resource:
        current = self.get(name)
        if etag and etag != current.etag:
            raise Aborted("ETAG_MISMATCH", f"{name} has changed", name=name)
        self.known[name] = replace(current, document=change(dict(current.document)), revision=current.revision + 1)
        return self.known[name]

    def delete(self, name: str, etag: str = "") -> None:
        self.get(name)
        del self.known[name]


def facts_of_pictures(**more: Any) -> DatasetFacts:
    """Facts of a set like scikit-learn's digits."""
    values: dict[str, Any] = {
        "task": "image_classification",
        "examples": 1400,
        "classes": 2,
        "height": 28,
        "width": 28,
        "channels": 1,
    }
    return DatasetFacts(**values | more)


def facts_of_rows(**more: Any) -> DatasetFacts:
    """Facts of a table."""
    values: dict[str, Any] = {"task": "tabular_classification", "examples": 800, "classes": 2}
    return DatasetFacts(**values | more)


@dataclass
class FakeDatasets:
    """ports.Datasets: two versions of pictures, one of rows."""

    facts: dict[str, DatasetFacts] = field(
        default_factory=lambda: {PICTURES: facts_of_pictures(), OTHER_PICTURES: facts_of_pictures(), ROWS: facts_of_rows()}
    )
    held: list[tuple[str, str, str]] = field(default_factory=list)

    def get_version(self, name: str) -> DatasetVersion:
        if name not in self.facts:
            raise NotFound("DATASET_VERSION_NOT_FOUND", f"{name} does not exist", name=name)
        return DatasetVersion(name, "ab" * 32, ("cat", "dog"), blob("d"), self.facts[name])

    def hold(self, version: str, training_job: str, model: str) -> None:
        self.held.append((version, training_job, model))


class FakeLink:
    """The worker's side of the service: notes what is said to it. `says` is the instruction."""

    def __init__(self, artifacts: ArtifactStore, workdir: Path) -> None:
        self.artifacts = artifacts
        self.workdir = workdir
        self.says = "continue"
        self.reports: list[dict[str, Any]] = []
        self.saved: dict[str, Any] = {}
        self.flushed: dict[str, Any] = {}

    def report(self, **what: Any) -> None:
        self.reports.append(what)
        self.saved = what.get("saved") or self.saved

    def flush(self) -> None:
        self.flushed = self.saved

    def instruction(self) -> str:
        return self.says

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for report in self.reports for event in report.get("events", ())]
