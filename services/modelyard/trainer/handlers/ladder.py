"""An advised training: takes the advisor's steps one after the other, inside a budget, and writes down what each came to.

A job in durable steps (core.jobs): what follows is decided by what earlier steps have recorded and by nothing else, so a run that
was interrupted takes the same steps again, finds what they had started by their request ids, and waits on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.jobs.job import Document, Job, JobState, Steps
from modelyard.core.requests import Request
from modelyard.trainer.domain.advice import RunCase
from modelyard.trainer.domain.comparing import Verdict, against_run, against_runs
from modelyard.trainer.domain.curves import higher_is_better, metric_of
from modelyard.trainer.domain.ladder import (
    BASELINE,
    FAILED,
    HELPED,
    MEASURED,
    NO_EFFECT,
    LadderSpec,
    LadderState,
    LadderStep,
)
from modelyard.trainer.domain.ledger import Spread
from modelyard.trainer.domain.proposals import TRAIN, Proposal, key_of
from modelyard.trainer.domain.training_job import check_ended
from modelyard.trainer.handlers import children, ledger
from modelyard.trainer.handlers.advising import ShortRuns, advise, new_job, shortened
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, get_training_job, recipe_as_run
from modelyard.trainer.ports import Jobs

KIND: Final = "advised-training"
AUTHOR: Final = "advisor"
MOST_DOUBLINGS: Final = 6
"""How often a rate that helped goes on in the same direction."""
LEAST_LEFT_S: Final = 5.0


@dataclass(frozen=True)
class View:
    """What is known of the job that the next step starts from; JSON, as a durable step records it."""

    job: str
    case: str
    metric: str
    value: float | None
    guess: float
    spread: Spread | None
    short_steps: int
    proposals: tuple[Proposal, ...]
    chance: float | None = None


@dataclass(frozen=True)
class Ended:
    """What a training came to; JSON."""

    job: str
    metric: str
    reason: str
    value: float | None
    seconds: float


def create_advised_training(world: World, parent: str, job_id: str, spec: LadderSpec, request: Request) -> Job:
    """Starts an advised training. Raises NotFound, FailedPrecondition TRAINING_JOB_RUNNING, AlreadyExists."""
    project = names.PROJECT.parse(parent, "parent")["project"]
    if job_id:
        names.check_id(job_id, "advised_training_id")
    field = "advised_training.training_job"
    source = get_training_job(world.jobs, spec.training_job, field)
    check_ended(source.name, source.state.value, source.state.terminal, field)
    return world.jobs.submit(
        names.ADVISED_TRAINING.format(project, job_id or names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(spec),
        labels={"training_job": source.name},
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_advised_training(jobs: Jobs, name: str) -> Job:
    """Reads one. Raises NotFound ADVISED_TRAINING_NOT_FOUND."""
    names.ADVISED_TRAINING.parse(name)
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound("ADVISED_TRAINING_NOT_FOUND", f"{name} does not exist", name=name) from error


def state_of_ladder(job: Job) -> LadderState:
    """How far one is."""
    return from_document(dict((job.result or {}).get("ladder") or job.saved or {}), LadderState)


def run_ladder(world: World, job: Job, steps: Steps) -> Document:
    """Takes the steps. Gives the result: {"ladder": ..., "reason": ...}."""
    return Ladder(world, job, steps).run()


class Ladder:
    """One advised training while its steps are taken."""

    def __init__(self, world: World, job: Job, steps: Steps) -> None:
        self.world = world
        self.job = job
        self.steps = steps
        self.spec = from_document(job.spec, LadderSpec)
        self.state = LadderState(best=self.spec.training_job)
        self.number = 0
        self.tried: set[str] = set()
        self.baselines: dict[str, tuple[float, ...]] = {}
        self.metric = ""
        """What everything is compared by: the first that a run had."""
        self.spent_s = 0.0
        """What the trainings so far took, by their own records."""
        self.shown = ("", -1.0)

    @property
    def left_s(self) -> float:
        """What is left of the budget."""
        return self.spec.budget_s - self.spent_s

    def run(self) -> Document:
        """Looks, tries, and looks again, until nothing helps, nothing is left to try, or the budget is used up."""
        view = self.look(self.spec.training_job)
        why = ""
        while not why:
            better, why = self.climb(view)
            if better:
                self.put(replace(self.state, best=better))
                view = self.look(better)
        return self.end(view, why)

    def climb(self, view: View) -> tuple[str, str]:
        """Tries what is proposed until something helps. Gives the better job, or why there is none."""
        for proposal in view.proposals:
            key = key_of(proposal) if not proposal.start else f"{view.job}|{key_of(proposal)}"
            if proposal.kind != TRAIN or key in self.tried:
                continue
            if self.left_s < LEAST_LEFT_S:
                return "", "BUDGET_USED_UP"
            if self.number >= self.spec.max_steps:
                return "", "MOST_STEPS"
            self.tried.add(key)
            better = self.short_then_long(view, proposal) if proposal.short else self.long(view, proposal)
            if better:
                return better, ""
        return "", "DONE" if view.case == RunCase.CONVERGED else "NOTHING_HELPED"

    # Kinds of steps

    def short_then_long(self, view: View, proposal: Proposal) -> str:
        """A short run first; where it helps, on in the same direction while that helps more; then at full length."""
        baseline = self.baseline(view)
        found, best = proposal, baseline
        for _ in range(MOST_DOUBLINGS):
            after = self.short(view, proposal, best)
            if after is None:
                break
            found, best = proposal, (after,)
            if not proposal.direction or self.left_s < LEAST_LEFT_S:
                break
            proposal = further(proposal)
        return self.long(view, found) if best is not baseline else ""

    def baseline(self, view: View) -> tuple[float, ...]:
        """Short runs of the recipe as it is, with other seeds: what short runs are compared with, and how far apart they are."""
        if view.job in self.baselines:
            return self.baselines[view.job]
        same = Proposal(BASELINE, "Short runs of the recipe as it is, with other seeds, to compare with.")
        ended = []
        for at in range(self.spec.baseline_runs):
            ended.append(self.train(f"baseline-{at}", self.new(view, same, short=True, seed=at)))
            if ended[-1].value is None:
                break  # it breaks down in short runs, too: there is nothing to compare with
        values = tuple(each.value for each in ended if each.value is not None)
        text = f"{self.metric} {_figures(values)}" if values else f"The short run came to nothing ({ended[-1].reason})."
        step = LadderStep(BASELINE, same.reason, tuple(each.job for each in ended), short_run=True, effect=MEASURED, message=text)
        mean = statistics.fmean(values) if values else None
        self.record(replace(step, after=mean, seconds=sum(each.seconds for each in ended)))
        self.baselines[view.job] = values
        return values

    def short(self, view: View, proposal: Proposal, best: tuple[float, ...]) -> float | None:
        """The metric of a short run where it is better than those it is compared with; None where it is not."""
        ended = self.train(proposal.rung, self.new(view, proposal, short=True))
        base = self.baselines[view.job]
        step = LadderStep(proposal.rung, proposal.reason, (ended.job,), True, seconds=ended.seconds, after=ended.value)
        step = replace(step, before=statistics.fmean(best) if best else None)
        if ended.value is None:
            self.record(replace(step, effect=FAILED, message=f"The short run came to nothing ({ended.reason})."))
            return None
        known = best or ((view.chance,) if view.chance is not None else ())
        if not known:
            words = f"The short run came to {self.metric} {ended.value:.4g}; before none came to anything."
            self.record(replace(step, effect=HELPED, message=words))
            return ended.value
        floor = max(view.guess, statistics.stdev(base) if len(base) > 1 else 0.0)
        verdict = against_runs(ended.value, known, _sign(self.metric), floor)
        words = f"{self.metric} {ended.value:.4g} after {_figures(known)}: {_said(verdict)}"
        self.record(replace(step, threshold=verdict.threshold, effect=verdict.effect, message=words))
        return ended.value if verdict.effect == HELPED else None

    def long(self, view: View, proposal: Proposal) -> str:
        """A run at full length. Gives the job's name where it helped; else nothing."""
        if self.left_s < LEAST_LEFT_S:
            return ""
        ended = self.train(proposal.rung, self.new(view, proposal))
        step = LadderStep(
            proposal.rung, proposal.reason, (ended.job,), before=view.value, after=ended.value, seconds=ended.seconds
        )
        if ended.value is None:
            self.record(replace(step, effect=FAILED, message=f"The run came to nothing ({ended.reason})."))
            return ""
        before = view.chance if view.value is None else view.value
        if before is None:
            self.record(
                replace(step, effect=HELPED, message=f"It came to {self.metric} {ended.value:.4g}; before there was none.")
            )
            return ended.job
        base = self.baselines.get(view.job, ())
        guess = max(view.guess, statistics.stdev(base) if len(base) > 1 else 0.0)
        verdict = against_run(ended.value, before, _sign(self.metric), view.spread, guess)
        words = f"{self.metric} {ended.value:.4g} after {before:.4g}: {_said(verdict)}"
        self.record(replace(step, threshold=verdict.threshold, effect=verdict.effect, message=words))
        return ended.job if verdict.effect == HELPED else ""

    # Durable steps

    def look(self, name: str) -> View:
        """The advice on a job."""

        def read() -> Document:
            short = ShortRuns(self.spec.short_run_steps, self.spec.short_run_share, self.spec.baseline_runs)
            found = advise(self.world.jobs, self.world.datasets, self.world.resources, name, short)
            curve = found.diagnosis.curve
            metrics = ledger.metrics_of(found.job)
            metric = curve.metric if curve.metric in metrics or not metrics else ""
            return to_document(
                View(
                    job=name,
                    case=found.diagnosis.case.value,
                    metric=metric or curve.metric,
                    value=metrics.get(metric) if metric else None,
                    guess=found.diagnosis.least,
                    spread=found.spread,
                    short_steps=found.situation.short_run_steps,
                    proposals=tuple(each.proposal for each in found.proposals),
                    chance=found.chance,
                )
            )

        view = from_document(self.steps.do(f"look {len(self.state.steps)}", read), View)
        self.metric = self.metric or view.metric
        return view

    def train(self, what: str, new: NewTrainingJob) -> Ended:
        """A training to its end, within what is left of the budget."""
        self.number += 1
        step, left_s = f"{self.number:03d}-{what}", max(LEAST_LEFT_S, self.left_s)

        def run() -> Document:
            name = children.start(self.world, self.job, step, new, reuse=True)
            self.put(replace(self.state, running=(name,)))
            ended = children.wait(self.world, self.steps, name, lambda job: self.show(what, job), stop_after_s=left_s)
            metrics = ledger.metrics_of(ended)
            value = metrics.get(self.metric or metric_of(metrics)) if ended.state is JobState.SUCCEEDED else None
            reason = str((ended.error or {}).get("reason", "")) or ended.reason
            metric = self.metric or metric_of(metrics)
            return to_document(Ended(name, metric, reason, value, children.seconds_of(ended)))

        found = from_document(self.steps.do(step, run), Ended)
        self.metric = self.metric or found.metric
        self.spent_s += found.seconds
        return found

    def new(self, view: View, proposal: Proposal, *, short: bool = False, seed: int | None = None) -> NewTrainingJob:
        """The job of a step. Runs that may not end within the budget get what is left of it as their limit."""
        source = self.world.jobs.get(view.job)
        recipe = recipe_as_run(source)
        made = new_job(source, recipe, proposal)
        if short:
            settings = recipe.tabular if recipe.tabular is not None else recipe.hyperparameters
            return shortened(made, view.short_steps, None if seed is None else settings.seed + seed)
        if proposal.seconds is None or 1.5 * proposal.seconds > self.left_s:
            own = made.max_training_time_s or math.inf
            return replace(made, max_training_time_s=max(1.0, float(math.floor(min(own, self.left_s)))))
        return made

    # Records

    def record(self, step: LadderStep) -> None:
        """Keeps a step, and writes it down on its jobs and on the one that it is about."""
        self.put(replace(self.state, steps=(*self.state.steps, step), running=()))

        def write() -> bool:
            for name in step.training_jobs:
                text = f"{'short run, ' if step.short_run else ''}{step.rung}: {step.effect.lower()}. {step.message}"
                _remark(self.world.jobs, name, f"{text} ({step.reason})")
            return True

        self.steps.do(f"write {len(self.state.steps)}", write)

    def show(self, what: str, job: Job) -> None:
        """The progress of the training that runs, as this job's own."""
        progress = job.progress or {}
        stage = f"{what}: {progress.get('stage', job.state.value.lower())}"
        spent_s = self.spent_s + children.seconds_of(job)
        share = min(0.99, spent_s / self.spec.budget_s)
        if (stage, round(share, 3)) == self.shown:
            return
        self.shown = (stage, round(share, 3))
        done = {"done": len(self.state.steps), "total": self.spec.max_steps, "unit": "steps"}
        self.steps.report({"stage": stage[:200], "fraction": share, **done, "eta_s": max(0.0, self.spec.budget_s - spent_s)})

    def put(self, state: LadderState) -> None:
        """Keeps how far it is, and tells those who watch."""
        self.state = state
        self.steps.report(saved=to_document(state))

    def end(self, view: View, why: str) -> Document:
        """The result."""

        def close() -> Document:
            best = self.world.jobs.get(self.state.best)
            made = str((best.result or {}).get("model_version", ""))
            return {"model_version": made, "summary": _summary(self.state, view, why, self.metric)}

        closed = self.steps.do("end", close)
        self.put(replace(self.state, model_version=closed["model_version"], summary=closed["summary"], running=()))
        return {"ladder": to_document(self.state), "reason": why}


def further(proposal: Proposal) -> Proposal:
    """A rate once more in the same direction."""
    rate = min(100.0, float(f"{proposal.changes['base_lr'] * proposal.direction:.3g}"))
    return replace(proposal, changes={**proposal.changes, "base_lr": rate}, reason=f"{proposal.reason} It helped: further on.")


def _summary(state: LadderState, view: View, why: str, metric: str) -> str:
    helped = [step for step in state.steps if step.effect == HELPED and not step.short_run]
    first = next((step.before for step in helped), None)
    words = f"{len(state.steps)} steps in {sum(step.seconds for step in state.steps):.0f} s of training. "
    if helped and view.value is not None:
        before = f" from {first:.4g}" if first is not None else ""
        words += f"{metric} went{before} to {view.value:.4g} by {', '.join(step.rung for step in helped)}. "
    else:
        words += "Nothing helped. "
    return words + _ENDS[why].format(case=view.case.replace("_", " ").lower())


_ENDS: Final = {
    "BUDGET_USED_UP": "The budget is used up; the last look said: {case}.",
    "MOST_STEPS": "The most steps are taken; the last look said: {case}.",
    "DONE": "It has come to what these recipes give on these data; better data are what is left: see the quality report.",
    "NOTHING_HELPED": "The last look said: {case}. What is left is the data (see the quality report), or another architecture.",
}


def _remark(jobs: Jobs, name: str, text: str) -> None:
    job = jobs.get(name)
    if all(remark.text != text for remark in ledger.written_on(job).remarks):
        try:
            ledger.add_remark(jobs, name, text[:4000], AUTHOR)
        except FailedPrecondition:
            return  # it has as many as are kept


def _sign(metric: str) -> int:
    return 1 if higher_is_better(metric) else -1


def _figures(values: Sequence[float]) -> str:
    """ "0.412 (3 runs, standard deviation 0.011)"."""
    if len(values) < 2:
        return f"{values[0]:.4g}" if values else "nothing"
    return f"{statistics.fmean(values):.4g} ({len(values)} runs, standard deviation {statistics.stdev(values):.2g})"


def _said(verdict: Verdict) -> str:
    words = {HELPED: "more than", NO_EFFECT: "within what"}.get(verdict.effect, "worse by more than")
    return f"{verdict.gain:+.3g}, {words} chance explains ({verdict.threshold:.2g})"
