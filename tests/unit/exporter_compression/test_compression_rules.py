"""The planner's rules: roads, judgement, choice, and the paired loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.core.latency import Latency
from modelyard.exporter.domain.compression import (
    AWARE,
    POST_TRAINING,
    CompressionLimits,
    CompressionStep,
    Figure,
    chosen,
    eligible,
    fallback,
    finished,
    judged,
    measured_loss,
    metric_name,
    metric_value,
    roads,
    worth_trying,
)
from modelyard.exporter.domain.form import DYNAMIC_INT8, EDGE, FP16, FP32, INT8, LITERT, ONNX

Array = NDArray[Any]

FREE = CompressionLimits()
FLOAT, INTEGER = 1000, 280


def step(precision: str, *, size: int = FLOAT, loss: float = 0.0, p95: float | None = None) -> CompressionStep:
    latency = None if p95 is None else Latency(p95 / 2, p95, p95, 100, 1, "cpu", "a processor")
    accuracy, lost = Figure("accuracy", 0.9, 0.88, 0.92, True), Figure("loss", loss, loss - 0.01, loss + 0.01, False)
    return CompressionStep(precision, ONNX, precision, size_bytes=size, latency=latency, metric=accuracy, loss=lost)


def test_roads_go_from_float_over_half_and_int8_to_training_and_pruning() -> None:
    found = roads(ONNX, "", FREE)
    assert [road.form.precision for road in found[:3]] == [FP32, FP16, INT8]
    assert [road.means for road in found[2:]] == ["plain", "equalized", "mixed", "qat", "pruned", "pruned"]
    assert [road.trains for road in found] == sorted(road.trains for road in found)
    assert found[2].quantization == POST_TRAINING
    assert found[5].quantization == AWARE


def test_a_precision_that_is_set_is_kept() -> None:
    assert {road.form.precision for road in roads(ONNX, INT8, FREE)[1:]} == {INT8}
    assert [road.form.precision for road in roads(LITERT, DYNAMIC_INT8, FREE)] == [FP32, DYNAMIC_INT8]
    pruned = roads(ONNX, FP32, FREE)
    assert [(road.form.precision, road.channels) for road in pruned] == [(FP32, 0.0), (FP32, 0.3), (FP32, 0.5)]


def test_without_training_no_road_trains() -> None:
    assert not any(road.trains for road in roads(ONNX, "", CompressionLimits(skip_training=True)))


def test_a_microcontroller_is_measured_against_litert_float_and_gets_no_float_layers() -> None:
    found = roads(EDGE, INT8, FREE, "ethos-u55-128")
    assert (found[0].form.format, found[0].form.precision) == (LITERT, FP32)
    assert not eligible(found[0], EDGE, INT8)
    assert all(road.form.format == EDGE and road.form.accelerator == "ethos-u55-128" for road in found[1:])
    assert "mixed" not in {road.means for road in found}


@pytest.mark.parametrize("format", [ONNX, LITERT, EDGE, "savedmodel", "openvino", "torch_export"])
def test_every_format_has_a_float_measure_first(format: str) -> None:
    assert roads(format, "", FREE)[0].form.precision == FP32


# Judgement


def test_a_step_within_the_limits_is_accepted_and_says_by_what() -> None:
    limits = CompressionLimits(max_size_bytes=300, max_latency_ms=5, max_loss=0.01)
    done = judged(step(INT8, size=INTEGER, loss=0.01, p95=4.9), limits)
    assert done.accepted
    assert done.message == "accepted: 280 bytes, p95 4.9 ms, loses 0.0100 accuracy of 0.01 allowed"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (step(INT8, size=301, p95=1), "301 bytes, at most 300 are allowed"),
        (step(INT8, size=1, p95=5.1), "p95 latency 5.1 ms, at most 5 ms is allowed"),
        (step(INT8, size=1), "its latency could not be measured"),
        (step(INT8, size=1, p95=1, loss=0.02), "loses 0.0200 accuracy (0.0100 to 0.0300), at most 0.01 is allowed"),
        (replace(step(INT8, size=1, p95=1), loss=None), "its loss could not be measured"),
    ],
)
def test_a_step_beyond_a_limit_is_refused_with_the_numbers(bad: CompressionStep, says: str) -> None:
    done = judged(bad, CompressionLimits(max_size_bytes=300, max_latency_ms=5))
    assert not done.accepted
    assert says in done.message


def test_a_float_model_that_is_only_the_measure_is_never_accepted() -> None:
    assert not judged(step(FP32), FREE, counts=False).accepted


# The walk


def test_with_a_size_limit_the_first_accepted_road_ends_the_walk() -> None:
    limits = CompressionLimits(max_size_bytes=600)
    trail = [judged(step(FP32), limits), judged(step(FP16, size=500), limits)]
    assert not finished(trail[:1], limits)
    assert finished(trail, limits)
    assert chosen(trail, limits) == 1


def test_with_only_the_loss_limited_the_smallest_accepted_artifact_is_chosen() -> None:
    limits = CompressionLimits(max_loss=0.01)
    trail = [judged(each, limits) for each in (step(FP32), step(FP16, size=500), step(INT8, size=INTEGER, loss=0.005))]
    assert [finished(trail[:count], limits) for count in (1, 2, 3)] == [False, False, True]
    assert chosen(trail, limits) == 2


def test_training_is_spared_when_half_precision_keeps_to_a_limit_of_the_loss_alone() -> None:
    trail = [judged(each, FREE) for each in (step(FP32), step(FP16, size=500), step(INT8, size=INTEGER, loss=0.5))]
    by_means = {road.means: road for road in roads(ONNX, "", FREE)}
    assert worth_trying(by_means["equalized"], trail, FREE)
    assert not worth_trying(by_means["qat"], trail, FREE)
    assert not worth_trying(by_means["pruned"], trail, FREE)


def test_training_is_tried_when_nothing_smaller_keeps_to_the_loss() -> None:
    trail = [judged(step(FP32), FREE, counts=False), judged(step(INT8, size=INTEGER, loss=0.5), FREE)]
    by_means = {road.means: road for road in roads(ONNX, INT8, FREE)}
    assert worth_trying(by_means["qat"], trail, FREE)


def test_means_that_only_lose_less_are_left_out_when_int8_is_too_slow_and_pruning_is_tried() -> None:
    limits = CompressionLimits(max_latency_ms=1)
    trail = [judged(step(FP32, p95=4), limits), judged(step(INT8, size=INTEGER, p95=2, loss=0.5), limits)]
    tried = {road.means for road in roads(ONNX, "", limits) if worth_trying(road, trail, limits) and road.form.precision == INT8}
    assert tried == {"plain", "pruned"}


def test_a_float_model_that_is_too_slow_is_pruned() -> None:
    limits = CompressionLimits(max_latency_ms=1)
    slow, fast = [judged(step(FP32, p95=4), limits)], [judged(step(FP32, p95=0.5), limits)]
    pruned = roads(ONNX, FP32, limits)[1]
    assert worth_trying(pruned, slow, limits)
    assert not worth_trying(pruned, fast, limits)


def test_the_end_of_the_roads_is_the_float_model_and_says_so() -> None:
    limits = CompressionLimits(max_size_bytes=10)
    trail = [judged(step(FP32), limits), judged(step(INT8, size=INTEGER), limits)]
    assert chosen(trail, limits) is None
    last = fallback(trail, skipped_training=True)
    assert (last.precision, last.size_bytes, last.accepted) == (FP32, FLOAT, False)
    assert "no road of 2" in last.message
    assert "training was left out" in last.message


# The loss


def test_the_metric_follows_the_task() -> None:
    assert metric_name(FREE, "image_classification") == "accuracy"
    assert metric_name(FREE, "tabular_regression") == "rmse"
    assert metric_name(CompressionLimits(metric="f1_macro"), "image_classification") == "f1_macro"


def one_hot(classes: Array, count: int = 3) -> Array:
    return np.asarray(np.eye(count, dtype=np.float32)[classes])


def test_accuracy_and_its_loss_by_hand() -> None:
    truth = np.zeros(100, np.int64)
    before, after = np.zeros(100, np.int64), np.zeros(100, np.int64)
    before[:5], after[3:13] = 1, 1  # 3 gained, 8 lost, 2 wrong in both
    metric, loss = measured_loss("accuracy", truth, one_hot(before), one_hot(after))
    assert metric.value == pytest.approx(0.90)
    assert loss.value == pytest.approx(0.05)
    assert (loss.lower, loss.upper) == pytest.approx((-0.017457, 0.125338), abs=1e-6)  # Tango's interval of 8 and 3 in 100
    assert metric.lower < metric.value < metric.upper


def test_macro_metrics_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    truth, answered = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    assert metric_value("recall_macro", truth, answered) == pytest.approx(metrics.recall_score(truth, answered, average="macro"))
    assert metric_value("f1_macro", truth, answered) == pytest.approx(metrics.f1_score(truth, answered, average="macro"))


def test_the_loss_of_an_error_is_the_share_by_which_it_grew() -> None:
    truth = np.arange(200.0)
    metric, loss = measured_loss("rmse", truth, (truth + 1)[:, None], (truth + 1.1)[:, None])
    assert metric.value == pytest.approx(1.1)
    assert not metric.higher_is_better
    assert loss.value == pytest.approx(0.1)
    assert loss.lower <= loss.value + 1e-9 <= loss.upper + 2e-9


def test_the_bootstrap_holds_the_loss_and_is_the_same_each_time() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 3, 300)
    before = np.where(generator.random(300) < 0.1, (truth + 1) % 3, truth)
    after = np.where(generator.random(300) < 0.2, (truth + 1) % 3, truth)
    first = measured_loss("f1_macro", truth, one_hot(before), one_hot(after))
    assert first == measured_loss("f1_macro", truth, one_hot(before), one_hot(after))
    assert first[1].lower < first[1].value < first[1].upper
    assert first[1].lower > 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_the_loss_is_the_difference_of_the_accuracies(rows: list[tuple[int, int, int]]) -> None:
    truth, before, after = np.asarray(rows).T
    metric, loss = measured_loss("accuracy", truth, one_hot(before), one_hot(after))
    assert loss.value == pytest.approx((before == truth).mean() - metric.value)
    assert 0 <= metric.lower <= metric.upper <= 1


def test_without_examples_there_is_no_loss() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        measured_loss("accuracy", np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)))
    assert caught.value.reason == "NO_EXAMPLES"
