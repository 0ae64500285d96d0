"""Passports: what is known of an artifact that the gate let through, put together to be signed (docs/decisions/0013)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.jobs.job import Document, Job
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.experiment import FINGERPRINT_OF, Experiment, fingerprint
from modelyard.evaluator.domain.gate import Decision
from modelyard.evaluator.domain.scores import Metric
from modelyard.evaluator.ports import Experiments, Passports
from modelyard.formats.bundle import BundleCard
from modelyard.formats.provenance import code_version, environment, source_digest

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Issued:
    """What a passport rests on: the decision by its name, as made and as stored, the evaluation, and the artifact's own card."""

    decision_name: str
    job: Job
    spec: EvaluationSpec
    result: EvaluationResult
    decision: Decision
    stored: Document
    card: BundleCard


def issue_passport(experiments: Experiments, passports: Passports, issued: Issued) -> Blob:
    """Signs and stores the passport of an artifact. Raises Unavailable, InvalidArgument BAD_PASSPORT_KEY."""
    found = _experiment(experiments, issued)
    return passports.issue(issued.spec.export, issued.result.artifact_sha256, content(issued, found, datetime.now(UTC)))


def content(issued: Issued, experiment: Experiment | str, now: datetime) -> Document:
    """The predicate of the statement: plain JSON, nothing that must be looked up to be understood."""
    card, spec = issued.card, issued.spec
    document: Document = {
        "issued": now.isoformat(),
        "artifact": {
            "sha256": issued.result.artifact_sha256,
            "size_bytes": spec.artifact.size_bytes,
            "export": spec.export,
            "format": card.format,
            "precision": card.precision,
            "model_size_bytes": issued.stored["model_size_bytes"],
            "files": {name: entry.sha256 for name, entry in sorted(card.files.items())},
        },
        "origin": card.origin.upper(),
        "licence": _licence(card, experiment),
        "dataset": {"version": card.source.dataset_version or spec.dataset_version, "digest": _trained_on(issued)},
        "experiment": _experiment_document(experiment),
        "code": {"package": "modelyard", "version": code_version(), "source_sha256": source_digest()},
        "environment": environment(),
        "quantization": _or_none(card.quantization),
        "calibration": _or_none(card.calibration),
        "parity": _or_none(card.parity),
        "evaluation": _evaluation(issued),
        "gate": _gate(issued),
    }
    found: Document = _finite(document)
    return found


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _experiment(experiments: Experiments, issued: Issued) -> Experiment | str:
    source = issued.card.source
    if not source.model_version:
        return "the artifact was not trained here" if issued.card.origin == "imported" else "the artifact names no model version"
    return experiments.get(source.model_version)


def _experiment_document(experiment: Experiment | str) -> Document:
    if isinstance(experiment, str):
        return {UNKNOWN: experiment}
    return {
        **dataclasses.asdict(experiment),
        "recipe": dict(experiment.recipe),
        "seed": experiment.seed,
        "fingerprint": fingerprint(experiment, code_version()),
        "fingerprint_of": list(FINGERPRINT_OF),
    }


def _licence(card: BundleCard, experiment: Experiment | str) -> str:
    """Of the weights it started from; of an imported model, what its importer said."""
    if card.licence:
        return card.licence
    if isinstance(experiment, Experiment):
        return experiment.licence or "none: it started from no other weights"
    return UNKNOWN


def _trained_on(issued: Issued) -> str:
    return issued.card.source.dataset_digest or issued.result.dataset_digest


def _evaluation(issued: Issued) -> Document:
    result = issued.result
    return {
        "name": issued.job.name,
        "dataset_version": issued.spec.dataset_version,
        "dataset_digest": result.dataset_digest,
        "predictions_sha256": result.predictions.sha256,
        "end_time": issued.job.end_time.isoformat() if issued.job.end_time else "",
        "scores": {
            entry.score.usage: {
                "examples": entry.score.example_count,
                "metrics": [_metric(metric) for metric in entry.score.metrics],
                "baseline": [_metric(metric) for metric in entry.baseline.metrics],
            }
            for entry in result.results
        },
    }


def _gate(issued: Issued) -> Document:
    stored = issued.stored
    return {
        "decision": issued.decision_name,
        "verdict": issued.decision.verdict.value,
        "demands": stored["demands"],
        "latency": stored["latency"],
        "parent_evaluation": stored["parent_evaluation"],
        "incumbent_evaluation": stored["incumbent_evaluation"],
        "tests": stored["decision"]["tests"],
    }


def _metric(metric: Metric) -> Document:
    return dataclasses.asdict(metric)


def _or_none(value: Any) -> Document | None:
    return dataclasses.asdict(value) if value is not None else None
