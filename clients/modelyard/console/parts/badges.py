"""Small things that say at a glance how something stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import percent, seconds_of, spoken, state_word
from modelyard.console.parts.icons import icon
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.type.v1 import job_pb2

_STATES: Final[Mapping[int, tuple[str, str]]] = {
    job_pb2.JOB_STATE_QUEUED: ("clock", "wait"),
    job_pb2.JOB_STATE_RUNNING: ("run", "busy"),
    job_pb2.JOB_STATE_SUCCEEDED: ("check", "good"),
    job_pb2.JOB_STATE_FAILED: ("cross", "bad"),
    job_pb2.JOB_STATE_CANCELLED: ("dash", "off"),
}
_VERDICTS: Final[Mapping[int, tuple[str, str, str]]] = {
    evaluator_pb2.VERDICT_DEPLOY: ("check", "good", "Deploy"),
    evaluator_pb2.VERDICT_RETRY_WITH_QAT: ("back", "wait", "Retry with QAT"),
    evaluator_pb2.VERDICT_BACK_TO_DATA: ("cross", "bad", "Back to data"),
    evaluator_pb2.VERDICT_NOT_ENOUGH_DATA: ("info", "wait", "Not enough data"),
}
_SEVERITIES: Final[Mapping[int, tuple[str, str, str]]] = {
    dataset_pb2.Finding.SEVERITY_ERROR: ("cross", "bad", "Error"),
    dataset_pb2.Finding.SEVERITY_WARNING: ("alert", "wait", "Warning"),
    dataset_pb2.Finding.SEVERITY_INFO: ("info", "off", "Info"),
}


def badge(text: str, kind: str = "off", icon_name: str = "") -> Markup:
    """A word with a colour; kind: good, bad, wait, busy or off. The colour never says what the word does not."""
    return h("span", icon(icon_name) if icon_name else None, text, cls=f"badge badge-{kind}")


def state_badge(state: int) -> Markup:
    """Where a job is."""
    picture, kind = _STATES.get(state, ("info", "off"))
    return badge(state_word(state), kind, picture)


def verdict_badge(verdict: int) -> Markup | None:
    """What the gate decided; None before it did."""
    picture, kind, text = _VERDICTS.get(verdict, ("", "", ""))
    return badge(text, kind, picture) if text else None


def severity_badge(severity: int) -> Markup:
    """How much a finding matters."""
    picture, kind, text = _SEVERITIES.get(severity, ("info", "off", "Info"))
    return badge(text, kind, picture)


def stage_words(stage: str, steps: Mapping[str, str] | None) -> str:
    """What a job does; steps: words for the ids that a stage begins with."""
    step, colon, rest = stage.partition(":")
    return f"{steps[step]}{colon}{rest}" if steps and step in steps else stage


def progress_bar(status: Any, label: str = "Progress", steps: Mapping[str, str] | None = None) -> Markup:
    """How far a job is, what it does, and how long it will take. steps: words for the ids that a stage begins with."""
    progress = status.progress
    share = 1.0 if status.state == job_pb2.JOB_STATE_SUCCEEDED else min(max(progress.fraction, 0.0), 1.0)
    words = [stage_words(progress.stage, steps) or state_word(status.state).lower()]
    if progress.total:
        words.append(f"{progress.done:,} of {progress.total:,} {progress.unit}".strip())
    if progress.HasField("eta"):
        words.append(f"{spoken(seconds_of(progress.eta))} left")
    if progress.HasField("waiting"):
        words = [f"waits: {progress.waiting.message or progress.waiting.reason}"]
    bar = h("div", h("div", cls="bar-fill", style=f"width:{100 * share:.1f}%"), cls="bar")
    return h(
        "div",
        h("div", h("span", " · ".join(words)), h("span", percent(share, 0), cls="muted"), cls="bar-words"),
        bar,
        role="progressbar",
        aria_label=label,
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(100 * share),
        cls="progress",
    )
