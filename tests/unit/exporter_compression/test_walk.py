"""The planner's walk over a workbench that makes nothing but answers as told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument
from modelyard.core.latency import Latency
from modelyard.exporter.domain.compression import CompressionLimits, Road
from modelyard.exporter.domain.form import EDGE, FP16, FP32, INT8, ONNX
from modelyard.exporter.worker.planner import Compressed, Listener, Made, Plan, walk

EXAMPLES = 100
SIZES = {FP32: 1000, FP16: 520, INT8: 280}


@dataclass
class FakeBench:
    """wrong(road): how many of the examples its artifact gets wrong; an error is raised when made."""

    folder: Path
    wrong: Callable[[Road], int] = lambda road: 0
    p95: Callable[[Road], float] = lambda road: 1.0
    refuse: Callable[[Road], Exception | None] = lambda road: None
    ram: Callable[[Road], int] = lambda road: 0
    roads: list[Road] = field(default_factory=list)

    def make(self, road: Road, listener: Listener) -> Made:
        error = self.refuse(road)
        if error is not None:
            raise error
        self.roads.append(road)
        listener.on_progress("make", 0.5, 3.0)
        path = self.folder / f"{len(self.roads)}.bundle"
        path.write_text(road.name)
        return Made(path, round(SIZES[road.form.precision] * (1 - road.channels)), self.ram(road))

    def answers(self, made: Made) -> NDArray[Any]:
        classes = np.zeros(EXAMPLES, np.int64)
        classes[: self.wrong(self._road(made))] = 1
        return np.eye(2, dtype=np.float32)[classes]

    def latency(self, made: Made) -> Latency:
        p95 = self.p95(self._road(made))
        return Latency(p95 / 2, p95, p95, 100, 1, "cpu", "a processor")

    def _road(self, made: Made) -> Road:
        return next(road for road in self.roads if road.name == made.path.read_text())


def plan(format: str = ONNX, precision: str = "", **limits: Any) -> Plan:
    truth = np.zeros(EXAMPLES, np.int64)
    return Plan(format, precision, CompressionLimits(**limits), "image_classification", truth, training_s=60)


def run(asked: Plan, bench: FakeBench, **heard: Any) -> Compressed:
    return walk(asked, bench, Listener(**heard))


def fails_until(means: str) -> Callable[[Road], int]:
    """All int8 roads lose 30 points but those of some means."""
    return lambda road: 30 if road.form.precision == INT8 and road.means != means else 0


def test_too_little_memory_on_a_microcontroller_leads_to_pruning(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, ram=lambda road: round(900 * (1 - road.channels)))
    done = run(plan(EDGE, max_ram_bytes=700, max_size_bytes=300), bench)
    plain = done.trail[1]
    assert (plain.precision, plain.accepted) == (INT8, False)
    assert "about 900 bytes of RAM, the target has 700" in plain.message
    assert done.accepted
    assert done.step.road.startswith("30% of the channels pruned")
    assert not any("equalized" in step.road for step in done.trail), "what only loses less is no help"


def test_int8_after_training_is_enough_where_it_loses_little(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, wrong=lambda road: 1 if road.form.precision == INT8 else 0)
    done = run(plan(precision=INT8), bench)
    assert [step.accepted for step in done.trail] == [False, True]
    assert (done.accepted, done.step.precision, done.step.size_bytes) == (True, INT8, 280)
    assert done.step.loss is not None
    assert done.step.loss.value == pytest.approx(0.01)
    assert done.step.message.endswith("this one was taken")


def test_only_the_artifact_that_was_taken_is_left(tmp_path: Path) -> None:
    done = run(plan(precision=INT8), FakeBench(tmp_path, wrong=fails_until("qat")))
    assert [path.name for path in tmp_path.iterdir()] == [done.path.name]
    assert done.path.read_text() == "int8 with quantization-aware training"


def test_the_roads_are_walked_in_order_of_cost_until_one_repairs_the_loss(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, wrong=fails_until("qat"))
    done = run(plan(precision=INT8), bench)
    assert [road.means for road in bench.roads] == ["plain", "plain", "equalized", "mixed", "qat"]
    assert done.step.quantization == "aware_training"
    assert all("loses 0.3000 accuracy" in step.message for step in done.trail[1:4])


def test_with_only_a_limit_of_the_loss_the_smallest_is_taken(tmp_path: Path) -> None:
    assert run(plan(max_loss=0.01), FakeBench(tmp_path)).step.precision == INT8


def test_with_only_a_limit_of_the_loss_half_precision_is_taken_before_any_training(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, wrong=fails_until("qat"))
    done = run(plan(max_loss=0.01), bench)
    assert done.step.precision == FP16
    assert not any(road.trains for road in bench.roads)


def test_a_latency_that_float_keeps_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    done = run(plan(max_latency_ms=20), FakeBench(tmp_path))
    assert (done.step.precision, len(done.trail)) == (FP32, 1)


def test_what_is_too_slow_in_int8_is_pruned(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, p95=lambda road: 10 * (1 - road.channels), wrong=lambda road: round(2 * road.channels))
    done = run(plan(precision=INT8, max_latency_ms=6), bench)
    assert [road.channels for road in bench.roads] == [0, 0, 0.3, 0.5]
    assert (done.accepted, done.step.latency and done.step.latency.p95_ms) == (True, 5.0)


def test_when_every_road_fails_the_float_model_comes_back_and_the_trail_says_so(tmp_path: Path) -> None:
    done = run(plan(precision=INT8), FakeBench(tmp_path, wrong=fails_until("none")))
    assert not done.accepted
    assert done.step == done.trail[-1]
    assert (done.step.precision, done.step.accepted) == (FP32, False)
    assert "no road of 5 keeps to every limit" in done.step.message
    assert done.path.read_text() == "float"


def test_a_microcontroller_gets_int8_and_float_is_only_its_measure(tmp_path: Path) -> None:
    asked = plan(EDGE, INT8, max_size_bytes=300)
    done = run(asked, FakeBench(tmp_path))
    assert [step.format for step in done.trail] == ["litert", "edge"]
    assert done.trail[0].latency is None
    assert done.step.format == "edge"


def test_a_road_that_cannot_be_walked_is_told_and_the_next_one_tried(tmp_path: Path) -> None:
    def refuse(road: Road) -> Exception | None:
        return InvalidArgument("UNSUPPORTED_OPERATOR", "Softplus in layer head") if road.means == "equalized" else None

    done = run(plan(precision=INT8), FakeBench(tmp_path, wrong=fails_until("mixed"), refuse=refuse))
    assert done.trail[2].message == "not accepted: Softplus in layer head"
    assert done.trail[2].size_bytes == 0
    assert done.step.road.endswith("the layers that hurt most in float")


def test_when_plain_int8_cannot_be_made_nothing_is_trained_for_it(tmp_path: Path) -> None:
    def refuse(road: Road) -> Exception | None:
        return InvalidArgument("UNSUPPORTED_OPERATOR", "Erf in layer head") if road.form.precision == INT8 else None

    done = run(plan(precision=INT8), FakeBench(tmp_path, refuse=refuse))
    assert [step.message for step in done.trail[1:-1]] == ["not accepted: Erf in layer head"]
    assert not done.accepted


def test_a_float_model_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    error = FailedPrecondition("BAD_WEIGHTS", "NaN in head.weight")
    with pytest.raises(FailedPrecondition, match=r"head\.weight"):
        run(plan(), FakeBench(tmp_path, refuse=lambda road: error))


def test_a_limit_of_a_latency_that_nobody_can_measure_is_refused_at_once(tmp_path: Path) -> None:
    asked = Plan(ONNX, "", CompressionLimits(max_latency_ms=5), "image_classification", np.zeros(3), unmeasured_reason="no agent")
    with pytest.raises(FailedPrecondition) as caught:
        run(asked, FakeBench(tmp_path))
    assert caught.value.reason == "LATENCY_UNMEASURED"
    assert "no agent" in caught.value.message


def test_a_wish_to_stop_is_heard_between_roads(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path)
    with pytest.raises(Cancelled):
        run(plan(), bench, should_stop=lambda: len(bench.roads) >= 2)
    assert len(bench.roads) == 2


def test_progress_never_falls_and_tells_the_time_left(tmp_path: Path) -> None:
    heard: list[tuple[str, float, float]] = []
    run(
        plan(precision=INT8),
        FakeBench(tmp_path, wrong=fails_until("none")),
        on_progress=lambda stage, fraction, eta_s: heard.append((stage, fraction, eta_s)),
    )
    fractions = [fraction for _, fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert all(eta_s > 0 for _, _, eta_s in heard)
    assert heard[0][0] == "float: make"
