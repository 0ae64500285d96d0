"""What an advised training is asked, and what its steps came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.trainer.domain.proposals import SHORT_SHARE, SHORT_STEPS

LEAST_BUDGET_S, MOST_BUDGET_S = 60.0, 30 * 86_400.0
BASELINE_RUNS: Final = 3
MOST_STEPS: Final = 20
HELPED, NO_EFFECT, WORSE, FAILED, MEASURED = "HELPED", "NO_EFFECT", "WORSE", "FAILED", "MEASURED"
BASELINE: Final = "baseline"


@dataclass(frozen=True)
class LadderSpec:
    """What an advised training is asked; see the contract's AdvisedTraining."""

    training_job: str
    budget_s: float
    short_run_steps: int = SHORT_STEPS
    short_run_share: float = SHORT_SHARE
    baseline_runs: int = BASELINE_RUNS
    max_steps: int = MOST_STEPS


@dataclass(frozen=True)
class LadderStep:
    """A step that was taken. before, after: the metric; threshold: what the gain had to exceed; seconds: what it took."""

    rung: str
    reason: str
    training_jobs: tuple[str, ...] = ()
    short_run: bool = False
    before: float | None = None
    after: float | None = None
    threshold: float = 0.0
    effect: str = ""
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class LadderState:
    """How far an advised training is."""

    steps: tuple[LadderStep, ...] = ()
    best: str = ""
    model_version: str = ""
    summary: str = ""
    running: tuple[str, ...] = field(default_factory=tuple)


def check_ladder(
    training_job: str, budget_s: float | None, steps: int, share: float, baseline_runs: int, max_steps: int
) -> LadderSpec:
    """What is asked, 0 standing for the defaults. Raises InvalidArgument INVALID_ADVISED_TRAINING, one violation a field."""
    spec = LadderSpec(
        training_job,
        budget_s or 0.0,
        steps or SHORT_STEPS,
        share or SHORT_SHARE,
        baseline_runs or BASELINE_RUNS,
        max_steps or MOST_STEPS,
    )
    checks: tuple[tuple[str, Any, bool, str], ...] = (
        ("budget", f"{spec.budget_s:g} s", LEAST_BUDGET_S <= spec.budget_s <= MOST_BUDGET_S, "1 minute to 30 days"),
        ("short_run_steps", steps, 10 <= spec.short_run_steps <= 1_000_000, "10 to 1000000, or 0 for the default"),
        ("short_run_share", share, 0.02 <= spec.short_run_share <= 1, "0.02 to 1, or 0 for the default"),
        ("baseline_runs", baseline_runs, 2 <= spec.baseline_runs <= 10, "2 to 10, or 0 for the default"),
        ("max_steps", max_steps, 1 <= spec.max_steps <= 100, "1 to 100, or 0 for the default"),
    )
    wrong = [(f"advised_training.{name}", value, right) for name, value, holds, right in checks if not holds]
    if wrong:
        violations = tuple(FieldViolation(path, f"{path} is {value}; it must be {right}") for path, value, right in wrong)
        message = "; ".join(each.description for each in violations)
        raise InvalidArgument("INVALID_ADVISED_TRAINING", message, violations=violations, name=wrong[0][0], value=wrong[0][1])
    return spec
