"""Which recipe is trained: the most accurate of those that answer in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.errors import FailedPrecondition


@dataclass(frozen=True)
class Candidate:
    """A measured recipe. `p95_ms` is None when it could not be measured; `error` says why."""

    recipe_id: str
    p95_ms: float | None
    error: str = ""


def choose(candidates: Sequence[Candidate], limit_ms: float, target: str) -> int:
    """Index of the first candidate (they come the most accurate first) that answers within the limit.

    Raises FailedPrecondition NO_RECIPE_FAST_ENOUGH, naming the fastest, or NO_RECIPE_MEASURED.
    """
    for index, candidate in enumerate(candidates):
        if candidate.p95_ms is not None and candidate.p95_ms <= limit_ms:
            return index
    measured = [(candidate.p95_ms, candidate.recipe_id) for candidate in candidates if candidate.p95_ms is not None]
    if not measured:
        raise _none_measured(candidates, target)
    fastest_ms, fastest = min(measured)
    message = (
        f"No recipe answers within {limit_ms:g} ms on {target}: the fastest, {fastest}, takes {fastest_ms:.3g} ms (p95). "
        f"Allow at least {_rounded_up(fastest_ms)} ms, or take a faster target."
    )
    raise FailedPrecondition(
        "NO_RECIPE_FAST_ENOUGH",
        message,
        field="pipeline_run.max_inference_duration_ms",
        max_inference_duration_ms=f"{limit_ms:g}",
        fastest_recipe=fastest,
        fastest_ms=f"{fastest_ms:.3f}",
        target=target,
    )


def _rounded_up(milliseconds: float) -> int:
    return int(milliseconds * 1.1) + 1


def _none_measured(candidates: Sequence[Candidate], target: str) -> FailedPrecondition:
    errors = "; ".join(f"{candidate.recipe_id}: {candidate.error}" for candidate in candidates)[:1000]
    message = f"No recipe could be measured on {target}: {errors or 'none fits the dataset version'}"
    return FailedPrecondition("NO_RECIPE_MEASURED", message, target=target, candidates=len(candidates))
