"""Contracts to domain and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.latency import Latency
from modelyard.core.resources import Resource
from modelyard.core.rpc.latency import latency_message, latency_of
from modelyard.evaluator.domain.curves import Bin, PrecisionRecall, Residuals
from modelyard.evaluator.domain.evaluation import EvaluationResult
from modelyard.evaluator.domain.gate import ClassFloor, Demands, Floor, GateTest
from modelyard.evaluator.domain.scores import ClassScore, DetectedExample, ExampleScore, Metric, SliceScore, UsageScore
from modelyard.evaluator.handlers.decisions import Wanted, decision_of
from modelyard.evaluator.handlers.evaluations import result_of, spec_of
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.evaluator.v1 import evaluator_service_pb2 as messages
from modelyard.type.v1 import blob_pb2, learning_pb2


def usage_names(usages: Iterable[int]) -> tuple[str, ...]:
    """Usages as the domain names them; one that is unknown by its number, for the domain to refuse."""
    by_number = {int(number): name.removeprefix("USAGE_").lower() for name, number in learning_pb2.Usage.items()}
    return tuple(by_number.get(number, str(number)) for number in usages)


def wanted_from(message: pb.GateDecision) -> Wanted:
    """What is to be decided, and by what."""
    return Wanted(
        evaluation=message.evaluation,
        demands=_demands(message),
        latency=latency_from(message),
        parent_evaluation=message.parent_evaluation,
        incumbent_evaluation=message.incumbent_evaluation,
        quantized=message.quantized,
        quantization_aware=message.quantization_aware,
        model_size_bytes=message.model_size_bytes,
    )


def _demands(message: pb.GateDecision) -> Demands:
    return Demands(
        floors=tuple(Floor(floor.metric, floor.value) for floor in message.floors),
        max_latency_ms=message.max_latency_ms,
        class_floors=tuple(ClassFloor(floor.label, floor.metric, floor.value) for floor in message.class_floors),
        max_loss=message.max_loss,
        max_size_bytes=message.max_size_bytes,
        max_memory_bytes=message.max_memory_bytes,
    )


def latency_from(message: pb.GateDecision) -> Latency | None:
    """The latency in the request; None where there is none."""
    if not message.HasField("latency"):
        return None
    return latency_of(message.latency)


def evaluation_message(job: Job) -> pb.Evaluation:
    """An evaluation."""
    spec, result = spec_of(job), result_of(job) if job.state is JobState.SUCCEEDED else None
    message = pb.Evaluation(
        name=job.name,
        export=spec.export,
        dataset_version=spec.dataset_version,
        usages=[_usage(usage) for usage in spec.usages],
        instance_flavor=job.instance_flavor,
        status=convert.status_message(job),
        artifact_sha256=spec.artifact.sha256,
        dataset_digest=spec.dataset_digest,
        slice_columns=spec.slice_columns,
    )
    if result is not None:
        _add_result(message, result)
    return message


def evaluation_summary(job: Job) -> pb.Evaluation:
    """An evaluation in a list: without slices and single examples, of which a page of a thousand would be too large to send."""
    message = evaluation_message(job)
    for field in ("slices", "worst_examples", "label_suspects"):
        message.ClearField(field)
    return message


def _add_result(message: pb.Evaluation, result: EvaluationResult) -> None:
    message.scores.extend(_score(entry.score) for entry in result.results)
    message.baseline_scores.extend(_score(entry.baseline) for entry in result.results)
    message.predictions.MergeFrom(convert.blob_message(result.predictions) or blob_pb2.Blob())
    message.slices.extend(_slice(entry) for entry in result.slices)
    message.worst_examples.extend(example_score(example) for example in result.worst_examples)
    message.label_suspects.extend(example_score(example) for example in result.label_suspects)
    message.train_gaps.extend(_gap(gap) for gap in result.train_gaps)
    message.suggested_threshold = result.suggested_threshold


def decision_message(resource: Resource) -> pb.GateDecision:
    """A gate decision."""
    stored = decision_of(resource)
    demands = stored.demands
    return pb.GateDecision(
        name=resource.name,
        evaluation=stored.evaluation,
        floors=[learning_pb2.Floor(metric=floor.metric, value=floor.value) for floor in demands.floors],
        class_floors=[pb.ClassFloor(label=each.label, metric=each.metric, value=each.value) for each in demands.class_floors],
        latency=latency_message(stored.latency) if stored.latency else None,
        max_latency_ms=demands.max_latency_ms,
        max_loss=demands.max_loss,
        max_size_bytes=demands.max_size_bytes,
        max_memory_bytes=demands.max_memory_bytes,
        parent_evaluation=stored.parent_evaluation,
        incumbent_evaluation=stored.incumbent_evaluation,
        model_size_bytes=stored.model_size_bytes,
        quantized=stored.quantized,
        quantization_aware=stored.quantization_aware,
        examples=[example_score(example) for example in stored.examples],
        passport=convert.blob_message(stored.passport),
        verdict=pb.Verdict.Value(f"VERDICT_{stored.decision.verdict.value}"),
        reasons=stored.decision.reasons,
        tests=[_test(test) for test in stored.decision.tests],
        artifact_sha256=stored.artifact_sha256,
        create_time=convert.timestamp(resource.create_time),
    )


def _usage(usage: str) -> learning_pb2.Usage.ValueType:
    return learning_pb2.Usage.Value(f"USAGE_{usage.upper()}")


def _score(score: UsageScore) -> pb.UsageScore:
    return pb.UsageScore(
        usage=_usage(score.usage),
        example_count=score.example_count,
        metrics=[_metric(metric) for metric in score.metrics],
        classes=[_class(entry) for entry in score.classes],
        confusion=[pb.ConfusionRow(counts=row) for row in score.confusion],
    )


def _class(entry: ClassScore) -> pb.ClassScore:
    return pb.ClassScore(
        label=entry.label,
        support=entry.support,
        precision=_metric(entry.precision),
        recall=_metric(entry.recall),
        f1=_metric(entry.f1),
        accuracy=_metric(entry.accuracy) if entry.accuracy else None,
        metrics=[_metric(metric) for metric in entry.metrics],
    )


def example_score(example: ExampleScore) -> pb.ExampleScore:
    return pb.ExampleScore(
        example_id=example.example_id,
        usage=_usage(example.usage),
        label=example.label,
        prediction=example.prediction,
        probability=example.probability,
        loss=example.loss,
        boxes=[pb.FoundBox(label=each.label, box=each.box, score=each.score) for each in example.boxes]
        if isinstance(example, DetectedExample)
        else (),
    )


def usage_name(usage: int) -> str:
    """test, validation, train; "" for the unset one."""
    return usage_names([usage])[0] if usage else ""


def curves_message(curves: Sequence[tuple[str, PrecisionRecall]], bins: Sequence[Bin]) -> messages.EvaluationCurves:
    """Curves of a classifier."""
    return messages.EvaluationCurves(
        precision_recall=[
            messages.PrecisionRecallCurve(
                label=label, recall=curve.recall, precision=curve.precision, average_precision=curve.average
            )
            for label, curve in curves
        ],
        calibration=[
            messages.CalibrationBin(confidence=one.confidence, accuracy=one.accuracy, example_count=one.count) for one in bins
        ],
    )


def residuals_message(found: Residuals, shown: Sequence[tuple[str, float, float]]) -> messages.Residuals:
    """How far a regression is off."""
    return messages.Residuals(
        example_count=found.count,
        mean=found.mean,
        deviation=found.deviation,
        median_absolute=found.median_absolute,
        edges=found.edges.tolist(),
        counts=found.counts.tolist(),
        points=[messages.ResidualPoint(example_id=name, label=label, prediction=said) for name, label, said in shown],
    )


def _slice(entry: SliceScore) -> pb.SliceScore:
    metrics = [_metric(metric) for metric in entry.metrics]
    return pb.SliceScore(column=entry.column, value=entry.value, example_count=entry.example_count, metrics=metrics)


def _gap(gap: Metric) -> learning_pb2.Metric:
    """Of a gap, whatever the metric, less is better."""
    return learning_pb2.Metric(name=gap.name, value=gap.value, lower=gap.lower, upper=gap.upper, higher_is_better=False)


def _metric(metric: Metric) -> learning_pb2.Metric:
    return learning_pb2.Metric(
        name=metric.name,
        value=metric.value,
        lower=metric.lower,
        upper=metric.upper,
        higher_is_better=metric.higher_is_better,
    )


def _test(test: GateTest) -> pb.GateTest:
    return pb.GateTest(
        name=test.name,
        passed=test.passed,
        value=test.value,
        lower=test.lower,
        upper=test.upper,
        bound=test.bound,
        message=test.message,
        outcome=pb.GateTest.Outcome.Value(f"OUTCOME_{test.outcome.value}"),
    )
