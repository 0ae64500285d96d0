"""Gate decisions: made at once from the figures of evaluations, and never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from modelyard.core import names
from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.latency import Latency
from modelyard.core.requests import Request
from modelyard.core.resources import Resource
from modelyard.evaluator.domain.evaluation import (
    TEST,
    EvaluationResult,
    EvaluationSpec,
    metric_names,
)
from modelyard.evaluator.domain.gate import (
    Decision,
    Demands,
    Evidence,
    Parent,
    Verdict,
    check_demands,
    check_latency,
    decide,
    examples_sentence,
    examples_to_look_at,
)
from modelyard.evaluator.domain.pairing import Answers, Comparison, compare, same_bytes
from modelyard.evaluator.domain.scores import ExampleScore, UsageResult
from modelyard.evaluator.handlers.evaluations import result_of, spec_of
from modelyard.evaluator.handlers.passports import Issued, issue_passport
from modelyard.evaluator.ports import Bundles, Experiments, Jobs, Passports, Predictions, Resources
from modelyard.formats.bundle import BundleCard
from modelyard.formats.tasks import task_of

COLLECTION: Final = "gateDecisions"
QUANTIZED: Final = ("int8", "dynamic_int8")
AWARE: Final = "aware"


@dataclass(frozen=True)
class Wanted:
    """What a decision is asked about. `latency` None: the one measured at the export counts; names may be empty.

    `quantized` and `quantization_aware` are what the caller knows beyond the artifact's own card.
    """

    evaluation: str
    demands: Demands
    latency: Latency | None = None
    parent_evaluation: str = ""
    incumbent_evaluation: str = ""
    quantized: bool = False
    quantization_aware: bool = False
    model_size_bytes: int = 0


@dataclass(frozen=True)
class GateDecision:
    """A decision as stored: what it rests on, what was demanded, what came of it."""

    evaluation: str
    demands: Demands
    latency: Latency | None
    decision: Decision
    artifact_sha256: str
    parent_evaluation: str = ""
    incumbent_evaluation: str = ""
    model_size_bytes: int = 0
    quantized: bool = False
    quantization_aware: bool = False
    examples: tuple[ExampleScore, ...] = ()
    passport: Blob | None = None


@dataclass(frozen=True)
class Deciding:
    """The ports that deciding takes."""

    jobs: Jobs
    resources: Resources
    predictions: Predictions
    bundles: Bundles
    experiments: Experiments
    passports: Passports


@dataclass(frozen=True)
class Scored:
    """An evaluation that succeeded, with a score of the test usage asked for."""

    job: Job
    spec: EvaluationSpec
    result: EvaluationResult

    @property
    def test(self) -> UsageResult | None:
        """The scores of the test usage; None where it holds no examples."""
        return self.result.usage(TEST)


def create_decision(ports: Deciding, *, parent: str, wanted: Wanted, request: Request) -> Resource:
    """Decides about an evaluated artifact, and signs its passport where the verdict is DEPLOY.

    Raises InvalidArgument (names, demands as check_demands, BAD_LATENCY, DIFFERENT_TEST_SETS, NOT_THE_PARENT), NotFound,
    FailedPrecondition EVALUATION_NOT_READY or TEST_NOT_SCORED, naming the field.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    check_latency(wanted.latency)
    scored = _scored(ports.jobs, wanted.evaluation, "gate_decision.evaluation")
    check_demands(wanted.demands, metric_names(scored.spec.task), _classes(scored))
    stored, card = _decide(ports, scored, wanted)
    name = names.GATE_DECISION.format(project, names.new_id())
    if stored.decision.verdict is Verdict.DEPLOY:
        issued = Issued(name, scored.job, scored.spec, scored.result, stored.decision, to_document(stored), card)
        stored = replace(stored, passport=issue_passport(ports.experiments, ports.passports, issued))
    return ports.resources.create(
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


def _decide(ports: Deciding, scored: Scored, wanted: Wanted) -> tuple[GateDecision, BundleCard]:
    card, size = ports.bundles.read(scored.spec.artifact)
    quantized = wanted.quantized or card.precision in QUANTIZED
    no_cure = not task_of(scored.spec.task).compressed  # training with rounding is not for this task
    aware = no_cure or wanted.quantization_aware or (card.quantization is not None and card.quantization.method == AWARE)
    incumbent, against_incumbent = _against(ports, scored, wanted.incumbent_evaluation, "incumbent_evaluation", wanted.demands)
    evidence = Evidence(
        result=scored.test,
        latency=wanted.latency or scored.spec.latency,
        size_bytes=size or wanted.model_size_bytes,
        quantized=quantized,
        quantization_aware=aware,
        parent=_parent(ports, scored, card, wanted, incumbent),
        against_incumbent=against_incumbent,
    )
    decision, examples = _with_examples(decide(evidence, wanted.demands), scored.result)
    stored = GateDecision(
        evaluation=scored.job.name,
        demands=wanted.demands,
        latency=evidence.latency,
        decision=decision,
        artifact_sha256=scored.result.artifact_sha256,
        parent_evaluation=wanted.parent_evaluation,
        incumbent_evaluation=wanted.incumbent_evaluation,
        model_size_bytes=evidence.size_bytes,
        quantized=quantized,
        quantization_aware=aware,
        examples=examples,
    )
    return stored, card


def _with_examples(decision: Decision, result: EvaluationResult) -> tuple[Decision, tuple[ExampleScore, ...]]:
    """Where to look, and a sentence that says so, when the data are to blame."""
    if decision.verdict is not Verdict.BACK_TO_DATA:
        return decision, ()
    examples = examples_to_look_at(result)
    learned = all(test.passed for test in decision.tests if test.name.startswith("baseline:"))  # else it knows nothing of labels
    said = examples_sentence(examples, result.label_suspects if learned else ())
    passed = [test.message for test in decision.tests if test.passed]
    reasons = [reason for reason in decision.reasons if reason not in passed]
    return replace(decision, reasons=(*reasons, *([said] if said else []), *passed)), examples


# Evaluations


def _scored(jobs: Jobs, evaluation: str, field: str) -> Scored:
    names.EVALUATION.parse(evaluation, field)
    job = jobs.get(evaluation)
    spec, result = spec_of(job), result_of(job)
    if job.state is not JobState.SUCCEEDED or result is None:
        message = f"{field} is {job.name}, which is {job.state.value}; the gate decides about evaluations that have SUCCEEDED"
        raise FailedPrecondition("EVALUATION_NOT_READY", message, field=field, evaluation=job.name, state=job.state.value)
    if TEST not in spec.usages:
        usages = ", ".join(spec.usages)
        message = f"{field} is {job.name}, which scored only {usages}; the gate looks at test, so evaluate that usage too"
        raise FailedPrecondition("TEST_NOT_SCORED", message, field=field, evaluation=job.name, usages=usages)
    return Scored(job, spec, result)


def _classes(scored: Scored) -> tuple[str, ...]:
    return tuple(score.label for score in scored.test.score.classes) if scored.test else ()


# Against other artifacts


def _against(ports: Deciding, scored: Scored, other: str, name: str, demands: Demands) -> tuple[Scored | None, Comparison | None]:
    """The other evaluation and the comparison with it; None where none is named, or there are no test examples."""
    if not other:
        return None, None
    field = f"gate_decision.{name}"
    rival = _scored(ports.jobs, other, field)
    _check_same_data(scored, rival, field)
    return rival, _comparison(ports, scored, rival, demands.margin, field)


def _check_same_data(scored: Scored, rival: Scored, field: str) -> None:
    mine, theirs = scored.result.dataset_digest, rival.result.dataset_digest
    if mine == theirs:
        return
    message = (
        f"{field} is {rival.job.name}, scored on {rival.spec.dataset_version} (digest {theirs}); {scored.job.name} was scored on "
        f"{scored.spec.dataset_version} (digest {mine}). Evaluate both on the same dataset version."
    )
    raise InvalidArgument(
        "DIFFERENT_TEST_SETS",
        message,
        field=field,
        evaluation=scored.job.name,
        other=rival.job.name,
        digest=mine,
        other_digest=theirs,
    )


def _comparison(ports: Deciding, scored: Scored, rival: Scored, margin: float, field: str) -> Comparison | None:
    if scored.test is None or rival.test is None:
        return None
    metric = task_of(scored.spec.task).paired
    if scored.result.artifact_sha256 == rival.result.artifact_sha256:
        found = scored.test.score.metric(metric)
        return same_bytes(metric, scored.test.score.example_count, found.value if found else 0.0, margin)
    return compare(_answers(ports, scored), _answers(ports, rival), margin, field, metric)


def _answers(ports: Deciding, scored: Scored) -> Answers:
    return ports.predictions.test_answers(scored.job.name, scored.result.predictions)


def _parent(ports: Deciding, scored: Scored, card: BundleCard, wanted: Wanted, incumbent: Scored | None) -> Parent | None:
    parent, comparison = _against(ports, scored, wanted.parent_evaluation, "parent_evaluation", wanted.demands)
    if parent is None or comparison is None or parent.test is None:
        return None
    _check_parent(scored, card, parent, ports.bundles.read(parent.spec.artifact)[0])
    field = "gate_decision.incumbent_evaluation"
    against = _comparison(ports, parent, incumbent, wanted.demands.margin, field) if incumbent else None
    return Parent(parent.test, comparison, against)


def _check_parent(scored: Scored, card: BundleCard, parent: Scored, parent_card: BundleCard) -> None:
    """The parent is an export of the same model version, where both say of which they are."""
    mine, theirs = card.source.model_version, parent_card.source.model_version
    if not mine or not theirs or mine == theirs:
        return
    message = (
        f"gate_decision.parent_evaluation is {parent.job.name}, of an export of {theirs}; {scored.job.name} is of an export of "
        f"{mine}. Name the evaluation of the float export of the same model version."
    )
    field = "gate_decision.parent_evaluation"
    raise InvalidArgument("NOT_THE_PARENT", message, field=field, model_version=mine, parent_model_version=theirs)
