"""What a training attempt tells the service, and how it begins; no torch here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.worker_link import Assignment, Cancelled
from modelyard.formats.checkpoint import Checkpoint as Contents
from modelyard.formats.checkpoint import write_checkpoint
from modelyard.formats.dataset import open_dataset
from modelyard.formats.model import read_card
from modelyard.trainer.domain.recipe import RecipeRequest, resolve_recipe
from modelyard.trainer.domain.training_job import (
    TrainingSpec,
    TrainingState,
    result_from,
    spec_document,
    spec_from,
    state_document,
    state_from,
)
from modelyard.trainer.worker.dispatch import check_same_table, work
from modelyard.trainer.worker.reporter import Reporter, finite, share_done
from tests.support.datasets import file_store, publish_table
from tests.support.trainer_fakes import MODEL, ROWS, FakeLink, facts_of_rows

POINT = {
    "step": 40,
    "epoch": 1.5,
    "loss": 0.5,
    "learning_rate": 0.01,
    "examples_per_second": 100.0,
    "metrics": {"val_accuracy": 0.9},
    "eta_s": 30.0,
    "elapsed_s": 10.0,
}


@pytest.fixture
def link(tmp_path: Path) -> FakeLink:
    (tmp_path / "work").mkdir()
    return FakeLink(file_store(tmp_path / "artifacts", "trainer"), tmp_path / "work")


def reporter(link: FakeLink, state: TrainingState | None = None) -> Reporter:
    return Reporter(link, state or TrainingState(), lambda event: f"epoch {int(event.get('epoch', 0)) + 1}", clock=lambda: 1000.0)


def test_a_point_becomes_an_event_progress_and_what_is_saved(link: FakeLink) -> None:
    reporter(link).on_event(dict(POINT))
    told = link.reports[-1]
    assert told["events"] == [
        {
            "time": 1000.0,
            "step": 40,
            "epoch": 1.5,
            "loss": 0.5,
            "learning_rate": 0.01,
            "examples_per_second": 100.0,
            "eta_s": 30.0,
            "metrics": {"val_accuracy": 0.9},
        }
    ]
    assert (told["stage"], told["fraction"], told["done"], told["total"], told["unit"]) == ("epoch 2", 0.25, 40, 160, "steps")
    saved = state_from(link.saved)
    assert (saved.train_seconds, saved.latest_point) == (10.0, told["events"][0])


def test_steps_of_the_job_that_a_run_goes_on_from_are_behind_it(link: FakeLink) -> None:
    """A quarter of the time made 10 steps: 40 in all, and the 30 that were there before."""
    tell = Reporter(link, TrainingState(), lambda event: "", clock=lambda: 1000.0, behind=30)
    tell.on_event(dict(POINT))
    assert (link.reports[-1]["done"], link.reports[-1]["total"]) == (40, 70)


def test_progress_never_falls(link: FakeLink) -> None:
    tell = reporter(link)
    for eta_s in (30.0, 90.0, 10.0, None):
        tell.on_event({**POINT, "eta_s": eta_s})
    fractions = [told["fraction"] for told in link.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.5


def test_numbers_that_are_none_do_not_travel(link: FakeLink) -> None:
    reporter(link).on_event({**POINT, "loss": math.nan, "metrics": {"a": math.inf, "b": 1.0}, "eta_s": math.inf})
    json.dumps(link.reports[-1], allow_nan=False)
    event = link.events[0]
    assert "loss" not in event
    assert event["metrics"] == {"b": 1.0}


def test_a_note_stays_in_the_stage(link: FakeLink) -> None:
    tell = reporter(link)
    tell.on_event({"step": 0, "epoch": 0.0, "note": "WEIGHTS_ABSENT", "message": "it trains from nothing"})
    tell.on_event(dict(POINT))
    assert [told["stage"] for told in link.reports] == ["epoch 1 (it trains from nothing)", "epoch 2 (it trains from nothing)"]
    assert len(link.events) == 1


def test_a_checkpoint_is_stored_known_and_sent_before_training_goes_on(link: FakeLink, tmp_path: Path) -> None:
    tell = reporter(link)
    path = tmp_path / "last.checkpoint"
    for step in (3, 7):
        weights = {"weights/a": np.full(2, step, np.float32)}
        write_checkpoint(path, Contents(weights, {"step": step, "epoch": 1, "metrics": {"val_loss": 1}}))
        tell.save_checkpoint("last", path)
    kept = state_from(link.flushed).checkpoints["last"]
    assert (kept.step, kept.epoch, kept.metrics) == (7, 1, {"val_loss": 1.0})
    assert link.artifacts.read_bytes(kept.blob) == path.read_bytes()
    assert [stored.uri for stored in link.artifacts.list()] == [kept.blob.uri], "the replaced checkpoint is gone"


def test_an_attempt_keeps_what_earlier_ones_left(link: FakeLink) -> None:
    tell = reporter(link, TrainingState(train_seconds=100.0))
    tell.on_event({**POINT, "elapsed_s": 3.0})
    assert state_from(link.saved).train_seconds == 100.0
    assert finite({"a": math.nan, "b": "x"}) == {"b": "x"}
    assert share_done(0.0, 0.0) == share_done(5.0, None) == 0.0


def table_assignment(link: FakeLink, saved: dict[str, Any] | None = None, **more: Any) -> Assignment:
    """Learn y = x > 0 with a linear model."""
    store = file_store(Path(str(link.workdir.parent)) / "artifacts")
    x = np.linspace(-1, 1, 60).tolist()
    columns = {"x": x, "y": ["yes" if value > 0 else "no" for value in x]}
    descriptor = publish_table(store, columns, "y", task="tabular_classification")
    recipe = resolve_recipe(RecipeRequest("linear"), facts_of_rows())
    spec = replace(TrainingSpec(ROWS, "ab" * 32, descriptor, ("no", "yes"), MODEL, recipe), **more)
    document = json.loads(json.dumps(spec_document(spec)))
    return Assignment("projects/p/trainingJobs/t", "training", 1, document, saved or {}, 0.0)


def test_a_table_is_trained_and_its_model_is_also_its_checkpoint(link: FakeLink) -> None:
    completion = work(table_assignment(link, state_document(TrainingState(train_seconds=7.0))), link)  # type: ignore[arg-type]
    result = result_from(json.loads(json.dumps(completion.result)))
    assert completion.reason == "COMPLETED"
    card = read_card(link.artifacts.path(result.model_file))
    assert (card.kind, card.classes, card.dataset["version"]) == ("linear", ("no", "yes"), ROWS)
    assert result.metrics["accuracy"] > 0.7
    assert {kind: kept.blob for kind, kept in result.state.checkpoints.items()} == {
        "last": result.model_file,
        "best": result.model_file,
    }
    assert result.state.train_seconds > 7.0
    assert result.recipe.tabular.weight_decay is not None


def test_cancelling_ends_a_table_without_a_result(link: FakeLink) -> None:
    link.says = "cancel"
    with pytest.raises(Cancelled):
        work(table_assignment(link), link)  # type: ignore[arg-type]
    assert not state_from(link.saved).checkpoints


def test_trees_go_on_from_an_earlier_model_of_the_same_columns_only(link: FakeLink) -> None:
    made = work(table_assignment(link), link)  # type: ignore[arg-type]
    file = result_from(made.result).model_file
    with open_dataset(link.artifacts, spec_from(table_assignment(link).spec).descriptor) as reader:
        card = read_card(link.artifacts.path(file))
        check_same_table(card, reader.descriptor)
        for other in (replace(card, columns=({"name": "z"},)), replace(card, classes=("no", "perhaps"))):
            with pytest.raises(FailedPrecondition) as caught:
                check_same_table(other, reader.descriptor)
            assert caught.value.reason == "WARM_START_MISMATCH"
