"""The gate: may this artifact be deployed? docs/decisions/0006-gate.md says why it decides as it does.

Every test ends PASSED, FAILED (the numbers say no) or UNSURE (too few examples, or nothing measured, to say yes). One FAILED test
gives BACK_TO_DATA, otherwise one UNSURE test gives NOT_ENOUGH_DATA, otherwise DEPLOY. RETRY_WITH_QAT comes before the first two
where quantization alone is to blame, and training with it has not been tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.errors import InvalidArgument
from modelyard.core.latency import Latency
from modelyard.evaluator.domain.evaluation import EvaluationResult
from modelyard.evaluator.domain.gate_demands import ClassFloor as ClassFloor
from modelyard.evaluator.domain.gate_demands import Demands as Demands
from modelyard.evaluator.domain.gate_demands import Floor as Floor
from modelyard.evaluator.domain.gate_demands import check_demands as check_demands
from modelyard.evaluator.domain.gate_tests import (
    INCUMBENT,
    PARENT,
    baseline_test,
    class_floor_test,
    examples_test,
    floor_test,
    latency_test,
    memory_test,
    rival_test,
    size_test,
)
from modelyard.evaluator.domain.gate_tests import GateTest as GateTest
from modelyard.evaluator.domain.pairing import Comparison
from modelyard.evaluator.domain.pairing import Outcome as Outcome
from modelyard.evaluator.domain.scores import ExampleScore, UsageResult

MOST_EXAMPLES: Final = 50
_NAMED_EXAMPLES: Final = 5


class Verdict(StrEnum):
    """What the gate says."""

    DEPLOY = "DEPLOY"
    RETRY_WITH_QAT = "RETRY_WITH_QAT"
    BACK_TO_DATA = "BACK_TO_DATA"
    NOT_ENOUGH_DATA = "NOT_ENOUGH_DATA"


@dataclass(frozen=True)
class Parent:
    """The float model that an artifact comes from: its own scores, and the artifact against it; it against what serves now."""

    result: UsageResult
    comparison: Comparison
    against_incumbent: Comparison | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of an artifact. `result` is of the test usage; None: that holds no examples.

    `quantized`: it computes with fewer bits than its parent; `quantization_aware`: it was trained with that rounding already.
    """

    result: UsageResult | None
    latency: Latency | None = None
    size_bytes: int = 0
    quantized: bool = False
    quantization_aware: bool = False
    parent: Parent | None = None
    against_incumbent: Comparison | None = None


@dataclass(frozen=True)
class Decision:
    """The verdict with its reasons (failed tests first) and every test."""

    verdict: Verdict
    reasons: tuple[str, ...]
    tests: tuple[GateTest, ...]


def check_latency(latency: Latency | None) -> None:
    """Raises InvalidArgument BAD_LATENCY for a figure that no measurement gives."""
    if latency is None:
        return
    for name in ("p50_ms", "p95_ms", "p99_ms", "memory_bytes"):
        value = getattr(latency, name)
        if not (math.isfinite(value) and value >= 0):
            message = f"latency.{name} is {value}; it must be a measured figure, 0 or more"
            raise InvalidArgument("BAD_LATENCY", message, field=f"gate_decision.latency.{name}", value=value)


def decide(evidence: Evidence, demands: Demands) -> Decision:
    """Tests what is known of an artifact against what is demanded."""
    tests = tuple(_tests(evidence, demands))
    verdict = _verdict(tests, evidence, demands)
    advice = (_QAT_ADVICE,) if verdict is Verdict.RETRY_WITH_QAT else ()
    order = [Outcome.FAILED, Outcome.UNSURE, Outcome.PASSED]
    ranked = sorted(tests, key=lambda test: order.index(test.outcome))
    said = [test.message for test in ranked if not test.passed]
    return Decision(verdict, (*said, *advice, *(test.message for test in ranked if test.passed)), tests)


_QAT_ADVICE: Final = (
    "The float model it comes from passes all of that: quantization takes it away, and training with the rounding in the loop "
    "(quantization-aware training) may bring it back."
)


def _tests(evidence: Evidence, demands: Demands) -> Iterator[GateTest]:
    result = evidence.result
    yield examples_test(result.score.example_count if result else 0)
    if result:
        yield from _quality_tests(result, demands)
    if evidence.parent:
        yield rival_test(PARENT, evidence.parent.comparison)
    if evidence.against_incumbent:
        yield rival_test(INCUMBENT, evidence.against_incumbent)
    if demands.max_latency_ms:
        yield latency_test(evidence.latency.p95_ms if evidence.latency else None, demands.max_latency_ms)
    if demands.max_size_bytes:
        yield size_test(evidence.size_bytes, demands.max_size_bytes)
    if demands.max_memory_bytes:
        yield memory_test(evidence.latency.memory_bytes if evidence.latency else 0, demands.max_memory_bytes)


def _quality_tests(result: UsageResult, demands: Demands) -> Iterator[GateTest]:
    yield from (floor_test(floor, result) for floor in demands.floors)
    yield from (class_floor_test(floor, result) for floor in demands.class_floors)
    yield baseline_test(result)


def _verdict(tests: Sequence[GateTest], evidence: Evidence, demands: Demands) -> Verdict:
    """The order: what training with quantization may cure, then what says no, then what cannot be said."""
    failed = [test for test in tests if test.outcome is Outcome.FAILED]
    unsure = [test for test in tests if test.outcome is Outcome.UNSURE]
    if _may_be_cured(failed or unsure, evidence, demands) and tests[0].passed:
        return Verdict.RETRY_WITH_QAT
    if failed:
        return Verdict.BACK_TO_DATA
    return Verdict.NOT_ENOUGH_DATA if unsure else Verdict.DEPLOY


def _may_be_cured(wrong: Sequence[GateTest], evidence: Evidence, demands: Demands) -> bool:
    """Whether quantization alone is to blame for what is wrong: each is a loss against the parent, or the parent passes it.

    An UNSURE loss counts where what was measured is above the margin: trying the cure costs less than collecting examples.
    """
    if not wrong or evidence.parent is None or not evidence.quantized or evidence.quantization_aware:
        return False
    passes = {test.name for test in _parent_tests(evidence.parent, demands) if test.passed}
    return all(_is_loss(test) or (test.outcome is Outcome.FAILED and _name(test) in passes) for test in wrong)


def _is_loss(test: GateTest) -> bool:
    return test.name.startswith(f"{PARENT}:") and (test.outcome is Outcome.FAILED or test.value > test.bound)


def _name(test: GateTest) -> str:
    """By which the parent's test is found: the baseline may be beaten by another metric there."""
    return "baseline" if test.name.startswith("baseline:") else test.name


def _parent_tests(parent: Parent, demands: Demands) -> Iterator[GateTest]:
    for test in _quality_tests(parent.result, demands):
        yield GateTest(_name(test), test.outcome, test.value, test.lower, test.upper, test.bound, test.message)
    if parent.against_incumbent:
        yield rival_test(INCUMBENT, parent.against_incumbent)


def examples_to_look_at(result: EvaluationResult) -> tuple[ExampleScore, ...]:
    """Where to look when the data are to blame: labels that are probably wrong, then what was answered worst; none twice."""
    first: dict[str, ExampleScore] = {}
    for example in (*result.label_suspects, *result.worst_examples):
        first.setdefault(example.example_id, example)
    return tuple(first.values())[:MOST_EXAMPLES]


def examples_sentence(examples: Sequence[ExampleScore], suspects: Iterable[ExampleScore]) -> str:
    """Names the first of them; "" where there are none."""
    if not examples:
        return ""
    wrong = {example.example_id for example in suspects}
    named = ", ".join(_example_text(example) for example in examples[:_NAMED_EXAMPLES])
    counted = sum(example.example_id in wrong for example in examples)
    what = f"{counted} labels that are probably wrong" if counted else "the examples that are answered worst"
    return f"Look first at {what}: {named}{' and others' if len(examples) > _NAMED_EXAMPLES else ''}."


def _example_text(example: ExampleScore) -> str:
    return f"{example.example_id} ({example.usage}, labelled {example.label!r:.60}, answered {example.prediction!r:.60})"
