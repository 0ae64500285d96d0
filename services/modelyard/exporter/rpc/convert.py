"""Contracts to domain and back."""

from __future__ import annotations

from typing import Any

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.rpc.latency import latency_message
from modelyard.exporter.domain.compression import CompressionLimits, CompressionStep, Figure
from modelyard.exporter.domain.export import Candidate, ExportResult, Imported, Pruning, Wish
from modelyard.exporter.domain.form import FP32, ONNX, PRECISIONS_OF
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.handlers import exports, profiles
from modelyard.exporter.v1 import exporter_pb2 as pb
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import blob_pb2, learning_pb2


def format_name(number: int) -> str:
    """A format as the domain names it, empty when unset; one that is unknown by its number, for the domain to refuse."""
    return _name(pb.Format, "FORMAT_", number)


def precision_name(number: int) -> str:
    """A precision as the domain names it, empty when unset."""
    return _name(pb.Precision, "PRECISION_", number)


def quantization_name(number: int) -> str:
    """How ranges are found, as the domain names it, empty when unset."""
    return _name(pb.Quantization, "QUANTIZATION_", number)


def task_name(number: int) -> str:
    """A task as the domain names it."""
    names = {int(value): name.removeprefix("TASK_").lower() for name, value in learning_pb2.Task.items()}
    return names.get(number, str(number))


def _name(enum: Any, prefix: str, number: int) -> str:
    names = {int(value): str(name).removeprefix(prefix).lower() for name, value in enum.items()} | {0: ""}
    return names.get(number, str(number))


def wish_from(export: pb.Export) -> Wish:
    """An export as asked for."""
    limits = export.limits
    return Wish(
        model_version=export.model_version,
        format=format_name(export.format),
        precision=precision_name(export.precision),
        target=export.target,
        quantization=quantization_name(export.quantization),
        pruning=Pruning(export.pruning.channels, export.pruning.weights),
        limits=CompressionLimits(
            limits.max_size_bytes, limits.max_latency_ms, limits.max_loss, limits.metric, limits.skip_training
        )
        if export.HasField("limits")
        else None,
        max_training_s=export.max_training_time.ToNanoseconds() / 1e9 if export.HasField("max_training_time") else None,
    )


def imported_from(model: pb.ImportedModel) -> Imported:
    """What is said of a model file from elsewhere."""
    return Imported(model.file_name, tuple(model.classes), model.pixel_scale or 1.0, model.pixel_offset, model.licence)


def target_from(target_id: str, target: pb.Target) -> Target:
    """A target as asked for."""
    format = format_name(target.format) or ONNX
    return Target(
        id=target_id,
        display_name=target.display_name,
        format=format,
        precision=precision_name(target.precision) or PRECISIONS_OF.get(format, (FP32,))[0],
        ram_bytes=target.ram_bytes,
        flash_bytes=target.flash_bytes,
        threads=target.threads,
        agent=target.agent,
        accelerator=target.accelerator,
    )


def target_message(parent: str, target: Target) -> pb.Target:
    """A target."""
    return pb.Target(
        name=f"{parent}/targets/{target.id}",
        display_name=target.display_name,
        format=_format(target.format),
        precision=_precision(target.precision),
        ram_bytes=target.ram_bytes,
        flash_bytes=target.flash_bytes,
        threads=target.threads,
        agent=target.agent,
        local=target.local,
        predefined=target.predefined,
        accelerator=target.accelerator,
    )


def candidate_from(recipe: trainer_pb2.Recipe) -> Candidate:
    """What a profile needs of a recipe."""
    return Candidate(
        recipe_id=recipe.recipe_id,
        task=task_name(recipe.task),
        architecture=recipe.architecture,
        input_height=recipe.input_height,
        input_width=recipe.input_width,
        input_channels=recipe.input_channels,
    )


def export_message(job: Job) -> pb.Export:
    """An export."""
    spec, result = exports.spec_of(job), exports.result_of(job) if job.state is JobState.SUCCEEDED else None
    message = pb.Export(
        name=job.name,
        model_version=spec.model_version,
        format=_format(spec.format),
        precision=_precision(spec.precision),
        quantization=_quantization(spec.quantization),
        target=spec.target,
        instance_flavor=job.instance_flavor,
        status=convert.status_message(job),
        dataset_version=spec.dataset_version,
        task=_task(spec.task),
        pruning=pb.Pruning(channels=spec.pruning.channels, weights=spec.pruning.weights) if spec.pruning.wanted else None,
        limits=_limits(spec.limits) if spec.limits else None,
        max_training_time=convert.duration(spec.max_training_s),
        origin=pb.ORIGIN_IMPORTED if spec.imported else pb.ORIGIN_TRAINED,
    )
    if result is not None:
        _put_result(message, result)
    return message


def _put_result(message: pb.Export, result: ExportResult) -> None:
    message.artifact.MergeFrom(convert.blob_message(result.artifact) or blob_pb2.Blob())
    message.model_size_bytes, message.unmeasured_reason = result.model_size_bytes, result.unmeasured_reason
    message.trail.extend(_step(step) for step in result.trail)
    if result.format:
        message.format, message.precision = _format(result.format), _precision(result.precision)
        message.quantization = _quantization(result.quantization)
    if result.latency is not None:
        message.latency.CopyFrom(latency_message(result.latency))
    if result.single_thread_latency is not None:
        message.single_thread_latency.CopyFrom(latency_message(result.single_thread_latency))
    if result.parity is not None:
        parity = result.parity
        message.parity.example_count, message.parity.tolerance = parity.examples, parity.tolerance
        message.parity.max_abs_difference, message.parity.label_agreement = parity.max_abs_difference, parity.label_agreement
    if result.calibration is not None:
        found = result.calibration
        message.calibration.CopyFrom(pb.Calibration(example_count=found.examples, seed=found.seed, digest=found.digest))


def _step(step: CompressionStep) -> pb.CompressionStep:
    return pb.CompressionStep(
        road=step.road,
        format=_format(step.format),
        precision=_precision(step.precision),
        quantization=_quantization(step.quantization),
        size_bytes=step.size_bytes,
        latency=latency_message(step.latency) if step.latency else None,
        metric=_figure(step.metric) if step.metric else None,
        loss=_figure(step.loss) if step.loss else None,
        accepted=step.accepted,
        message=step.message,
    )


def _figure(figure: Figure) -> learning_pb2.Metric:
    return learning_pb2.Metric(
        name=figure.name,
        value=figure.value,
        lower=figure.lower,
        upper=figure.upper,
        higher_is_better=figure.higher_is_better,
    )


def _limits(limits: CompressionLimits) -> pb.CompressionLimits:
    return pb.CompressionLimits(
        max_size_bytes=limits.max_size_bytes,
        max_latency_ms=limits.max_latency_ms,
        max_loss=limits.max_loss,
        metric=limits.metric,
        skip_training=limits.skip_training,
    )


def _format(name: str) -> pb.Format.ValueType:
    return pb.Format.Value(f"FORMAT_{name.upper() or 'UNSPECIFIED'}")


def _precision(name: str) -> pb.Precision.ValueType:
    return pb.Precision.Value(f"PRECISION_{name.upper() or 'UNSPECIFIED'}")


def _quantization(name: str) -> pb.Quantization.ValueType:
    return pb.Quantization.Value(f"QUANTIZATION_{name.upper() or 'UNSPECIFIED'}")


def profile_message(job: Job) -> pb.LatencyProfile:
    """A latency profile."""
    spec, result = profiles.spec_of(job), profiles.result_of(job) if job.state is JobState.SUCCEEDED else None
    return pb.LatencyProfile(
        name=job.name,
        dataset_version=spec.dataset_version,
        recipes=[_recipe(candidate) for candidate in spec.candidates],
        target=spec.target,
        status=convert.status_message(job),
        candidates=[
            pb.CandidateLatency(
                recipe_id=measured.recipe_id,
                latency=latency_message(measured.latency) if measured.latency else None,
                size_bytes=measured.size_bytes,
                error_message=measured.error_message,
                unmeasured_reason=measured.unmeasured_reason,
            )
            for measured in (result.measured if result else ())
        ],
    )


def _recipe(candidate: Candidate) -> trainer_pb2.Recipe:
    return trainer_pb2.Recipe(
        recipe_id=candidate.recipe_id,
        task=_task(candidate.task),
        architecture=candidate.architecture,
        input_height=candidate.input_height,
        input_width=candidate.input_width,
        input_channels=candidate.input_channels,
    )


def _task(task: str) -> learning_pb2.Task.ValueType:
    return learning_pb2.Task.Value(f"TASK_{task.upper()}")
