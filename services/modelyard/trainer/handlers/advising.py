"""Advice on a training job: its case, and proposals that are ready to be started."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.names import MODEL, id_of, parent_of
from modelyard.formats.provenance import training_code
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.advice import Diagnosis, Facts, diagnose
from modelyard.trainer.domain.ledger import Spread, fingerprint_of
from modelyard.trainer.domain.proposals import SHORT_SHARE, SHORT_STEPS, TRAIN, Proposal, Situation, propose
from modelyard.trainer.domain.recipe import RecipeRequest, settings_of, suggested
from modelyard.trainer.domain.training_job import BEST, LAST, TrainingSpec, TrainingState, spec_from, state_from
from modelyard.trainer.handlers import ledger
from modelyard.trainer.handlers.models import list_models
from modelyard.trainer.handlers.search import points_of
from modelyard.trainer.handlers.training_jobs import (
    NewTrainingJob,
    get_training_job,
    recipe_as_run,
    spec_of,
    state_of,
)
from modelyard.trainer.ports import Datasets, DatasetVersion, Jobs, Resources

LEAST_SHORT_STEPS, MOST_SHORT_STEPS = 10, 1_000_000
LEAST_SHARE: Final = 0.02
MODELS_LOOKED_AT: Final = 50


@dataclass(frozen=True)
class ShortRuns:
    """How short runs are made: at most so many steps, or this share of a whole run where that is fewer; and how many seeds the
    baseline is trained with."""

    steps: int = SHORT_STEPS
    share: float = SHORT_SHARE
    baseline_runs: int = 3


@dataclass(frozen=True)
class Ready:
    """A proposal with the job that it would start (None where it starts none), and the earlier job that tried the same."""

    proposal: Proposal
    new: NewTrainingJob | None = None
    tried_by: str = ""


@dataclass(frozen=True)
class Advice:
    """What is said about a job."""

    job: Job
    diagnosis: Diagnosis
    proposals: tuple[Ready, ...]
    spread: Spread | None
    situation: Situation
    chance: float | None


def advise(jobs: Jobs, datasets: Datasets, resources: Resources, name: str, short: ShortRuns | None = None) -> Advice:
    """The case of a job and what to do next. Raises NotFound, FailedPrecondition NOTHING_TO_ADVISE for one that has not begun."""
    job = get_training_job(jobs, name)
    points = points_of(jobs, name)
    if not points and not job.state.terminal:
        message = f"{name} is {job.state.value} and has no point of its curve yet; ask again when it has trained for a while"
        raise FailedPrecondition("NOTHING_TO_ADVISE", message, field="name", name=name, state=job.state.value)
    spec, state, recipe = spec_from(job.spec), state_from(state_of(job)), recipe_as_run(job)
    version = _version(datasets, spec)
    runs = ledger.runs_of(jobs, resources, job.parent, spec.experiment) if spec.experiment else []
    spread = ledger.spread_among(runs)
    facts = _facts(job, spec, state, recipe, version, spread)
    diagnosis = diagnose(points, facts)
    situation = _situation(resources, job, spec, state, recipe, version, diagnosis, short or ShortRuns())
    ready = [_ready(jobs, datasets, resources, job, recipe, each) for each in propose(diagnosis, situation)]
    return Advice(job, diagnosis, tuple(each for each in ready if each is not None), spread, situation, facts.chance)


def check_short_runs(steps: int, share: float) -> ShortRuns:
    """The wishes, 0 standing for the defaults. Raises InvalidArgument BAD_SHORT_RUN."""
    wanted = ShortRuns(steps or SHORT_STEPS, share or SHORT_SHARE)
    if not LEAST_SHORT_STEPS <= wanted.steps <= MOST_SHORT_STEPS:
        message = f"short_run_steps is {steps}; it must be {LEAST_SHORT_STEPS} to {MOST_SHORT_STEPS}, or 0 for {SHORT_STEPS}"
        raise InvalidArgument("BAD_SHORT_RUN", message, field="short_run_steps", value=steps)
    if not LEAST_SHARE <= wanted.share <= 1:
        message = f"short_run_share is {share}; it must be {LEAST_SHARE} to 1, or 0 for {SHORT_SHARE}"
        raise InvalidArgument("BAD_SHORT_RUN", message, field="short_run_share", value=share)
    return wanted


def new_job(job: Job, recipe: Recipe, proposal: Proposal) -> NewTrainingJob:
    """The job that a proposal starts, at full length."""
    spec = spec_from(job.spec)
    base = NewTrainingJob(
        parent=job.parent,
        dataset_version=spec.dataset_version,
        model=spec.model,
        max_training_time_s=spec.max_training_time_s or None,
        instance_flavor=job.instance_flavor,
        display_name=f"{proposal.rung} after {id_of(job.name)}"[:200],
    )
    if proposal.recipe:
        asked = RecipeRequest(proposal.recipe, hyperparameters=_seed(recipe), features=recipe.features)
        return replace(base, recipe=replace(asked, augmentation=recipe.augmentation))
    if proposal.start:
        changed = RecipeRequest(hyperparameters=proposal.changes)
        return replace(base, recipe=changed, resume_from=job.name, checkpoint=proposal.start)
    warm = proposal.warm_start or (spec.warm_start.model_version if spec.warm_start else None)
    return replace(base, recipe=_again(recipe, proposal.changes), warm_start=warm)


def shortened(new: NewTrainingJob, steps: int, seed: int | None = None) -> NewTrainingJob:
    """The same as a short run, which makes no model version; with another seed where one is given."""
    values: dict[str, Any] = {**new.recipe.hyperparameters, "max_steps": steps}
    values |= {} if seed is None else {"seed": seed}
    return replace(new, recipe=replace(new.recipe, hyperparameters=values), measure_only=True)


def _version(datasets: Datasets, spec: TrainingSpec) -> DatasetVersion | None:
    """None once it is gone: the advice is then less sure."""
    with suppress(NotFound, FailedPrecondition):
        return datasets.get_version(spec.dataset_version)
    return None


def _facts(
    job: Job,
    spec: TrainingSpec,
    state: TrainingState,
    recipe: Recipe,
    version: DatasetVersion | None,
    spread: Spread | None,
) -> Facts:
    facts = version.facts if version else None
    return Facts(
        task=recipe.task,
        reason=str((job.error or {}).get("reason", "")) or job.reason,
        notes=tuple(note.reason for note in state.notes),
        classes=len(spec.classes),
        chance=_chance(spec, recipe.task, version),
        train_count=facts.examples if facts else 0,
        validation_count=version.validation_count if version else 0,
        planned_steps=planned_steps(recipe, facts.examples if facts else 0),
        train_seconds=state.train_seconds,
        settings=settings_of(recipe),
        spread=spread,
    )


def _chance(spec: TrainingSpec, task: str, version: DatasetVersion | None) -> float | None:
    """The accuracy of an answer without a look at the example: that of the largest class. None where it means nothing."""
    if len(spec.classes) < 2 or not task.endswith("classification"):
        return None
    counts = version.class_counts if version else ()
    largest = max(counts) / sum(counts) if counts and sum(counts) else 0.0
    return max(1 / len(spec.classes), largest)


def _situation(
    resources: Resources,
    job: Job,
    spec: TrainingSpec,
    state: TrainingState,
    recipe: Recipe,
    version: DatasetVersion | None,
    diagnosis: Diagnosis,
    short: ShortRuns,
) -> Situation:
    curve = diagnosis.curve
    steps = int(curve.steps[-1]) if len(curve.steps) else 0
    best = state.checkpoints.get(BEST)
    others = suggested(version.facts) if version else ()
    settings = recipe.tabular if recipe.tabular is not None else recipe.hyperparameters
    return Situation(
        settings=settings_of(recipe),
        steps=steps,
        epochs=float(state.latest_point.get("epoch", 0.0)),
        planned_steps=planned_steps(recipe, version.facts.examples if version else 0) or steps,
        planned_epochs=int(getattr(settings, "max_epochs", 0)),
        best_epoch=best.epoch if best else None,
        best_step=best.step if best else None,
        last=LAST in state.checkpoints and job.state.terminal,
        step_s=state.train_seconds / steps if steps else 0.0,
        recipes=tuple((each.name, each.parameters_m) for each in others),
        own_recipe=recipe.name,
        own_size=recipe.parameters_m,
        related=_related(resources, spec, recipe),
        table=recipe.tabular is not None,
        baseline_runs=short.baseline_runs,
        short_steps=short.steps,
        short_share=short.share,
    )


def planned_steps(recipe: Recipe, examples: int) -> int:
    """Steps (rounds, for trees) that a recipe asks for on so many examples; 0 where that is not known."""
    if recipe.tabular is not None:
        return int(recipe.tabular.max_steps)
    settings = recipe.hyperparameters
    total = settings.max_epochs * max(1, examples // settings.batch_size) if examples else 0
    return min(total, settings.max_steps) if settings.max_steps and total else settings.max_steps or total


def _related(resources: Resources, spec: TrainingSpec, recipe: Recipe) -> tuple[str, ...]:
    """The newest versions of other models of the project that were trained on other data, for the same task and architecture."""
    own = spec.dataset_version.rpartition("/versions/")[0]
    project = "/".join(spec.model.split("/")[:2])
    found = []
    for kept in list_models(resources, project, MODELS_LOOKED_AT, "").items:
        if not kept.content.latest_version or kept.name == spec.model or not MODEL.matches(kept.name):
            continue
        with suppress(NotFound):
            document = resources.get(kept.content.latest_version).document
            same = (document["task"], document["recipe"].get("architecture")) == (recipe.task, recipe.architecture)
            if same and parent_of(document["dataset_version"]) != own:
                found.append(kept.content.latest_version)
    return tuple(found)


def _ready(jobs: Jobs, datasets: Datasets, resources: Resources, job: Job, recipe: Recipe, proposal: Proposal) -> Ready | None:
    """The proposal with its job; None when that job could not be started."""
    if proposal.kind != TRAIN:
        return Ready(proposal)
    new = new_job(job, recipe, proposal)
    try:
        spec = spec_of(jobs, datasets, resources, new)
    except ModelyardError:
        # A running job cannot be gone on from yet, so it is not checked; what is wrong in itself is not proposed.
        return Ready(proposal, new) if not job.state.terminal and proposal.start else None
    same = ledger.runs_of(jobs, resources, job.parent, fingerprint_of(spec, training_code()))
    return Ready(proposal, new, same[0].name if same else "")


def _again(recipe: Recipe, changes: Mapping[str, Any]) -> RecipeRequest:
    """The whole of a recipe as a request, with changes."""
    values = {**settings_of(recipe), **changes}
    if not values.get("max_steps"):
        values.pop("max_steps", None)
    size = recipe.input
    return RecipeRequest(
        recipe_id=recipe.name,
        architecture=recipe.architecture,
        input_height=size.height if size else 0,
        input_width=size.width if size else 0,
        input_channels=size.channels if size else 0,
        weights=recipe.weights,
        framework=recipe.framework,
        hyperparameters=values,
        features=recipe.features,
        augmentation=() if changes.get("augmentation") else recipe.augmentation,
    )


def _seed(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.tabular if recipe.tabular is not None else recipe.hyperparameters
    return {"seed": settings.seed} if settings.seed else {}
