"""Watching a model from inside its process: cheap, harmless, and it sees what changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelyard.formats.bundle import add_statistics, open_bundle
from modelyard.formats.observed_features import observed_inputs, observed_outputs
from modelyard.formats.pictures import encode_png
from modelyard.formats.training_statistics import TrainingStatistics, statistics_of
from modelyard.runtime.model import RunnableModel, load_model
from modelyard.serving.domain.drift import Level
from modelyard.serving.worker.observing import ROWS_OF_A_CALL, SHARE, Observer, observer_of
from tests.support.small_bundles import brightness_classifier, table_classifier


class FakeClock:
    """Each look at it takes `step` seconds."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def pictures(count: int, light: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    each = rng.uniform(60, 200, (count, 1, 1, 1)) * light + rng.normal(0, 5, (count, 8, 8, 1))
    return np.clip(each, 0, 255).astype(np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> RunnableModel:
    return load_model(open_bundle(brightness_classifier(tmp_path / "m.bundle")))


def observer(model: RunnableModel, clock: FakeClock | None = None, cpu: FakeClock | None = None) -> Observer:
    inputs = {"image": pictures(2000)}
    observed = observed_inputs(model.card, inputs) | observed_outputs(model.card, model.run(inputs))
    statistics = TrainingStatistics(2000, 2000, statistics_of(observed))
    return Observer(model.card, statistics, clock=clock or FakeClock(), cpu=cpu or FakeClock())


def show(watching: Observer, model: RunnableModel, images: np.ndarray, at_once: int = 8) -> None:
    for start in range(0, len(images), at_once):
        inputs = {"image": images[start : start + at_once]}
        watching.seen(inputs, model.run(inputs))


def test_the_same_light(model: RunnableModel) -> None:
    watching = observer(model)
    show(watching, model, pictures(600, seed=1))
    scores = watching.scores()
    assert {each.level for each in scores} == {Level.NONE}
    assert {each.examples for each in scores} == {600}
    assert {each.feature for each in scores} >= {"image.brightness", "image.sharpness", "label", "probabilities.top"}


def test_less_light_is_seen_in_inputs_and_answers(model: RunnableModel) -> None:
    watching = observer(model)
    show(watching, model, pictures(600, light=0.6, seed=1))
    found = {each.feature: each for each in watching.scores()}
    assert found["image.brightness"].level == Level.STRONG
    assert found["image.brightness"].note.startswith("image.brightness up to 0.")
    assert found["label"].level == Level.STRONG


def test_a_large_batch_counts_for_a_few(model: RunnableModel) -> None:
    watching = observer(model)
    show(watching, model, pictures(1000), at_once=1000)
    assert watching.scores()[0].examples == ROWS_OF_A_CALL


def test_it_takes_its_share_of_the_time_and_no_more(model: RunnableModel) -> None:
    """By these clocks each look at an execution takes 1 ms, and 0.1 ms goes by from one execution to the next."""
    clock, cpu = FakeClock(step=0.0001), FakeClock(step=0.001)
    watching = observer(model, clock, cpu)
    asked = 20_000
    inputs = {"image": pictures(1)}
    outputs = model.run(inputs)
    for _ in range(asked):
        watching.seen(inputs, outputs)
    seen = watching.scores()[0].examples
    assert seen * 0.001 == pytest.approx(clock.now * SHARE, rel=0.2)


def test_the_models_memory_is_not_kept(model: RunnableModel) -> None:
    """Tensors lie in memory that the next request writes over."""
    watching = observer(model)
    shared = pictures(8)
    for seed in range(40):
        shared[:] = pictures(8, seed=seed + 10)
        watching.seen({"image": shared}, model.run({"image": shared}))
        shared[:] = 0
    found = {each.feature: each for each in watching.scores()}
    assert found["image.brightness"].level == Level.NONE


def test_what_it_cannot_take_fails_nobody(model: RunnableModel) -> None:
    watching = observer(model)
    for _ in range(100):
        watching.seen({"image": np.zeros(3)}, {})
    show(watching, model, pictures(100))
    assert watching.scores() == ()


def test_picture_files(model: RunnableModel) -> None:
    """Of files their size is watched too, where the statistics know of it."""
    from modelyard.formats.observed_features import file_features

    inputs = {"image": pictures(200)}
    observed = observed_inputs(model.card, inputs) | file_features([640] * 200, [480] * 200)
    watching = Observer(model.card, TrainingStatistics(200, 200, statistics_of(observed)), clock=FakeClock(), cpu=FakeClock())
    file = encode_png(np.zeros((48, 64), np.uint8))
    for _ in range(200):
        one = {"image": pictures(1)}
        watching.seen(one, model.run(one), [file])
    found = {each.feature: each for each in watching.scores()}
    assert found["image.pixels"].level == Level.STRONG
    assert found["image.pixels"].note == "image.pixels below 307200: 0 % in training, 100 % now"
    assert found["image.aspect"].level == Level.NONE


def test_a_bundle_without_statistics_is_not_watched(tmp_path: Path) -> None:
    path = table_classifier(tmp_path / "m.bundle")
    assert observer_of(open_bundle(path)) is None
    made = statistics_of({("INPUT", "x"): np.arange(100.0)})
    add_statistics(path, TrainingStatistics(100, 100, made))
    assert observer_of(open_bundle(path)) is not None
