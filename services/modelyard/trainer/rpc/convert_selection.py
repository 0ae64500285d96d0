"""Model selections: contract messages to domain values and back."""

from __future__ import annotations

from google.protobuf import json_format

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs import convert as job_convert
from modelyard.core.jobs.job import Job
from modelyard.core.rpc.requests import fingerprint
from modelyard.trainer.domain.selection import Candidate, SelectionSpec
from modelyard.trainer.handlers.model_selections import spec_of_selection, state_of_selection
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, asked
from modelyard.trainer.rpc import convert
from modelyard.trainer.v1 import selection_pb2 as pb
from modelyard.trainer.v1 import selection_service_pb2 as service_pb
from modelyard.trainer.v1 import trainer_pb2, trainer_service_pb2

PATH = "model_selection.training_job"


def new_selection(request: service_pb.CreateModelSelectionRequest) -> tuple[NewTrainingJob, SelectionSpec]:
    """The request for each training, and what is asked of all. Raises InvalidArgument INVALID_MODEL_SELECTION."""
    wanted = request.model_selection
    _check_start(wanted.training_job)
    job = trainer_service_pb2.CreateTrainingJobRequest(parent=request.parent, training_job=wanted.training_job)
    spec = SelectionSpec(
        dataset_version=wanted.training_job.dataset_version,
        model=wanted.training_job.model,
        recipes=tuple(asked(convert.recipe_request(each)) for each in wanted.recipes),
        target=wanted.target,
        max_inference_ms=wanted.max_inference_duration_ms,
        max_size_bytes=wanted.max_size_bytes,
        max_candidates=wanted.max_candidates,
        shown=json_format.MessageToDict(_asked(wanted), preserving_proto_field_name=True),
    )
    return convert.new_training_job(job, fingerprint(job)), spec


def _check_start(job: trainer_pb2.TrainingJob) -> None:
    """Candidates of several architectures cannot share a start, nor a recipe."""
    recipe = job.recipe
    named = recipe.recipe_id or recipe.architecture
    given = {
        "resume_from": job.HasField("resume_from") and job.resume_from.training_job,
        "warm_start_model_version": job.warm_start_model_version,
        "recipe": named,
        "measure_only": job.measure_only and "true",
    }
    for name, value in given.items():
        if value:
            where = "model_selection.recipes" if name == "recipe" else "a training job of its own"
            message = f"{PATH}.{name} is {str(value)[:200]}; leave it out here: it belongs in {where}"
            raise InvalidArgument("INVALID_MODEL_SELECTION", message, field=f"{PATH}.{name}", value=str(value)[:200])


def model_selection_message(job: Job) -> pb.ModelSelection:
    """A model selection as it stands."""
    spec, state = spec_of_selection(job), state_of_selection(job)
    found = pb.ModelSelection(
        name=job.name,
        status=job_convert.status_message(job),
        candidates=[_candidate_message(each) for each in state.candidates],
        metric=state.metric,
        rung=min(state.rung + 1, state.rungs) if state.rungs else 0,
        rungs=state.rungs,
        train_duration=job_convert.duration(state.spent_seconds),
        spared_duration=job_convert.duration(state.spared_seconds),
        best_training_job=state.best_training_job,
        model_version=state.model_version,
        summary=state.summary,
        latest_point=convert.point_message(state.latest_point) if state.latest_point else None,
    )
    found.MergeFrom(json_format.ParseDict(dict(spec.shown), pb.ModelSelection(), ignore_unknown_fields=True))
    found.training_job.dataset_version = spec.dataset_version
    return found


def _asked(wanted: pb.ModelSelection) -> pb.ModelSelection:
    """What a request sets, without what is output only."""
    return pb.ModelSelection(
        training_job=wanted.training_job,
        recipes=wanted.recipes,
        target=wanted.target,
        max_inference_duration_ms=wanted.max_inference_duration_ms,
        max_size_bytes=wanted.max_size_bytes,
        max_candidates=wanted.max_candidates,
    )


def _candidate_message(each: Candidate) -> pb.SelectionCandidate:
    measured = each.measured
    recipe = convert.asked_recipe_message(each.recipe)
    recipe.parameter_count = each.parameters
    return pb.SelectionCandidate(
        recipe=recipe,
        input=each.input,
        state=pb.CandidateState.Value(f"CANDIDATE_STATE_{each.state}"),
        message=each.message,
        p95_ms=measured.p95_ms if measured else None,
        size_bytes=measured.size_bytes if measured else 0,
        rung=each.rung + 1 if each.training_jobs else 0,
        training_jobs=each.training_jobs,
        metric=each.metric,
        standard_error=each.error,
        train_duration=job_convert.duration(each.train_seconds),
        full_duration=job_convert.duration(each.full_seconds),
    )
