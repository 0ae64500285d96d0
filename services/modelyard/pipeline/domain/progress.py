"""How far a run is: its steps, the share of the whole that is done, and the time that is left."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.pipeline.domain.spec import RunSpec

Document = dict[str, Any]

IMPORT, CHECK, PUBLISH = "import", "check", "publish"
CHOOSE, TRAIN, EXPORT = "choose_recipe", "train", "export"
EVALUATE, GATE, DEPLOY = "evaluate", "gate", "deploy"
EXPORT_FLOAT, EVALUATE_FLOAT, EVALUATE_INCUMBENT = "export_float", "evaluate_float", "evaluate_incumbent"
RETRY_EXPORT, RETRY_EVALUATE, RETRY_GATE = "retry_export", "retry_evaluate", "retry_gate"
RETRIES: Final = (RETRY_EXPORT, RETRY_EVALUATE, RETRY_GATE)

DEPLOY_VERDICT: Final = "DEPLOY"
RETRY_VERDICT: Final = "RETRY_WITH_QAT"

WEIGHTS: Final = {
    IMPORT: 6.0,
    CHECK: 4.0,
    PUBLISH: 3.0,
    CHOOSE: 7.0,
    TRAIN: 65.0,
    EXPORT_FLOAT: 5.0,
    EVALUATE_FLOAT: 4.0,
    EXPORT: 5.0,
    EVALUATE: 6.0,
    EVALUATE_INCUMBENT: 4.0,
    GATE: 1.0,
    RETRY_EXPORT: 30.0,
    RETRY_EVALUATE: 6.0,
    RETRY_GATE: 1.0,
    DEPLOY: 3.0,
}
"""Every step, in order, with the share of the time that it usually takes (only for the bar that people look at)."""

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"


@dataclass(frozen=True)
class StepState:
    """One step of a run. Times are ISO 8601 in UTC, empty before."""

    step_id: str
    state: str = QUEUED
    resource: str = ""
    message: str = ""
    start_time: str = ""
    end_time: str = ""


def steps_of(spec: RunSpec, values: Document | None = None) -> tuple[str, ...]:
    """The steps that this run takes, in order, by what the steps before have recorded: `values`.

    float_first: whether the float export is made too (before the task is known: by the spec). incumbent: the export that serves
    now. verdict: the gate's first.
    """
    values = values or {}
    wanted = {CHOOSE, TRAIN, EXPORT, EVALUATE, GATE}
    wanted |= {IMPORT} if spec.source is not None else set()
    wanted |= set() if spec.dataset_version else {CHECK, PUBLISH}
    wanted |= {EXPORT_FLOAT, EVALUATE_FLOAT} if values.get("float_first", spec.float_first) else set()
    wanted |= {EVALUATE_INCUMBENT} if values.get("incumbent") else set()
    wanted |= set(RETRIES) if values.get("verdict") == RETRY_VERDICT else set()
    wanted |= set() if spec.skip_deployment else {DEPLOY}
    return in_order(wanted)


def in_order(steps: Container[str]) -> tuple[str, ...]:
    """These steps, as they follow each other."""
    return tuple(step for step in WEIGHTS if step in steps)


def share_done(steps: Sequence[str], current: str, within: float) -> float:
    """Share of the run that is done, 0 to 1, when `within` (0 to 1) of the current step is."""
    total = sum(WEIGHTS[step] for step in steps)
    before = sum(WEIGHTS[step] for step in steps[: steps.index(current)])
    return (before + WEIGHTS[current] * min(1.0, max(0.0, within))) / total


def time_left(steps: Sequence[str], current: str, within: float, elapsed_s: float, step_eta_s: float | None) -> float | None:
    """Seconds to the end of the run; None while there is nothing to tell it from.

    Where the step says how long it still takes, that and a share of the same for the steps after it; else as fast as until now.
    """
    done = share_done(steps, current, within)
    if step_eta_s is not None and within < 1:
        left_of_step = WEIGHTS[current] * (1 - within)
        after = sum(WEIGHTS[step] for step in steps[steps.index(current) + 1 :])
        return step_eta_s * (1 + min(after / left_of_step, 0.25)) if left_of_step else step_eta_s
    return elapsed_s * (1 - done) / done if done > 0.2 else None
