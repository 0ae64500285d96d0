"""Which recipes may be trained: those that answer in time and have room on the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.tasks import made_in
from modelyard.pipeline.domain.spec import Document

SHRINKS: Final = 4
"""How much smaller a model may become after training: float32 to int8."""


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


def with_form(recipes: Sequence[Document], precision: str) -> list[Document]:
    """The recipes whose models can be exported in a precision ("": any), so that none is trained in vain.

    Raises InvalidArgument UNSUPPORTED_FORM where none is left.
    """
    made = [recipe for recipe in recipes if made_in(str(recipe.get("architecture", "")), precision)]
    if recipes and not made:
        ids = ", ".join(str(recipe.get("recipe_id") or recipe.get("architecture")) for recipe in recipes)
        message = f"precision is {precision}; a model of {ids} is exported as fp32 only: leave the recipe to us, or take fp32"
        raise InvalidArgument("UNSUPPORTED_FORM", message, field="pipeline_run.precision", precision=precision, recipe=ids)
    return made


def fitting(
    candidates: Sequence[Candidate], limit_ms: float, target: str, max_size_bytes: int = 0, shrinks: bool = False
) -> tuple[int, ...]:
    """Indices of the candidates (they come the most accurate first) that keep to the limits; at least one.

    max_size_bytes: 0 for no limit; shrinks: the model may be made smaller after training, so only what is too large even in eight
    bits misses it. On a target that nothing can measure on, time is not guessed: then sizes alone decide. Raises
    FailedPrecondition NO_RECIPE_FAST_ENOUGH, naming the fastest, NO_RECIPE_SMALL_ENOUGH, naming the smallest, or
    NO_RECIPE_MEASURED.
    """
    known = [index for index, candidate in enumerate(candidates) if candidate.p95_ms is not None]
    if not known:
        known = [index for index, candidate in enumerate(candidates) if candidate.unmeasured]
        if not known:
            raise _none_measured(candidates, target)
    fast = [index for index in known if (candidates[index].p95_ms or 0.0) <= limit_ms]
    if not fast:
        raise _too_slow([candidates[index] for index in known], limit_ms, target)
    smaller = SHRINKS if shrinks else 1
    small = [index for index in fast if not max_size_bytes or candidates[index].size_bytes <= smaller * max_size_bytes]
    if not small:
        raise _too_large([candidates[index] for index in fast], max_size_bytes, target)
    return tuple(small)


def set_aside(
    candidates: Sequence[Candidate], kept: Sequence[int], limit_ms: float, max_size_bytes: int, shrinks: bool = False
) -> str:
    """Those that missed the limits, with their numbers, in a sentence; empty where none did. As `fitting` has them."""
    told = []
    for index, candidate in enumerate(candidates):
        if index in kept:
            continue
        slow = candidate.p95_ms is not None and candidate.p95_ms > limit_ms
        narrow = ", more than that even in eight bits" if shrinks else ""
        why = f"{candidate.p95_ms:.3g} ms" if slow else f"{candidate.size_bytes} bytes, {max_size_bytes} are allowed{narrow}"
        told.append(f"{candidate.recipe_id} ({candidate.error or why})")
    return f"set aside: {', '.join(told)}" if told else ""


def _too_slow(known: Sequence[Candidate], limit_ms: float, target: str) -> FailedPrecondition:
    fastest_ms, fastest = min((candidate.p95_ms or 0.0, candidate.recipe_id) for candidate in known)
    message = (
        f"No recipe answers within {limit_ms:g} ms on {target}: the fastest, {fastest}, takes {fastest_ms:.3g} ms (p95). "
        f"Allow at least {_rounded_up(fastest_ms)} ms, or take a faster target."
    )
    return FailedPrecondition(
        "NO_RECIPE_FAST_ENOUGH",
        message,
        field="pipeline_run.max_inference_duration_ms",
        max_inference_duration_ms=f"{limit_ms:g}",
        fastest_recipe=fastest,
        fastest_ms=f"{fastest_ms:.3f}",
        target=target,
    )


def _too_large(known: Sequence[Candidate], max_size_bytes: int, target: str) -> FailedPrecondition:
    smallest = min(known, key=lambda candidate: candidate.size_bytes)
    message = (
        f"No recipe has at most {max_size_bytes} bytes on {target}: the smallest, {smallest.recipe_id}, has "
        f"{smallest.size_bytes}. Allow more bytes, or take a target with more room."
    )
    return FailedPrecondition(
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
