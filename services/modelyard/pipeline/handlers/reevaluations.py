"""Re-evaluations: kept as resources, each run a durable job of steps, started when its time has come."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import NotFound
from modelyard.core.jobs.job import Document, Job, JobState, Steps
from modelyard.core.requests import Request
from modelyard.core.resources import Resource
from modelyard.pipeline.domain.reevaluation import Judgement, ReevaluationResult, ReevaluationSpec, complete, judge, nothing_new
from modelyard.pipeline.handlers.follow import follow
from modelyard.pipeline.ports import ServicesOf, WatchingOf

COLLECTION: Final = "reevaluations"
KIND: Final = "ReevaluationRun"
SHOWN: Final = 20
KEPT: Final = 200
"""Runs that are remembered."""
TEST: Final = "test"
NAMESPACE: Final = uuid.UUID("5b2f0f52-6c0b-4d1c-9a53-0f4a6a1b7c11")


@dataclass(frozen=True)
class Reevaluating:
    """The ports: ResourceStore, JobEngine, what is asked of other services, and the time."""

    resources: Any
    jobs: Any
    watching_of: WatchingOf
    now: Callable[[], datetime]


@dataclass(frozen=True)
class View:
    """A re-evaluation with its runs, the newest first."""

    resource: Resource
    spec: ReevaluationSpec
    next_time: datetime
    runs: Sequence[Job]


def create(ports: Reevaluating, *, parent: str, reevaluation_id: str, spec: ReevaluationSpec, request: Request) -> View:
    """Writes a re-evaluation down and starts its first run.

    Raises InvalidArgument (see domain.reevaluation), NotFound for what it names, AlreadyExists RESOURCE_EXISTS.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    done = complete(spec)
    if reevaluation_id:
        names.check_id(reevaluation_id, "reevaluation_id")
    name = names.REEVALUATION.format(project, reevaluation_id or names.id_of(done.endpoint))
    ports.watching_of(project).check(done.endpoint, done.dataset, done.dataset_version)
    document = {"spec": to_document(done), "runs": 0, "next_time": ports.now().isoformat()}
    resource = ports.resources.create(
        name, COLLECTION, parent, document, request_id=request.id, method=request.method, fingerprint=request.fingerprint
    )
    if resource.document["runs"] == 0:
        start_run(ports, resource)
    return get(ports, name)


def get(ports: Reevaluating, name: str, runs: int = SHOWN) -> View:
    """Raises InvalidArgument, NotFound."""
    names.REEVALUATION.parse(name)
    return view(ports, ports.resources.get(name), runs)


def view(ports: Reevaluating, resource: Resource, runs: int = SHOWN) -> View:
    """A re-evaluation as stored, with its last runs."""
    found = ports.jobs.list(KIND, resource.name, runs).items
    own = [job for job in found if job.create_time >= resource.create_time]  # none of an earlier one of this name
    spec = from_document(resource.document["spec"], ReevaluationSpec)
    return View(resource, spec, datetime.fromisoformat(resource.document["next_time"]), own)


def delete(ports: Reevaluating, name: str) -> None:
    """Takes a re-evaluation away; a run that is under way is cancelled. Raises InvalidArgument, NotFound."""
    names.REEVALUATION.parse(name)
    ports.resources.delete(name)
    for job in ports.jobs.find(KIND, parent=name):
        if job.state.terminal:
            ports.jobs.delete(job.name)
        else:
            ports.jobs.cancel(job.name)


def run_now(ports: Reevaluating, name: str) -> Job:
    """The run that is under way, or a new one. Raises InvalidArgument, NotFound."""
    names.REEVALUATION.parse(name)
    return start_run(ports, ports.resources.get(name))


def start_run(ports: Reevaluating, resource: Resource) -> Job:
    """Starts a run unless one is under way. Several servers that do so at once start one: its request id is its number."""
    runs: Sequence[Job] = ports.jobs.find(KIND, parent=resource.name)
    active = [job for job in runs if not job.state.terminal]
    if active:
        return active[-1]
    for old in runs[: max(0, len(runs) - KEPT)]:
        ports.jobs.delete(old.name)
    number, interval_s = resource.document["runs"], resource.document["spec"]["interval_s"]
    request_id = str(uuid.uuid5(NAMESPACE, f"{resource.name} {resource.create_time.isoformat()} {number}"))
    job: Job = ports.jobs.submit(
        f"{resource.name}/runs/{names.new_id()}",
        KIND,
        parent=resource.name,
        spec=resource.document["spec"],
        request_id=request_id,
        method=KIND,
        fingerprint=hashlib.sha256(request_id.encode()).hexdigest(),
    )
    next_time = (ports.now() + timedelta(seconds=interval_s)).isoformat()

    def counted(document: Document) -> Document:
        return {**document, "runs": number + 1, "next_time": next_time} if document["runs"] == number else document

    ports.resources.update(resource.name, counted)
    return job


def start_due(ports: Reevaluating) -> list[str]:
    """Starts every run whose time has come; their names. What was missed while no server ran is made up for once."""
    now, started = ports.now(), []
    for resource in _every(ports):
        if datetime.fromisoformat(resource.document["next_time"]) <= now:
            with suppress(NotFound):  # deleted meanwhile
                started.append(start_run(ports, resource).name)
    return started


def latest_judgements(ports: Reevaluating) -> list[tuple[str, str, Judgement]]:
    """By re-evaluation its name, its endpoint's, and what the last run found that came to a result."""
    found = []
    for resource in _every(ports):
        shown = view(ports, resource)
        result = next((each for job in shown.runs if (each := result_of(job)) is not None), None)
        if result is not None:
            found.append((resource.name, shown.spec.endpoint, result.judgement))
    return found


def _every(ports: Reevaluating) -> Iterator[Resource]:
    token = ""
    while True:
        page = ports.resources.list(COLLECTION, page_size=1000, page_token=token)
        yield from page.items
        token = page.next_page_token
        if not token:
            return


def result_of(job: Job) -> ReevaluationResult | None:
    """What a run found; None before it succeeded."""
    if job.state is not JobState.SUCCEEDED or not job.result or "judgement" not in job.result:
        return None
    return from_document(job.result, ReevaluationResult)


# A run, in its steps


def run_reevaluation(services_of: ServicesOf, watching_of: WatchingOf, jobs: Any, job: Job, steps: Steps) -> Document:
    """Finds what serves and what is new, scores it, and compares: three durable steps.

    Where the same export was scored on the same version before, that result stands: nothing can have changed.
    """
    spec = from_document(job.spec, ReevaluationSpec)
    project = names.ENDPOINT.parse(spec.endpoint)["project"]
    services, watching = services_of(project), watching_of(project)

    def find() -> Document:
        champion = watching.champion(spec.endpoint)
        version = spec.dataset_version or watching.newest_version(spec.dataset)
        facts = watching.facts(champion.evaluation)
        of = {"dataset_version": version, "export": champion.export, "gate_evaluation": champion.evaluation}
        return {"of": of, "earlier": _earlier(jobs, job, of), "facts": to_document(facts)}

    def evaluate() -> str:
        name = watching.start(of["export"], of["dataset_version"], spec.usage, str(uuid.uuid5(NAMESPACE, job.name)))
        follow(steps, services.evaluations, name, lambda _: None)
        return name

    def compare() -> Document:
        now, gate = watching.answers(evaluation, spec.usage), watching.answers(of["gate_evaluation"], TEST)
        return to_document(judge(now, gate, spec, classification=facts["classification"]))

    found = steps.do("find", find)
    of, facts = found["of"], found["facts"]
    if found["earlier"]:
        return dict(found["earlier"])
    if of["dataset_version"] == facts["dataset_version"]:
        return {**of, "judgement": to_document(nothing_new(of["dataset_version"]))}
    evaluation = steps.do("evaluate", evaluate)
    return {**of, "evaluation": evaluation, "judgement": steps.do("compare", compare)}


def _earlier(jobs: Any, job: Job, of: Document) -> Document | None:
    """The result of an earlier run about the same."""
    for other in jobs.list(KIND, job.parent, SHOWN).items:
        found = result_of(other)
        if found is not None and {key: getattr(found, key) for key in of} == of:
            return to_document(found)
    return None
