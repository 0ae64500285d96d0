"""A run from its first step to its last.

Every step is one durable step of the workflow: it asks another service to make something, under a request id derived from the run
and the step, and waits for it. A step that was interrupted is taken again from its start, finds by that id what it had made, and
waits on; a step that had ended is not taken again. Errors end the run, with the error kept as it came.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from modelyard.core.database import now
from modelyard.core.documents import to_document
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, ModelyardError, NotFound, Unavailable
from modelyard.core.jobs.job import Document, Job, Steps
from modelyard.formats.tasks import task_of
from modelyard.pipeline.domain import choice, progress
from modelyard.pipeline.domain.progress import StepState, in_order, share_done, steps_of, time_left
from modelyard.pipeline.domain.spec import DEFAULT_MAX_LOSS, DEFAULT_TARGET, FLOAT_FORM, Limits, RunSpec, check_task
from modelyard.pipeline.handlers.follow import follow
from modelyard.pipeline.handlers.runs import spec_of, step_states
from modelyard.pipeline.handlers.sentences import (
    checked_sentence,
    decided_sentence,
    exported_sentence,
    imported_sentence,
    published_sentence,
    running_sentence,
    scored_sentence,
    selected_sentence,
    trained_sentence,
)
from modelyard.pipeline.ports import Decided, ExportWish, JobPort, JobView, Question, Services, ServicesOf

GATE_REFUSED = "GATE_REFUSED"
QUANTIZED = ("PRECISION_INT8", "PRECISION_DYNAMIC_INT8")
AWARE = "QUANTIZATION_AWARE_TRAINING"
COMPETITION_S = 120.0
"""Training time from which on candidates compete for it; below, each would have too little to be judged by."""


@dataclass
class Outcome:
    """What a step came to: the resource, a sentence, the fields of the run's result it fills, and what later steps need."""

    resource: str
    message: str
    result: Document = field(default_factory=dict)
    values: Document = field(default_factory=dict)


def run_journey(services_of: ServicesOf, job: Job, steps: Steps) -> Document:
    """Takes the run's steps. Gives its result: {"result": ..., "reason": ...}.

    Which step comes next follows from the spec and from what the steps before have recorded, and from nothing else: so a run
    that was interrupted takes the same steps again.
    """
    journey = Journey(services_of(job.parent.rpartition("/")[2]), job, steps)
    taken: set[str] = set()
    while (step := next((each for each in journey.steps if each not in taken), "")) != "":
        if step == progress.DEPLOY and journey.verdict != progress.DEPLOY_VERDICT:
            return journey.refused()
        journey.take(step, _STEPS[step])
        taken.add(step)
    return {"result": journey.result}


class Journey:
    """One run while its steps are taken."""

    def __init__(self, services: Services, job: Job, steps: Steps) -> None:
        self.services = services
        self.spec: RunSpec = spec_of(job)
        self.result: Document = {}
        self.values: Document = {}
        self._job = job
        self._steps = steps
        self._states = {state.step_id: state for state in step_states(job)}
        self._fraction = float((job.progress or {}).get("fraction", 0.0))
        self._point_step = int((job.saved or {}).get("point_step", -1))
        self._last_report: object = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of this run in order, so far as it is known by now."""
        return steps_of(self.spec, self.values)

    @property
    def verdict(self) -> str:
        """What the gate said last."""
        return str(self.values.get("retry_verdict") or self.values.get("verdict", ""))

    def state(self, step: str) -> StepState:
        """Where a step is."""
        return self._states.get(step, StepState(step))

    def take(self, step: str, function: Callable[[Journey], Outcome]) -> None:
        """Takes a step, once; what it came to is remembered over crashes."""
        state = self.state(step)
        if state.state != progress.SUCCEEDED:
            self._put(replace(state, state=progress.RUNNING, start_time=state.start_time or now().isoformat()))
        try:
            outcome = self._steps.do(step, lambda: self._outcome(step, function))
        except ModelyardError as error:
            ended = progress.CANCELLED if isinstance(error, Cancelled) else progress.FAILED
            self._put(replace(self.state(step), state=ended, message=error.message, end_time=now().isoformat()))
            raise
        self.result |= outcome["result"]
        self.values |= outcome["values"]
        self._succeeded(step, outcome)

    def request_id(self, what: str) -> str:
        """The same for the same thing of the same run, however often it is asked for."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"modelyard:{self._job.name}:{self._job.create_time.isoformat()}:{what}"))

    def follow(self, step: str, port: JobPort, name: str) -> JobView:
        """Waits for a job of another service, as the resource of this step."""
        self._put(replace(self.state(step), resource=name))
        return follow(self._steps, port, name, lambda view: self._mirror(step, view))

    def note(self, **result: Any) -> None:
        """Puts into the result what is known before the step has ended."""
        self.result |= result
        self._steps.report(result={"result": self.result})

    def refused(self) -> Document:
        """The end of a run that the gate did not let through: nothing is deployed (docs/decisions/0007)."""
        message = f"Nothing is deployed: the gate says {self.verdict}."
        self._put(replace(self.state(progress.DEPLOY), state=progress.CANCELLED, message=message))
        return {"result": self.result, "reason": GATE_REFUSED}

    def _outcome(self, step: str, function: Callable[[Journey], Outcome]) -> Document:
        if self._steps.cancelled():
            raise Cancelled("CANCELLED", f"the run was cancelled before the step {step}", step=step)
        return {**to_document(function(self)), "end_time": now().isoformat()}

    def _succeeded(self, step: str, outcome: Document) -> None:
        state = self.state(step)
        if state.state == progress.SUCCEEDED:
            return
        done = replace(state, state=progress.SUCCEEDED, resource=outcome["resource"], message=outcome["message"])
        self._put(replace(done, end_time=outcome["end_time"]), within=1.0)

    def _mirror(self, step: str, view: JobView) -> None:
        events = []
        if view.point is not None and int(view.point.get("step", 0)) > self._point_step:
            self._point_step = int(view.point.get("step", 0))
            events.append({"point": view.point})
        seen = (view.state, view.stage, round(view.fraction, 3), round(view.eta_s or 0.0))
        if view.found.get("candidates") and step == progress.TRAIN:
            self.result |= {"selection_candidates": view.found["candidates"]}
        if events or seen != self._last_report:
            self._last_report = seen
            said = running_sentence(view)
            self._put(replace(self.state(step), message=said), view.fraction, view.eta_s, events, view.stage)

    def _put(
        self,
        state: StepState,
        within: float = 0.0,
        eta_s: float | None = None,
        events: Sequence[Document] = (),
        stage: str = "",
    ) -> None:
        """Notes the state of a step, and tells those who watch."""
        self._states[state.step_id] = state
        started = [each.step_id for each in self._states.values() if each.state != progress.QUEUED]
        order = in_order({*self.steps, *started})
        self._fraction = max(self._fraction, share_done(order, state.step_id, within))
        elapsed_s = (now() - (self._job.start_time or self._job.create_time)).total_seconds()
        left_s = time_left(order, state.step_id, within, elapsed_s, eta_s)
        stage = f"{state.step_id}: {stage}" if stage else state.step_id
        shown = {"stage": stage[:200], "fraction": self._fraction, "done": 0, "total": 0, "unit": "", "eta_s": left_s}
        saved = {"steps": [to_document(self.state(step)) for step in order], "point_step": self._point_step}
        self._steps.report(shown, events=events, saved=saved, result={"result": self.result})


def _import(journey: Journey) -> Outcome:
    source, datasets = journey.spec.source, journey.services.datasets
    if source is None:
        raise AssertionError("only runs with a source import")
    made = datasets.ensure(source.dataset, journey.request_id("dataset"))
    with _undone(lambda: datasets.discard_if_empty(source.dataset) if made else None):
        name = datasets.start_import(source, journey.request_id("import"))
        view = journey.follow(progress.IMPORT, datasets, name)
    return Outcome(name, imported_sentence(view.found))


@contextmanager
def _undone(undo: Callable[[], None]) -> Iterator[None]:
    """Undoes what was made for what then failed. Not where a service is merely away: then the step is tried again."""
    try:
        yield
    except Unavailable:
        raise
    except ModelyardError:
        with suppress(ModelyardError):
            undo()
        raise


def _check(journey: Journey) -> Outcome:
    datasets = journey.services.datasets
    name = datasets.start_report(journey.spec.data_name, journey.request_id("report"))
    view = journey.follow(progress.CHECK, datasets, name)
    findings = view.found.get("findings", [])
    return Outcome(name, checked_sentence(findings), {"findings": findings})


def _publish(journey: Journey) -> Outcome:
    spec, datasets = journey.spec, journey.services.datasets
    name = datasets.start_version(
        spec.data_name, spec.dataset_version_id, spec.split, spec.excluded_columns, journey.request_id("version")
    )
    view = journey.follow(progress.PUBLISH, datasets, name)
    return Outcome(name, published_sentence(view.found), {"dataset_version": name}, {"dataset_version": name})


def _choose(journey: Journey) -> Outcome:
    spec, services = journey.spec, journey.services
    version = spec.dataset_version or journey.values["dataset_version"]
    task = services.datasets.version(version).task
    check_task(spec, task)
    journey.note(dataset_version=version)
    values = {"dataset_version": version, "task": task, "float_first": spec.float_first_of(task)}
    recipes, measurable = _recipes(journey, version)
    recipes = choice.with_form(recipes, spec.precision)
    if not measurable:
        return _chosen("", recipes[0], values, [], "as given; its latency is measured at the export")
    name = services.exports.start_profile(version, recipes, spec.target, journey.request_id("profile"))
    view = journey.follow(progress.CHOOSE, services.exports, name)
    measured = view.found.get("candidates", [])
    journey.note(candidates=measured)
    candidates = services.exports.candidates(view)
    limit, shrinks = _size_limit(spec), _shrinks(spec, task)
    kept = choice.fitting(candidates, spec.max_inference_ms, spec.target, limit, shrinks)
    aside = choice.set_aside(candidates, kept, spec.max_inference_ms, limit, shrinks)
    if len(kept) > 1 and task_of(task).pictured and _competes(spec):
        ids = ", ".join(candidates[index].recipe_id for index in kept)
        words = "; ".join(filter(None, (f"{ids} compete for {spec.max_training_s:g} s of training", aside)))
        values = {**values, "recipes": [recipes[index] for index in kept]}
        result = {"dataset_version": version, "candidates": measured}
        return Outcome(name, words, result, values)
    why = _why(candidates[kept[0]], spec)
    return _chosen(name, recipes[kept[0]], values, measured, "; ".join(filter(None, (why, aside))))


def _competes(spec: RunSpec) -> bool:
    """Whether the time to train has room for more than one candidate."""
    return (spec.max_training_s or 0.0) >= COMPETITION_S


def _shrinks(spec: RunSpec, task: str) -> bool:
    """Whether the exporter may make the model smaller than the form that candidates are measured in."""
    wide = spec.facts is None or spec.facts.precision == FLOAT_FORM[1]
    return spec.compression is not None and task_of(task).compressed and wide


def _why(chosen: choice.Candidate, spec: RunSpec) -> str:
    if chosen.p95_ms is not None:
        return f"{chosen.p95_ms:.3g} ms (p95) on {spec.target}, {spec.max_inference_ms} ms are allowed"
    return f"{chosen.size_bytes} bytes, which {spec.target} has room for; not measured: {chosen.unmeasured}"


def _size_limit(spec: RunSpec) -> int:
    """Most bytes of the model file; 0: no limit."""
    return (spec.compression.max_size_bytes if spec.compression else 0) or (spec.facts.flash_bytes if spec.facts else 0)


def _chosen(profile: str, recipe: Document, values: Document, candidates: list[Document], why: str) -> Outcome:
    recipe_id = recipe.get("recipe_id") or recipe.get("architecture", "")
    result = {"dataset_version": values["dataset_version"], "candidates": candidates, "recipe_id": recipe_id}
    return Outcome(profile, f"{recipe_id}: {why}", result, {**values, "recipe": recipe})


def _recipes(journey: Journey, version: str) -> tuple[list[Document], bool]:
    """The recipes in question, and whether they are complete, so that they can be measured before any is trained."""
    spec, training = journey.spec, journey.services.training
    settings = spec.recipe or {}
    chosen_by_us = not settings.get("recipe_id") and not settings.get("architecture")  # settings alone go over what is chosen
    if chosen_by_us and spec.incremental_model_version:
        return [merged(training.version(spec.incremental_model_version)[1], settings)], True
    suggested = training.suggest(version, sizes=chosen_by_us and _competes(spec))
    if not chosen_by_us and spec.recipe is not None:
        wanted = spec.recipe.get("recipe_id", "")
        known = next((recipe for recipe in suggested if wanted and recipe.get("recipe_id") == wanted), None)
        return [merged(known or {}, spec.recipe)], known is not None
    if not suggested:
        message = f"no recipe suits {version}; give one in pipeline_run.recipe"
        raise FailedPrecondition("NO_RECIPE_FITS", message, field="pipeline_run.recipe", dataset_version=version)
    return [merged(recipe, settings) for recipe in suggested], True


def merged(base: Document, over: Document) -> Document:
    """A document with the fields of another put over its own, level by level."""
    inner = {key: merged(base[key], value) for key, value in over.items() if isinstance(value, dict) and key in base}
    return {**base, **over, **inner}


def _train(journey: Journey) -> Outcome:
    spec, training = journey.spec, journey.services.training
    if journey.values.get("recipes"):
        return _compete(journey)
    name = training.start(
        journey.values["dataset_version"],
        spec.model,
        journey.values["recipe"],
        spec.max_training_s,
        spec.incremental_model_version,
        journey.request_id("train"),
        spec.instance_flavor,
    )
    journey.note(training_job=name)
    view = journey.follow(progress.TRAIN, training, name)
    version = view.found.get("model_version", "")
    result = {"training_job": name, "model_version": version, "train_duration": view.found.get("train_duration", "0s")}
    return Outcome(name, trained_sentence(view), result, {"model_version": version})


def _compete(journey: Journey) -> Outcome:
    """The candidates share the training time; the best of them is the model."""
    spec, training = journey.spec, journey.services.training
    name = training.start_selection(
        journey.values["dataset_version"],
        spec.model,
        journey.values["recipes"],
        spec.max_training_s or 0.0,
        journey.request_id("train"),
        spec.instance_flavor,
    )
    journey.note(model_selection=name)
    view = journey.follow(progress.TRAIN, training, name)
    found = view.found
    won: dict[str, Any] = next((each for each in found.get("candidates", []) if each.get("state") == "CANDIDATE_STATE_WON"), {})
    result = {
        "recipe_id": won.get("recipe", {}).get("recipe_id", ""),
        "training_job": found.get("best_training_job", ""),
        "model_version": found.get("model_version", ""),
        "train_duration": found.get("train_duration", "0s"),
        "model_selection": name,
        "selection_candidates": found.get("candidates", []),
        "selection_summary": found.get("summary", ""),
    }
    return Outcome(name, selected_sentence(view), result, {"model_version": result["model_version"]})


def _export_float(journey: Journey) -> Outcome:
    """The float ONNX, which what is deployed is compared with; it need not answer on the target."""
    format, precision = FLOAT_FORM
    wish = ExportWish(journey.values["model_version"], DEFAULT_TARGET, format, precision)
    name, view = _exported(journey, progress.EXPORT_FLOAT, wish)
    return Outcome(name, exported_sentence(view.found), {"float_export": name}, {"float_export": name})


def _evaluate_float(journey: Journey) -> Outcome:
    name, scores = _scored(journey, progress.EVALUATE_FLOAT, journey.values["float_export"])
    return Outcome(name, scored_sentence(scores), {"float_evaluation": name, "float_scores": scores}, {"parent": name})


def _export(journey: Journey) -> Outcome:
    spec = journey.spec
    wish = ExportWish(
        journey.values["model_version"],
        spec.target,
        spec.format,
        spec.precision,
        limits=_limits(spec),
        max_training_s=spec.max_training_s if spec.compression else None,
        instance_flavor=spec.instance_flavor,
    )
    return _deployable(journey, progress.EXPORT, wish)


def _limits(spec: RunSpec) -> Limits | None:
    """The limits, with what the run demands anyway where they say nothing of their own."""
    if spec.compression is None:
        return None
    measurable = spec.facts is None or spec.facts.measurable
    demanded = float(spec.max_inference_ms) if spec.latency_demanded and measurable else 0.0
    return replace(
        spec.compression,
        max_latency_ms=spec.compression.max_latency_ms or demanded,
        max_loss=spec.compression.max_loss or spec.max_loss,
    )


def _retry_export(journey: Journey) -> Outcome:
    """The same form, with the ranges learned: trained on with rounding in the loop."""
    spec, values = journey.spec, journey.values
    wish = ExportWish(
        values["model_version"],
        spec.target,
        values["format"],
        "int8",
        aware=True,
        max_training_s=spec.max_training_s,
        instance_flavor=spec.instance_flavor,
    )
    return _deployable(journey, progress.RETRY_EXPORT, wish)


def _deployable(journey: Journey, step: str, wish: ExportWish) -> Outcome:
    """An export that may be deployed: what the gate and the result need of it."""
    name, view = _exported(journey, step, wish)
    found, latency = view.found, view.found.get("latency")
    result = {"export": name, "export_sha256": found["artifact"]["sha256"], **({"latency": latency} if latency else {})}
    values = {
        "export": name,
        "latency": latency,
        "format": str(found.get("format", "")).removeprefix("FORMAT_").lower(),
        "quantized": found.get("precision") in QUANTIZED,
        "aware": found.get("quantization") == AWARE,
        "model_size_bytes": int(found.get("model_size_bytes", 0)),
    }
    return Outcome(name, exported_sentence(found), result, values)


def _exported(journey: Journey, step: str, wish: ExportWish) -> tuple[str, JobView]:
    name = journey.services.exports.start_export(wish, journey.request_id(step))
    return name, journey.follow(step, journey.services.exports, name)


def _evaluate(journey: Journey) -> Outcome:
    """Scores the export; and notes what serves now, so that the next step compares with it."""
    name, scores = _scored(journey, progress.EVALUATE, journey.values["export"])
    values = {"evaluation": name, "incumbent": _incumbent(journey)}
    return Outcome(name, scored_sentence(scores), {"evaluation": name, "scores": scores}, values)


def _retry_evaluate(journey: Journey) -> Outcome:
    name, scores = _scored(journey, progress.RETRY_EVALUATE, journey.values["export"])
    return Outcome(name, scored_sentence(scores), {"evaluation": name, "scores": scores}, {"evaluation": name})


def _scored(journey: Journey, step: str, export: str) -> tuple[str, list[Document]]:
    evaluations = journey.services.evaluations
    name = evaluations.start(export, journey.values["dataset_version"], journey.request_id(step))
    view = journey.follow(step, evaluations, name)
    return name, view.found.get("scores", [])


def _incumbent(journey: Journey) -> str:
    """The export that serves at the endpoint, of the same task; empty where none does."""
    services = journey.services
    serving = services.endpoints.serving(journey.spec.endpoint)
    try:
        return serving if serving and services.exports.task(serving) == journey.values["task"] else ""
    except NotFound:  # the export was deleted; the endpoint serves its own copy
        return ""


def _evaluate_incumbent(journey: Journey) -> Outcome:
    """What serves now, on the same examples. Where it cannot answer them (other classes, other columns) nothing is compared."""
    try:
        name, scores = _scored(journey, progress.EVALUATE_INCUMBENT, journey.values["incumbent"])
    except (FailedPrecondition, InvalidArgument, NotFound) as error:
        return Outcome("", f"what serves now cannot be compared: {error.message}", {}, {"incumbent_evaluation": ""})
    return Outcome(name, scored_sentence(scores), {}, {"incumbent_evaluation": name})


def _gate(journey: Journey) -> Outcome:
    decided = _decided(journey, progress.GATE)
    again = {"first_gate_decision": decided.document} if decided.verdict == progress.RETRY_VERDICT else {}
    found = {"verdict": decided.verdict, "decision": decided.name}
    return Outcome(decided.name, decided_sentence(decided), {"gate_decision": decided.document, **again}, found)


def _retry_gate(journey: Journey) -> Outcome:
    decided = _decided(journey, progress.RETRY_GATE)
    found = {"retry_verdict": decided.verdict, "decision": decided.name}
    return Outcome(decided.name, decided_sentence(decided), {"gate_decision": decided.document}, found)


def _decided(journey: Journey, step: str) -> Decided:
    spec, values = journey.spec, journey.values
    latency = values.get("latency")
    question = Question(
        evaluation=values["evaluation"],
        floors=spec.floors,
        class_floors=spec.class_floors,
        latency=latency,
        max_ms=spec.max_inference_ms if latency or spec.latency_demanded else 0.0,
        max_loss=spec.max_loss or DEFAULT_MAX_LOSS,
        max_size_bytes=_size_limit(spec),
        model_size_bytes=values.get("model_size_bytes", 0),
        parent=values.get("parent", ""),
        incumbent=values.get("incumbent_evaluation", ""),
        quantized=values.get("quantized", False),
        aware=values.get("aware", False),
    )
    return journey.services.evaluations.decide(question, journey.request_id(step))


def _deploy(journey: Journey) -> Outcome:
    endpoints, endpoint, values = journey.services.endpoints, journey.spec.endpoint, journey.values
    made = endpoints.ensure(endpoint, journey.request_id("endpoint"))
    with _undone(lambda: endpoints.discard_if_empty(endpoint) if made else None):
        name = endpoints.deploy(endpoint, values["export"], values["decision"], journey.request_id("deploy"))
    return Outcome(name, f"answers as {name}", {"deployment": name, "endpoint": endpoint})


_STEPS: dict[str, Callable[[Journey], Outcome]] = {
    progress.IMPORT: _import,
    progress.CHECK: _check,
    progress.PUBLISH: _publish,
    progress.CHOOSE: _choose,
    progress.TRAIN: _train,
    progress.EXPORT_FLOAT: _export_float,
    progress.EVALUATE_FLOAT: _evaluate_float,
    progress.EXPORT: _export,
    progress.EVALUATE: _evaluate,
    progress.EVALUATE_INCUMBENT: _evaluate_incumbent,
    progress.GATE: _gate,
    progress.RETRY_EXPORT: _retry_export,
    progress.RETRY_EVALUATE: _retry_evaluate,
    progress.RETRY_GATE: _retry_gate,
    progress.DEPLOY: _deploy,
}
