"""Contract messages to domain values and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.message import Message

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job, JobChange
from modelyard.recipes.features import FEATURE_FORMS
from modelyard.recipes.policy import ALL_FORMS
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.steps import steps_from, version_of
from modelyard.trainer.domain.hyperparameters import RULES
from modelyard.trainer.domain.ledger import Remark
from modelyard.trainer.domain.model import Model, ModelVersion
from modelyard.trainer.domain.recipe import RecipeRequest, recipe_from, settings_of
from modelyard.trainer.domain.training_job import BEST, LAST, Checkpoint, TrainingSpec, spec_from, state_from
from modelyard.trainer.handlers.ledger import written_on
from modelyard.trainer.handlers.models import Kept
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, asked, state_of
from modelyard.trainer.rpc import convert_steps
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.trainer.v1 import trainer_service_pb2 as service_pb
from modelyard.type.v1 import learning_pb2

_ENUMS: Final = {"optimizer": (pb.Optimizer, "OPTIMIZER_"), "schedule": (pb.Schedule, "SCHEDULE_")}
_CHECKPOINT_KINDS: Final = {LAST: pb.CHECKPOINT_KIND_LAST, BEST: pb.CHECKPOINT_KIND_BEST}
_RECIPE_PATH: Final = "training_job.recipe"


# Requests


def new_training_job(request: service_pb.CreateTrainingJobRequest, fingerprint: str) -> NewTrainingJob:
    """What a request asks for."""
    job = request.training_job
    return NewTrainingJob(
        parent=request.parent,
        training_job_id=request.training_job_id,
        request_id=request.request_id,
        fingerprint=fingerprint,
        dataset_version=job.dataset_version,
        model=job.model,
        display_name=job.display_name,
        recipe=recipe_request(job.recipe),
        max_training_time_s=_seconds(job.max_training_time) if job.HasField("max_training_time") else None,
        resume_from=job.resume_from.training_job if job.HasField("resume_from") else None,
        checkpoint=_checkpoint_kind(job.resume_from.checkpoint),
        warm_start=job.warm_start_model_version if job.HasField("warm_start_model_version") else None,
        instance_flavor=job.instance_flavor,
        repeat_reason=job.repeat_reason,
        tags=tuple(job.tags),
        measure_only=job.measure_only,
    )


def recipe_request(recipe: pb.Recipe) -> RecipeRequest:
    """What a message says of a recipe; output only fields are ignored."""
    for name in ("input_height", "input_width", "input_channels"):
        if getattr(recipe, name) < 0:
            path, value = f"{_RECIPE_PATH}.{name}", getattr(recipe, name)
            message = f"{path} is {value}; it must be 0 (the service chooses) or more"
            raise InvalidArgument("INVALID_RECIPE", message, field=path, value=value)
    return RecipeRequest(
        recipe_id=recipe.recipe_id,
        task=task_name(recipe.task, f"{_RECIPE_PATH}.task"),
        architecture=recipe.architecture,
        input_height=recipe.input_height,
        input_width=recipe.input_width,
        input_channels=recipe.input_channels,
        weights=recipe.weights,
        framework=recipe.framework,
        hyperparameters=_hyperparameters(recipe.hyperparameters),
        features=convert_steps.feature_steps(recipe.features, f"{_RECIPE_PATH}.features"),
        augmentation=convert_steps.augmentation_steps(recipe.augmentation, f"{_RECIPE_PATH}.augmentation"),
    )


def task_name(task: learning_pb2.Task.ValueType, field: str) -> str:
    """ "image_classification"; empty when unset. Raises InvalidArgument UNKNOWN_ENUM_VALUE."""
    return _enum_name(learning_pb2.Task, task, "TASK_", field)


def changes(message: Message, paths: Sequence[str], allowed: set[str]) -> dict[str, str]:
    """The values to change: those the mask names, or without a mask those that are set."""
    names = allowed if paths else {name for name in allowed if getattr(message, name)}
    return {name: str(getattr(message, name)) for name in sorted(names)}


def _hyperparameters(message: pb.Hyperparameters) -> dict[str, Any]:
    """Those that are set, by name."""
    found: dict[str, Any] = {}
    for name in RULES:
        if name in _ENUMS:
            enum, prefix = _ENUMS[name]
            value: Any = _enum_name(enum, getattr(message, name), prefix, f"{_RECIPE_PATH}.hyperparameters.{name}")
            found |= {name: value} if value else {}
        elif message.HasField(name):  # type: ignore[arg-type]  # every other rule is an optional field of the message
            found[name] = getattr(message, name)
    return found


def _enum_name(enum: Any, number: int, prefix: str, field: str) -> str:
    if number not in enum.values():
        message = f"{field} is {number}; it must be one of {', '.join(enum.keys())}"
        raise InvalidArgument("UNKNOWN_ENUM_VALUE", message, field=field, value=number)
    return "" if number == 0 else str(enum.Name(number)).removeprefix(prefix).lower()


def _checkpoint_kind(kind: pb.CheckpointKind.ValueType) -> str:
    name = _enum_name(pb.CheckpointKind, kind, "CHECKPOINT_KIND_", "training_job.resume_from.checkpoint")
    return name or LAST


def _seconds(duration: Any) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9


# Answers


def training_job_message(job: Job) -> pb.TrainingJob:
    """A job as it stands."""
    spec, state, written = spec_from(job.spec), state_from(state_of(job)), written_on(job)
    message = pb.TrainingJob(
        name=job.name,
        display_name=spec.display_name,
        dataset_version=spec.dataset_version,
        model=spec.model,
        recipe=asked_recipe_message(spec.requested),
        resolved_recipe=recipe_message(spec.recipe),
        max_training_time=convert.duration(spec.max_training_time_s or None),
        instance_flavor=job.instance_flavor,
        status=convert.status_message(job),
        latest_point=point_message(state.latest_point) if state.latest_point else None,
        checkpoints=[_checkpoint_message(state.checkpoints[kind]) for kind in _CHECKPOINT_KINDS if kind in state.checkpoints],
        model_version=str((job.result or {}).get("model_version", "")),
        train_duration=convert.duration(state.train_seconds),
        notes=[pb.TrainingNote(reason=note.reason, message=note.message, step=note.step) for note in state.notes],
        processes=state.processes,
        peak_memory_bytes=state.peak_memory_bytes,
        repeat_reason=spec.repeat_reason,
        repeat_of=spec.repeat_of,
        experiment=spec.experiment,
        measure_only=spec.measure_only,
        part_of=spec.part_of,
        tags=written.tags,
        remarks=[_remark_message(remark) for remark in written.remarks],
    )
    _set_start(message, spec)
    return message


def asked_job_message(new: NewTrainingJob) -> pb.TrainingJob:
    """A request for a job as a message, ready for CreateTrainingJob."""
    message = pb.TrainingJob(
        display_name=new.display_name,
        dataset_version=new.dataset_version,
        model=new.model,
        recipe=asked_recipe_message(asked(new.recipe)),
        max_training_time=convert.duration(new.max_training_time_s),
        instance_flavor=new.instance_flavor,
        tags=new.tags,
    )
    if new.resume_from is not None:
        kind = _CHECKPOINT_KINDS[new.checkpoint]
        message.resume_from.CopyFrom(pb.ResumeFrom(training_job=new.resume_from, checkpoint=kind))
    elif new.warm_start is not None:
        message.warm_start_model_version = new.warm_start
    return message


def watch_response(change: JobChange) -> service_pb.WatchTrainingJobResponse:
    """A change as those who watch get it."""
    points = [point_message(event) for event in change.events if "step" in event and "note" not in event]
    return service_pb.WatchTrainingJobResponse(
        sequence=change.sequence, training_job=training_job_message(change.job), points=points
    )


def recipe_message(recipe: Recipe, parameter_count: int = 0) -> pb.Recipe:
    """A recipe with every field that it has a value for."""
    return pb.Recipe(
        recipe_id=recipe.name,
        task=task_number(recipe.task),
        architecture=recipe.architecture,
        input_height=recipe.input.height if recipe.input else 0,
        input_width=recipe.input.width if recipe.input else 0,
        input_channels=recipe.input.channels if recipe.input else 0,
        hyperparameters=_hyperparameters_message(settings_of(recipe)),
        weights=recipe.weights,
        parameter_count=parameter_count or round(recipe.parameters_m * 1e6),
        summary=recipe.summary,
        features=[convert_steps.feature_message(step) for step in recipe.features],
        augmentation=[convert_steps.augmentation_message(step) for step in recipe.augmentation],
        features_version=version_of(recipe.features),
        augmentation_version=version_of(recipe.augmentation),
        framework=recipe.framework,
    )


def task_number(task: str) -> learning_pb2.Task.ValueType:
    """TASK_IMAGE_CLASSIFICATION; TASK_UNSPECIFIED for an empty name."""
    return learning_pb2.Task.Value(f"TASK_{task.upper()}" if task else "TASK_UNSPECIFIED")


def point_message(event: Mapping[str, Any]) -> pb.TrainingPoint:
    """A point of the curve from an event."""
    return pb.TrainingPoint(
        step=int(event["step"]),
        epoch=float(event.get("epoch", 0.0)),
        time=convert.timestamp(datetime.fromtimestamp(float(event["time"]), UTC)),
        loss=float(event.get("loss", 0.0)),
        metrics=_metrics(event.get("metrics") or {}),
        learning_rate=float(event.get("learning_rate", 0.0)),
        examples_per_second=float(event.get("examples_per_second", 0.0)),
        eta=convert.duration(event.get("eta_s")),
    )


def model_message(kept: Kept[Model]) -> pb.Model:
    """A model."""
    return pb.Model(
        name=kept.name,
        display_name=kept.content.display_name,
        description=kept.content.description,
        latest_version=kept.content.latest_version,
        create_time=convert.timestamp(kept.create_time),
        update_time=convert.timestamp(kept.update_time),
        etag=kept.etag,
    )


def model_version_message(kept: Kept[ModelVersion]) -> pb.ModelVersion:
    """A model version."""
    version = kept.content
    return pb.ModelVersion(
        name=kept.name,
        description=version.description,
        training_job=version.training_job,
        dataset_version=version.dataset_version,
        dataset_digest=version.dataset_digest,
        task=task_number(version.task),
        recipe=recipe_message(recipe_from(version.recipe), version.parameter_count),
        model_file=convert.blob_message(version.model_file),
        classes=version.classes,
        training_metrics=_metrics(version.training_metrics),
        parent_version=version.parent_version,
        create_time=convert.timestamp(kept.create_time),
        etag=kept.etag,
    )


def asked_recipe_message(asked: Mapping[str, Any]) -> pb.Recipe:
    """The recipe as it was asked for, with nothing filled in."""
    plain = {name: value for name, value in asked.items() if name not in ("task", "hyperparameters", "features", "augmentation")}
    features, augmentation = (
        steps_from(asked.get(name, ()), forms) for name, forms in (("features", FEATURE_FORMS), ("augmentation", ALL_FORMS))
    )
    plain["features"] = [convert_steps.feature_message(step) for step in features]
    plain["augmentation"] = [convert_steps.augmentation_message(step) for step in augmentation]
    settings = _hyperparameters_message(asked["hyperparameters"]) if asked.get("hyperparameters") else None
    return pb.Recipe(**plain, task=task_number(asked.get("task", "")), hyperparameters=settings)


def _hyperparameters_message(values: Mapping[str, Any]) -> pb.Hyperparameters:
    """Those given; a limit of 0 means none, which the contract says by leaving the field unset."""
    message = pb.Hyperparameters()
    for name, value in values.items():
        if name in _ENUMS:
            enum, prefix = _ENUMS[name]
            setattr(message, name, enum.Value(prefix + str(value).upper()))
        elif not (name == "max_steps" and value == 0):
            setattr(message, name, value)
    return message


def _remark_message(remark: Remark) -> pb.TrainingRemark:
    time = convert.timestamp(datetime.fromisoformat(remark.time))
    return pb.TrainingRemark(text=remark.text, author=remark.author, create_time=time)


def _checkpoint_message(checkpoint: Checkpoint) -> pb.Checkpoint:
    return pb.Checkpoint(
        kind=_CHECKPOINT_KINDS[checkpoint.kind],
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        metrics=_metrics(checkpoint.metrics),
        blob=convert.blob_message(checkpoint.blob),
    )


def _set_start(message: pb.TrainingJob, spec: TrainingSpec) -> None:
    if spec.resume_from is not None:
        kind = _CHECKPOINT_KINDS[spec.resume_from.checkpoint.kind]
        message.resume_from.CopyFrom(pb.ResumeFrom(training_job=spec.resume_from.training_job, checkpoint=kind))
    elif spec.warm_start is not None:
        message.warm_start_model_version = spec.warm_start.model_version


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}
