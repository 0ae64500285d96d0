"""What notebooks show of a message: one function a kind (modelyard.client.notebook names them)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from modelyard.client.drawing import data, exports, jobs, scores
from modelyard.client.drawing.layout import card, table
from modelyard.client.drawing.markup import h
from modelyard.client.drawing.style import framed
from modelyard.client.drawing.words import number
from modelyard.client.names import short
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2

if TYPE_CHECKING:
    from modelyard.client.tensors import Prediction

MOST_ROWS: Final = 50
MOST_VALUES: Final = 12


def version(message: dataset_pb2.DatasetVersion) -> str:
    return framed(data.version_card(message))


def views(message: dataset_service_pb2.ViewExamplesResponse) -> str:
    return framed(data.views_grid(message))


def report(message: dataset_pb2.QualityReport) -> str:
    found = data.findings_card(message.findings) or card("What was found in the data", h("p", "Nothing."))
    return framed(found)


def training(message: trainer_pb2.TrainingJob) -> str:
    return framed(jobs.training_card(message))


def model(message: trainer_pb2.ModelVersion) -> str:
    return framed(exports.model_card(message))


def run(message: pipeline_pb2.PipelineRun) -> str:
    decision = scores.verdict_card(message.result.gate_decision) if message.result.HasField("gate_decision") else None
    return framed(h("div", jobs.run_figures(message), jobs.run_card(message), decision))


def evaluation(message: evaluator_pb2.Evaluation) -> str:
    worst = list(message.worst_examples[:20])
    shown = card("Answered worst", scores.examples_table(worst, "Answered worst", {})) if worst else None
    return framed(h("div", scores.scores_card(message), shown))


def decision(message: evaluator_pb2.GateDecision) -> str:
    return framed(scores.verdict_card(message))


def export(message: exporter_pb2.Export) -> str:
    return framed(h("div", h("p", h("code", short(message.name))), exports.exports_card([message], {}, {})))


def prediction(answer: Prediction) -> str:
    """An answer: a row an example, a column an output."""
    rows = {name: answer.rows(name) for name in answer.outputs}
    count = max(map(len, rows.values()), default=0)
    cells = [
        [str(at + 1), *(_shown(held[at]) if at < len(held) else "" for held in rows.values())]
        for at in range(min(count, MOST_ROWS))
    ]
    more = h("p", f"and {count - MOST_ROWS} more", cls="muted small") if count > MOST_ROWS else None
    shown = table(["", *rows], cells, caption="Predictions", numeric=(0,))
    return framed(card(f"{answer.model_name} {answer.model_version}".strip(), shown, more))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        said = ", ".join(_shown(each) for each in value[:MOST_VALUES])
        return f"{said}, … ({len(value)})" if len(value) > MOST_VALUES else said
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return number(value) if isinstance(value, float) else str(value)
