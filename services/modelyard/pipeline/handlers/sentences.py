"""What came of a step, in a sentence, from what the other services found (JSON in the form of their contracts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.core.jobs.job import Document
from modelyard.core.words import several
from modelyard.pipeline.ports import Decided, JobView


def running_sentence(view: JobView) -> str:
    """ "epoch 3 of 10, loss 0.41, val_accuracy 0.89, 1200 examples/s"."""
    point = view.point or {}
    parts = [view.stage, *(f"{name} {float(point[name]):.4g}" for name in ("loss",) if name in point)]
    parts += [f"{name} {float(value):.4g}" for name, value in sorted(point.get("metrics", {}).items())]
    if "examples_per_second" in point:
        parts.append(f"{float(point['examples_per_second']):.0f} examples/s")
    return ", ".join(part for part in parts if part)


def imported_sentence(found: Document) -> str:
    """ "1797 examples in 10 classes; 3 left out"."""
    summary = found.get("summary", {})
    classes, rejected = len(summary.get("classes", [])), int(summary.get("rejected_count", 0))
    text = several(int(summary.get("example_count", 0)), "example")
    text += f" in {several(classes, 'class', 'classes')}" if classes else ""
    return text + (f"; {rejected} left out" if rejected else "")


def checked_sentence(findings: Sequence[Document]) -> str:
    """ "2 findings; LEAKING_COLUMN: ..."."""
    if not findings:
        return "no findings"
    first = findings[0]
    count = several(len(findings), "finding")
    return f"{count}; {first.get('kind', '')}: {first.get('message', '')}"[:500]


def published_sentence(found: Document) -> str:
    """ "V001: 1438 train, 180 validation, 179 test"."""
    counts = [
        f"{count.get('example_count', 0)} {count['usage'].removeprefix('USAGE_').lower()}" for count in found.get("counts", [])
    ]
    version = str(found.get("name", "")).rpartition("/")[2]
    notes = " ".join(found.get("notes", []))
    return f"{version}: {', '.join(counts)}{'. ' if notes else ''}{notes}"[:1000]


def trained_sentence(view: JobView) -> str:
    """ "V001 after epoch 12: accuracy 0.91 on validation (TIME_LIMIT)"."""
    point = view.found.get("latest_point", {})
    metrics = ", ".join(f"{name} {float(value):.4g}" for name, value in sorted(point.get("metrics", {}).items()))
    version = str(view.found.get("model_version", "")).rpartition("/")[2]
    text = version + (f" after {point['epoch']:.3g} epochs" if point.get("epoch", 0) > 1 else "")
    return text + (f": {metrics} on validation" if metrics else "") + (f" ({view.reason})" if view.reason else "")


def selected_sentence(view: JobView) -> str:
    """ "V001 of tinynet: val_accuracy 0.91, the best of 3 in 600 s (TIME_LIMIT)"."""
    found = view.found
    trained = [each for each in found.get("candidates", []) if each.get("training_jobs")]
    won: dict[str, Any] = next((each for each in trained if each.get("state") == "CANDIDATE_STATE_WON"), {})
    version = str(found.get("model_version", "")).rpartition("/")[2]
    metric = f"{found.get('metric', '')} {float(won.get('metric', 0.0)):.4g}"
    seconds = float(str(found.get("train_duration", "0s")).removesuffix("s"))
    words = f"{version} of {won.get('recipe', {}).get('recipe_id', '')}: {metric}, the best of {len(trained)} in {seconds:.0f} s"
    return words + (f" ({view.reason})" if view.reason else "")


def exported_sentence(found: Document) -> str:
    """ "onnx int8, 81234 bytes, 1.2 ms (p95); at most 1e-06 away from the trained model". The bytes are the model file's,
    which limits are about; those of the bundle around it where the file's are not known."""
    form = " ".join(str(found.get(key, "")).partition("_")[2].lower() for key in ("format", "precision")).strip()
    parts = [form, f"{found.get('model_size_bytes') or found['artifact'].get('size_bytes', 0)} bytes"]
    if "latency" in found:
        parts.append(f"{found['latency'].get('p95_ms', 0.0):.3g} ms (p95)")
    if found.get("unmeasured_reason"):
        parts.append("latency not measured")
    if "parity" in found:
        parts.append(f"at most {found['parity'].get('max_abs_difference', 0.0):.2g} away from the trained model")
    trail = found.get("trail", [])
    size = found.get("model_size_bytes")
    accepted = [step for step in trail if step.get("accepted")]
    chosen = next((step.get("road", "") for step in accepted if step.get("size_bytes") == size), accepted and "chosen by trying")
    if trail:
        parts.append(f"{chosen or 'nothing smaller kept to the limits'} (tried {len(trail)})")
    return ", ".join(part for part in parts if part)


def scored_sentence(scores: Sequence[Document]) -> str:
    """ "test: accuracy 0.96, f1_macro 0.95, ..."."""
    test = next((score for score in scores if score.get("usage") == "USAGE_TEST"), {})
    metrics = ", ".join(f"{metric['name']} {float(metric.get('value', 0.0)):.4g}" for metric in test.get("metrics", []))
    return f"test: {metrics or 'no examples'}"


def decided_sentence(decided: Decided) -> str:
    """The verdict, and the first reason where it is not DEPLOY."""
    if decided.verdict == "DEPLOY" or not decided.reasons:
        return decided.verdict
    return f"{decided.verdict}: {decided.reasons[0]}"
