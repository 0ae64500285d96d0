"""A trained model whose plain int8 fails, repaired; what pruning does to the artifact; the planner over real conversions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import Cancelled
from modelyard.core.latency import Latency
from modelyard.exporter.domain.compression import CompressionLimits
from modelyard.exporter.domain.form import EDGE, FP32, INT8, LITERT, ONNX, Form
from modelyard.exporter.worker.export import write_export
from modelyard.exporter.worker.finetune import Budget, Examples, accuracy
from modelyard.exporter.worker.picture_graph import served_model, untrained_model
from modelyard.exporter.worker.planner import Context, Plan, compress, validation_examples
from modelyard.exporter.worker.planner import Listener as PlanListener
from modelyard.exporter.worker.pruning import packed_size, prune_channels, prune_weights
from modelyard.exporter.worker.qat import quantization_aware
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.dataset import TEST, TRAIN, DatasetReader
from modelyard.formats.model import PictureInput, read_model
from modelyard.recipes.build_image import ServedImageModel
from modelyard.runtime.latency import measure
from modelyard.runtime.model import load_model
from tests.support.failing_int8 import make_failing_model_file
from tests.support.small_digits import PICTURE, SIDE, digits_reader, train_digits

SOURCE = Source("projects/p/models/m/versions/V001", "projects/p/datasets/d/versions/V001", "ab" * 32, "cd" * 32)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bench:
    """The digits, a model trained on them, and the same model with channels rescaled."""

    reader: DatasetReader
    sound: ServedImageModel
    failing: ServedImageModel

    def examples(self, usage: str) -> Examples:
        return Examples(self.reader.pictures(usage, SIDE, SIDE, 1), self.reader.labels(usage))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("digits")
    with digits_reader(folder / "artifacts") as reader:
        path = train_digits(reader, folder / "model.zip")
        failing = make_failing_model_file(path, folder / "failing.zip", reader.pictures(TEST, SIDE, SIDE, 1), streams=True)
        yield Bench(reader, served_model(read_model(path)), served_model(read_model(failing)))


def artifact(bench: Bench, model: ServedImageModel, path: Path, form: Form) -> tuple[float, Path]:
    """The accuracy of a model's artifact on the test pictures, in its own runtime."""
    write_export(model, bench.reader, path, form, SOURCE, picture=PICTURE)
    loaded, test = load_model(open_bundle(path)), bench.examples(TEST)
    answers = loaded.run({"image": test.pictures})["probabilities"]
    loaded.close()
    return float((answers.argmax(1) == test.labels).mean()), path


@pytest.mark.parametrize("format", [ONNX, LITERT])
def test_rounding_in_the_loop_repairs_a_model_whose_plain_int8_fails(bench: Bench, tmp_path: Path, format: str) -> None:
    right = accuracy(bench.failing, bench.examples(TEST))
    assert right > 0.93
    plain, _ = artifact(bench, bench.failing, tmp_path / "plain.bundle", Form(format, INT8))
    assert plain < right - 0.10
    aware = quantization_aware(bench.failing, bench.examples(TRAIN), seconds=60, steps=60)
    repaired, _ = artifact(bench, aware, tmp_path / "aware.bundle", Form(format, INT8))
    assert repaired >= right - 0.01


def test_a_model_without_some_channels_is_smaller_and_nearly_as_right(bench: Bench, tmp_path: Path) -> None:
    right, whole = artifact(bench, bench.sound, tmp_path / "whole.bundle", Form())
    pruned = prune_channels(bench.sound, bench.examples(TRAIN), 0.5, Budget(60, steps=150))
    found, less = artifact(bench, pruned, tmp_path / "pruned.bundle", Form())
    assert found > right - 0.05
    assert open_bundle(less).model_size < 0.5 * open_bundle(whole).model_size


def test_a_network_without_half_of_its_channels_is_faster(bench: Bench, tmp_path: Path) -> None:
    large = PictureInput(64, 64, 1)  # so that convolutions take the time, not the call
    network = untrained_model("modelyard:tinynet", large, 10)
    train = Examples(bench.reader.pictures(TRAIN, 64, 64, 1)[:64], bench.reader.labels(TRAIN)[:64])
    pruned = prune_channels(network, train, 0.5, Budget(60, steps=1))
    times = []
    for name, model in (("whole", network), ("pruned", pruned)):
        write_export(model, bench.reader, tmp_path / name, Form(), SOURCE, picture=large)
        times.append(measure(tmp_path / name, "cpu-1core", seconds=0.5).p50_ms)
    assert times[1] < 0.7 * times[0]


def test_a_model_with_three_quarters_of_its_weights_zero_packs_smaller(bench: Bench, tmp_path: Path) -> None:
    right, whole = artifact(bench, bench.sound, tmp_path / "whole.bundle", Form())
    thin = prune_weights(bench.sound, bench.examples(TRAIN), 0.75, Budget(60, steps=150))
    found, less = artifact(bench, thin, tmp_path / "thin.bundle", Form())
    assert found > right - 0.05
    sizes = [packed_size(open_bundle(path).model_bytes()) for path in (whole, less)]
    assert sizes[1] < 0.5 * sizes[0]


# The planner


def context(bench: Bench, folder: Path, model: ServedImageModel, format: str, precision: str, **limits: Any) -> Context:
    truth = validation_examples(bench.reader, PICTURE).labels
    asked = Plan(format, precision, CompressionLimits(**limits), "image_classification", truth, training_s=20)
    return Context(model, PICTURE, bench.reader, folder, SOURCE, quick, asked)


def quick(path: Path) -> Latency:
    found = measure(path, "cpu-1core", seconds=0.2)
    return Latency(found.p50_ms, found.p95_ms, found.p99_ms, found.calls, found.threads, found.target, found.hardware)


def test_the_planner_finds_the_road_that_repairs_int8(bench: Bench, tmp_path: Path) -> None:
    done = compress(context(bench, tmp_path, bench.failing, ONNX, INT8))
    assert done.accepted
    assert [step.accepted for step in done.trail] == [False, False, True]
    assert done.step.road == "int8 after training, layers equalized"
    assert done.step.loss is not None
    assert done.step.loss.value <= 0.01
    assert open_bundle(done.path).card.precision == INT8
    assert done.step.size_bytes == open_bundle(done.path).model_size
    assert [path.name for path in tmp_path.iterdir()] == [done.path.name]


def test_with_only_a_limit_of_the_loss_a_sound_model_becomes_int8(bench: Bench, tmp_path: Path) -> None:
    done = compress(context(bench, tmp_path, bench.sound, LITERT, ""))
    assert done.step.precision == INT8
    assert [step.precision for step in done.trail] == [FP32, "dynamic_int8", INT8]
    assert done.trail[0].size_bytes > 3 * done.step.size_bytes


def test_a_microcontroller_gets_its_bundle(bench: Bench, tmp_path: Path) -> None:
    done = compress(context(bench, tmp_path, bench.sound, EDGE, INT8, max_size_bytes=120_000))
    assert (done.accepted, done.step.format) == (True, EDGE)
    assert "model_data.cc" in open_bundle(done.path).card.files


def test_limits_that_nothing_keeps_bring_the_float_model_back(bench: Bench, tmp_path: Path) -> None:
    done = compress(context(bench, tmp_path, bench.sound, ONNX, "", max_size_bytes=1000, skip_training=True))
    assert not done.accepted
    assert open_bundle(done.path).card.precision == FP32
    assert "float model" in done.trail[-1].message


def test_a_wish_to_stop_ends_the_planner(bench: Bench, tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        compress(context(bench, tmp_path, bench.sound, ONNX, INT8), PlanListener(should_stop=stop))


def test_the_same_seed_trains_the_same_model(bench: Bench) -> None:
    train = bench.examples(TRAIN)
    one, other = (quantization_aware(bench.sound, train, seconds=120, steps=5, seed=3).state_dict() for _ in range(2))
    assert list(one) == list(other)
    assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in one)


def test_training_with_rounding_tells_how_long_it_takes(bench: Bench) -> None:
    heard: list[tuple[float, float]] = []

    def on_progress(fraction: float, eta_s: float) -> None:
        heard.append((fraction, eta_s))

    quantization_aware(bench.sound, bench.examples(TRAIN), seconds=60, steps=8, on_progress=on_progress)
    assert heard[-1] == (1.0, 0.0)
    assert [fraction for fraction, _ in heard] == sorted(fraction for fraction, _ in heard)
