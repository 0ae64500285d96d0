"""Model selection under a budget: which candidates compete, how long each is trained before the next cut, and who is cut.

Successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943; the cut by 3 of Li et al. 2020,
https://arxiv.org/abs/1810.05934) over seconds of training: the same time for each of a rung, the better ones go on from where
they stood. Two changes: half of the time at least, and all that a short look at each leaves, is kept for the last rung, so that
the answer is well trained; and who is behind the cut by no more than chance explains goes on too, as long as half of the rung
goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core.errors import FailedPrecondition, FieldViolation, InvalidArgument
from modelyard.trainer.domain.curves import bounded

REDUCTION: Final = 3
"""Of a rung about one in so many goes on where the figures are clear; one in two where they are not."""
LAST_SHARE: Final = 0.5
"""Share of the time that the last rung gets at least."""
LEAST_SLICE_S: Final = 30.0
"""Seconds that each candidate gets in the first rung at least, where the service chooses how many compete."""
MOST_SLICE: Final = 1 / 12
"""Share of the time that each candidate gets in a rung before the last at most (but not less than LEAST_SLICE_S): where few
compete, looking at the losers for longer would cost the winner more than it tells of them."""
LEAST_TIME_S, MOST_TIME_S = 2.0, 30 * 86_400.0
MOST_CANDIDATES: Final = 27
LEAST_LEFT_S: Final = 1.0
ONE_SIDED: Final = 1.645
"""Standard errors that a difference must exceed: 95 percent, one-sided."""
UNKNOWN_ERROR: Final = 0.02
"""Standard error, as a share of the value, of metrics whose sampling error cannot be told from the number of examples."""
WARM_UPS: Final = 2
"""Times its warm-up that a candidate has to have trained for before its metric is taken for what it can do."""

EARLY_ALLOWANCE: Final = 2.0
"""Times the difference by chance that one with learned weights may be behind while its metric is not yet what it can do."""

WAITING, TRAINING, ELIMINATED, WON, FAILED, SET_ASIDE = "WAITING", "TRAINING", "ELIMINATED", "WON", "FAILED", "SET_ASIDE"


@dataclass(frozen=True)
class SelectionSpec:
    """What is asked; see the contract's ModelSelection. job: the request for each training, as JSON, whose hyperparameters each
    candidate gets. recipes: requests for recipes, as JSON; empty: the catalogue's for the data. target: where candidates are
    measured; empty: they are not. max_inference_ms, max_size_bytes: 0 for no limit. max_candidates: 0
    for as many as there is time for. shown: the request as the contract has it."""

    dataset_version: str
    model: str
    max_training_s: float = 0.0
    job: Mapping[str, Any] = field(default_factory=dict)
    recipes: tuple[Mapping[str, Any], ...] = ()
    target: str = ""
    max_inference_ms: float = 0.0
    max_size_bytes: int = 0
    max_candidates: int = 0
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What an untrained export takes on the target: p95 in milliseconds, None where nothing can measure there; bytes of its file;
    error: why it does not suit the target."""

    p95_ms: float | None = None
    size_bytes: int = 0
    error: str = ""


@dataclass(frozen=True)
class Candidate:
    """A recipe that competes. recipe: the request for it, as JSON. metric: of its best model so far, None before; error: the
    standard error of that; best_job: who made it. train_seconds: what it has cost; full_seconds: what its whole training would
    have, None where it cannot be told. finished: it is not gone on with, since it came to its end or the time did; reason: how
    its last stretch ended. rung: the last one it was trained in, from 0. pauses: its training can be paused; else it has its
    slice as its limit. learned: it starts from weights that were trained elsewhere. early: it has not made WARM_UPS times the
    steps of its warm-up."""

    recipe_id: str
    recipe: Mapping[str, Any]
    input: str = ""
    parameters: int = 0
    measured: Measured | None = None
    state: str = WAITING
    message: str = ""
    rung: int = 0
    training_jobs: tuple[str, ...] = ()
    best_job: str = ""
    metric: float | None = None
    error: float = 0.0
    train_seconds: float = 0.0
    full_seconds: float | None = None
    finished: bool = False
    reason: str = ""
    pauses: bool = True
    learned: bool = False
    early: bool = False

    @property
    def competes(self) -> bool:
        """Whether it is still in."""
        return self.state in (WAITING, TRAINING)

    @property
    def label(self) -> str:
        """Its recipe, and the input where that may tell it from another."""
        return f"{self.recipe_id} {self.input}".rstrip()


@dataclass(frozen=True)
class SelectionState:
    """How far it is. metric: its name, empty before the first; spared_seconds: what was not trained of what training every
    candidate fully would have cost."""

    candidates: tuple[Candidate, ...] = ()
    metric: str = ""
    rung: int = 0
    rungs: int = 0
    spent_seconds: float = 0.0
    spared_seconds: float = 0.0
    best_training_job: str = ""
    model_version: str = ""
    summary: str = ""
    latest_point: Mapping[str, Any] = field(default_factory=dict)


def check_selection(
    max_training_s: float | None, recipes: int, max_candidates: int, max_inference_ms: float, max_size_bytes: int, target: str
) -> float:
    """The time. Raises InvalidArgument INVALID_MODEL_SELECTION, one violation a field."""
    time_s = max_training_s or 0.0
    limited = max_inference_ms > 0 or max_size_bytes > 0
    checks: tuple[tuple[str, Any, bool, str], ...] = (
        ("max_training_time", f"{time_s:g} s", LEAST_TIME_S <= time_s <= MOST_TIME_S, f"{LEAST_TIME_S:g} s to 30 days"),
        ("recipes", f"{recipes} recipes", recipes <= MOST_CANDIDATES, f"at most {MOST_CANDIDATES}"),
        (
            "max_candidates",
            max_candidates,
            0 <= max_candidates <= MOST_CANDIDATES,
            f"1 to {MOST_CANDIDATES}, or 0 for the default",
        ),
        ("max_inference_duration_ms", max_inference_ms, 0 <= max_inference_ms <= 20_000, "1 to 20000, or 0 for no limit"),
        ("max_size_bytes", max_size_bytes, max_size_bytes >= 0, "1 or more, or 0 for no limit"),
        ("target", repr(target), bool(target) or not limited, "a target, since limits are given that are measured on one"),
    )
    wrong = [(f"model_selection.{name}", value, right) for name, value, holds, right in checks if not holds]
    if wrong:
        violations = tuple(FieldViolation(path, f"{path} is {value}; it must be {right}") for path, value, right in wrong)
        message = "; ".join(each.description for each in violations)
        raise InvalidArgument("INVALID_MODEL_SELECTION", message, violations=violations, name=wrong[0][0], value=wrong[0][1])
    return time_s


# Who competes


def how_many(max_training_s: float) -> int:
    """How many candidates a time has room for: each is trained for LEAST_SLICE_S before the first cut; at least 1."""
    count = 1
    while count < MOST_CANDIDATES and slice_s(max_training_s, 0.0, count + 1, count + 1) >= LEAST_SLICE_S:
        count += 1
    return count


def spread_over(count: int, most: int) -> tuple[int, ...]:
    """Places of at most `most` of `count` candidates, the first and the last among them, evenly spread between."""
    if count <= most:
        return tuple(range(count))
    if most < 2:
        return (0,)
    return tuple(dict.fromkeys(round(at * (count - 1) / (most - 1)) for at in range(most)))


def misses(measured: Measured, max_inference_ms: float, max_size_bytes: int, target: str) -> str:
    """Why a candidate is set aside, with its numbers; empty where it keeps to the limits. A time not measured is not guessed."""
    if measured.error:
        return measured.error
    if max_inference_ms and measured.p95_ms is not None and measured.p95_ms > max_inference_ms:
        return f"takes {measured.p95_ms:.3g} ms (p95) on {target}; {max_inference_ms:g} ms are allowed"
    if max_size_bytes and measured.size_bytes > max_size_bytes:
        return f"has {measured.size_bytes} bytes on {target}; {max_size_bytes} are allowed"
    return ""


def none_left(candidates: Sequence[Candidate], target: str) -> FailedPrecondition:
    """What is raised when every candidate was set aside."""
    told = "; ".join(f"{each.label} {each.message}" for each in candidates)[:1000]
    message = f"no candidate keeps to the limits: {told}. Allow more, or take another target"
    path = "model_selection.max_inference_duration_ms"
    return FailedPrecondition("NO_CANDIDATE_FITS", message, field=path, target=target, candidates=len(candidates))


# How long


def rungs_of(count: int) -> int:
    """Rungs until one is left, the one that trains it to its end included, where each cut leaves one of REDUCTION."""
    rungs = 1
    while count > 1:
        count, rungs = -(-count // REDUCTION), rungs + 1
    return rungs


def slice_s(total_s: float, spent_s: float, count: int, trained: int) -> float:
    """Seconds that each of the `trained` gets in the next rung, where `count` compete; one alone gets all that is left.

    `trained` are those whose training has not come to its end. What is left of the first half is shared alike among the rungs
    before the last, so those who need less leave it to the others; what MOST_SLICE cuts off is the last one's.
    """
    if count <= 1:
        return max(0.0, total_s - spent_s)
    explored = (1 - LAST_SHARE) * total_s - spent_s
    return min(max(0.0, explored) / (rungs_of(count) - 1) / max(1, trained), max(LEAST_SLICE_S, MOST_SLICE * total_s))


def horizon_s(total_s: float, spent_s: float, count: int, trained: int, own_s: float) -> float:
    """Seconds of training in all that one comes to who is never cut: what its learning rate is planned for. own_s: behind it."""
    found, left, next_trained = own_s, count, trained
    while left > 1:
        each = slice_s(total_s, spent_s, left, next_trained)
        found, spent_s = found + each, spent_s + each * next_trained
        left = -(-left // REDUCTION)
        next_trained = left
    return found + max(0.0, total_s - spent_s)


# Who goes on


def standard_error(metric: str, value: float, validation_count: int) -> float:
    """Sampling error of a metric by the number of validation examples, as it counts between two models scored on the same ones.

    Of a share half of the binomial error: models err on the same examples, so most of it is common to both. Else UNKNOWN_ERROR of
    the value.
    """
    if not bounded(metric) or not validation_count:
        return UNKNOWN_ERROR * abs(value) / math.sqrt(2)
    share = min(max(value, 1 / (validation_count + 2)), 1 - 1 / (validation_count + 2))
    return 0.5 * math.sqrt(share * (1 - share) / validation_count)


def promoted(
    merits: Sequence[float], errors: Sequence[float], early: Sequence[bool] = (), learned: Sequence[bool] = ()
) -> tuple[int, ...]:
    """Places of those who go on: one in REDUCTION by merit, then, up to half, who is still early (those with learned weights
    first), then who is behind by no more than chance explains. merits: the metric, more being better; early, learned: see
    Candidate, empty for none.

    The last place by merit goes to one that starts from learned weights where chance does not tell it from who has it: such a
    start ends higher (Yosinski et al. 2014, https://arxiv.org/abs/1411.1792), and a short look shows little of that. Of one that
    is still early it shows less: twice the difference is let pass.
    """
    order = sorted(range(len(merits)), key=lambda at: (-merits[at], at))
    keep, most = -(-len(order) // REDUCTION), max(1, -(-len(order) // 2))
    if learned and not learned[last := order[keep - 1]]:
        times = {at: EARLY_ALLOWANCE if early and early[at] else 1.0 for at in order[keep:] if learned[at]}
        behind = (at for at in times if _close(merits, errors, last, at, times[at]))
        if (better := next(behind, None)) is not None:
            order.remove(better)
            order.insert(keep - 1, better)
    kept, left = order[:keep], order[keep:]
    warming = [at for at in left if early and early[at]]
    kept += sorted(warming, key=lambda at: not (learned and learned[at]))[: most - keep]
    before = order[keep - 1]
    for at in left:
        if at in kept:
            continue
        if len(kept) >= most or not _close(merits, errors, before, at):
            break
        kept.append(before := at)
    return tuple(kept)


def tied(merits: Sequence[float], errors: Sequence[float], best: int) -> tuple[int, ...]:
    """Places of the others that are no worse than the best by more than chance explains."""
    return tuple(at for at in range(len(merits)) if at != best and _close(merits, errors, best, at))


def _close(merits: Sequence[float], errors: Sequence[float], better: int, other: int, times: float = 1.0) -> bool:
    return merits[better] - merits[other] <= times * ONE_SIDED * math.hypot(errors[better], errors[other])


def spared_s(candidates: Sequence[Candidate]) -> float:
    """What training each candidate that competed fully would have cost beyond what was spent, by what each step of it took."""
    return sum(max(0.0, (each.full_seconds or 0.0) - each.train_seconds) for each in candidates if each.state != SET_ASIDE)
