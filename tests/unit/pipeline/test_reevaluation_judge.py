"""What the newest labelled examples say about a model that serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.pipeline.adapters.watching_client import read_answers
from modelyard.pipeline.domain.reevaluation import Answer, Answers, ReevaluationSpec, Verdict, complete, judge, nothing_new

ENDPOINT, DATASET = "projects/p/endpoints/e", "projects/p/datasets/d"
SPEC = complete(ReevaluationSpec(ENDPOINT, DATASET))


def classes(right: int, wrong: int, prefix: str = "") -> dict[str, Answer]:
    """Examples of which so many were answered right."""
    rows: list[Answer] = [("a", "a")] * right + [("a", "b")] * wrong
    return {f"{prefix}{at}": row for at, row in enumerate(rows)}


def answers(of_usage: dict[str, Answer], *others: str) -> Answers:
    return Answers(of_usage, frozenset((*of_usage, *others)))


GATE = answers(classes(180, 20))


def test_as_good_as_at_the_gate() -> None:
    found = judge(answers(classes(180, 20, "new")), GATE, SPEC, classification=True)
    assert found.verdict is Verdict.OK
    assert found.new_examples == 200
    assert found.loss is not None
    assert found.loss.value == pytest.approx(0.0)
    assert found.loss.lower < 0 < found.loss.upper
    assert found.advice.endswith("nothing to do")


def test_much_worse() -> None:
    found = judge(answers(classes(130, 70, "new")), GATE, SPEC, classification=True)
    assert found.verdict is Verdict.DRIFTED
    assert found.loss is not None
    assert found.loss.value == pytest.approx(0.25)
    assert found.advice.startswith("accuracy is 0.65 (0.58")
    assert "0.9 at the gate" in found.advice


def test_worse_but_maybe_by_chance() -> None:
    found = judge(answers(classes(51, 9, "new")), GATE, SPEC, classification=True)
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert "which may be chance; about " in found.advice
    more = int(found.advice.split("about ")[1].split()[0])
    many, gate = answers(classes(round(0.85 * 4 * more), round(0.15 * 4 * more), "new")), answers(classes(9000, 1000))
    again = judge(many, gate, SPEC, classification=True)
    assert again.verdict is Verdict.DRIFTED


def test_a_small_loss_is_allowed() -> None:
    spec = replace(SPEC, max_loss=0.3)
    assert judge(answers(classes(130, 70, "new")), GATE, spec, classification=True).verdict is Verdict.OK


def test_too_few_new_examples() -> None:
    found = judge(answers(classes(0, 49, "new")), GATE, SPEC, classification=True)
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert found.advice.endswith("50 are needed: label more")


def test_what_was_scored_before_is_not_new() -> None:
    """Neither test examples of the gate, nor those it learned from that are test examples now."""
    seen = answers(GATE.of_usage, "trained on")  # type: ignore[arg-type]
    now = answers({**GATE.of_usage, "trained on": ("a", "a")})
    found = judge(now, seen, SPEC, classification=True)
    assert (found.new_examples, found.known_examples) == (0, 200)
    assert found.verdict is Verdict.NOT_ENOUGH_DATA
    assert found.metric is None


def test_labels_that_were_corrected() -> None:
    now = dict(GATE.of_usage) | {"0": ("b", "a"), "1": ("b", "a")}
    found = judge(answers({**now, **classes(90, 10, "new")}), GATE, SPEC, classification=True)
    assert (found.relabelled_examples, found.new_examples) == (2, 100)


def numbers(spread: float, count: int, prefix: str = "") -> dict[str, Answer]:
    rng = np.random.default_rng(0)
    return {f"{prefix}{at}": (float(at), float(at + error)) for at, error in enumerate(rng.normal(0, spread, count))}


@pytest.mark.parametrize(("spread", "verdict"), [(1.0, Verdict.OK), (1.6, Verdict.DRIFTED)])
def test_numbers(spread: float, verdict: Verdict) -> None:
    found = judge(answers(numbers(spread, 300, "new")), answers(numbers(1.0, 300)), SPEC, classification=False)
    assert found.verdict is verdict
    assert found.loss is not None
    assert found.loss.value == pytest.approx(spread - 1, abs=1e-9)
    assert found.metric is not None
    assert found.metric.lower < found.metric.value < found.metric.upper


def test_quiet_where_nothing_changed() -> None:
    """Of honest comparisons at most 2.5 % call it drift: the interval is two-sided, and max_loss makes them fewer."""
    rng = np.random.default_rng(0)
    drifted = 0
    for _ in range(400):
        gate, now = (int(rng.binomial(200, 0.9)) for _ in range(2))
        new, old = answers(classes(now, 200 - now, "n")), answers(classes(gate, 200 - gate))
        found = judge(new, old, SPEC, classification=True)
        drifted += found.verdict is Verdict.DRIFTED
    assert drifted <= 16


def test_nothing_new() -> None:
    assert nothing_new("projects/p/datasets/d/versions/V001").verdict is Verdict.NOT_ENOUGH_DATA


def test_the_gate_without_test_examples() -> None:
    found = judge(answers(classes(100, 0, "new")), Answers({}, frozenset()), SPEC, classification=True)
    assert found.verdict is Verdict.NOT_ENOUGH_DATA


def test_defaults() -> None:
    assert (SPEC.usage, SPEC.interval_s, SPEC.min_new_examples, SPEC.max_loss) == ("test", 86_400, 50, 0.02)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "e"}, "endpoint"),
        ({"dataset": ""}, "dataset"),
        ({"dataset_version": f"{DATASET}/versions/V001"}, "dataset"),
        ({"dataset": "", "dataset_version": DATASET}, "dataset_version"),
        ({"usage": "train"}, "usage"),
        ({"interval_s": 59.0}, "interval"),
        ({"interval_s": 91 * 86_400.0}, "interval"),
        ({"interval_s": float("nan")}, "interval"),
        ({"min_new_examples": -1}, "min_new_examples"),
        ({"max_loss": -0.1}, "max_loss"),
        ({"max_loss": 1.1}, "max_loss"),
        ({"max_loss": float("nan")}, "max_loss"),
        ({"display_name": "x" * 201}, "display_name"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        complete(replace(ReevaluationSpec(ENDPOINT, DATASET), **change))  # type: ignore[arg-type]
    assert caught.value.violations[0].field == f"reevaluation.{field}"


def test_predictions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    columns = {"example_id": ["1", "2"], "usage": ["train", "test"], "label": ["a", "b"], "prediction": ["a", "a"]}
    pq.write_table(pa.table({**columns, "p_a": [0.5, 0.6]}), path)
    assert read_answers(path, "test") == Answers({"2": ("b", "a")}, frozenset({"1", "2"}))


def test_boxes_are_judged_by_the_figures_of_pictures() -> None:
    """Label and answer are counts in words there; whether they are equal says nothing."""

    def boxes(name: str, count: int, figure: float) -> Answers:
        ids = [f"{name}{place}" for place in range(count)]
        said = dict.fromkeys(ids, ("3 cat", "2 cat, 1 dog"))
        return Answers(said, frozenset(ids), {each: figure + 0.01 * (place % 3) for place, each in enumerate(ids)})

    good, bad = (judge(boxes("new", 100, figure), boxes("old", 100, 0.8), SPEC, classification=True) for figure in (0.8, 0.5))
    assert (good.verdict, bad.verdict) == (Verdict.OK, Verdict.DRIFTED)
    assert bad.metric is not None
    assert bad.metric.name == "score"
    assert bad.metric.value == pytest.approx(0.51, abs=0.01)
