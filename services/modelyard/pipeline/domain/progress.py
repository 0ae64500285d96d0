"""How far a run is: its steps, the share of the whole that is done, and the time that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.pipeline.domain.spec import RunSpec

Document = dict[str, Any]

IMPORT, CHECK, PUBLISH = "import", "check", "publish"
CHOOSE, TRAIN, EXPORT = "choose_recipe", "train", "export"
EVALUATE, GATE, DEPLOY = "evaluate", "gate", "deploy"

WEIGHTS: Final = {
    IMPORT: 6.0,
    CHECK: 4.0,
    PUBLISH: 3.0,
    CHOOSE: 7.0,
    TRAIN: 65.0,
    EXPORT: 5.0,
    EVALUATE: 6.0,
    GATE: 1.0,
    DEPLOY: 3.0,
}
"""The share of the time that each step usually takes; only for the bar that people look at."""

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


def steps_of(spec: RunSpec) -> tuple[str, ...]:
    """The steps that this run takes, in order."""
    preparation = () if spec.dataset_version else (CHECK, PUBLISH)
    first = (IMPORT,) if spec.source is not None else ()
    return (*first, *preparation, CHOOSE, TRAIN, EXPORT, EVALUATE, GATE, *(() if spec.skip_deployment else (DEPLOY,)))


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
