"""Models and versions, over fakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.errors import Aborted, InvalidArgument, NotFound
from modelyard.trainer.domain.model import ModelVersion, version_name
from modelyard.trainer.domain.recipe import RecipeRequest, recipe_document, resolve_recipe
from modelyard.trainer.domain.training_job import (
    TrainingResult,
    TrainingSpec,
    TrainingState,
    WarmStart,
    result_document,
    spec_document,
)
from modelyard.trainer.handlers import models
from modelyard.trainer.handlers.completion import keep_trained_model
from tests.support.trainer_fakes import MODEL, PARENT, PICTURES, FakeResources, a_job, blob, facts_of_pictures

RECIPE = resolve_recipe(RecipeRequest("tinynet"), facts_of_pictures())
MADE = ModelVersion(f"{PARENT}/trainingJobs/a", PICTURES, "ab" * 32, "image_classification", recipe_document(RECIPE), blob("f"))


@pytest.fixture
def resources() -> FakeResources:
    return FakeResources()


def keep(resources: FakeResources, job: str, model: str = MODEL) -> str:
    return models.keep_version(resources, model, replace(MADE, training_job=f"{PARENT}/trainingJobs/{job}"))


def test_versions_are_numbered_per_model_and_a_job_gets_one(resources: FakeResources) -> None:
    assert keep(resources, "a") == f"{MODEL}/versions/V001"
    assert keep(resources, "b") == f"{MODEL}/versions/V002"
    assert keep(resources, "a") == f"{MODEL}/versions/V001"
    assert keep(resources, "c", f"{PARENT}/models/other") == f"{PARENT}/models/other/versions/V001"
    assert models.get_model(resources, MODEL).content.latest_version == f"{MODEL}/versions/V002"
    assert version_name(MODEL, 1000) == f"{MODEL}/versions/V1000"


class Crash(Exception):
    """The process ends here."""


class CrashingResources(FakeResources):
    """Ends the process at the n-th write."""

    left = 0

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash

    def create(self, *arguments: Any) -> Any:
        self._count()
        return super().create(*arguments)

    def update(self, *arguments: Any, **named: Any) -> Any:
        self._count()
        return super().update(*arguments, **named)


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_a_crash_at_any_write_leads_to_the_same_version(write: int) -> None:
    resources = CrashingResources()
    keep(resources, "before")
    resources.left = write
    with pytest.raises(Crash):
        keep(resources, "a")
    assert keep(resources, "a") == f"{MODEL}/versions/V002"
    assert keep(resources, "after") == f"{MODEL}/versions/V003"
    found = models.list_model_versions(resources, MODEL, 0, "").items
    assert sorted(item.content.training_job.rpartition("/")[2] for item in found) == ["a", "after", "before"]
    assert models.get_model(resources, MODEL).content.latest_version == f"{MODEL}/versions/V003"


def test_the_number_of_a_deleted_version_does_not_come_back(resources: FakeResources) -> None:
    keep(resources, "a")
    keep(resources, "b")
    models.delete_model_version(resources, f"{MODEL}/versions/latest")
    assert models.get_model(resources, MODEL).content.latest_version == f"{MODEL}/versions/V001"
    assert models.get_model_version(resources, f"{MODEL}/versions/latest").name == f"{MODEL}/versions/V001"
    assert keep(resources, "c") == f"{MODEL}/versions/V003"


def test_a_model_without_versions_has_no_latest(resources: FakeResources) -> None:
    keep(resources, "a")
    models.delete_model_version(resources, f"{MODEL}/versions/V001")
    with pytest.raises(NotFound) as caught:
        models.get_model_version(resources, f"{MODEL}/versions/latest")
    assert caught.value.reason == "NO_MODEL_VERSION"


@pytest.mark.parametrize(
    ("name", "reason"),
    [(f"{PARENT}/models/none/versions/latest", "MODEL_NOT_FOUND"), (f"{MODEL}/versions/V009", "MODEL_VERSION_NOT_FOUND")],
)
def test_what_is_not_there_is_not_found(resources: FakeResources, name: str, reason: str) -> None:
    keep(resources, "a")
    for verb in (models.get_model_version, models.delete_model_version):
        with pytest.raises(NotFound) as caught:
            verb(resources, name)
        assert caught.value.reason == reason


def test_versions_are_listed_in_pages_newest_first(resources: FakeResources) -> None:
    for job in "abc":
        keep(resources, job)
    first = models.list_model_versions(resources, MODEL, 2, "")
    rest = models.list_model_versions(resources, MODEL, 2, first.next_page_token)
    assert [item.name[-4:] for item in (*first.items, *rest.items)] == ["V003", "V002", "V001"]
    assert rest.next_page_token == ""
    with pytest.raises(NotFound):
        models.list_model_versions(resources, f"{PARENT}/models/none", 0, "")


def test_notes_change_under_an_etag(resources: FakeResources) -> None:
    version = keep(resources, "a")
    before = models.get_model(resources, MODEL)
    changed = models.update_model(resources, MODEL, {"display_name": "Digits"}, before.etag)
    assert (changed.content.display_name, changed.content.latest_version) == ("Digits", version)
    assert changed.etag != before.etag
    with pytest.raises(Aborted):
        models.update_model(resources, MODEL, {"description": "x"}, before.etag)
    noted = models.update_model_version(resources, f"{MODEL}/versions/latest", {"description": "good"}, "")
    assert noted.content == replace(models.get_model_version(resources, version).content, description="good")


def test_notes_that_are_too_long_are_refused(resources: FakeResources) -> None:
    keep(resources, "a")
    with pytest.raises(InvalidArgument) as caught:
        models.update_model(resources, MODEL, {"description": "x" * 10_001}, "")
    assert caught.value.violations[0].field == "model.description"
    with pytest.raises(InvalidArgument) as caught:
        models.update_model(resources, MODEL, {"display_name": "x" * 201}, "")
    assert caught.value.values["limit"] == "200"


def test_a_finished_job_becomes_a_version_with_its_lineage(resources: FakeResources) -> None:
    parent = keep(resources, "earlier")
    spec = TrainingSpec(PICTURES, "ab" * 32, blob("d"), ("cat", "dog"), MODEL, RECIPE, warm_start=WarmStart(parent, blob("f")))
    halved = replace(RECIPE, hyperparameters=replace(RECIPE.hyperparameters, batch_size=2))
    result = TrainingResult(blob("e"), halved, {"val_accuracy": 0.75}, 1234, TrainingState())
    job = a_job(f"{PARENT}/trainingJobs/t", spec_document(spec), result=result_document(result))
    assert keep_trained_model(resources, job) == {"model_version": f"{MODEL}/versions/V002"}
    assert keep_trained_model(resources, job) == {"model_version": f"{MODEL}/versions/V002"}
    version = models.get_model_version(resources, f"{MODEL}/versions/V002").content
    assert (version.training_job, version.parent_version, version.model_file) == (job.name, parent, blob("e"))
    assert (version.classes, version.training_metrics, version.parameter_count) == (("cat", "dog"), {"val_accuracy": 0.75}, 1234)
    assert version.recipe["hyperparameters"]["batch_size"] == 2
