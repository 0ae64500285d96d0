"""What a cross-validation is asked, and what its runs came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.statistics.student import resampled_mean
from modelyard.trainer.domain.curves import bounded

MOST_FOLDS: Final = 20
MOST_REPEATS: Final = 100
MOST_RUNS: Final = 200
DEFAULT_SEEDS: Final = 5


@dataclass(frozen=True)
class CrossSpec:
    """What is asked: folds (0: the version's own split, other seeds only), repeats, group_by. job: the request for each run, as
    JSON, and what the contract shows of it."""

    folds: int
    repeats: int
    group_by: str
    dataset_version: str
    job: Mapping[str, Any]
    shown: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class FoldRun:
    """A run: of which repeat and fold, with which seed, and what it came to so far."""

    repeat: int
    fold: int
    seed: int
    training_job: str = ""
    state: str = "QUEUED"
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_count: int = 0
    validation_count: int = 0
    error: str = ""


@dataclass(frozen=True)
class CrossState:
    """How far it is. descriptors: the blobs of the folds, named here so that they stay while runs wait for their turn."""

    runs: tuple[FoldRun, ...] = ()
    notes: tuple[str, ...] = ()
    descriptors: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class MetricOver:
    """A metric over the runs. interval: of the mean, None with fewer than 2 runs."""

    name: str
    mean: float
    deviation: float
    interval: tuple[float, float] | None
    runs: int


def check_cross(folds: int, repeats: int, group_by: str) -> tuple[int, int]:
    """Folds and repeats, 0 repeats standing for the default. Raises InvalidArgument INVALID_CROSS_VALIDATION."""
    wanted = repeats or (1 if folds else DEFAULT_SEEDS)
    checks = (
        ("folds", folds, folds == 0 or 2 <= folds <= MOST_FOLDS, f"2 to {MOST_FOLDS}, or 0 for the version's own split"),
        ("repeats", repeats, 1 <= wanted <= MOST_REPEATS, f"1 to {MOST_REPEATS}, or 0 for the default"),
        ("repeats", repeats, max(1, folds) * wanted <= MOST_RUNS, f"few enough for at most {MOST_RUNS} runs"),
        ("group_by", group_by[:80], not group_by or folds > 0, "empty without folds"),
    )
    wrong = [(f"cross_validation.{name}", value, right) for name, value, holds, right in checks if not holds]
    if wrong:
        violations = tuple(FieldViolation(path, f"{path} is {value!r}; it must be {right}") for path, value, right in wrong)
        message = "; ".join(each.description for each in violations)
        raise InvalidArgument("INVALID_CROSS_VALIDATION", message, violations=violations, name=wrong[0][0])
    return folds, wanted


def metrics_over(runs: Iterable[FoldRun], folds: int) -> tuple[MetricOver, ...]:
    """Each metric over the runs that have it, by name."""
    ended = [run for run in runs if run.metrics]
    names = sorted({name for run in ended for name in run.metrics})
    return tuple(_over(name, [run for run in ended if name in run.metrics], folds) for name in names)


def _over(name: str, runs: Sequence[FoldRun], folds: int) -> MetricOver:
    overlaps = [run.validation_count / run.train_count for run in runs if run.train_count] if folds else []
    overlap = sum(overlaps) / len(overlaps) if overlaps else 0.0
    mean, deviation, interval = resampled_mean([float(run.metrics[name]) for run in runs], overlap)
    if interval is not None and bounded(name):
        interval = max(0.0, interval[0]), min(1.0, interval[1])
    return MetricOver(name, mean, deviation, interval, len(runs))
