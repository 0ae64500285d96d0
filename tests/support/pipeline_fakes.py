"""The services that the pipeline drives, and the durable steps of its workflow, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from modelyard.core.documents import to_document
from modelyard.core.errors import InvalidArgument, ModelyardError, NotFound
from modelyard.core.jobs.job import Document, Instruction, Job, JobState
from modelyard.core.rpc.status import error_of, exception_of
from modelyard.pipeline.domain.choice import Candidate
from modelyard.pipeline.domain.spec import RunSpec, Source, Split, TargetFacts, complete
from modelyard.pipeline.ports import Decided, ExportWish, JobView, Question, Services, VersionFound

PARENT = "projects/default"
NAME = f"{PARENT}/pipelineRuns/run"


class Crash(BaseException):
    """kill -9."""


@dataclass
class World:
    """What was made, by request id: whoever asks twice under one id gets the same. `looks` is how often a job is seen running."""

    looks: int = 2
    made: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    errors: dict[str, ModelyardError] = field(default_factory=dict)  # by collection: how its jobs fail
    cancelled: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    existing: set[str] = field(default_factory=set)
    started_with: dict[str, Any] = field(default_factory=dict)
    verdict: str = "DEPLOY"
    task: str = "image_classification"
    latencies: dict[str, float | None] = field(default_factory=lambda: {"large": 30.0, "middle": 8.0, "small": 1.0})
    architectures: dict[str, str] = field(default_factory=dict)  # of recipes, where it matters
    state_of_version: str = "SUCCEEDED"
    verdicts: list[str] = field(default_factory=list)  # of the decisions in their order; then `verdict`
    facts: TargetFacts = field(default_factory=lambda: TargetFacts("onnx", "fp32", True))
    serving: str = ""  # the export that the endpoint serves
    task_of_serving: str = "image_classification"
    sizes: dict[str, int] = field(default_factory=dict)  # of recipes that a target has room for, where nothing can measure
    how: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name
    all_started: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def make(self, request_id: str, parent: str, collection: str, **how: Any) -> str:
        if request_id not in self.made:
            name = f"{parent}/{collection}/{collection[:3].lower()}{len(self.created)}"
            self.made[request_id] = name
            self.how[name] = how
            self.created.append(collection)
            self.started_with[collection] = how
            self.all_started.append((collection, how))
        return self.made[request_id]

    def view(self, name: str, found: Document, point: Callable[[int], Document] | None = None) -> JobView:
        collection = name.split("/")[-2]
        looks = self.seen[name] = self.seen.get(name, 0) + 1
        if name in self.cancelled:
            return JobView(name, "CANCELLED", "CANCELLED")
        if looks <= self.looks:
            seen = point(looks) if point else None
            return JobView(name, "RUNNING", stage="working", fraction=looks / (self.looks + 1), eta_s=3.0, point=seen)
        if collection in self.errors:
            return JobView(name, "FAILED", error=self.errors[collection])
        return JobView(name, "SUCCEEDED", "COMPLETED", fraction=1.0, found={"name": name, **found})


class FakeDatasets:
    """ports.Datasets."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, dataset: str) -> None:
        if dataset not in self._world.existing:
            raise NotFound("RESOURCE_NOT_FOUND", f"{dataset} does not exist", name=dataset)

    def ensure(self, dataset: str, request_id: str) -> bool:
        if request_id in self._world.made:
            return True
        if dataset in self._world.existing:
            return False
        self._world.made[request_id] = dataset
        self._world.existing.add(dataset)
        return True

    def discard_if_empty(self, dataset: str) -> None:
        self._world.existing.discard(dataset)
        self._world.deleted.append(dataset)

    def start_import(self, source: Source, request_id: str) -> str:
        return self._world.make(request_id, source.dataset, "imports", source=source)

    def start_report(self, dataset: str, request_id: str) -> str:
        return self._world.make(request_id, dataset, "qualityReports")

    def start_version(self, dataset: str, version_id: str, split: Split, excluded: Sequence[str], request_id: str) -> str:
        return self._world.make(request_id, dataset, "versions", split=split, excluded=excluded, version_id=version_id)

    def version(self, name: str) -> VersionFound:
        return VersionFound(name.replace("latest", "V007"), self._world.task, self._world.state_of_version)

    def job(self, name: str) -> JobView:
        found: dict[str, Document] = {
            "imports": {"summary": {"example_count": "100", "classes": ["a", "b"], "rejected_count": "3"}},
            "qualityReports": {"findings": [{"kind": "CLASS_IMBALANCE", "message": "a has 90 of 100"}]},
            "versions": {"counts": [{"usage": "USAGE_TRAIN", "example_count": "80"}], "notes": ["Stratified."]},
        }
        return self._world.view(name, found[name.split("/")[-2]])

    def cancel(self, name: str) -> None:
        self._world.cancelled.append(name)


class FakeTraining:
    """ports.Training."""

    def __init__(self, world: World) -> None:
        self._world = world

    def suggest(self, dataset_version: str, *, sizes: bool = False) -> list[Document]:
        settings = {"max_epochs": 9, "base_lr": 0.1}
        made_of = self._world.architectures
        return [
            {"recipe_id": name, "architecture": made_of.get(name, f"modelyard:{name}"), "hyperparameters": {**settings}}
            for name in self._world.latencies
        ]

    def version(self, model_version: str) -> tuple[str, Document]:
        if model_version.endswith("V404"):
            raise NotFound("RESOURCE_NOT_FOUND", f"{model_version} does not exist", name=model_version)
        return model_version.replace("latest", "V009"), {"recipe_id": "middle"}

    def check_flavor(self, instance_flavor: str) -> None:
        if instance_flavor not in ("local", "gpu-1"):
            raise InvalidArgument("UNKNOWN_INSTANCE_FLAVOR", f"{instance_flavor} is unknown", field="instance_flavor")

    def start(
        self,
        dataset_version: str,
        model: str,
        recipe: Document,
        max_s: float | None,
        warm_start: str,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        how = {"dataset_version": dataset_version, "model": model, "recipe": recipe, "max_s": max_s, "warm_start": warm_start}
        how |= {"instance_flavor": instance_flavor} if instance_flavor else {}
        return self._world.make(request_id, PARENT, "trainingJobs", **how)

    def start_selection(
        self,
        dataset_version: str,
        model: str,
        recipes: Sequence[Document],
        max_s: float,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        return self._world.make(request_id, PARENT, "modelSelections", model=model, recipes=recipes, max_s=max_s)

    def job(self, name: str) -> JobView:
        if "/modelSelections/" in name:
            return self._selected(name)
        model = self._world.started_with["trainingJobs"]["model"]
        found = {
            "model_version": f"{model}/versions/V001",
            "train_duration": "12.500s",
            "latest_point": {"epoch": 3, "metrics": {"accuracy": 0.9}},
        }
        return self._world.view(name, found, lambda look: {"step": str(look * 10), "loss": 1.0 / look})

    def _selected(self, name: str) -> JobView:
        """The last of the candidates wins; what is known is known while it runs."""
        how = self._world.how[name]
        ids = [recipe["recipe_id"] for recipe in how["recipes"]]
        view = self._world.view(name, {})
        states = ["WON" if each == ids[-1] and view.terminal else "TRAINING" for each in ids]
        found = {
            "candidates": [
                {"recipe": {"recipe_id": each}, "state": f"CANDIDATE_STATE_{state}", "metric": 0.9, "training_jobs": ["j"]}
                for each, state in zip(ids, states, strict=True)
            ],
            "metric": "val_accuracy",
            "train_duration": "99.500s",
        }
        if view.terminal:
            found |= {"best_training_job": f"{PARENT}/trainingJobs/won", "model_version": f"{how['model']}/versions/V001"}
        return replace(view, found=found)

    def cancel(self, name: str) -> None:
        self._world.cancelled.append(name)


class FakeExports:
    """ports.Exports."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start_profile(self, dataset_version: str, recipes: Sequence[Document], target: str, request_id: str) -> str:
        ids = [recipe["recipe_id"] for recipe in recipes]
        return self._world.make(request_id, PARENT, "latencyProfiles", ids=ids, target=target)

    def candidates(self, profile: JobView) -> list[Candidate]:
        return [
            Candidate(
                entry["recipe_id"],
                entry.get("latency", {}).get("p95_ms"),
                unmeasured=entry.get("unmeasured_reason", ""),
                size_bytes=int(entry.get("size_bytes", 0)),
            )
            for entry in profile.found["candidates"]
        ]

    def target(self, target: str) -> TargetFacts:
        if target == "phone":
            raise NotFound("TARGET_NOT_FOUND", "projects/default/targets/phone does not exist")
        return self._world.facts

    def task(self, export: str) -> str:
        if export.endswith("/deleted"):
            raise NotFound("RESOURCE_NOT_FOUND", f"{export} does not exist")
        return self._world.task_of_serving

    def start_export(self, wish: ExportWish, request_id: str) -> str:
        return self._world.make(request_id, PARENT, "exports", wish=wish)

    def job(self, name: str) -> JobView:
        if "/exports/" in name:
            return self._world.view(name, self._exported(self._world.how[name]["wish"]))
        measured = [(recipe, self._world.latencies[recipe]) for recipe in self._world.started_with["latencyProfiles"]["ids"]]
        candidates = [{"recipe_id": r, "latency": {"p95_ms": ms}} if ms else {"recipe_id": r} for r, ms in measured]
        for candidate in candidates:
            size = self._world.sizes.get(str(candidate["recipe_id"]))
            if size:
                candidate |= {"size_bytes": str(size), "unmeasured_reason": "not here"}
        return self._world.view(name, {"candidates": candidates})

    def _exported(self, wish: ExportWish) -> Document:
        format, precision = wish.format or self._world.facts.format, wish.precision or self._world.facts.precision
        found: Document = {
            "artifact": {"sha256": "ab" * 32, "size_bytes": "10"},
            "format": f"FORMAT_{format.upper()}",
            "precision": f"PRECISION_{precision.upper()}",
            "model_size_bytes": "8",
        }
        found |= {"quantization": "QUANTIZATION_AWARE_TRAINING"} if wish.aware else {}
        return found | ({"latency": {"p95_ms": 2.0}} if self._world.facts.measurable else {"unmeasured_reason": "not here"})

    def cancel(self, name: str) -> None:
        self._world.cancelled.append(name)


class FakeEvaluations:
    """ports.Evaluations."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, export: str, dataset_version: str, request_id: str) -> str:
        return self._world.make(request_id, PARENT, "evaluations", export=export, dataset_version=dataset_version)

    def decide(self, question: Question, request_id: str) -> Decided:
        world = self._world
        name = world.make(request_id, PARENT, "gateDecisions", question=question)
        number = [how for collection, how in world.all_started if collection == "gateDecisions"].index(world.how[name])
        verdict = world.verdicts[number] if number < len(world.verdicts) else world.verdict
        document = {"name": name, "verdict": f"VERDICT_{verdict}", "reasons": ["accuracy is 0.5"]}
        return Decided(name, verdict, ("accuracy is 0.5",), document)

    def job(self, name: str) -> JobView:
        scores = [{"usage": "USAGE_TEST", "metrics": [{"name": "accuracy", "value": 0.93}]}]
        return self._world.view(name, {"scores": scores})

    def cancel(self, name: str) -> None:
        self._world.cancelled.append(name)


class FakeEndpoints:
    """ports.Endpoints."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ensure(self, endpoint: str, request_id: str) -> bool:
        made = endpoint not in self._world.existing
        self._world.existing.add(endpoint)
        return made

    def discard_if_empty(self, endpoint: str) -> None:
        self._world.existing.discard(endpoint)
        self._world.deleted.append(endpoint)

    def serving(self, endpoint: str) -> str:
        return self._world.serving

    def deploy(self, endpoint: str, export: str, decision: str, request_id: str) -> str:
        if "deployments" in self._world.errors:
            raise self._world.errors["deployments"]
        return self._world.make(request_id, endpoint, "deployments", export=export, decision=decision)


def services(world: World) -> Services:
    """All of them over one world."""
    return Services(FakeDatasets(world), FakeTraining(world), FakeExports(world), FakeEvaluations(world), FakeEndpoints(world))


@dataclass
class FakeSteps:
    """core.jobs.job.Steps over a job kept in memory; what `do` recorded survives a Crash, as do reports.

    `crash_before`, `crash_after`: the step before or after whose recording the process dies; `crash_at_sleep`: the sleep at
    which it dies. `cancel_at_sleep`: the sleep at which somebody cancels the job.
    """

    job: Job
    recorded: dict[str, Document] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    reports: list[Document] = field(default_factory=list)
    events: list[Document] = field(default_factory=list)
    sleeps: int = 0
    crash_before: str = ""
    crash_after: str = ""
    crash_at_sleep: int = -1
    cancel_at_sleep: int = -1

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        if name not in self.recorded:
            self.taken.append(name)
            outcome = _captured(function)
            if self.crash_before == name:
                raise Crash
            self.recorded[name] = outcome
        if self.crash_after == name:
            raise Crash
        outcome = self.recorded[name]
        if "error" in outcome:
            raise exception_of(outcome["error"])
        return outcome["value"]

    def report(
        self,
        progress: Document | None = None,
        *,
        events: Sequence[Document] = (),
        saved: Document | None = None,
        result: Document | None = None,
    ) -> None:
        self.events.extend(events)
        if progress is not None:
            self.reports.append(progress)
        changed = {"progress": progress, "saved": saved, "result": result}
        self.job = replaced(self.job, **{key: value for key, value in changed.items() if value is not None})

    def cancelled(self) -> bool:
        return self.job.instruction is Instruction.CANCEL

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if self.sleeps == self.crash_at_sleep:
            raise Crash
        if self.sleeps == self.cancel_at_sleep:
            self.job = replaced(self.job, instruction=Instruction.CANCEL)

    def after_restart(self) -> FakeSteps:
        """The steps of the next process."""
        return FakeSteps(self.job, recorded=self.recorded, taken=self.taken, reports=self.reports, events=self.events)


def _captured(function: Callable[[], Any]) -> Document:
    try:
        return {"value": function()}
    except ModelyardError as error:
        return {"error": error_of(error)}


def replaced(job: Job, **changes: Any) -> Job:
    """The job with some fields changed."""
    import dataclasses

    return dataclasses.replace(job, **changes)


def a_job(spec: RunSpec) -> Job:
    """A run that has just started."""
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(
        name=NAME,
        kind="PipelineRun",
        parent=PARENT,
        service="pipeline",
        state=JobState.RUNNING,
        reason="",
        attempt=1,
        instruction=Instruction.CONTINUE,
        spec=to_document(complete(spec, PARENT)),
        progress=None,
        saved=None,
        result=None,
        error=None,
        sequence=1,
        labels={},
        create_time=time,
        start_time=time,
        end_time=None,
        heartbeat_time=None,
        running_seconds=0.0,
    )
