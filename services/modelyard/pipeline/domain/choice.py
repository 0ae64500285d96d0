"""Which recipe is trained: the most accurate of those that answer in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.core.errors import FailedPrecondition


@dataclass(frozen=True)
class Candidate:
    """A measured recipe. `p95_ms` is None when it was not measured.

    unmeasured: why it was not, though it could be made and suits the target (which is not here). error: why it does not suit.
    size_bytes: of its untrained export in the target's form.
    """

    recipe_id: str
    p95_ms: float | None
    error: str = ""
    unmeasured: str = ""
    size_bytes: int = 0


def choose(candidates: Sequence[Candidate], limit_ms: float, target: str, max_size_bytes: int = 0) -> int:
    """Index of the first candidate (they come the most accurate first) that answers within the limit.

    On a target that nothing can measure on, time is not guessed: then the first that keeps to the target's limits and to
    `max_size_bytes` (0: no limit) is taken. Raises FailedPrecondition NO_RECIPE_FAST_ENOUGH, naming the fastest,
    NO_RECIPE_SMALL_ENOUGH, naming the smallest, or NO_RECIPE_MEASURED.
    """
    if all(candidate.p95_ms is None for candidate in candidates) and any(candidate.unmeasured for candidate in candidates):
        return _by_size(candidates, target, max_size_bytes)
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


def _by_size(candidates: Sequence[Candidate], target: str, max_size_bytes: int) -> int:
    suiting = [index for index, candidate in enumerate(candidates) if candidate.unmeasured]
    for index in suiting:
        if not max_size_bytes or candidates[index].size_bytes <= max_size_bytes:
            return index
    smallest = min((candidates[index] for index in suiting), key=lambda candidate: candidate.size_bytes)
    message = (
        f"No recipe has at most {max_size_bytes} bytes on {target}: the smallest, {smallest.recipe_id}, has "
        f"{smallest.size_bytes}. Allow more bytes, or take a target with more room."
    )
    raise FailedPrecondition(
        "NO_RECIPE_SMALL_ENOUGH",
        message,
        field="pipeline_run.compression.max_size_bytes",
        max_size_bytes=max_size_bytes,
        smallest_recipe=smallest.recipe_id,
        smallest_bytes=smallest.size_bytes,
        target=target,
    )


def _rounded_up(milliseconds: float) -> int:
    return int(milliseconds * 1.1) + 1


def _none_measured(candidates: Sequence[Candidate], target: str) -> FailedPrecondition:
    errors = "; ".join(f"{candidate.recipe_id}: {candidate.error}" for candidate in candidates)[:1000]
    message = f"No recipe could be measured on {target}: {errors or 'none fits the dataset version'}"
    return FailedPrecondition("NO_RECIPE_MEASURED", message, target=target, candidates=len(candidates))
