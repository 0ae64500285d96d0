"""Previews of recipes end to end: real server, worker processes, a table and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from modelyard.cli.recipe_file import recipe_from
from modelyard.client import InvalidArgument, NotFound
from modelyard.type.v1 import job_pb2
from tests.integration.trainer.conftest import DIGITS, TABLE, Trainer

pytestmark = pytest.mark.slow

FEATURES = {
    "recipe_id": "linear",
    "features": [
        {"columns": ["sl"], "scale": {"by": "min_max"}},
        {"columns": ["pl", "pw"], "interact": {"by": "product"}},
        {"columns": ["sw"], "drop": {}},
    ],
}


def test_rows_before_and_after_with_what_was_learned(trainer: Trainer, tmp_path: Path) -> None:
    training = trainer.client.training
    job = training.create_recipe_preview(TABLE, recipe_from(FEATURES), example_count=5)
    assert job.status.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)
    done = training.wait_recipe_preview(job.name, timeout_s=120)
    assert list(done.columns_before) == ["sl", "pl", "pw"]
    assert list(done.columns_after) == ["pl", "pw", "pl x pw", "sl"]
    assert done.width == 4
    assert len(done.rows) == 5
    assert len({row.example_id for row in done.rows}) == 5
    for row in done.rows:
        before, after = [float(value) for value in row.before], row.after
        assert 0 <= after[3] <= 1
        assert math.isclose(after[3], (before[0] - 4.3) / 3.6, abs_tol=0.2)
    assert any(sentence.startswith("sl: less 4.3") for sentence in done.learned)
    trainer.client.artifacts.download(done.page, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert done.resolved_recipe.features_version in page
    assert "http" not in page.replace("http-equiv", "")
    assert done.name in [each.name for each in training.list_recipe_previews()]


def test_pictures_before_and_after(trainer: Trainer, tmp_path: Path) -> None:
    recipe = recipe_from({"recipe_id": "micronet", "augmentation": [{"rotate": {"degrees": 30}}, {"noise": {}}]})
    training = trainer.client.training
    job = training.create_recipe_preview(DIGITS, recipe, example_count=4, variant_count=2)
    done = training.wait_recipe_preview(job.name, timeout_s=120)
    trainer.client.artifacts.download(done.page, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    pictures = page.split("data:image/png;base64,")[1:]
    assert len(pictures) == 4 * 3
    assert len({each.split('"')[0] for each in pictures}) == 12
    assert not done.rows


def test_what_is_wrong_is_said_before_anything_starts(trainer: Trainer) -> None:
    training = trainer.client.training
    before = len(list(training.list_recipe_previews()))
    wrong = recipe_from({"features": [{"columns": ["sepal"], "scale": {}}]})
    with pytest.raises(InvalidArgument, match=r"recipe_preview.recipe.features\[0\].columns\[0\] names the column 'sepal'"):
        training.create_recipe_preview(TABLE, wrong)
    assert len(list(training.list_recipe_previews())) == before
    with pytest.raises(NotFound):
        training.get_recipe_preview("none")


def test_a_table_is_trained_with_features(trainer: Trainer) -> None:
    job = trainer.create("featured", dataset_version=TABLE, model="flowers", recipe=recipe_from(FEATURES))
    done = trainer.wait(job)
    assert done.status.state == job_pb2.JOB_STATE_SUCCEEDED
    version = trainer.client.models.get_model_version(done.model_version)
    assert version.recipe.features_version == done.resolved_recipe.features_version != ""
    assert version.training_metrics["accuracy"] > 0.7
