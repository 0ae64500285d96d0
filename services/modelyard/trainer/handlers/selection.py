"""A model selection: candidates are measured on the target, those that fit compete for the training time, the best is trained on.

A job in durable steps (core.jobs), as the ladder is: what follows is decided by what earlier steps have recorded and by nothing
else. Each training is a TrainingJob of its own; one that is promoted goes on from the last checkpoint of the one before, in the
same schedule, so nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import Cancelled, FailedPrecondition
from modelyard.core.jobs.job import Document, Instruction, Job, JobState, Steps
from modelyard.formats.tasks import task_of
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain import selection as rules
from modelyard.trainer.domain.curves import higher_is_better, metric_of
from modelyard.trainer.domain.recipe import RecipeRequest, request_from, resolve_recipe, suggested
from modelyard.trainer.domain.selection import (
    ELIMINATED,
    FAILED,
    SET_ASIDE,
    TRAINING,
    WAITING,
    WON,
    Candidate,
    Measured,
    SelectionState,
)
from modelyard.trainer.domain.training_job import LAST, spec_from, state_from
from modelyard.trainer.handlers import children, ledger
from modelyard.trainer.handlers.advising import planned_steps
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.completion import keep_model_of
from modelyard.trainer.handlers.model_selections import spec_of_selection
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, asked, state_of
from modelyard.trainer.ports import Profiling

PAUSE_S: Final = 0.3
UNFINISHED: Final = "STOPPED"
"""How a training ends that may go on: it was paused at the end of its slice."""
CUT_SHORT: Final = (UNFINISHED, "TIME_LIMIT")
HELD_OUT: Final = 0.1
"""Share of the training examples that validate where there are no validation examples."""


@dataclass(frozen=True)
class Ended:
    """What a training of a rung came to; JSON."""

    job: str
    reason: str
    metrics: Mapping[str, float]
    seconds: float
    step: int
    planned: int
    resumable: bool
    model_version: str = ""
    message: str = ""
    early: bool = False


def run_model_selection(world: World, profiling: Profiling, job: Job, steps: Steps) -> Document:
    """Takes the steps. Gives the result: {"selection": ..., "reason": ...}."""
    return Selection(world, profiling, job, steps).run()


class Selection:
    """One model selection while its steps are taken."""

    def __init__(self, world: World, profiling: Profiling, job: Job, steps: Steps) -> None:
        self.world = world
        self.profiling = profiling
        self.job = job
        self.steps = steps
        self.spec = spec_of_selection(job)
        self.template = from_document(dict(self.spec.job), NewTrainingJob)
        self.state = SelectionState()
        self.validation_count = 0
        self.stopped = False
        self.shown: object = None

    @property
    def competing(self) -> list[int]:
        """Places of the candidates that are still in."""
        return [at for at, each in enumerate(self.state.candidates) if each.competes]

    @property
    def left_s(self) -> float:
        """What is left of the time."""
        return self.spec.max_training_s - self.state.spent_seconds

    def run(self) -> Document:
        """Measures, cuts rung by rung, and trains the last one to its end or to the end of the time."""
        self.gather()
        self.measure()
        while True:
            trained = [at for at in self.competing if not self.state.candidates[at].finished]
            if not trained and len(self.competing) <= 1:
                break
            if self.stopped or self.left_s < rules.LEAST_LEFT_S:
                break
            if trained and not self.room_for(trained):
                self.cut(only_best=True)
                continue
            if trained:
                self.train(trained)
            if not self.competing:
                break
            if len(self.competing) > 1:
                self.cut()
            rung = self.state.rung + 1
            going_on = any(not self.state.candidates[at].finished for at in self.competing)
            rungs = rung + rules.rungs_of(len(self.competing)) if going_on else self.state.rungs
            self.put(replace(self.state, rung=rung, rungs=rungs))
        return self.end()

    def room_for(self, which: Sequence[int]) -> bool:
        """Whether there is time for another rung of these before the last one; the first one is always trained."""
        count = len(self.competing)
        known = all(self.state.candidates[at].metric is not None for at in self.competing)
        each_s = rules.slice_s(self.spec.max_training_s, self.state.spent_seconds, count, len(which))
        return count == 1 or not known or each_s >= rules.LEAST_LEFT_S

    # Before any training

    def gather(self) -> None:
        """The candidates: those that were asked for, else the catalogue's for the data, as many as there is time for."""

        def read() -> Document:
            version = self.world.datasets.get_version(self.spec.dataset_version)
            requests = [request_from(each) for each in self.spec.recipes]
            shared = self.template.recipe
            if not requests:
                requests = [_request(recipe) for recipe in suggested(version.facts, sizes=True)]
            requests = [
                replace(
                    each,
                    hyperparameters={**each.hyperparameters, **shared.hyperparameters},
                    features=each.features or shared.features,
                    augmentation=each.augmentation or shared.augmentation,
                )
                for each in requests
            ]
            found = []
            for request in requests:
                recipe = resolve_recipe(request, version.facts)
                size = f"{recipe.input.width}x{recipe.input.height}" if recipe.input else ""
                pauses = recipe.tabular is None and task_of(recipe.task).pictured
                count = round(recipe.parameters_m * 1e6)
                candidate = Candidate(recipe.name, asked(request), size, count, pauses=pauses, learned=bool(recipe.weights))
                found.append(to_document(candidate))
            validation = version.validation_count or round(HELD_OUT * version.facts.examples)
            return {"candidates": found, "validation_count": validation}

        gathered = self.steps.do("candidates", read)
        self.validation_count = int(gathered["validation_count"])
        self.put(SelectionState(tuple(from_document(each, Candidate) for each in gathered["candidates"])))

    def measure(self) -> None:
        """Each candidate's untrained export on the target; those that miss the limits are set aside with their numbers."""
        if self.spec.target:
            profile = self.steps.do("profile", self._start_profile)
            measured = self.steps.do("measure", lambda: self._wait_for(profile))
            for at, document in enumerate(measured["measured"]):
                found = from_document(document, Measured)
                spec = self.spec
                why = rules.misses(found, spec.max_inference_ms, spec.max_size_bytes, spec.target)
                self.change(at, measured=found, state=SET_ASIDE if why else WAITING, message=why)
        fitting = self.competing
        if not fitting:
            raise rules.none_left(self.state.candidates, self.spec.target)
        most = self.spec.max_candidates or rules.how_many(self.spec.max_training_s)
        kept = {fitting[place] for place in rules.spread_over(len(fitting), most)}
        for at in fitting:
            if at not in kept:
                self.change(at, state=SET_ASIDE, message=f"not tried: {self.spec.max_training_s:g} s have room for {most}")
        self.put(replace(self.state, rungs=rules.rungs_of(len(self.competing))))

    def _start_profile(self) -> str:
        version = self.world.datasets.get_version(self.spec.dataset_version)
        recipes = [resolve_recipe(request_from(each.recipe), version.facts) for each in self.state.candidates]
        wanted = children.request_id(self.job, "profile")
        return self.profiling.start(self.job.parent, self.spec.dataset_version, recipes, self.spec.target, wanted)

    def _wait_for(self, profile: str) -> Document:
        total = len(self.state.candidates)
        progress = {"stage": "measuring candidates", "fraction": 0.0, "done": 0, "total": total, "unit": "candidates"}
        self.steps.report({**progress, "eta_s": None})
        while (found := self.profiling.measured(profile)) is None:
            if self.steps.cancelled():
                self.profiling.cancel(profile)
                raise Cancelled("CANCELLED", "cancelled while its candidates were measured")
            self.steps.sleep(PAUSE_S)
        return {"measured": [to_document(each) for each in found]}

    # Rungs

    def train(self, which: Sequence[int]) -> None:
        """One more stretch of training for each of these."""
        rung, count = self.state.rung, len(self.competing)
        total, spent = self.spec.max_training_s, self.state.spent_seconds
        each_s = rules.slice_s(total, spent, count, len(which))
        started = []
        for at in which:
            own = self.state.candidates[at].train_seconds
            horizon = rules.horizon_s(total, spent, count, len(which), own) - own
            new = self.new(at, each_s, horizon, last=count == 1)
            what = f"rung-{rung}-{at}"
            started.append(self.steps.do(what, self._starting(what, new)))
            jobs = (*self.state.candidates[at].training_jobs, started[-1])
            self.change(at, state=TRAINING, rung=rung, training_jobs=jobs)
        recorded = self.steps.do(f"wait {rung}", lambda: self._wait(started))
        self.stopped = self.stopped or bool(recorded["stopped"])
        for at, document in zip(which, recorded["ended"], strict=True):
            self.came_to(at, from_document(document, Ended), last=count == 1)
        spent = sum(each.train_seconds for each in self.state.candidates)
        self.put(replace(self.state, spent_seconds=spent, spared_seconds=rules.spared_s(self.state.candidates)))

    def new(self, at: int, each_s: float, horizon_s: float, *, last: bool) -> NewTrainingJob:
        """The job of a stretch: it pauses at the end of its slice, and its learning rate is planned as if it were never cut."""
        candidate = self.state.candidates[at]
        new = replace(
            self.template,
            recipe=request_from(candidate.recipe),
            display_name=f"{candidate.label}, rung {self.state.rung + 1} of {self.state.rungs}"[:200],
            max_training_time_s=max(1.0, horizon_s if last or candidate.pauses else each_s),
            tags=(*self.template.tags, names.id_of(self.job.name)),
            measure_only=not last,
            pause_s=0.0 if last else max(0.1, each_s),
            stretch=True,
        )
        if not candidate.best_job:
            return new
        return replace(new, recipe=RecipeRequest(), resume_from=candidate.best_job, checkpoint=LAST)

    def _starting(self, what: str, new: NewTrainingJob) -> Any:
        return lambda: children.start(self.world, self.job, what, new, reuse=False)

    def _wait(self, started: Sequence[str]) -> Document:
        stopped = False

        def look(jobs: Sequence[Job]) -> None:
            nonlocal stopped
            self.show(jobs)
            if not stopped and self.world.jobs.get(self.job.name).instruction is Instruction.STOP:
                stopped = True
                for job in jobs:
                    if job.state is JobState.QUEUED:
                        self.world.jobs.cancel(job.name)
                    elif not job.state.terminal:
                        self.world.jobs.stop(job.name)

        ended = children.wait_all(self.world, self.steps, started, look, PAUSE_S)
        return {"ended": [to_document(self._ended(job)) for job in ended], "stopped": stopped}

    def _ended(self, job: Job) -> Ended:
        state, spec = state_from(state_of(job)), spec_from(job.spec)
        good = job.state is JobState.SUCCEEDED
        version = self.world.datasets.get_version(self.spec.dataset_version)
        step = int(state.latest_point.get("step", 0))
        planned = planned_steps(spec.recipe, version.facts.examples)
        warm_up = 0 if spec.recipe.tabular is not None else min(spec.recipe.hyperparameters.warmup_steps, planned // 10)
        return Ended(
            job=job.name,
            reason=str((job.error or {}).get("reason", "")) or job.reason,
            metrics=ledger.metrics_of(job) if good else {},
            seconds=state.train_seconds,
            step=step,
            planned=planned,
            resumable=good and LAST in state.checkpoints,
            model_version=str((job.result or {}).get("model_version", "")),
            message=str((job.error or {}).get("message", ""))[:500],
            early=step < rules.WARM_UPS * warm_up,
        )

    def came_to(self, at: int, ended: Ended, *, last: bool) -> None:
        """Writes down what a stretch came to. One that failed is out, unless an earlier stretch has left a model."""
        candidate = self.state.candidates[at]
        spent = candidate.train_seconds + ended.seconds
        metric = self.state.metric or metric_of(ended.metrics)
        if metric not in ended.metrics:
            why = f"{ended.reason}: {ended.message}".rstrip(": ")
            state = ELIMINATED if self.stopped and ended.reason == "CANCELLED" else FAILED
            self.change(at, state=state, message=why, train_seconds=spent, full_seconds=spent)
            return
        if not self.state.metric:
            self.put(replace(self.state, metric=metric))
        self.stopped = self.stopped or (last and ended.reason == UNFINISHED)
        finished = last or ended.reason != UNFINISHED or not ended.resumable
        whole = ended.reason not in CUT_SHORT or not ended.step
        full = spent if whole else spent * max(1.0, ended.planned / ended.step)
        value = float(ended.metrics[metric])
        self.change(
            at,
            best_job=ended.job,
            metric=value,
            error=rules.standard_error(metric, value, self.validation_count),
            train_seconds=spent,
            full_seconds=full,
            finished=finished,
            reason=ended.reason,
            early=ended.early and not finished,
        )

    def cut(self, *, only_best: bool = False) -> None:
        """The better ones go on."""
        which = self.competing
        merits, errors = self.merits(which)
        early, learned = zip(*((self.state.candidates[at].early, self.state.candidates[at].learned) for at in which), strict=True)
        kept = rules.promoted(merits, errors, early, learned)[: 1 if only_best else None]
        best = self.state.candidates[which[kept[0]]]
        for place, at in enumerate(which):
            if place in kept:
                continue
            one = self.state.candidates[at]
            known = f"{self.state.metric} {one.metric or 0.0:.4g} after {one.train_seconds:.0f} s of training"
            self.change(at, state=ELIMINATED, message=f"{known}; {best.label} had {best.metric or 0.0:.4g}")

    def merits(self, which: Sequence[int]) -> tuple[list[float], list[float]]:
        """The metric of each, more being better, and its standard error."""
        sign = 1 if higher_is_better(self.state.metric) else -1
        some = [self.state.candidates[at] for at in which]
        return [sign * float(each.metric or 0.0) for each in some], [each.error for each in some]

    # The end

    def end(self) -> Document:
        """The best of all that was trained becomes the model version, and the result says what was spared."""
        known = [at for at, each in enumerate(self.state.candidates) if each.best_job]
        if not known:
            told = "; ".join(f"{each.label} {each.message}" for each in self.state.candidates if each.state == FAILED)
            if self.stopped:
                raise Cancelled("CANCELLED", "it was stopped before any candidate had a model")
            raise FailedPrecondition("NO_RUN_SUCCEEDED", f"no candidate came to anything: {told[:1000]}", candidates=len(known))
        merits, errors = self.merits(known)
        place = max(range(len(known)), key=lambda each: (merits[each], self.state.candidates[known[each]].competes))
        winner = known[place]
        for at in self.competing:
            if at != winner:
                self.change(at, state=ELIMINATED, message="it had not been cut when training ended")
        self.change(winner, state=WON, message="")
        best = self.state.candidates[winner].best_job
        made = self.steps.do("end", lambda: self._version_of(best))
        close = [self.state.candidates[known[at]].label for at in rules.tied(merits, errors, place)]
        words = self._summary(self.state.candidates[winner], close)
        self.put(replace(self.state, best_training_job=best, model_version=made, summary=words))
        reason = self.state.candidates[winner].reason if self.state.candidates[winner].finished else "TIME_LIMIT"
        return {"selection": to_document(self.state), "reason": "STOPPED" if self.stopped else reason}

    def _version_of(self, best: str) -> str:
        """The version of a job; made now where the job was only there to be measured."""
        job = self.world.jobs.get(best)
        return str((job.result or {}).get("model_version", "")) or keep_model_of(self.world.resources, job)

    def _summary(self, winner: Candidate, close: Sequence[str]) -> str:
        trained = [each for each in self.state.candidates if each.training_jobs]
        aside = sum(each.state == SET_ASIDE for each in self.state.candidates)
        words = f"{winner.label} won with {self.state.metric} {winner.metric or 0.0:.4g} (standard error {winner.error:.2g}) "
        words += f"among {len(trained)} trained in {self.state.spent_seconds:.0f} s; {aside} set aside before. "
        if close:
            words += f"Within what chance explains of it: {', '.join(close)}. "
        return words + f"Training each to its end would have taken {self.state.spared_seconds:.0f} s more."

    # What watchers see

    def show(self, jobs: Sequence[Job]) -> None:
        """The progress of what runs, as this job's own."""
        running = next((job for job in jobs if job.state is JobState.RUNNING), None)
        point = state_from(state_of(running)).latest_point if running is not None else {}
        seconds = sum(state_from(state_of(job)).train_seconds for job in jobs)
        spent_s = min(self.spec.max_training_s, self.state.spent_seconds + seconds)
        share = min(0.99, spent_s / self.spec.max_training_s)
        label = self._label_of(running.name) if running is not None else "waiting for a slot"
        words = f"rung {self.state.rung + 1} of {self.state.rungs}: {label}"
        if (words, round(share, 3), point.get("step")) == self.shown:
            return
        self.shown = (words, round(share, 3), point.get("step"))
        ended = sum(job.state.terminal for job in jobs)
        progress = {"stage": words[:200], "fraction": share, "done": ended, "total": len(jobs), "unit": "candidates"}
        state = replace(self.state, latest_point=dict(point)) if len(jobs) == 1 and point else self.state
        eta_s = max(0.0, self.spec.max_training_s - spent_s)
        if len(self.competing) == 1 and point.get("eta_s") is not None:
            eta_s = float(point["eta_s"])  # the last one may come to its own end before the time is up
        self.steps.report({**progress, "eta_s": eta_s}, saved=to_document(state))

    def _label_of(self, job: str) -> str:
        return next((each.label for each in self.state.candidates if job in each.training_jobs), names.id_of(job))

    def change(self, at: int, **values: Any) -> None:
        """Changes a candidate, and tells those who watch."""
        changed = [replace(each, **values) if place == at else each for place, each in enumerate(self.state.candidates)]
        self.put(replace(self.state, candidates=tuple(changed)))

    def put(self, state: SelectionState) -> None:
        """Keeps how far it is, and tells those who watch."""
        if state != self.state:
            self.state = state
            self.steps.report(saved=to_document(state))


def _request(recipe: Recipe) -> RecipeRequest:
    """The request for a recipe of the catalogue as it suits the data."""
    size = asdict(recipe.input) if recipe.input else {}
    return RecipeRequest(
        recipe_id=recipe.name,
        input_height=size.get("height", 0),
        input_width=size.get("width", 0),
        input_channels=size.get("channels", 0),
    )
