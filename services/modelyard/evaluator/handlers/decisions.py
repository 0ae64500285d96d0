"""Gate decisions: made at once from an evaluation's figures, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.requests import Request
from modelyard.core.resources import Resource
from modelyard.evaluator.domain.evaluation import TEST, EvaluationSpec, Latency, metric_names
from modelyard.evaluator.domain.gate import Decision, Demands, check_demands, decide
from modelyard.evaluator.handlers.evaluations import result_of, spec_of
from modelyard.evaluator.ports import Jobs, Resources

COLLECTION: Final = "gateDecisions"


@dataclass(frozen=True)
class GateDecision:
    """A decision as stored: what it rests on, what was demanded, what came of it."""

    evaluation: str
    demands: Demands
    latency: Latency | None
    decision: Decision
    artifact_sha256: str


def create_decision(
    jobs: Jobs,
    resources: Resources,
    *,
    parent: str,
    evaluation: str,
    demands: Demands,
    latency: Latency | None,
    request: Request,
) -> Resource:
    """Decides about an evaluated artifact. Without a `latency` the one measured at its export counts.

    Raises InvalidArgument (names, floors, LATENCY_NOT_MEASURED), NotFound, FailedPrecondition EVALUATION_NOT_READY or
    TEST_NOT_SCORED.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    names.EVALUATION.parse(evaluation, "gate_decision.evaluation")
    job = jobs.get(evaluation)
    spec = spec_of(job)
    check_demands(demands, metric_names(spec.task))
    stored = _decide(job, spec, demands, _measured(latency or spec.latency, demands))
    name = names.GATE_DECISION.format(project, names.new_id())
    return resources.create(
        name,
        COLLECTION,
        parent,
        to_document(stored),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def decision_of(resource: Resource) -> GateDecision:
    """The decision in a stored resource."""
    return from_document(resource.document, GateDecision)


def _decide(job: Job, spec: EvaluationSpec, demands: Demands, latency: Latency | None) -> GateDecision:
    result = result_of(job)
    if job.state is not JobState.SUCCEEDED or result is None:
        message = f"{job.name} is {job.state.value}; the gate decides about an evaluation that has SUCCEEDED"
        raise FailedPrecondition(
            "EVALUATION_NOT_READY", message, field="gate_decision.evaluation", evaluation=job.name, state=job.state.value
        )
    if TEST not in spec.usages:
        scored = ", ".join(spec.usages)
        message = f"{job.name} scored only {scored}; the gate looks at test, so evaluate that usage too"
        raise FailedPrecondition("TEST_NOT_SCORED", message, field="gate_decision.evaluation", evaluation=job.name, usages=scored)
    decision = decide(result.usage(TEST), demands, latency.p95_ms if latency else None)
    return GateDecision(job.name, demands, latency, decision, result.artifact_sha256)


def _measured(latency: Latency | None, demands: Demands) -> Latency | None:
    if demands.max_latency_ms and latency is None:
        message = (
            f"max_latency_ms is {demands.max_latency_ms:g}, but no latency is given and none was measured at the export; "
            "give the latency, or 0 for no limit"
        )
        raise InvalidArgument("LATENCY_NOT_MEASURED", message, field="gate_decision.latency")
    return latency
