"""What the gate decided, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import number, percent, usage_word
from modelyard.console.content import download_address
from modelyard.console.parts.badges import verdict_badge
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import card, link, table
from modelyard.console.parts.page import Here
from modelyard.evaluator.v1 import evaluator_pb2

_KINDS: Final[Mapping[int, str]] = {evaluator_pb2.VERDICT_DEPLOY: "good", evaluator_pb2.VERDICT_BACK_TO_DATA: "bad"}
_OUTCOMES: Final[Mapping[int, tuple[str, str, str]]] = {
    evaluator_pb2.GateTest.OUTCOME_PASSED: ("check", "ok", "passed"),
    evaluator_pb2.GateTest.OUTCOME_FAILED: ("cross", "no", "failed"),
    evaluator_pb2.GateTest.OUTCOME_UNSURE: ("info", "unsure", "not enough to tell"),
}


def verdict_card(decision: evaluator_pb2.GateDecision, here: Here) -> Markup:
    """The verdict, its reasons, and every test with its numbers."""
    reasons = h("ul", [h("li", icon("info"), h("span", reason)) for reason in decision.reasons], cls="reasons")
    rows = []
    for test in decision.tests:
        picture, tone, words = _OUTCOMES.get(
            test.outcome, ("check", "ok", "passed") if test.passed else ("cross", "no", "failed")
        )
        interval = f"{number(test.lower)} to {number(test.upper)}" if test.lower != test.upper else ""
        rows.append(
            [
                h("span", icon(picture, words), cls=tone),
                test.name,
                number(test.value),
                interval,
                number(test.bound),
                h("span", test.message, cls="small muted"),
            ]
        )
    tests = (
        h(
            "details",
            h("summary", f"{len(rows)} tests"),
            table(["", "Test", "Measured", "95 % interval", "Bound", ""], rows, caption="Tests of the gate", numeric=(2, 4)),
        )
        if rows
        else None
    )
    passport = (
        link("Passport", download_address(decision.passport, f"{last_part(decision.name)}.passport.json"), "button small")
        if decision.passport.uri
        else None
    )
    actions = [verdict_badge(decision.verdict), passport]
    kind = _KINDS.get(decision.verdict, "wait")
    return card(
        "The gate's verdict",
        reasons,
        tests,
        _examples(decision, here),
        actions=actions,
        cls=f"verdict verdict-{kind}",
        id="verdict",
    )


def _examples(decision: evaluator_pb2.GateDecision, here: Here) -> Markup | None:
    if not decision.examples:
        return None
    rows = [
        [h("code", one.example_id), usage_word(one.usage), one.label, one.prediction, percent(one.probability)]
        for one in decision.examples[:20]
    ]
    see = link(
        "See them in the evaluation", here.path("evaluations", last_part(decision.evaluation), tab="examples"), "button small"
    )
    shown = table(["Example", "Usage", "Label", "The model says", "Surety"], rows, caption="Examples to look at", numeric=(4,))
    return h("details", h("summary", f"{len(decision.examples)} examples to look at first"), see, shown)
