"""Advice, advised trainings and cross-validations: contract messages to domain values and back."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from modelyard.core.documents import from_document
from modelyard.core.jobs import convert as job_convert
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.rpc.requests import fingerprint
from modelyard.trainer.domain.advice import Evidence
from modelyard.trainer.domain.cross_validation import FoldRun, MetricOver, metrics_over
from modelyard.trainer.domain.ladder import LadderSpec, LadderStep, check_ladder
from modelyard.trainer.handlers.advising import Advice, Ready
from modelyard.trainer.handlers.cross_validation import spec_of_cross, state_of_cross
from modelyard.trainer.handlers.ladder import state_of_ladder
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from modelyard.trainer.rpc import convert
from modelyard.trainer.rpc.convert_ledger import spread_message
from modelyard.trainer.v1 import advice_pb2 as pb
from modelyard.trainer.v1 import advice_service_pb2 as service_pb
from modelyard.trainer.v1 import trainer_pb2, trainer_service_pb2


def advice_message(found: Advice) -> pb.Advice:
    """What is said about a job."""
    diagnosis = found.diagnosis
    return pb.Advice(
        training_job=found.job.name,
        run_case=pb.RunCase.Value(f"RUN_CASE_{diagnosis.case.value}"),
        summary=diagnosis.summary,
        evidence=[_evidence_message(each) for each in diagnosis.evidence],
        proposals=[_proposal_message(each, found.situation.short_run_steps) for each in found.proposals],
        metric=diagnosis.curve.metric,
        spread=spread_message(found.spread),
    )


def ladder_spec(request: service_pb.CreateAdvisedTrainingRequest) -> LadderSpec:
    """What an advised training is asked. Raises InvalidArgument INVALID_ADVISED_TRAINING."""
    wanted = request.advised_training
    return check_ladder(
        wanted.training_job,
        wanted.budget.ToNanoseconds() / 1e9 if wanted.HasField("budget") else None,
        wanted.short_run_steps,
        wanted.short_run_share,
        wanted.baseline_runs,
        wanted.max_steps,
    )


def advised_training_message(job: Job, advice: pb.Advice | None = None) -> pb.AdvisedTraining:
    """An advised training as it stands."""
    spec, state = from_document(dict(job.spec), LadderSpec), state_of_ladder(job)
    return pb.AdvisedTraining(
        name=job.name,
        training_job=spec.training_job,
        budget=job_convert.duration(spec.budget_s),
        short_run_steps=spec.short_run_steps,
        short_run_share=spec.short_run_share,
        baseline_runs=spec.baseline_runs,
        max_steps=spec.max_steps,
        status=job_convert.status_message(job),
        steps=[_step_message(step) for step in state.steps],
        best_training_job=state.best or spec.training_job,
        model_version=state.model_version,
        advice=advice,
        summary=state.summary,
    )


def cross_job(request: service_pb.CreateCrossValidationRequest) -> tuple[NewTrainingJob, dict[str, Any]]:
    """The request for each run of a cross-validation, and its message as JSON."""
    wanted = trainer_service_pb2.CreateTrainingJobRequest(
        parent=request.parent, training_job=request.cross_validation.training_job
    )
    shown = json_format.MessageToDict(request.cross_validation.training_job, preserving_proto_field_name=True)
    return convert.new_training_job(wanted, fingerprint(wanted)), shown


def cross_validation_message(job: Job) -> pb.CrossValidation:
    """A cross-validation as it stands."""
    spec, state = spec_of_cross(job), state_of_cross(job)
    return pb.CrossValidation(
        name=job.name,
        training_job=json_format.ParseDict(dict(spec.shown), trainer_pb2.TrainingJob(), ignore_unknown_fields=True),
        folds=spec.folds,
        repeats=spec.repeats,
        group_by=spec.group_by,
        status=job_convert.status_message(job),
        runs=[_run_message(run) for run in state.runs],
        metrics=[_metric_message(each) for each in metrics_over(state.runs, spec.folds)],
        notes=state.notes,
    )


def _evidence_message(each: Evidence) -> pb.Evidence:
    return pb.Evidence(name=each.name, value=each.value, lower=each.lower, upper=each.upper, text=each.text)


def _proposal_message(ready: Ready, short_steps: int) -> pb.Proposal:
    proposal = ready.proposal
    return pb.Proposal(
        rung=proposal.rung,
        kind=pb.ProposalKind.Value(f"PROPOSAL_KIND_{proposal.kind}"),
        reason=proposal.reason,
        training_job=convert.asked_job_message(ready.new) if ready.new is not None else None,
        short_run_first=proposal.short,
        short_run_steps=short_steps if proposal.short else 0,
        expected_duration=job_convert.duration(proposal.seconds),
        changes=_changes(ready),
        tried_by=ready.tried_by,
    )


def _changes(ready: Ready) -> dict[str, str]:
    proposal = ready.proposal
    changed = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in proposal.changes.items()}
    named = {"recipe": proposal.recipe, "start": proposal.start, "warm_start": proposal.warm_start}
    return {**changed, **{name: value for name, value in named.items() if value}}


def _step_message(step: LadderStep) -> pb.AdvisedStep:
    return pb.AdvisedStep(
        rung=step.rung,
        reason=step.reason,
        training_jobs=step.training_jobs,
        short_run=step.short_run,
        before=step.before,
        after=step.after,
        threshold=step.threshold,
        effect=pb.StepEffect.Value(f"STEP_EFFECT_{step.effect or 'UNSPECIFIED'}"),
        message=step.message,
        duration=job_convert.duration(step.seconds),
    )


def _run_message(run: FoldRun) -> pb.FoldRun:
    return pb.FoldRun(
        training_job=run.training_job,
        repeat=run.repeat,
        fold=run.fold,
        seed=run.seed,
        state=job_convert.job_state(JobState(run.state)),
        metrics=run.metrics,
        train_count=run.train_count,
        validation_count=run.validation_count,
        error=run.error,
    )


def _metric_message(each: MetricOver) -> pb.CrossValidatedMetric:
    lower, upper = each.interval or (None, None)
    return pb.CrossValidatedMetric(
        name=each.name, mean=each.mean, deviation=each.deviation, lower=lower, upper=upper, runs=each.runs
    )
