"""Contracts to domain and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from google.protobuf import json_format

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Document, Job
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.domain.progress import StepState
from modelyard.pipeline.domain.spec import ClassFloor, Floor, Limits, RunSpec, Source, Split
from modelyard.pipeline.handlers.runs import spec_of, step_states
from modelyard.pipeline.v1 import pipeline_pb2 as pb
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

_BY_CLASS: Final = ("classes", "confusion")


def spec_from(run: pb.PipelineRun) -> RunSpec:
    """What is asked for. Unknown enum numbers count as not set."""
    kind = run.WhichOneof("data")
    return RunSpec(
        display_name=run.display_name,
        source=_source(run.source) if kind == "source" else None,
        dataset=run.dataset,
        dataset_version=run.dataset_version,
        dataset_version_id=run.dataset_version_id,
        split=_split(run.split),
        excluded_columns=tuple(run.excluded_columns),
        model=run.model,
        incremental_model_version=run.incremental_model_version,
        recipe=_recipe(run.recipe) if run.HasField("recipe") else None,
        target=run.target,
        max_inference_ms=run.max_inference_duration_ms,
        max_training_s=run.max_training_time.ToNanoseconds() / 1e9 if run.HasField("max_training_time") else None,
        floors=tuple(Floor(floor.metric, floor.value) for floor in run.floors),
        endpoint=run.endpoint,
        skip_deployment=run.skip_deployment,
        format=_short(exporter_pb2.Format, "FORMAT_", run.format),
        precision=_short(exporter_pb2.Precision, "PRECISION_", run.precision),
        compression=_limits(run.compression) if run.HasField("compression") else None,
        max_loss=run.max_loss,
        class_floors=tuple(ClassFloor(floor.label, floor.metric, floor.value) for floor in run.class_floors),
        instance_flavor=run.instance_flavor,
    )


def _short(enum: Any, prefix: str, number: int) -> str:
    """A value as the domain names it, empty when unset; one that is unknown by its number, for the domain to refuse."""
    names = {int(value): str(name).removeprefix(prefix).lower() for name, value in enum.items()} | {0: ""}
    return names.get(number, str(number))


def _limits(limits: exporter_pb2.CompressionLimits) -> Limits:
    return Limits(limits.max_size_bytes, limits.max_latency_ms, limits.max_loss, limits.metric, limits.skip_training)


def run_summary(job: Job) -> pb.PipelineRun:
    """A run without what is long: what it scored by class."""
    result = dict((job.result or {}).get("result", {}))
    for name in {"scores", "float_scores"} & set(result):
        result[name] = [{key: value for key, value in score.items() if key not in _BY_CLASS} for score in result[name]]
    return run_message(replace(job, result={**(job.result or {}), "result": result}))


def run_message(job: Job) -> pb.PipelineRun:
    """A run."""
    spec = spec_of(job)
    message = pb.PipelineRun(
        name=job.name,
        display_name=spec.display_name,
        dataset_version_id=spec.dataset_version_id,
        split=dataset_pb2.SplitPolicy(
            train_ratio=spec.split.train_ratio,
            source=dataset_pb2.SplitPolicy.Source.Value(spec.split.source or "SOURCE_UNSPECIFIED"),
            seed=spec.split.seed,
            group_by=spec.split.group_by,
            time_by=spec.split.time_by,
            test_where=spec.split.test_where,
            validation_where=spec.split.validation_where,
        ),
        excluded_columns=spec.excluded_columns,
        model=spec.model,
        instance_flavor=spec.instance_flavor,
        incremental_model_version=spec.incremental_model_version,
        recipe=json_format.ParseDict(spec.recipe, trainer_pb2.Recipe()) if spec.recipe is not None else None,
        target=spec.target,
        max_inference_duration_ms=spec.max_inference_ms,
        max_training_time=convert.duration(spec.max_training_s),
        floors=[learning_pb2.Floor(metric=floor.metric, value=floor.value) for floor in spec.floors],
        endpoint=spec.endpoint,
        skip_deployment=spec.skip_deployment,
        format=exporter_pb2.Format.Value(f"FORMAT_{spec.format.upper() or 'UNSPECIFIED'}"),
        precision=exporter_pb2.Precision.Value(f"PRECISION_{spec.precision.upper() or 'UNSPECIFIED'}"),
        compression=exporter_pb2.CompressionLimits(**vars(spec.compression)) if spec.compression else None,
        max_loss=spec.max_loss,
        class_floors=[evaluator_pb2.ClassFloor(**vars(floor)) for floor in spec.class_floors],
        status=convert.status_message(job),
        steps=[_step(state) for state in step_states(job)],
        result=result_message((job.result or {}).get("result", {})),
    )
    _put_data(message, spec)
    return message


def result_message(document: Document) -> pb.PipelineResult:
    """What the run made so far."""
    return json_format.ParseDict(document, pb.PipelineResult(), ignore_unknown_fields=True)


def points(events: Iterable[Document]) -> list[trainer_pb2.TrainingPoint]:
    """The points of the training curve among a job's events."""
    found = (event["point"] for event in events if "point" in event)
    return [json_format.ParseDict(point, trainer_pb2.TrainingPoint(), ignore_unknown_fields=True) for point in found]


def _put_data(message: pb.PipelineRun, spec: RunSpec) -> None:
    if spec.source is not None:
        source = spec.source
        message.source.CopyFrom(
            pb.Source(
                blob=convert.blob_message(source.blob),
                file_name=source.file_name,
                format=dataset_pb2.SourceFormat.Value(source.format or "SOURCE_FORMAT_UNSPECIFIED"),
                task=learning_pb2.Task.Value(source.task or "TASK_UNSPECIFIED"),
                label_column=source.label_column,
                dataset=source.dataset,
            )
        )
    elif spec.dataset:
        message.dataset = spec.dataset
    else:
        message.dataset_version = spec.dataset_version


def _source(source: pb.Source) -> Source:
    return Source(
        blob=convert.blob_from(source.blob),
        dataset=source.dataset,
        file_name=source.file_name,
        format=dataset_pb2.SourceFormat.Name(source.format) if source.format in dataset_pb2.SourceFormat.values() else "",
        task=learning_pb2.Task.Name(source.task) if source.task in learning_pb2.Task.values() else "",
        label_column=source.label_column,
    )


def _split(split: dataset_pb2.SplitPolicy) -> Split:
    kinds = dataset_pb2.SplitPolicy.Source
    return Split(
        split.train_ratio,
        kinds.Name(split.source) if split.source in kinds.values() else "",
        split.seed,
        split.group_by,
        split.time_by,
        tuple(split.test_where),
        tuple(split.validation_where),
    )


def _recipe(recipe: trainer_pb2.Recipe) -> Document | None:
    """None for an empty recipe: it asks for nothing."""
    document: Document = json_format.MessageToDict(recipe, preserving_proto_field_name=True)
    return document or None


def _step(state: StepState) -> pb.PipelineStep:
    return pb.PipelineStep(
        step_id=state.step_id,
        state=job_pb2.JobState.Value(f"JOB_STATE_{state.state}"),
        resource=state.resource,
        message=state.message,
        start_time=convert.timestamp(_time(state.start_time)),
        end_time=convert.timestamp(_time(state.end_time)),
    )


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
