"""Parts of the console that know nothing of a browser: markup, plans, curves, shares, paths."""

from __future__ import annotations

import html
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client import Names
from modelyard.client.drawing.charts import Line, line_chart, trace_chart
from modelyard.client.drawing.decimate import Curve
from modelyard.client.drawing.markup import h, join
from modelyard.client.drawing.words import step_words
from modelyard.client.ratios import LEAST_RATIO, TESTS_NEEDED, enough_ratio, examples_needed, ratio_for, shared_out
from modelyard.console.parts.plan import (
    Plan,
    next_version,
    plan_of,
    problems,
    run_of,
)
from modelyard.console.parts.shares import even_out
from modelyard.console.uploads import safe_path
from modelyard.dataset.v1 import dataset_pb2

NAMES = Names("default")
PLAN = Plan(dataset="flowers", model="flowers", endpoint="flowers")


@given(st.text())
def test_text_never_becomes_markup(said: str) -> None:
    shown = h("p", said, title=said, data_x=said)
    assert html.unescape(re.sub(r"<[^>]*>", "", shown)) == said
    assert len(re.findall(r"<", shown)) == 2
    assert shown.count('"') == 4


def test_children_that_are_nothing_leave_nothing() -> None:
    assert h("ul", None, False, [h("li", 0), None, ""], cls=None, hidden=True) == "<ul hidden><li>0</li></ul>"
    assert join([h("b", "a"), "<"], " & ") == "<b>a</b> &amp; &lt;"
    with pytest.raises(TypeError):
        h("p", object())


# The training dialog's answers


@pytest.mark.parametrize("ratio", ["0.8", "0.5", "0.12345", "0.00001", "0.99999"])
def test_ratios_that_are_right(ratio: str) -> None:
    plan = plan_of({"ratio": ratio}, PLAN)
    assert "ratio" not in problems(plan)
    assert run_of(plan, NAMES).split.train_ratio == ratio


@pytest.mark.parametrize(
    "ratio", ["", "0", "1", "0.0", "1.0", "0.123456", "-0.5", "0,8", "80%", "0.8 ", "nan", "1e-1", ".8", "0.", "0.00000"]
)
def test_ratios_that_are_wrong_name_the_value_and_what_is_right(ratio: str) -> None:
    plan = Plan(dataset="flowers", model="flowers", endpoint="flowers", ratio=ratio)
    found = problems(plan)
    assert set(found) == {"ratio"}
    assert repr(ratio) in found["ratio"]
    assert "one to five decimals" in found["ratio"]


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("max_ms", ["1", "500", "20000", ""], ["0", "20001", "1.5", "-1", "abc", "nan", "1e3"]),
        (
            "hours",
            ["0.5", "1", "24", "0.0003", "", "3m", "1s"],
            ["0", "-1", "0.0001", "nan", "inf", "one", "9999", "3 weeks", "-3m"],
        ),
        ("accuracy", ["0", "0.95", "1", ""], ["1.1", "-0.1", "95%"]),
        ("epochs", ["1", "10000"], ["0", "10001", "2.5"]),
        ("learning_rate", ["0.001", "1e-5", "100"], ["0", "-1", "101"]),
        ("model", ["a", "flowers-2"], ["", "Flowers", "2flowers", "a_b", "a" * 64]),
        ("version_name", ["", "V004", "spring.1"], ["4", "a/b", "a b"]),
    ],
)
def test_limits_of_the_dialog(field: str, right: list[str], wrong: list[str]) -> None:
    for value in right:
        assert field not in problems(plan_of({field: value}, PLAN)), value
    for value in wrong:
        found = problems(plan_of({field: value}, PLAN))
        assert field in found, value
        assert repr(value) in found[field]
        run_of(plan_of({field: value}, PLAN), NAMES)  # and none of it breaks the JSON level


@pytest.mark.parametrize(
    ("said", "seconds"), [("3m", 180), ("90 s", 90), ("1h30m", 5400), ("1 h 30 min", 5400), ("0.5 h", 1800), ("2d", 172_800)]
)
def test_times_as_people_write_them_are_hours(said: str, seconds: int) -> None:
    run = run_of(plan_of({"hours": said}, PLAN), NAMES)
    assert run.max_training_time.ToTimedelta().total_seconds() == pytest.approx(seconds, rel=1e-5)


def test_a_plan_becomes_the_run_of_modelyard_auto() -> None:
    plan = Plan(
        dataset="flowers",
        version="new",
        version_name="spring",
        ratio="0.75",
        base="projects/default/models/flowers/versions/V002",
        target="mcu",
        max_ms="20",
        hours="0.5",
        flavor="large",
        model="flowers",
        endpoint="flowers",
        accuracy="0.9",
        recipe="tinynet",
        format="litert",
        precision="int8",
        epochs="7",
        seed="3",
    )
    run = run_of(plan, NAMES)
    assert (run.dataset, run.dataset_version_id, run.split.train_ratio) == ("projects/default/datasets/flowers", "spring", "0.75")
    assert (run.target, run.max_inference_duration_ms, run.max_training_time.seconds) == ("mcu", 20, 1800)
    assert (run.incremental_model_version, run.instance_flavor) == ("projects/default/models/flowers/versions/V002", "large")
    assert [(floor.metric, floor.value) for floor in run.floors] == [("accuracy", 0.9)]
    assert (run.recipe.recipe_id, run.recipe.hyperparameters.max_epochs, run.recipe.hyperparameters.seed) == ("tinynet", 7, 3)
    assert Plan.from_run(run, PLAN) == plan


@given(st.integers(0, 2_000_000))
def test_the_ratio_that_is_proposed_leaves_the_gate_enough_to_tell_by(examples: int) -> None:
    proposed = ratio_for(examples, "0.8")
    assert not problems(plan_of({"ratio": proposed}, PLAN))
    shares = shared_out(examples, float(proposed))
    assert sum(shares) == examples
    assert LEAST_RATIO <= float(proposed) <= 0.8
    assert (shares[2] >= TESTS_NEEDED) == (examples >= examples_needed() or examples >= 119)
    assert enough_ratio(examples, "0.8") == (proposed if shares[2] >= TESTS_NEEDED else "")
    if not examples or examples >= 10 * TESTS_NEEDED:
        assert proposed == "0.8"


def test_a_plan_on_an_existing_version_has_no_split() -> None:
    run = run_of(plan_of({"version": "V002"}, PLAN), NAMES)
    assert run.WhichOneof("data") == "dataset_version"
    assert run.dataset_version == "projects/default/datasets/flowers/versions/V002"
    assert not run.HasField("split")


def test_a_box_that_is_not_ticked_is_not_in_the_form() -> None:
    ticked = plan_of({"model": "a", "no_deploy": "yes"}, PLAN)
    assert ticked.no_deploy
    assert not plan_of({"model": "a"}, ticked).no_deploy
    assert plan_of({"ratio": "0.5"}, ticked).no_deploy  # the quick level does not ask


def test_the_next_number() -> None:
    versions = [dataset_pb2.DatasetVersion(name=f"projects/p/datasets/d/versions/{name}") for name in ("V002", "spring", "V010")]
    assert (next_version([]), next_version(versions)) == ("V001", "V011")


# Curves


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=700), st.integers(2, 40))
def test_a_curve_keeps_its_peaks_and_its_end_in_few_points(values: list[float], limit: int) -> None:
    curve = Curve(limit)
    for at, value in enumerate(values):
        curve.add(at, value)
    points = curve.points()
    assert len(points) <= 2 * limit + 1
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert all(values[int(x)] == y for x, y in points)
    assert max(y for _, y in points) == max(values)
    assert min(y for _, y in points) == min(values)
    assert points[-1] == (len(values) - 1, values[-1])


def test_a_hundred_thousand_points_are_drawn_from_a_few_hundred() -> None:
    curve, noise = Curve(), random.Random(1)
    for step in range(100_000):
        curve.add(step, 2 * math.exp(-step / 20_000) + noise.random() / 10 + (5 if step == 54_321 else 0))
    points = curve.points()
    assert len(points) <= 801
    assert curve.count == 100_000
    assert any(x == 54_321 for x, _ in points)
    assert len(line_chart("Loss", [Line("loss", points)])) < 60_000


def test_what_is_not_finite_is_counted_and_not_drawn() -> None:
    curve = Curve()
    for value in (1.0, math.nan, math.inf, 2.0):
        curve.add(curve.count, value)
    assert [y for _, y in curve.points()] == [1.0, 2.0]
    assert curve.gaps == 2


def test_charts_say_their_numbers_and_bear_flat_and_missing_values() -> None:
    assert "training loss 0.5 at step 3" in line_chart("Loss", [Line("training loss", [(1, 1.0), (3, 0.5)])])
    assert "nothing" in line_chart("Loss", []).lower()
    for points in ([(0.0, 0.0)], [(0.0, 7.0), (1.0, 7.0)], [(0.0, 1e-9), (1.0, 1e9)]):
        assert "nan" not in line_chart("x", [Line("y", points)]).lower()
    assert "no values" in trace_chart("a", [math.nan], [math.nan])
    assert trace_chart("a", [1, math.nan, 2, 3], [1, math.nan, 2, 3]).count("<polyline") == 2


# Traffic


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), min_size=1),
    st.integers(-10, 120),
    st.data(),
)
def test_shares_make_a_hundred_whatever_one_becomes(shares: dict[str, int], percent: int, data: st.DataObject) -> None:
    changed = data.draw(st.sampled_from(sorted(shares)))
    found = even_out(shares, changed, percent)
    assert sum(found.values()) == 100
    assert all(0 <= value <= 100 for value in found.values())
    assert list(found) == list(shares) or len(shares) == 1
    if len(shares) > 1:
        assert found[changed] == min(max(percent, 0), 100)


def test_the_others_keep_their_proportion() -> None:
    assert even_out({"a": 60, "b": 30, "c": 10}, "c", 40) == {"a": 40, "b": 20, "c": 40}


# Uploads


@pytest.mark.parametrize("path", ["a.png", "roses/1.jpg", "a b/ü.png", "..a/b..c"])
def test_paths_inside_a_folder(path: str) -> None:
    assert str(safe_path(path)) == path


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../a", "a/../../b", "a\\b", "a\0b", "a\nb", "x" * 1001])
def test_paths_that_lead_elsewhere(path: str) -> None:
    assert safe_path(path) is None


def test_all_fixes_at_once_name_nothing_that_is_gone() -> None:
    from modelyard.console.pages.dataset_quality import edits_of

    drop, relabel = dataset_pb2.Edit.ACTION_DROP, dataset_pb2.Edit.ACTION_RELABEL

    def finding(kind: str, action: int, *ids: str) -> dataset_pb2.Finding:
        return dataset_pb2.Finding(kind=kind, fix=dataset_pb2.Edit(action=action, example_ids=ids, label="rose"))

    found = edits_of(
        [finding("A", drop, "1", "2"), finding("B", relabel, "2", "3"), finding("C", drop, "1"), finding("D", drop, "3")]
    )
    assert [(list(edit.example_ids), edit.reason) for edit in found] == [(["1", "2"], "A"), (["3"], "B"), (["3"], "D")]


def test_of_fixes_that_may_be_wrong_only_the_surest_are_made() -> None:
    from modelyard.console.pages.dataset_quality import edits_of

    fix = dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_RELABEL, example_ids=["1", "2", "3"], labels=["a", "b", "c"])
    (edit,) = edits_of([dataset_pb2.Finding(kind="LABEL_ERRORS", fix=fix, fix_scores=[0.9, 0.5, 0.85])])
    assert (list(edit.example_ids), list(edit.labels)) == (["1", "3"], ["a", "c"])
    assert edits_of([dataset_pb2.Finding(kind="LABEL_ERRORS", fix=fix, fix_scores=[0.1, 0.1, 0.1])]) == []


def test_what_came_of_a_step_is_told_in_words() -> None:
    tested = "test: accuracy 0.662, precision_macro 0.6664, f1_macro 0.6509, roc_auc 0.8974, log_loss 0.9905"
    assert step_words(tested) == "test: accuracy 0.662, Precision (macro) 0.6664, F1 (macro) 0.6509"
    trained = "V002: val_accuracy 0.6404, val_loss 0.9998 on validation (TIME_LIMIT)"
    assert step_words(trained) == "V002: validation accuracy 0.6404, validation loss 0.9998 on validation (time limit)"
    assert step_words("onnx fp32, 14363593 bytes, 4.59 ms (p95)") == "onnx fp32, 14.4 MB, 4.59 ms (p95)"
    assert step_words("1797 examples in 10 classes; 3 left out") == "1797 examples in 10 classes; 3 left out"
    assert step_words("") == ""
