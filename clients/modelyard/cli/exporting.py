"""An export from start to verdict: the float parent, the export itself, its score, the gate's answer; and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.live import job_bar
from modelyard.cli.output import enum_name, note, number, plain, print_facts, print_table, several
from modelyard.cli.results import gate_document, intervals, metrics, print_scores, verdict
from modelyard.cli.sizes import spoken_bytes
from modelyard.client import last_part, short
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session

QUANTIZED: Final = (exporter_pb2.PRECISION_INT8, exporter_pb2.PRECISION_DYNAMIC_INT8)


@dataclass(frozen=True)
class Asked:
    """What a command line asks for; empty and 0: nothing."""

    model_version: str
    target: str = ""
    format: str = ""
    precision: str = ""
    max_size: int = 0
    max_latency_ms: float = 0.0
    max_loss: float = 0.0
    aware: bool = False
    channels: float = 0.0
    weights: float = 0.0
    max_training_s: float | None = None
    floors: dict[str, float] = field(default_factory=dict)
    evaluate: bool = True
    instance_flavor: str = ""

    @property
    def limits(self) -> exporter_pb2.CompressionLimits | None:
        """Limits for choosing by trying; None where the means are given."""
        if self.aware or self.channels or self.weights or not (self.max_size or self.max_latency_ms or self.max_loss):
            return None
        return exporter_pb2.CompressionLimits(
            max_size_bytes=self.max_size, max_latency_ms=self.max_latency_ms, max_loss=self.max_loss
        )

    @property
    def pruning(self) -> exporter_pb2.Pruning | None:
        """What is left out."""
        return exporter_pb2.Pruning(channels=self.channels, weights=self.weights) if self.channels or self.weights else None


@dataclass(frozen=True)
class Exported:
    """What came of it. Without an evaluation only the export is there."""

    export: exporter_pb2.Export
    evaluation: evaluator_pb2.Evaluation | None = None
    float_export: exporter_pb2.Export | None = None
    float_evaluation: evaluator_pb2.Evaluation | None = None
    decision: evaluator_pb2.GateDecision | None = None


def made(here: Session, asked: Asked) -> Exported:
    """Exports; unless that was all, scores it beside its float parent and asks the gate."""
    resolved = here.client.models.get_model_version(asked.model_version).name
    started = here.client.exports.create_export(
        resolved,
        format=asked.format,
        precision=asked.precision or ("int8" if asked.aware else ""),
        target=asked.target,
        quantization="aware_training" if asked.aware else "",
        pruning=asked.pruning,
        limits=asked.limits,
        max_training_s=asked.max_training_s,
        instance_flavor=asked.instance_flavor,
    )
    done = _waited(here, started.name, "export")
    if not asked.evaluate:
        return Exported(done)
    if is_float(done):
        evaluation = evaluated(here, done)
        return Exported(done, evaluation, done, evaluation, _decided(here, asked, done, evaluation, None))
    parent = _float_parent(here, resolved)
    float_evaluation = _known_evaluation(here, parent) or evaluated(here, parent)
    evaluation = evaluated(here, done)
    return Exported(done, evaluation, parent, float_evaluation, _decided(here, asked, done, evaluation, float_evaluation))


def is_float(export: exporter_pb2.Export) -> bool:
    """Whether it is the plain float ONNX that others are compared with. Within limits it may be a pruned one."""
    return (
        (export.format, export.precision) == (exporter_pb2.FORMAT_ONNX, exporter_pb2.PRECISION_FP32)
        and not export.HasField("pruning")
        and not export.HasField("limits")
        and export.origin != exporter_pb2.ORIGIN_IMPORTED
    )


def evaluated(here: Session, export: exporter_pb2.Export) -> evaluator_pb2.Evaluation:
    """The scores of an export on the version its model was trained on."""
    started = here.client.evaluations.create_evaluation(export.name)
    cancel = partial(here.client.evaluations.cancel_evaluation, started.name)
    with job_bar("evaluate", "evaluation", cancel) as show:
        done: evaluator_pb2.Evaluation = here.client.evaluations.wait_evaluation(started.name, on_change=show)
    return done


def float_evaluation(here: Session, export: exporter_pb2.Export) -> evaluator_pb2.Evaluation | None:
    """The scores of the float model that an export comes from, where they are there; None for the float model itself."""
    parent = None if is_float(export) or not export.model_version else _known_parent(here, export.model_version)
    return _known_evaluation(here, parent) if parent is not None else None


def _float_parent(here: Session, model_version: str) -> exporter_pb2.Export:
    """A float export of the model version: one that is there, or a new one."""
    known = _known_parent(here, model_version)
    if known is not None:
        return known
    note("the float model is exported too, to compare with")
    started = here.client.exports.create_export(model_version, format="onnx", precision="fp32")
    return _waited(here, started.name, "float export")


def _known_parent(here: Session, model_version: str) -> exporter_pb2.Export | None:
    for one in here.client.exports.list_exports(model_version=model_version, page_size=100):
        succeeded = one.status.state == job_pb2.JOB_STATE_SUCCEEDED
        if one.model_version == model_version and succeeded and is_float(one):
            return one
    return None


def _waited(here: Session, name: str, title: str) -> exporter_pb2.Export:
    """The export once it succeeded; cancelled when the command is interrupted, as nothing waits for it any more."""
    with job_bar(title, "export", partial(here.client.exports.cancel_export, name)) as show:
        done: exporter_pb2.Export = here.client.exports.wait_export(name, on_change=show)
    return done


def _known_evaluation(here: Session, export: exporter_pb2.Export) -> evaluator_pb2.Evaluation | None:
    """A complete evaluation of the export on its own dataset version, if there is one."""
    for one in here.client.evaluations.list_evaluations(exports=[export.name], page_size=100):
        complete = one.status.state == job_pb2.JOB_STATE_SUCCEEDED and learning_pb2.USAGE_TEST in one.usages
        if complete and one.export == export.name and one.dataset_version == export.dataset_version:
            found: evaluator_pb2.Evaluation = here.client.evaluations.get_evaluation(one.name)  # lists leave out what is long
            return found
    return None


def _decided(
    here: Session,
    asked: Asked,
    export: exporter_pb2.Export,
    evaluation: evaluator_pb2.Evaluation,
    parent: evaluator_pb2.Evaluation | None,
) -> evaluator_pb2.GateDecision:
    decision: evaluator_pb2.GateDecision = here.client.gate.create_gate_decision(
        evaluation.name,
        floors=asked.floors,
        latency=export.latency if export.HasField("latency") else None,
        max_latency_ms=asked.max_latency_ms,
        parent_evaluation=parent.name if parent is not None else "",
        max_loss=asked.max_loss,
        max_size_bytes=asked.max_size,
        model_size_bytes=export.model_size_bytes,
        quantized=export.precision in QUANTIZED,
        quantization_aware=export.quantization == exporter_pb2.QUANTIZATION_AWARE_TRAINING,
    )
    return decision


def export_document(done: Exported) -> dict[str, Any]:
    """The object that `--json` prints. bytes: the model file, what a device must hold; the bundle is `artifact`."""
    export, decision = done.export, done.decision
    return {
        **plain(export),
        "state": enum_name(job_pb2.JobState.DESCRIPTOR, export.status.state),
        "export": export.name,
        "sha256": export.artifact.sha256,
        "bytes": export.model_size_bytes or export.artifact.size_bytes,
        "metrics": _metrics(done.evaluation),
        "intervals": intervals(done.evaluation.scores) if done.evaluation is not None else {},
        "float_metrics": _metrics(done.float_evaluation),
        "latency_ms": latency_document(export),
        "verdict": verdict(decision) if decision is not None else "",
        "gate": gate_document(decision) if decision is not None else None,
        "evaluation": done.evaluation.name if done.evaluation is not None else "",
        "float_export": done.float_export.name if done.float_export is not None else "",
        "float_evaluation": done.float_evaluation.name if done.float_evaluation is not None else "",
    }


def latency_document(export: exporter_pb2.Export) -> dict[str, Any] | None:
    """{"p50": ms, "p95": ms...}; None where nothing measured it: `unmeasured_reason` says why."""
    if not export.HasField("latency"):
        return None
    found = export.latency
    return {"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "threads": found.threads, "target": found.target}


def _metrics(evaluation: evaluator_pb2.Evaluation | None) -> dict[str, dict[str, float]]:
    return metrics(evaluation.scores) if evaluation is not None else {}


def print_export(done: Exported) -> None:
    """The result for people."""
    export = done.export
    print_facts(_facts(done))
    if export.trail:
        print()
        print_trail(export)
    if done.evaluation is not None:
        print_scores([score for score in done.evaluation.scores if score.usage == learning_pb2.USAGE_TEST])
    if done.decision is not None:
        print()
        for reason in done.decision.reasons:
            print(f"- {reason}")


def _facts(done: Exported) -> dict[str, Any]:
    export, parity = done.export, done.export.parity
    compared = (
        f"largest difference {number(parity.max_abs_difference)} (allowed {number(parity.tolerance)}) on {parity.example_count} "
        f"examples, same class in {100 * parity.label_agreement:.1f}%"
        if export.HasField("parity")
        else ""
    )
    return {
        "export": last_part(export.name),
        "model version": short(export.model_version) or "imported",
        "form": form_text(export),
        "sha256": export.artifact.sha256,
        "size": spoken_bytes(export.model_size_bytes or export.artifact.size_bytes),
        "calibration": several(export.calibration.example_count, "example") if export.HasField("calibration") else "",
        "parity": compared,
        "latency": latency_text(export),
        "hardware": export.latency.hardware,
        "gate": verdict(done.decision) if done.decision is not None else "",
    }


def form_text(export: exporter_pb2.Export) -> str:
    """ "litert int8, aware training"."""
    words = [
        enum_name(exporter_pb2.Format.DESCRIPTOR, export.format).lower(),
        enum_name(exporter_pb2.Precision.DESCRIPTOR, export.precision).lower(),
    ]
    means = enum_name(exporter_pb2.Quantization.DESCRIPTOR, export.quantization).lower().replace("_", " ")
    return " ".join(words) + (f", {means}" if export.quantization else "")


def latency_text(export: exporter_pb2.Export) -> str:
    """The figures, or why there are none."""
    if not export.HasField("latency"):
        return f"not measured: {export.unmeasured_reason}" if export.unmeasured_reason else ""
    one = export.single_thread_latency
    alone = f"; one thread {number(one.p50_ms)} ms" if export.HasField("single_thread_latency") else ""
    latency = export.latency
    return f"{number(latency.p50_ms)} ms median, {number(latency.p95_ms)} ms p95 on {latency.target}{alone}"


def print_trail(export: exporter_pb2.Export) -> None:
    """What was tried, in order."""
    rows = [
        (
            step.road,
            spoken_bytes(step.size_bytes) if step.size_bytes else "",
            f"{number(step.latency.p95_ms)} ms" if step.HasField("latency") else "",
            f"{number(step.metric.value)}" if step.HasField("metric") else "",
            f"{number(step.loss.value)}" if step.HasField("loss") else "",
            step.message,
        )
        for step in export.trail
    ]
    print_table(("tried", "size", "p95", "metric", "loss", "came to"), rows)
