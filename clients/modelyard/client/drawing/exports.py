"""A model version and its exports side by side, and a passport, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.client.drawing.jobs import input_words, state_badge
from modelyard.client.drawing.layout import card, facts, table
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.scores import main_metrics
from modelyard.client.drawing.words import count, metric_word, milliseconds, moment, number, percent, size, task_word
from modelyard.client.enums import short_name
from modelyard.client.names import last_part, short
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import learning_pb2


def model_card(version: trainer_pb2.ModelVersion) -> Markup:
    """What a model version is and where it comes from."""
    metrics = ((metric_word(name), number(value)) for name, value in sorted(version.training_metrics.items()))
    rows = [
        ("Model version", h("code", short(version.name))),
        ("Task", task_word(version.task)),
        ("Recipe", version.recipe.recipe_id),
        ("Parameters", count(version.recipe.parameter_count) if version.recipe.parameter_count else ""),
        ("Input", input_words(version.recipe)),
        ("Classes", ", ".join(version.classes[:30]) + (" …" if len(version.classes) > 30 else "")),
        ("Trained on", h("code", short(version.dataset_version))),
        ("Digest of the data", h("code", version.dataset_digest)),
        ("Started from", short(version.parent_version) if version.parent_version else ""),
        ("Notes", version.description),
        ("Made", moment(version.create_time)),
    ]
    return card("Model", facts(rows), h("h3", "Validation, at the end of training"), facts(metrics), id="model")


def exports_card(
    exports: Sequence[exporter_pb2.Export],
    evaluations: Mapping[str, evaluator_pb2.Evaluation],
    decisions: Mapping[str, evaluator_pb2.GateDecision],
) -> Markup:
    """Exports side by side. evaluations: by the export's name; decisions: by the evaluation's name."""
    rows = [_row(one, evaluations.get(one.name), decisions) for one in exports]
    columns = ["Export", "State", "Form", "Numbers", "Hardware", "Size", "p50", "p95", "Test score", "Agrees", "Gate"]
    shown = table(columns, rows, caption="Exports", numeric=(5, 6, 7, 8, 9)) if rows else h("p", "It was not exported.")
    return card("Exports", shown, *[_trail(one) for one in exports if one.trail], id="exports")


def _row(one: exporter_pb2.Export, evaluation: Any, decisions: Mapping[str, Any]) -> list[object]:
    measured = one.HasField("latency")
    decision = decisions.get(evaluation.name) if evaluation is not None else None
    return [
        h("code", last_part(one.name)),
        state_badge(one.status.state),
        short_name(exporter_pb2.Format, one.format) or "onnx",
        short_name(exporter_pb2.Precision, one.precision) or "fp32",
        one.target or "cpu",
        size(one.model_size_bytes) if one.model_size_bytes else "",
        milliseconds(one.latency.p50_ms) if measured else h("span", "unmeasured", cls="muted", title=one.unmeasured_reason),
        milliseconds(one.latency.p95_ms) if measured else "",
        _test_score(evaluation),
        percent(one.parity.label_agreement) if one.HasField("parity") else "",
        short_name(evaluator_pb2.Verdict, decision.verdict).replace("_", " ") if decision is not None else "",
    ]


def _test_score(evaluation: Any) -> str:
    scores = evaluation.scores if evaluation is not None else []
    test = next((score for score in scores if score.usage == learning_pb2.USAGE_TEST), None)
    if test is None or not test.metrics:
        return ""
    best = main_metrics(test.metrics)[0]
    return f"{metric_word(best.name)} {number(best.value)}"


def _trail(one: exporter_pb2.Export) -> Markup:
    """What was tried on the way."""
    rows = [
        [
            step.road,
            size(step.size_bytes) if step.size_bytes else "",
            milliseconds(step.latency.p95_ms) if step.HasField("latency") else "",
            number(step.metric.value) if step.HasField("metric") else "",
            number(step.loss.value) if step.HasField("loss") else "",
            "taken" if step.accepted else "",
            step.message,
        ]
        for step in one.trail
    ]
    columns = ["Tried", "Size", "p95", "Figure", "Lost", "", "Why"]
    return h(
        "div", h("h3", f"What was tried for {last_part(one.name)}"), table(columns, rows, caption="Trail", numeric=(1, 2, 3, 4))
    )


def passport_card(content: Mapping[str, Any], sha256: str, key_id: str) -> Markup:
    """What the signed record says. The page does not verify it: `modelyard passport verify` does."""
    artifact, experiment, dataset = (content.get(name) or {} for name in ("artifact", "experiment", "dataset"))
    rows = [
        ("Sha256", h("code", sha256)),
        ("Artifact", f"{artifact.get('format', '')} {artifact.get('precision', '')}".strip()),
        ("Origin", content.get("origin", "")),
        ("Licence", content.get("licence", "")),
        ("Trained on", dataset.get("version", "")),
        ("Digest of the data", h("code", dataset["digest"]) if dataset.get("digest") else ""),
        ("Experiment", h("code", experiment["fingerprint"]) if experiment.get("fingerprint") else ""),
        ("Code", (content.get("code") or {}).get("version", "")),
        ("Issued", content.get("issued", "")),
        ("Signed by the key", h("code", key_id)),
    ]
    note = h("p", "Signed by the evaluator. This page shows it; modelyard passport verify checks it.", cls="muted small")
    return card("Passport", facts(rows), note, id="passport")
