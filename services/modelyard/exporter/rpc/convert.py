"""Contracts to domain and back."""

from __future__ import annotations

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job, JobState
from modelyard.exporter.domain.export import Candidate, Latency
from modelyard.exporter.handlers import exports, profiles
from modelyard.exporter.v1 import exporter_pb2 as pb
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import blob_pb2, learning_pb2


def format_name(number: int) -> str:
    """A format as the domain names it; one that is unknown by its number, for the handler to refuse."""
    names = {int(value): name.removeprefix("FORMAT_").lower() for name, value in pb.Format.items()} | {0: "onnx"}
    return names.get(number, str(number))


def precision_name(number: int) -> str:
    """A precision as the domain names it."""
    names = {int(value): name.removeprefix("PRECISION_").lower() for name, value in pb.Precision.items()} | {0: "fp32"}
    return names.get(number, str(number))


def candidate_from(recipe: trainer_pb2.Recipe) -> Candidate:
    """What a profile needs of a recipe."""
    return Candidate(
        recipe_id=recipe.recipe_id,
        task=learning_pb2.Task.Name(recipe.task).removeprefix("TASK_").lower(),
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
        format=pb.Format.Value(f"FORMAT_{spec.format.upper()}"),
        precision=pb.Precision.Value(f"PRECISION_{spec.precision.upper()}"),
        target=spec.target,
        status=convert.status_message(job),
        dataset_version=spec.dataset_version,
        task=_task(spec.task),
    )
    if result is not None:
        parity = result.parity
        message.artifact.MergeFrom(convert.blob_message(result.artifact) or blob_pb2.Blob())
        message.latency.CopyFrom(_latency(result.latency))
        message.parity.CopyFrom(
            pb.Parity(
                example_count=parity.examples,
                max_abs_difference=parity.max_abs_difference,
                label_agreement=parity.label_agreement,
                tolerance=parity.tolerance,
            )
        )
    return message


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
                latency=_latency(measured.latency) if measured.latency else None,
                size_bytes=measured.size_bytes,
                error_message=measured.error_message,
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


def _latency(latency: Latency) -> learning_pb2.Latency:
    return learning_pb2.Latency(
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        p99_ms=latency.p99_ms,
        calls=latency.calls,
        threads=latency.threads,
        target=latency.target,
        hardware=latency.hardware,
    )
