"""A run as one page: `modelyard report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.client.drawing import data, exports, jobs, scores
from modelyard.client.drawing.curves import Curves, training_charts
from modelyard.client.drawing.layout import card
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.style import whole_page
from modelyard.client.drawing.words import number, percent
from modelyard.client.names import short
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2

WORST_SHOWN = 24


@dataclass
class Facts:
    """What a report tells; what is not there is left out of it.

    evaluations: by the export's name; decisions: by the evaluation's; chosen: the evaluation that the report is about.
    passport: content, sha256 and key of the signed record.
    """

    run: pipeline_pb2.PipelineRun | None = None
    job: trainer_pb2.TrainingJob | None = None
    points: Sequence[trainer_pb2.TrainingPoint] = ()
    version: dataset_pb2.DatasetVersion | None = None
    model: trainer_pb2.ModelVersion | None = None
    exports: Sequence[exporter_pb2.Export] = ()
    evaluations: Mapping[str, evaluator_pb2.Evaluation] = field(default_factory=dict)
    decisions: Mapping[str, evaluator_pb2.GateDecision] = field(default_factory=dict)
    chosen: evaluator_pb2.Evaluation | None = None
    views: dataset_service_pb2.ViewExamplesResponse | None = None
    passport: tuple[Mapping[str, Any], str, str] | None = None
    missing: Sequence[str] = ()
    """What could not be read, with the reason, in sentences."""


def report_page(facts: Facts, written: str) -> str:
    """The page. written: when, and by which version of what."""
    about = facts.run or facts.job
    name = short(about.name) if about is not None else "nothing"
    what = short(facts.job.model) if facts.job is not None else short(facts.run.model) if facts.run is not None else ""
    title = f"{what or 'Model'}: report of {name}"
    parts = [part for part in _parts(facts) if part is not None]
    header = h("div", h("h1", title), _menu(parts))
    footer = h("p", written, cls="muted small")
    return whole_page(title, header, h("div", parts), footer)


def _menu(parts: Sequence[Markup]) -> Markup:
    """Links to the parts that the page has."""
    names = {
        "run": "Run",
        "data": "Data",
        "findings": "Findings",
        "training": "Training",
        "curves": "Curves",
        "model": "Model",
        "scores": "Scores",
        "worst": "Worst examples",
        "exports": "Exports",
        "gate": "Gate",
        "passport": "Passport",
    }
    links = [
        h("li", h("a", words, href=f"#{key}")) for key, words in names.items() if any(f' id="{key}"' in part for part in parts)
    ]
    return h("nav", h("ul", links), aria_label="Parts of the report")


def _parts(facts: Facts) -> list[Markup | None]:
    run, job = facts.run, facts.job
    decision = facts.decisions.get(facts.chosen.name) if facts.chosen is not None else None
    if decision is None and run is not None and run.result.HasField("gate_decision"):
        decision = run.result.gate_decision
    return [
        jobs.run_figures(run) if run is not None else None,
        scores.verdict_card(decision) if decision is not None else None,
        jobs.run_card(run) if run is not None else None,
        data.version_card(facts.version) if facts.version is not None else None,
        data.findings_card(run.result.findings) if run is not None else None,
        jobs.training_card(job) if job is not None else None,
        card("Curves", training_charts(Curves(facts.points)), id="curves") if facts.points else None,
        exports.model_card(facts.model) if facts.model is not None else None,
        scores.scores_card(facts.chosen) if facts.chosen is not None else None,
        _worst(facts),
        exports.exports_card(facts.exports, facts.evaluations, facts.decisions) if facts.model is not None else None,
        exports.passport_card(*facts.passport) if facts.passport is not None else None,
        card("Not in this report", h("ul", [h("li", each) for each in facts.missing])) if facts.missing else None,
    ]


def worst_of(evaluation: evaluator_pb2.Evaluation) -> list[evaluator_pb2.ExampleScore]:
    """The examples that a report shows: the worst of the test, then of the others."""
    order = sorted(evaluation.worst_examples, key=lambda one: -one.usage)
    return order[:WORST_SHOWN]


def _worst(facts: Facts) -> Markup | None:
    if facts.chosen is None or not facts.chosen.worst_examples:
        return None
    found = worst_of(facts.chosen)
    seen = {one.example.example_id: one for one in facts.views.examples} if facts.views is not None else {}
    if facts.views is not None and seen and not any(one.cells for one in seen.values()):
        shown = data.views_grid(facts.views, {one.example_id: _words(one) for one in found})
    else:
        shown = scores.examples_table(found, "Answered worst", {key: one.example.path for key, one in seen.items()})
    return card("Answered worst", shown, id="worst")


def _words(one: evaluator_pb2.ExampleScore) -> list[str]:
    """A line or two below a picture."""
    if one.label and one.prediction:
        surety = f" ({percent(one.probability, 0)})" if one.probability else ""
        return [f"is {one.label}, called {one.prediction}{surety}"]
    return [one.label or one.prediction, f"loss {number(one.loss)}"]
