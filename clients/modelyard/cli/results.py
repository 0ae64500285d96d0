"""A pipeline run's result as `auto --json` prints it, and as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.durations import spoken
from modelyard.cli.exits import DONE, FAILED, REFUSED, error_document, exit_code
from modelyard.cli.next_steps import NextStep, print_next_steps
from modelyard.cli.output import enum_name, number, plain, print_facts, print_table, several
from modelyard.cli.selection_table import print_candidates
from modelyard.client import parent_of, short
from modelyard.client._status import from_status
from modelyard.client.errors import ModelyardClientError
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session


def example_paths(here: Session, run: pipeline_pb2.PipelineRun) -> dict[str, str]:
    """The file (or row) that each example the gate names came from, by its id; not found: left out.

    Looked for in the dataset version, whose examples are listed by id: it is read as far as the last one named.
    """
    wanted = {(example.usage, example.example_id) for example in run.result.gate_decision.examples}
    found: dict[str, str] = {}
    for usage_number in sorted({usage for usage, _ in wanted}):
        ids = {example_id for usage, example_id in wanted if usage == usage_number}
        try:
            for one in here.client.datasets.list_examples(run.result.dataset_version, usage=usage_number, page_size=1000):
                if one.example_id in ids:
                    found[one.example_id] = one.path
                if one.example_id >= max(ids):
                    break
        except ModelyardClientError:
            continue  # the version is gone; the ids still say which examples are meant
    return found


def examples_document(decision: evaluator_pb2.GateDecision, paths: Mapping[str, str]) -> list[dict[str, Any]]:
    """The examples to look at, with the files they came from."""
    return [{**plain(example), "path": paths.get(example.example_id, "")} for example in decision.examples]


def print_examples(decision: evaluator_pb2.GateDecision, paths: Mapping[str, str]) -> None:
    """The examples to look at, for people."""
    if not decision.examples:
        return
    rows = [
        (paths.get(one.example_id, "") or one.example_id, usage(one.usage), one.label, one.prediction, number(one.probability))
        for one in decision.examples
    ]
    print("\nLook at these examples first: their labels may be wrong, or the model cannot tell them.")
    print_table(("example", "usage", "label", "the model says", "probability"), rows)


def run_document(
    run: pipeline_pb2.PipelineRun, paths: Mapping[str, str] | None = None, steps: Sequence[NextStep] = ()
) -> dict[str, Any]:
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
        "float_export": result.float_export,
        "float_metrics": metrics(result.float_scores),
        "gate": {**gate_document(result.gate_decision), "examples": examples_document(result.gate_decision, paths or {})},
        "first_gate": gate_document(result.first_gate_decision) if result.HasField("first_gate_decision") else None,
        "train_seconds": round(result.train_duration.seconds + result.train_duration.nanos / 1e9, 3),
        "latency_ms": {"p50": result.latency.p50_ms, "p95": result.latency.p95_ms} if result.HasField("latency") else None,
        "findings": [plain(finding) for finding in result.findings],
        "candidates": [plain(candidate) for candidate in result.candidates],
        "model_selection": result.model_selection,
        "selection_candidates": [plain(candidate) for candidate in result.selection_candidates],
        "next_steps": [{"text": step.text, "command": step.command} for step in steps],
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


_GIVEN: Final[Mapping[int, str]] = {
    learning_pb2.TASK_TABULAR_CLASSIFICATION: "--csv FILE",
    learning_pb2.TASK_TABULAR_REGRESSION: "--csv FILE",
    learning_pb2.TASK_SERIES_CLASSIFICATION: "--series FILE",
    learning_pb2.TASK_ANOMALY_DETECTION: "--series FILE",
    learning_pb2.TASK_FORECASTING: "--series FILE",
}


def asking(here: Session, endpoint: str, dataset_version: str) -> str:
    """The command that asks an endpoint, with what its models take; empty when nothing is served."""
    if not endpoint:
        return ""
    try:
        task = here.client.datasets.get_dataset_version(dataset_version).task
    except ModelyardClientError:
        task = learning_pb2.TASK_UNSPECIFIED  # the version is gone
    return f"modelyard predict {short(endpoint)} {_GIVEN.get(task, 'FILE')}"


def print_run(
    run: pipeline_pb2.PipelineRun, paths: Mapping[str, str] | None = None, ask: str = "", steps: Sequence[NextStep] = ()
) -> None:
    """The result for people. `ask`: the command that asks what was deployed; `steps`: what helps where nothing was."""
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
        "first gate": verdict(result.first_gate_decision) if result.HasField("first_gate_decision") else "",
        "gate": verdict(result.gate_decision),
        "endpoint": short(result.endpoint),
    }
    print_facts(facts)
    if result.selection_candidates:
        print()
        print_candidates(result.selection_candidates)
        print(result.selection_summary)
    print_scores([score for score in result.scores if score.usage == learning_pb2.USAGE_TEST] or result.scores)
    if result.gate_decision.reasons:
        print()
    for reason in result.gate_decision.reasons:
        print(f"- {reason}")
    if refused(result.gate_decision):
        print_examples(result.gate_decision, paths or {})
    print_next_steps(steps)
    if ask:
        print(f"\nAsk it: {ask}")


def _print_findings(run: pipeline_pb2.PipelineRun) -> None:
    """What must be known about the data; the rest is counted."""
    severity = dataset_pb2.Finding.Severity.DESCRIPTOR
    told = [finding for finding in run.result.findings if finding.severity > dataset_pb2.Finding.SEVERITY_INFO]
    for finding in told:
        print(f"{enum_name(severity, finding.severity).lower()}: {finding.message} {finding.action}".rstrip())
    rest = len(run.result.findings) - len(told)
    if rest:
        dataset = short(parent_of(run.result.dataset_version)) if run.result.dataset_version else "DATASET"
        print(f"{several(rest, 'more finding')} about the data: modelyard dataset check {dataset}")


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
