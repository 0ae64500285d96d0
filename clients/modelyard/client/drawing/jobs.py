"""A pipeline run and a training job, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.client.drawing.layout import badge, card, facts, figure, figures, table
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.scores import main_metrics
from modelyard.client.drawing.words import (
    count,
    metric_word,
    milliseconds,
    moment,
    number,
    seconds_of,
    size,
    spoken,
    state_word,
    task_word,
)
from modelyard.client.enums import short_name
from modelyard.client.names import short
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

_KINDS: Final[Mapping[int, str]] = {
    job_pb2.JOB_STATE_SUCCEEDED: "good",
    job_pb2.JOB_STATE_FAILED: "bad",
    job_pb2.JOB_STATE_RUNNING: "busy",
    job_pb2.JOB_STATE_QUEUED: "wait",
}


def state_badge(state: int) -> Markup:
    """Where a job is."""
    return badge(state_word(state), _KINDS.get(state, "off"))


def training_card(job: trainer_pb2.TrainingJob) -> Markup:
    """What was trained, from what, with which settings, and what is to be known of it."""
    recipe = job.resolved_recipe if job.HasField("resolved_recipe") else job.recipe
    rows = [
        ("Training job", h("code", short(job.name))),
        ("Dataset version", h("code", short(job.dataset_version))),
        ("Model version", h("code", short(job.model_version)) if job.model_version else ""),
        ("Recipe", recipe.recipe_id),
        ("Task", task_word(recipe.task)),
        ("Architecture", recipe.architecture),
        ("Parameters", count(recipe.parameter_count) if recipe.parameter_count else ""),
        ("Input", input_words(recipe)),
        ("Starts from", _start(job, recipe)),
        ("Ended", f"{job.status.reason.replace('_', ' ').lower()}" if job.status.reason else ""),
        ("Trained for", spoken(seconds_of(job.train_duration)) if job.HasField("train_duration") else ""),
        ("At most", spoken(seconds_of(job.max_training_time)) if job.HasField("max_training_time") else ""),
        ("Machine", job.instance_flavor),
        ("Processes", str(job.processes) if job.processes > 1 else ""),
        ("Tags", ", ".join(job.tags)),
        ("Experiment", h("code", job.experiment[:16]) if job.experiment else ""),
        ("Repeat of", short(job.repeat_of) if job.repeat_of else ""),
        ("Why again", job.repeat_reason),
        ("Started", moment(job.status.create_time)),
    ]
    return card(
        job.display_name or "Training",
        facts(rows),
        settings(recipe.hyperparameters),
        checkpoints(job),
        notes(job),
        _error(job.status),
        actions=state_badge(job.status.state),
        id="training",
    )


def input_words(recipe: trainer_pb2.Recipe) -> str:
    """Width, height and channels of a picture that goes in; empty for tables."""
    return f"{recipe.input_width} × {recipe.input_height} × {recipe.input_channels}" if recipe.input_width else ""


def _start(job: trainer_pb2.TrainingJob, recipe: trainer_pb2.Recipe) -> str:
    start = job.WhichOneof("start")
    if start == "resume_from":
        kind = short_name(trainer_pb2.CheckpointKind, job.resume_from.checkpoint) or "last"
        return f"{kind} checkpoint of {short(job.resume_from.training_job)}"
    if start == "warm_start_model_version":
        return f"the weights of {short(job.warm_start_model_version)}"
    return f"{recipe.weights} weights" if recipe.weights else "nothing"


def settings(hyperparameters: trainer_pb2.Hyperparameters) -> Markup | None:
    """Every setting that has a value."""
    rows = []
    for field, value in hyperparameters.ListFields():
        if field.enum_type is not None:
            known = {"optimizer": trainer_pb2.Optimizer, "schedule": trainer_pb2.Schedule}[field.name]
            said = short_name(known, value)
        elif isinstance(value, bool):
            said = "yes" if value else "no"
        else:
            said = f"{value:g}" if isinstance(value, float) else str(value)
        rows.append((field.name.replace("_", " "), said))
    if not rows:
        return None
    return h("details", h("summary", f"{len(rows)} settings"), facts(rows), open=True)


def checkpoints(job: trainer_pb2.TrainingJob) -> Markup | None:
    """Its checkpoints with their metrics."""
    rows = [
        [
            short_name(trainer_pb2.CheckpointKind, one.kind),
            count(one.step),
            str(one.epoch),
            ", ".join(f"{metric_word(name)} {number(value)}" for name, value in sorted(one.metrics.items())),
        ]
        for one in job.checkpoints
    ]
    return table(["Checkpoint", "Step", "Epoch", "Metrics"], rows, caption="Checkpoints", numeric=(1, 2)) if rows else None


def notes(job: trainer_pb2.TrainingJob) -> Markup | None:
    """What the run noted, and what people wrote down."""
    items = [h("li", h("strong", note.reason.replace("_", " ").capitalize()), f": {note.message}") for note in job.notes]
    items += [
        h("li", remark.text, " ", h("span", f"{remark.author}, {moment(remark.create_time)}", cls="muted small"))
        for remark in job.remarks
    ]
    return h("div", h("h3", "Notes"), h("ul", items)) if items else None


def _error(status: job_pb2.JobStatus) -> Markup | None:
    return h("p", status.error.message, role="alert") if status.state == job_pb2.JOB_STATE_FAILED else None


def run_figures(run: pipeline_pb2.PipelineRun) -> Markup | None:
    """The few figures that say most of a run."""
    result = run.result
    score = next((one for one in result.scores if one.usage == learning_pb2.USAGE_TEST), None)
    each = []
    if score is not None:
        for metric in main_metrics(score.metrics)[:3]:
            note = f"{number(metric.lower)} to {number(metric.upper)}, {count(score.example_count)} examples"
            each.append(figure(f"{metric_word(metric.name)}, test", number(metric.value), note))
    if result.HasField("latency"):
        each.append(figure("Answer (p95)", milliseconds(result.latency.p95_ms), f"on {result.latency.target}"))
    if result.HasField("train_duration"):
        each.append(figure("Training took", spoken(seconds_of(result.train_duration))))
    return figures(*each) if each else None


def run_card(run: pipeline_pb2.PipelineRun) -> Markup:
    """What a run was asked for, its steps, and what it made."""
    result = run.result
    rows = [
        [
            step.step_id.replace("_", " "),
            state_word(step.state) if step.state else "",
            step.message,
            spoken(step.end_time.ToSeconds() - step.start_time.ToSeconds()) if step.HasField("end_time") else "",
        ]
        for step in run.steps
    ]
    asked = [
        ("Pipeline run", h("code", short(run.name))),
        ("Dataset version", h("code", short(result.dataset_version)) if result.dataset_version else ""),
        ("Model version", h("code", short(result.model_version)) if result.model_version else ""),
        ("Endpoint", h("code", short(result.endpoint)) if result.endpoint else "nothing was deployed"),
        ("Hardware", run.target or "cpu"),
        ("Longest answer", f"{run.max_inference_duration_ms or 500} ms"),
        ("Floors", ", ".join(f"{floor.metric} {number(floor.value)}" for floor in run.floors)),
        ("Floors of classes", ", ".join(f"{one.label}: {one.metric} {number(one.value)}" for one in run.class_floors)),
        ("Longest training", spoken(seconds_of(run.max_training_time)) if run.HasField("max_training_time") else ""),
        ("Sha256 of the export", h("code", result.export_sha256) if result.export_sha256 else ""),
        ("Started", moment(run.status.create_time)),
    ]
    return card(
        run.display_name or "Pipeline run",
        facts(asked),
        h("h3", "Steps"),
        table(["Step", "State", "What came of it", "Time"], rows, caption="Steps of the run", numeric=(3,)),
        candidates(run),
        _error(run.status),
        actions=state_badge(run.status.state),
        id="run",
    )


def candidates(run: pipeline_pb2.PipelineRun) -> Markup | None:
    """The architectures that were measured before any was trained."""
    rows: list[list[Any]] = [
        [
            one.recipe_id,
            milliseconds(one.latency.p95_ms) if one.HasField("latency") else "",
            size(one.size_bytes) if one.size_bytes else "",
            "chosen" if one.recipe_id == run.result.recipe_id else one.error_message or one.unmeasured_reason,
        ]
        for one in run.result.candidates
    ]
    if not rows:
        return None
    shown = table(["Recipe", "p95", "Size", ""], rows, caption="Candidates", numeric=(1, 2))
    return h("div", h("h3", "Measured before any was trained"), shown)
