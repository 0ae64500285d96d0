"""Cross-validations: the same recipe on other parts of the data, or with other seeds; a job in durable steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from modelyard.core import names
from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Document, Job, JobState, Steps
from modelyard.core.requests import Request
from modelyard.trainer.domain.cross_validation import CrossSpec, CrossState, FoldRun, check_cross
from modelyard.trainer.domain.hyperparameters import LARGEST_SEED
from modelyard.trainer.domain.ledger import seed_of
from modelyard.trainer.handlers import children, ledger
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, spec_of
from modelyard.trainer.ports import Folding, Folds, Jobs

KIND: Final = "cross-validation"
PAUSE_S: Final = 0.3


def create_cross_validation(
    world: World,
    new: NewTrainingJob,
    *,
    job_id: str,
    folds: int,
    repeats: int,
    group_by: str,
    shown: Mapping[str, Any],
    request: Request,
) -> Job:
    """Starts one. new: the request for its runs. What is wrong with it is found here. Raises as create_training_job does."""
    project = names.PROJECT.parse(new.parent, "parent")["project"]
    if job_id:
        names.check_id(job_id, "cross_validation_id")
    folds, repeats = check_cross(folds, repeats, group_by)
    if new.resume_from is not None:
        message = "cross_validation.training_job.resume_from is set; folds begin afresh or from a model version"
        raise InvalidArgument("INVALID_CROSS_VALIDATION", message, field="cross_validation.training_job.resume_from")
    checked = spec_of(world.jobs, world.datasets, world.resources, new)
    anew: dict[str, Any] = {"measure_only": True, "request_id": "", "fingerprint": "", "training_job_id": ""}
    whole = replace(new, dataset_version=checked.dataset_version, **anew)
    spec = CrossSpec(folds, repeats, group_by, checked.dataset_version, to_document(whole), shown, seed_of(checked))
    return world.jobs.submit(
        names.CROSS_VALIDATION.format(project, job_id or names.new_id()),
        KIND,
        parent=new.parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_cross_validation(jobs: Jobs, name: str) -> Job:
    """Reads one. Raises NotFound CROSS_VALIDATION_NOT_FOUND."""
    names.CROSS_VALIDATION.parse(name)
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound("CROSS_VALIDATION_NOT_FOUND", f"{name} does not exist", name=name) from error


def spec_of_cross(job: Job) -> CrossSpec:
    """What was asked."""
    return from_document(dict(job.spec), CrossSpec)


def state_of_cross(job: Job) -> CrossState:
    """How far one is."""
    return from_document(dict((job.result or {}).get("cross") or job.saved or {}), CrossState)


def run_cross_validation(world: World, folding: Folding, job: Job, steps: Steps) -> Document:
    """Cuts, starts every run, waits for all. Gives the result: {"cross": ...}. Fails only when no run came to anything."""
    spec = spec_of_cross(job)
    state = _planned(folding, spec, steps)
    steps.report(saved=to_document(state))
    started = []
    for at, run in enumerate(state.runs):
        started.append(replace(run, training_job=steps.do(f"start {at}", _starting(world, job, spec, state, at))))
    state = replace(state, runs=tuple(started))
    ended = from_document(steps.do("wait", lambda: to_document(_wait(world, steps, state))), CrossState)
    if all(run.error for run in ended.runs):
        message = f"none of the {len(ended.runs)} runs came to anything; the first says: {ended.runs[0].error}"
        raise FailedPrecondition("NO_RUN_SUCCEEDED", message, runs=len(ended.runs))
    return {"cross": to_document(ended)}


def _planned(folding: Folding, spec: CrossSpec, steps: Steps) -> CrossState:
    """The runs to make, with their folds."""
    if not spec.folds:
        runs = tuple(FoldRun(repeat, 0, _seed(spec, repeat)) for repeat in range(spec.repeats))
        return CrossState(runs, descriptors=tuple({} for _ in runs))
    cut = from_document(steps.do("cut", partial(_cut, folding, spec)), Folds)
    runs_of_folds: list[FoldRun] = []
    notes = list(cut.notes)
    for at, fold in enumerate(cut.each):
        repeat, number = divmod(at, spec.folds)
        runs_of_folds.append(
            FoldRun(repeat, number, _seed(spec, repeat), "", "QUEUED", {}, fold.train_count, fold.validation_count)
        )
        notes += [f"Repeat {repeat}, fold {number}: {each}." for each in fold.absent]
    return CrossState(tuple(runs_of_folds), tuple(notes), tuple(to_document(fold.descriptor) for fold in cut.each))


def _cut(folding: Folding, spec: CrossSpec) -> Document:
    return to_document(folding.cut(spec.dataset_version, spec.folds, spec.repeats, spec.seed, spec.group_by))


def _starting(world: World, job: Job, spec: CrossSpec, state: CrossState, at: int) -> Any:
    run, descriptor = state.runs[at], state.descriptors[at]

    def start() -> str:
        new = from_document(dict(spec.job), NewTrainingJob)
        values = {**new.recipe.hyperparameters, "seed": run.seed}
        new = replace(new, recipe=replace(new.recipe, hyperparameters=values))
        if descriptor:
            fold = f"repeat {run.repeat}, fold {run.fold} of {spec.folds}"
            new = replace(new, descriptor=Blob(**descriptor), fold=fold)
        return children.start(world, job, f"run {at}", new, reuse=True)

    return start


def _seed(spec: CrossSpec, repeat: int) -> int:
    return (spec.seed + repeat) % (LARGEST_SEED + 1)


def _wait(world: World, steps: Steps, state: CrossState) -> CrossState:
    """The runs once all have ended. Raises Cancelled; then they are cancelled first."""
    shown: object = None

    def look(jobs: Sequence[Job]) -> None:
        nonlocal state, shown
        state = replace(state, runs=tuple(_came_to(run, job) for run, job in zip(state.runs, jobs, strict=True)))
        done = sum(_share(job) for job in jobs) / len(jobs)
        ended = sum(job.state.terminal for job in jobs)
        if (ended, round(done, 2)) == shown:
            return
        shown = (ended, round(done, 2))
        progress = {"stage": f"run {min(ended + 1, len(jobs))} of {len(jobs)}", "fraction": done, "done": ended}
        left = _left_s(jobs, done)
        steps.report({**progress, "total": len(jobs), "unit": "runs", "eta_s": left}, saved=to_document(state))

    children.wait_all(world, steps, [run.training_job for run in state.runs], look, PAUSE_S)
    return state


def _came_to(run: FoldRun, job: Job) -> FoldRun:
    error = ""
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        error = str((job.error or {}).get("message", "")) or job.state.value
    metrics = ledger.metrics_of(job) if job.state is JobState.SUCCEEDED else {}
    return replace(run, state=job.state.value, metrics=metrics, error=error)


def _share(job: Job) -> float:
    return 1.0 if job.state.terminal else float((job.progress or {}).get("fraction", 0.0))


def _left_s(jobs: Sequence[Job], done: float) -> float | None:
    spent = sum(children.seconds_of(job) for job in jobs)
    return spent * (1 - done) / done if done > 0.01 else None
