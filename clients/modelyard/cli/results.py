"""A pipeline run's result as `auto --json` prints it, and as a person reads it."""

from __future__ import annotations

from typing import Any

from modelyard.cli.durations import spoken
from modelyard.cli.exits import DONE, FAILED, REFUSED, error_document, exit_code
from modelyard.cli.output import enum_name, number, plain, print_facts, print_table
from modelyard.client import parent_of, short
from modelyard.client._status import from_status
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2, learning_pb2


def run_document(run: pipeline_pb2.PipelineRun) -> dict[str, Any]:
    """The object that `--json` prints for a run."""
    result = run.result
    return {
        "state": enum_name(job_pb2.JobState.DESCRIPTOR, run.status.state),
        "reason": run.status.reason,
        "pipeline_run": run.name,
        "dataset_version": result.dataset_version,
        "recipe": result.recipe_id,
        "training_job": result.training_job,
        "model_version": result.model_version,
        "export": result.export,
        "export_sha256": result.export_sha256,
        "evaluation": result.evaluation,
        "endpoint": result.endpoint,
        "deployment": result.deployment,
        "metrics": metrics(result.scores),
        "intervals": intervals(result.scores),
        "gate": gate_document(result.gate_decision),
        "train_seconds": round(result.train_duration.seconds + result.train_duration.nanos / 1e9, 3),
        "latency_ms": {"p50": result.latency.p50_ms, "p95": result.latency.p95_ms} if result.HasField("latency") else None,
        "findings": [plain(finding) for finding in result.findings],
        "candidates": [plain(candidate) for candidate in result.candidates],
        **_error(run),
    }


def _error(run: pipeline_pb2.PipelineRun) -> dict[str, Any]:
    if run.status.state != job_pb2.JOB_STATE_FAILED:
        return {}
    return {"error": error_document(from_status(run.status.error))}


def metrics(scores: Any) -> dict[str, dict[str, float]]:
    """Value by usage and metric: {"test": {"accuracy": 0.91}}."""
    return {usage(score.usage): {metric.name: metric.value for metric in score.metrics} for score in scores}


def intervals(scores: Any) -> dict[str, dict[str, list[float]]]:
    """95 percent interval by usage and metric: {"test": {"accuracy": [0.90, 0.92]}}."""
    return {usage(score.usage): {metric.name: [metric.lower, metric.upper] for metric in score.metrics} for score in scores}


def usage(number: int) -> str:
    return enum_name(learning_pb2.Usage.DESCRIPTOR, number).lower()


def verdict(decision: evaluator_pb2.GateDecision) -> str:
    """DEPLOY, BACK_TO_DATA...; empty before the decision."""
    return enum_name(evaluator_pb2.Verdict.DESCRIPTOR, decision.verdict)


def gate_document(decision: evaluator_pb2.GateDecision) -> dict[str, Any]:
    return {
        "verdict": verdict(decision),
        "reasons": list(decision.reasons),
        "tests": [plain(test) for test in decision.tests],
        "gate_decision": decision.name,
    }


def refused(decision: evaluator_pb2.GateDecision) -> bool:
    """Whether there is a decision, and it is not to deploy."""
    return decision.verdict not in (evaluator_pb2.VERDICT_UNSPECIFIED, evaluator_pb2.VERDICT_DEPLOY)


def run_exit(run: pipeline_pb2.PipelineRun) -> int:
    """The status `auto` ends with."""
    if refused(run.result.gate_decision):
        return REFUSED
    if run.status.state == job_pb2.JOB_STATE_SUCCEEDED:
        return DONE
    return exit_code(from_status(run.status.error)) if run.status.state == job_pb2.JOB_STATE_FAILED else FAILED


def print_run(run: pipeline_pb2.PipelineRun) -> None:
    """The result for people."""
    result = run.result
    _print_findings(run)
    facts = {
        "run": short(run.name),
        "state": " ".join(filter(None, (enum_name(job_pb2.JobState.DESCRIPTOR, run.status.state), run.status.reason))),
        "dataset version": short(result.dataset_version),
        "recipe": result.recipe_id,
        "model version": short(result.model_version),
        "training": spoken(result.train_duration.seconds) if result.HasField("train_duration") else "",
        "export": short(result.export),
        "sha256": result.export_sha256,
        "latency": f"{number(result.latency.p50_ms)} ms median, {number(result.latency.p95_ms)} ms p95"
        if result.HasField("latency")
        else "",
        "gate": verdict(result.gate_decision),
        "endpoint": short(result.endpoint),
    }
    print_facts(facts)
    print_scores([score for score in result.scores if score.usage == learning_pb2.USAGE_TEST] or result.scores)
    print()
    for reason in result.gate_decision.reasons:
        print(f"- {reason}")
    if result.endpoint:
        print(f"\nAsk it: modelyard predict {short(result.endpoint)} FILE")


def _print_findings(run: pipeline_pb2.PipelineRun) -> None:
    """What must be known about the data; the rest is counted."""
    severity = dataset_pb2.Finding.Severity.DESCRIPTOR
    told = [finding for finding in run.result.findings if finding.severity > dataset_pb2.Finding.SEVERITY_INFO]
    for finding in told:
        print(f"{enum_name(severity, finding.severity).lower()}: {finding.message} {finding.action}".rstrip())
    rest = len(run.result.findings) - len(told)
    if rest:
        dataset = short(parent_of(run.result.dataset_version)) if run.result.dataset_version else "DATASET"
        print(f"{rest} more findings about the data: modelyard dataset check {dataset}")


def print_scores(scores: Any) -> None:
    """Metrics by usage, with their intervals."""
    rows = [
        (
            usage(score.usage),
            score.example_count,
            metric.name,
            number(metric.value),
            f"{number(metric.lower)} to {number(metric.upper)}",
        )
        for score in sorted(scores, key=lambda one: one.usage)
        for metric in score.metrics
    ]
    if rows:
        print()
        print_table(("usage", "examples", "metric", "value", "95% interval"), rows)
