"""Forecasts of series, from data to served answers, without servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.gate import Demands, Evidence, Verdict, decide
from modelyard.evaluator.worker.scoring import evaluate
from modelyard.exporter.domain.form import Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import measure_candidates
from modelyard.exporter.worker.export import export_model
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.model import read_card
from modelyard.recipes.catalogue import DatasetFacts, candidates
from modelyard.recipes.recipe import Recipe
from modelyard.serving.handlers.proven_model import LoadOptions, load_proven
from modelyard.trainer.worker.forecasting import run_forecast_training
from tests.support.datasets import file_store, open_reader
from tests.support.machines import demand, publish_demand

SOURCE = Source("projects/p/models/m/versions/V001")
RECIPES = {each.name: each for each in candidates(DatasetFacts("forecasting", 1, 0))}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr("modelyard.trainer.worker.forecasting.training_threads", lambda: 1)
    yield
    torch.set_num_threads(threads)


def quick(name: str, **settings: Any) -> Recipe:
    recipe = RECIPES[name]
    return replace(recipe, tabular=replace(recipe.tabular, max_steps=300, **settings))


def trained(store: Any, descriptor: Any, recipe: Recipe, folder: Path) -> Path:
    reader = open_reader(store, descriptor)
    run_forecast_training(reader, recipe, folder / "model.zip", {}, lambda *_: None)
    export_model(folder / "model.zip", reader, folder / "m.bundle", SOURCE, lambda _: None)
    reader.close()
    return folder / "m.bundle"


def scored(store: Any, bundle: Path, descriptor: Any) -> EvaluationResult:
    spec = EvaluationSpec("x", store.put_file(bundle), "v", descriptor, "ab" * 32, "forecasting", ("validation", "test"))
    return evaluate(spec, store, bundle.parent, lambda *_: None)


def values(result: EvaluationResult) -> dict[str, float]:
    test = result.usage("test")
    assert test is not None
    return {each.name: each.value for each in test.score.metrics}


@pytest.mark.parametrize("name", RECIPES)
def test_a_season_is_found_and_what_comes_is_said_with_its_interval(name: str, tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    descriptor = publish_demand(store, [demand(400, 0, channels=2), demand(360, 1, channels=2)])
    bundle = trained(store, descriptor, quick(name), tmp_path)
    card = read_card(tmp_path / "model.zip")
    assert (card.details["period"], card.details["horizon"], card.details["context"]) == (12, 12, 24)
    result = scored(store, bundle, descriptor)
    found = values(result)
    assert found["coverage"] == pytest.approx(0.9, abs=0.09)
    assert found["rmse"] >= found["mae"] > 0
    test = result.usage("test")
    assert test is not None
    verdict = decide(Evidence(test), Demands()).verdict
    if name == "forecast-naive":
        assert found["forecast_skill"] == pytest.approx(0.5)  # it is what the others are measured by
        assert verdict is not Verdict.DEPLOY
    else:
        assert found["mase"] < 0.85
        assert found["forecast_skill"] > 0.53
        assert verdict is Verdict.DEPLOY
        assert "repeating the last 12 readings" in " ".join(decide(Evidence(test), Demands()).reasons)


def test_what_is_served_is_what_was_proven_and_gaps_are_borne(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    bundle = trained(store, publish_demand(store, [demand(300)]), quick("forecast-linear"), tmp_path)
    proven = load_proven(bundle, LoadOptions(cores=1, most_rows=8))
    try:
        asked = np.float32(demand(424, 7)[None, 400:])
        answers = proven.model.run({"series": asked})
        came = demand(436, 7)[424:]
        assert answers["forecast"].shape == (1, 12, 1)
        assert np.abs(answers["forecast"][0] - came).mean() < 2.0
        assert (answers["lower"] < answers["forecast"]).all()
        assert (answers["forecast"] < answers["upper"]).all()
        asked[0, 5] = np.nan
        assert all(np.isfinite(each).all() for each in proven.model.run({"series": asked}).values())
        for wrong in (asked[:, :-1], asked.astype(np.float64), np.concatenate([asked, asked], axis=2)):
            with pytest.raises(InvalidArgument):
                proven.model.run({"series": wrong})
    finally:
        proven.model.close()


def test_the_level_and_scale_of_a_series_do_not_count(tmp_path: Path) -> None:
    """Forecasts of the same series in another unit are the same in that unit."""
    store = file_store(tmp_path / "artifacts", "evaluator")
    bundle = trained(store, publish_demand(store, [demand(300)]), quick("forecast-hits"), tmp_path)
    proven = load_proven(bundle, LoadOptions(cores=1, most_rows=8))
    try:
        asked = np.float32(demand(24, 3)[None])
        plain = proven.model.run({"series": asked})["forecast"]
        other = proven.model.run({"series": np.float32(1000) * asked})["forecast"]
        assert other == pytest.approx(1000 * plain, rel=1e-3)
    finally:
        proven.model.close()


def test_given_horizon_and_context_are_kept_and_checked(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_demand(store, [demand(200)]))
    run_forecast_training(reader, quick("forecast-linear", horizon=5, context_length=30), tmp_path / "m.zip", {}, lambda *_: None)
    details = read_card(tmp_path / "m.zip").details
    assert (details["horizon"], details["context"]) == (5, 30)
    for settings, reason in (({"horizon": 40}, "HORIZON_TOO_LONG"), ({"context_length": 139}, "CONTEXT_TOO_LONG")):
        with pytest.raises(InvalidArgument) as caught:
            run_forecast_training(reader, quick("forecast-linear", **settings), tmp_path / "x.zip", {}, lambda *_: None)
        assert caught.value.reason == reason
    reader.close()
    with pytest.raises(InvalidArgument, match="1 to 64"):
        quick("forecast-linear", horizon=65).validate()


def test_the_test_part_is_not_learned_from(tmp_path: Path) -> None:
    """What comes last is other than before: the model is the same, byte for byte."""
    store = file_store(tmp_path / "artifacts")
    series = demand(300)
    other = series.copy()
    other[240:] += 500
    files = []
    for number, made in enumerate((series, other)):
        reader = open_reader(store, publish_demand(store, [made]))
        run_forecast_training(reader, quick("forecast-hits"), tmp_path / f"{number}.zip", {}, lambda *_: None)
        files.append((tmp_path / f"{number}.zip").read_bytes())
        reader.close()
    assert files[0] == files[1]


def test_a_series_without_a_season_is_held_against_its_last_reading(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    walk = np.cumsum(np.random.default_rng(0).normal(0, 1, (400, 1)), axis=0)
    descriptor = publish_demand(store, [walk])
    result = scored(store, trained(store, descriptor, quick("forecast-linear"), tmp_path), descriptor)
    test = result.usage("test")
    assert test is not None
    assert test.baseline_does == "repeating the last reading"
    assert decide(Evidence(test), Demands()).verdict is not Verdict.DEPLOY  # nothing can be known of a random walk


def test_what_cannot_be_learned_or_scored_is_said(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts", "evaluator")
    gone = demand(100)
    gone[:] = np.nan
    reader = open_reader(store, publish_demand(store, [gone]))
    with pytest.raises(FailedPrecondition) as caught:
        run_forecast_training(reader, quick("forecast-linear"), tmp_path / "m.zip", {}, lambda *_: None)
    assert caught.value.reason == "NO_WINDOWS"
    reader.close()
    bundle = trained(store, publish_demand(store, [demand(300)]), quick("forecast-linear"), tmp_path)
    for made, reason in (([demand(40)], "NO_ORIGINS"), ([demand(300, channels=2)], "CHANNELS_DIFFER")):
        with pytest.raises(ModelyardError) as found:
            scored(store, bundle, publish_demand(store, made))
        assert found.value.reason == reason


def test_every_recipe_is_measured_untrained_and_made_in_onnx_alone(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_demand(store, [demand(200)]))
    found = measure_candidates(list(RECIPES.values()), reader, tmp_path, Target("cpu-1core", threads=1, local=True), seconds=0.05)
    assert [each.error_message for each in found if each.latency is None] == []
    run_forecast_training(reader, quick("forecast-linear"), tmp_path / "m.zip", {}, lambda *_: None)
    with pytest.raises(InvalidArgument, match="exported as onnx fp32 only"):
        export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None, Form("litert", "int8"))
    export_model(tmp_path / "m.zip", reader, tmp_path / "m.bundle", SOURCE, lambda _: None)
    card = open_bundle(tmp_path / "m.bundle").card
    assert [each.name for each in card.outputs] == ["forecast", "lower", "upper"]
    reader.close()
