"""How few examples are shared out, and what leaves the gate enough of them to tell by."""

from __future__ import annotations

import math
from typing import Final

from modelyard.evaluator.v1 import evaluator_pb2

TESTS_NEEDED: Final = 30
"""Test examples below which the gate says that it cannot tell."""
LEAST_RATIO: Final = 0.5
"""A smaller share to train on is proposed to nobody, however few examples there are."""
_REST_A_TEST: Final = 2.2
"""Examples left over for each that is to test: half of them validate, and a few more, since classes are cut apart."""


def too_few_tested(decision: evaluator_pb2.GateDecision) -> bool:
    """Whether a decision not to deploy rests on too few test examples. On a handful of them the gate says BACK_TO_DATA too:
    no model is better than the baseline there."""
    if decision.verdict in (evaluator_pb2.VERDICT_UNSPECIFIED, evaluator_pb2.VERDICT_DEPLOY):
        return False
    few = any(test.name == "test_examples" and not test.passed for test in decision.tests)
    return few or decision.verdict == evaluator_pb2.VERDICT_NOT_ENOUGH_DATA


def shared_out(examples: int, ratio: float) -> tuple[int, int, int]:
    """How many train, validate and test, where the data bring no usage of their own: half of what is left over tests."""
    rest = round(examples * (1 - ratio))
    return examples - rest, rest - rest // 2, rest // 2


def ratio_for(examples: int, ratio: str) -> str:
    """A ratio that leaves the gate enough to tell by, where the usual one would not; a few more, since classes are cut apart."""
    share = float(ratio)
    if not examples or shared_out(examples, share)[2] >= TESTS_NEEDED:
        return ratio
    return f"{max(int(100 * (1 - _REST_A_TEST * TESTS_NEEDED / examples)) / 100, LEAST_RATIO):g}"


def enough_ratio(examples: int, ratio: str) -> str:
    """`ratio_for`'s, or "" where there is none: too few examples, whatever the ratio."""
    found = ratio_for(examples, ratio)
    return found if shared_out(examples, float(found))[2] >= TESTS_NEEDED else ""


def examples_needed() -> int:
    """With so many in all there is a ratio that leaves enough."""
    return math.ceil(_REST_A_TEST * TESTS_NEEDED / (1 - LEAST_RATIO))
