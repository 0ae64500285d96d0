"""Re-evaluations: contracts to domain and back."""

from __future__ import annotations

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job
from modelyard.pipeline.domain.reevaluation import Figure, Judgement, ReevaluationSpec
from modelyard.pipeline.handlers.reevaluations import View, result_of
from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from modelyard.type.v1 import learning_pb2

USAGES = {
    learning_pb2.USAGE_UNSPECIFIED: "",
    learning_pb2.USAGE_TRAIN: "train",
    learning_pb2.USAGE_VALIDATION: "validation",
    learning_pb2.USAGE_TEST: "test",
}


def spec_from(message: pb.Reevaluation) -> ReevaluationSpec:
    """What is asked for."""
    return ReevaluationSpec(
        endpoint=message.endpoint,
        dataset=message.dataset,
        dataset_version=message.dataset_version,
        usage=USAGES.get(message.usage, str(message.usage)),
        interval_s=message.interval.ToNanoseconds() / 1e9 if message.HasField("interval") else 0.0,
        min_new_examples=message.min_new_examples,
        max_loss=message.max_loss,
        display_name=message.display_name,
    )


def reevaluation_message(view: View, shown: int) -> pb.Reevaluation:
    """A re-evaluation with its newest `shown` results."""
    spec = view.spec
    results = [result_message(job) for job in view.runs]
    verdicts = [result.verdict for result in results if result.verdict]
    message = pb.Reevaluation(
        name=view.resource.name,
        display_name=spec.display_name,
        endpoint=spec.endpoint,
        usage=next(number for number, usage in USAGES.items() if usage == spec.usage),
        interval=convert.duration(spec.interval_s),
        min_new_examples=spec.min_new_examples,
        max_loss=spec.max_loss,
        create_time=convert.timestamp(view.resource.create_time),
        next_time=convert.timestamp(view.next_time),
        verdict=verdicts[0] if verdicts else pb.REEVALUATION_VERDICT_UNSPECIFIED,
        results=results[:shown],
    )
    if spec.dataset:
        message.dataset = spec.dataset
    else:
        message.dataset_version = spec.dataset_version
    return message


def result_message(job: Job) -> pb.ReevaluationResult:
    """A run."""
    message = pb.ReevaluationResult(name=job.name, status=convert.status_message(job))
    result = result_of(job)
    if result is not None:
        message.dataset_version, message.export = result.dataset_version, result.export
        message.evaluation, message.gate_evaluation = result.evaluation, result.gate_evaluation
        _put_judgement(message, result.judgement)
    return message


def _put_judgement(message: pb.ReevaluationResult, found: Judgement) -> None:
    message.verdict = pb.ReevaluationVerdict.Value(f"REEVALUATION_VERDICT_{found.verdict}")
    message.advice = found.advice
    message.new_examples, message.known_examples = found.new_examples, found.known_examples
    message.relabelled_examples = found.relabelled_examples
    for field, figure in (("metric", found.metric), ("gate_metric", found.gate_metric), ("loss", found.loss)):
        if figure is not None:
            getattr(message, field).CopyFrom(_metric(figure))


def _metric(figure: Figure) -> learning_pb2.Metric:
    better = figure.name == "accuracy"
    return learning_pb2.Metric(
        name=figure.name, value=figure.value, lower=figure.lower, upper=figure.upper, higher_is_better=better
    )
