"""From an assignment to a model file: opens the data, fetches what the run starts from, trains, stores what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.artifacts_named import NamedArtifacts
from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink
from modelyard.formats.dataset import (
    ANOMALY_DETECTION,
    FORECASTING,
    SERIES_CLASSIFICATION,
    TRAIN,
    DatasetDescriptor,
    DatasetReader,
    open_dataset,
)
from modelyard.formats.model import ModelCard
from modelyard.formats.tasks import task_of
from modelyard.recipes.recipe import TORCH, Recipe
from modelyard.trainer.domain.training_job import (
    BEST,
    LAST,
    TrainingResult,
    TrainingSpec,
    TrainingState,
    result_document,
    spec_from,
    state_from,
)
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.worker.group import ALONE, Group
from modelyard.trainer.worker.reporter import Reporter
from modelyard.trainer.worker.run import Hooks

COMPLETED = "COMPLETED"

if TYPE_CHECKING:
    from modelyard.recipes.build_tabular import TableModel
    from modelyard.trainer.worker.forecasting import ForecastResult
    from modelyard.trainer.worker.image import TrainResult
    from modelyard.trainer.worker.sensors import SensorResult
    from modelyard.trainer.worker.series import SeriesResult
    from modelyard.trainer.worker.tabular import TabularResult


@dataclass(frozen=True)
class Attempt:
    """One attempt at a training: what is asked, what earlier attempts left, where files go; the clock of networks' training."""

    spec: TrainingSpec
    before: TrainingState
    reader: DatasetReader
    artifacts: ArtifactStore
    workdir: Path
    settings: TrainerSettings
    group: Group = ALONE
    clock: Callable[[], float] = time.monotonic

    @property
    def limit_s(self) -> float | None:
        """Most time to train, all attempts together; None without a limit."""
        return self.spec.max_training_time_s or None

    @property
    def dataset(self) -> dict[str, str]:
        """What a model card says of the data."""
        return {"version": self.spec.dataset_version, "digest": self.spec.dataset_digest}

    @property
    def start(self) -> Path | None:
        """The checkpoint file to go on from: an earlier attempt's newest, else that of the job it resumes."""
        own = self.before.checkpoints.get(LAST) or self.before.checkpoints.get(BEST)
        return self.artifacts.path(own.blob) if own else self.resumed

    @property
    def resumed(self) -> Path | None:
        """The checkpoint file of the job this one resumes."""
        resume = self.spec.resume_from
        return self.artifacts.path(resume.checkpoint.blob) if resume else None

    @property
    def warm(self) -> Path | None:
        """The model file whose weights the run starts from."""
        return self.artifacts.path(self.spec.warm_start.model_file) if self.spec.warm_start else None


def reporter_of(
    assignment: Assignment, link: WorkerLink, group: Group = ALONE, evicted: Callable[[], bool] = lambda: False
) -> Reporter:
    """What speaks with the service for an attempt. evicted: whether this process was told to leave."""
    before = replace(state_from(assignment.saved), processes=group.size)
    spec = spec_from(assignment.spec)
    behind = spec.resume_from.checkpoint.step if spec.resume_from else 0
    return Reporter(link, before, _describer(spec.recipe), evicted=evicted, behind=behind)


def work(
    assignment: Assignment,
    link: WorkerLink,
    group: Group = ALONE,
    reporter: Reporter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Completion:
    """Trains what the assignment says.

    Raises Cancelled (also where this process was told to leave), and ModelyardErrors for what cannot be trained; in a group also
    BatchTooLarge and whatever says that another process is gone.
    """
    spec, before = spec_from(assignment.spec), state_from(assignment.saved)
    link.report(stage="reading the data")
    store = NamedArtifacts(link.artifacts, assignment.spec, assignment.saved)
    with open_dataset(store, spec.descriptor) as reader:
        attempt = Attempt(spec, before, reader, store, link.workdir, TrainerSettings(), group, clock)
        train = _train_table if spec.recipe.tabular is not None else _train_pictures
        series = spec.recipe.task in (SERIES_CLASSIFICATION, ANOMALY_DETECTION, FORECASTING)
        if series and spec.recipe.tabular is not None:
            train = _train_series
        reason, result = train(attempt, reporter or reporter_of(assignment, link, group))
    return Completion(result_document(result), reason)


def train_a_part(assignment: Assignment, link: WorkerLink, group: Group, hooks: Hooks) -> None:
    """What a process of a group does that is not its lead: trains its part of every batch. Raises as `work` does."""
    spec, before = spec_from(assignment.spec), state_from(assignment.saved)
    if spec.recipe.tabular is not None or _alone(spec.recipe):
        return  # the lead refuses it
    store = NamedArtifacts(link.artifacts, assignment.spec, assignment.saved)
    with open_dataset(store, spec.descriptor) as reader:
        _run_pictures(Attempt(spec, before, reader, store, link.workdir, TrainerSettings(), group), hooks)


def _alone(recipe: Recipe) -> bool:
    """Whether a network trains in one process."""
    return recipe.framework != TORCH or task_of(recipe.task).table


def _describer(recipe: Recipe) -> Any:
    """Words for the stage of a run."""
    if recipe.tabular is not None:
        return lambda event: f"round {int(event.get('step', 0))}"
    most = recipe.hyperparameters.max_epochs
    return lambda event: f"epoch {min(most, int(event.get('epoch', 0)) + 1)} of {most}"


def _run_pictures(attempt: Attempt, hooks: Hooks) -> TrainResult:
    from modelyard.trainer.worker.image import ImageTrainingSpec, run_image_training
    from modelyard.trainer.worker.row_network import run_row_network
    from modelyard.trainer.worker.series_network import run_series_network

    start = attempt.start
    spec = ImageTrainingSpec(
        reader=attempt.reader,
        recipe=attempt.spec.recipe,
        resume=start,
        warm_start=None if start else attempt.warm,
        max_training_time_s=attempt.limit_s,
        elapsed_s=attempt.before.train_seconds,
        dataset_version=attempt.spec.dataset_version,
        device=attempt.settings.device,
        precision=attempt.settings.precision,
        deterministic=attempt.settings.deterministic,
        checkpoint_every_s=attempt.settings.checkpoint_every_s,
        memory_bytes=attempt.settings.data_memory_bytes,
        group=attempt.group,
        batch_limit=attempt.before.batch_limit,
        pause_s=attempt.spec.pause_s or None,
        stretch=attempt.spec.stretch,
        clock=attempt.clock,
    )
    task = task_of(attempt.spec.recipe.task)
    if task.table:
        return run_row_network(spec, hooks, attempt.workdir)
    return (run_series_network if task.name == SERIES_CLASSIFICATION else run_image_training)(spec, hooks, attempt.workdir)


def _train_pictures(attempt: Attempt, reporter: Reporter) -> tuple[str, TrainingResult]:
    if _alone(attempt.spec.recipe):
        check_one_process(attempt.spec.recipe, attempt.group.size)
    trained = _run_pictures(attempt, reporter)
    if trained.model_path is None:
        raise Cancelled
    return trained.reason, TrainingResult(
        model_file=attempt.artifacts.put_file(trained.model_path),
        recipe=trained.recipe,
        metrics=trained.metrics,
        parameter_count=trained.parameter_count,
        state=replace(reporter.state, train_seconds=trained.train_seconds, peak_memory_bytes=trained.peak_memory_bytes),
    )


def check_one_process(recipe: Recipe, size: int) -> None:
    """Raises FailedPrecondition ONE_PROCESS_ONLY for a recipe that cannot be shared among processes: the others would idle at the
    user's expense."""
    if size > 1:
        message = f"{recipe.name} trains in one process, and {size} were started; an instance flavor with one node is right"
        raise FailedPrecondition(
            "ONE_PROCESS_ONLY", message, field="training_job.instance_flavor", recipe=recipe.name, value=size
        )


def _train_table(attempt: Attempt, reporter: Reporter) -> tuple[str, TrainingResult]:
    from modelyard.trainer.worker.tabular import run_tabular_training, write_tabular_model

    check_one_process(attempt.spec.recipe, attempt.group.size)
    began, earlier_s = time.monotonic(), attempt.before.train_seconds
    path = attempt.workdir / "model.zip"
    describe = TableEvents(reporter, began, earlier_s)

    def checkpoint(model: TableModel, metrics: Mapping[str, float], step: int) -> None:
        now = _unfinished(model, metrics, step)
        write_tabular_model(path, now, attempt.spec.recipe, attempt.reader.descriptor, attempt.dataset)
        reporter.keep(LAST, path, step=step, epoch=0, metrics=metrics)

    result = run_tabular_training(
        attempt.reader,
        attempt.spec.recipe,
        on_event=describe,
        should_stop=lambda: reporter.should_stop() != "continue",
        deadline=None if attempt.limit_s is None else began + attempt.limit_s - earlier_s,
        on_checkpoint=checkpoint,
        start=_trees_to_start_from(attempt),
    )
    if reporter.should_stop() == "cancel":
        raise Cancelled
    card = write_tabular_model(path, result, attempt.spec.recipe, attempt.reader.descriptor, attempt.dataset)
    for kind in (LAST, BEST):
        reporter.keep(kind, path, step=result.step, epoch=0, metrics=result.metrics)
    return result.reason, TrainingResult(
        model_file=reporter.state.checkpoints[BEST].blob,
        recipe=recipe_as_run(attempt.spec.recipe, result),
        metrics=result.metrics,
        parameter_count=card.parameter_count,
        state=replace(reporter.state, train_seconds=earlier_s + result.train_seconds),
    )


def _train_series(attempt: Attempt, reporter: Reporter) -> tuple[str, TrainingResult]:
    """Seconds of work in one go: an attempt that was lost begins again."""
    check_one_process(attempt.spec.recipe, attempt.group.size)
    began, path = time.monotonic(), attempt.workdir / "model.zip"

    def on_stage(what: str, done: int, total: int) -> None:
        if reporter.should_stop() == "cancel":
            raise Cancelled
        reporter.on_stage(what, done, total)

    deadline = None if attempt.limit_s is None else began + attempt.limit_s - attempt.before.train_seconds
    result = _fit_series(attempt, path, on_stage, deadline)
    seconds = attempt.before.train_seconds + time.monotonic() - began
    examples = len(attempt.reader.indices(TRAIN))
    reporter.on_event(
        {
            "step": 1,
            "epoch": 1.0,
            "loss": None,
            "learning_rate": 0.0,
            "examples_per_second": round(examples / max(seconds, 1e-3), 1),
            "metrics": dict(result.metrics),
            "eta_s": 0.0,
            "elapsed_s": round(seconds, 3),
        }
    )
    for kind in (LAST, BEST):
        reporter.keep(kind, path, step=1, epoch=1, metrics=result.metrics)
    return COMPLETED, TrainingResult(
        model_file=reporter.state.checkpoints[BEST].blob,
        recipe=attempt.spec.recipe,
        metrics=result.metrics,
        parameter_count=result.parameter_count,
        state=replace(reporter.state, train_seconds=seconds),
    )


def _fit_series(
    attempt: Attempt, path: Path, on_stage: Callable[[str, int, int], None], deadline: float | None
) -> SeriesResult | SensorResult | ForecastResult:
    """Fits what the recipe's task is, and writes the model file."""
    if attempt.spec.recipe.task == ANOMALY_DETECTION:
        from modelyard.trainer.worker.sensors import run_sensor_training

        return run_sensor_training(attempt.reader, attempt.spec.recipe, path, attempt.dataset, on_stage, deadline)
    if attempt.spec.recipe.task == FORECASTING:
        from modelyard.trainer.worker.forecasting import run_forecast_training

        return run_forecast_training(attempt.reader, attempt.spec.recipe, path, attempt.dataset, on_stage, deadline)
    from modelyard.trainer.worker.series import run_series_training

    return run_series_training(attempt.reader, attempt.spec.recipe, path, attempt.dataset, on_stage)


def _trees_to_start_from(attempt: Attempt) -> TableModel | None:
    """What the request names; an earlier attempt's own trees only when no time is left to begin again.

    Beginning again gives what the attempt would have given (every draw is seeded) and takes minutes; going on from trees does not
    repeat the choice of settings.
    """
    from modelyard.formats.model import read_model
    from modelyard.recipes.build_tabular import model_from

    spent = attempt.limit_s is not None and attempt.before.train_seconds >= attempt.limit_s
    path = (attempt.start if spent else attempt.resumed) or attempt.warm
    if path is None:
        return None
    file = read_model(path)
    check_same_table(file.card, attempt.reader.descriptor)
    return model_from(file)


def check_same_table(card: ModelCard, described: DatasetDescriptor) -> None:
    """Raises FailedPrecondition WARM_START_MISMATCH unless a model's columns and classes are those of the data."""
    names = [str(column["name"]) for column in card.columns]
    wanted = sorted(column.name for column in described.features), described.classes
    if card.details.get("features"):  # of a pipeline: the columns that it reads must be there
        wanted = sorted(column.name for column in described.columns if column.name in names), described.classes
    held = sorted(names), card.classes
    for what, has, needs in zip(("columns", "classes"), held, wanted, strict=True):
        if list(has) != list(needs):
            message = f"the model to start from has the {what} {', '.join(has)}; the data have {', '.join(needs)}"
            raise FailedPrecondition("WARM_START_MISMATCH", message, field="warm_start_model_version", what=what)


def _unfinished(model: TableModel, metrics: Mapping[str, float], step: int) -> TabularResult:
    from modelyard.trainer.worker.tabular import Candidate, TabularResult

    return TabularResult(model, "", step, metrics, Candidate(model.kind, {}), 0.0)


def recipe_as_run(recipe: Recipe, result: TabularResult) -> Recipe:
    """The recipe with what training chose in place: the architecture, the learning rate, the penalty."""
    kind, chosen = result.model.kind, result.candidate.settings
    settings = replace(
        recipe.tabular,
        base_lr=chosen.get("learning_rate", recipe.tabular.base_lr),
        weight_decay=chosen.get("lambda_l2", chosen.get("penalty", recipe.tabular.weight_decay)),
    )
    name = recipe.name if recipe.architecture == kind else kind
    return replace(recipe, name=name, architecture=kind, tabular=settings)


class TableEvents:
    """Events of the tabular training as a reporter takes them."""

    def __init__(self, reporter: Reporter, began: float, earlier_s: float) -> None:
        self._reporter = reporter
        self._began = began
        self._earlier_s = earlier_s

    def __call__(self, event: dict[str, Any]) -> None:
        """Choosing settings is a stage; boosting gives points."""
        if event.get("stage") == "select":
            self._reporter.on_stage("choosing settings", int(event["done"]), int(event["total"]))
            return
        elapsed_s = self._earlier_s + time.monotonic() - self._began
        self._reporter.on_event({**event, "eta_s": event.get("eta_seconds"), "elapsed_s": elapsed_s})
