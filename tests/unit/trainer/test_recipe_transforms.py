"""Features and augmentation as parts of a recipe: resolved, sent and read back, told apart by fingerprints and comparisons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import InvalidArgument
from modelyard.core.requests import Request
from modelyard.recipes.policy import named_policy
from modelyard.recipes.recipe import recipe_document
from modelyard.recipes.steps import Step, version_of
from modelyard.trainer.domain.recipe import RecipeRequest, like, recipe_from, request_from, resolve_recipe, resolve_resumed
from modelyard.trainer.domain.training_job import spec_document, spec_from
from modelyard.trainer.handlers import training_jobs
from modelyard.trainer.handlers.recipe_previews import create_recipe_preview, spec_of_preview
from modelyard.trainer.handlers.search import compare_training_jobs
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from modelyard.trainer.rpc import convert
from modelyard.trainer.rpc.convert_preview import preview_message
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.trainer.v1 import transform_pb2
from tests.support.feature_tables import COLUMNS, EVERYTHING
from tests.support.trainer_fakes import (
    MODEL,
    PARENT,
    PICTURES,
    ROWS,
    FakeDatasets,
    FakeJobs,
    FakeResources,
    facts_of_pictures,
    facts_of_rows,
)

FACTS = facts_of_rows(columns=COLUMNS, target="survived", rows=100)
IMPUTED = (Step("impute", {"by": "mean"}, ("age",)),)
TURNED = (Step("rotate", {"degrees": 10}), Step("policy", {"name": "light"}))


def resolve(facts: Any = FACTS, **asked: Any) -> Any:
    return resolve_recipe(RecipeRequest(**asked), facts)


def refused(call: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        call()
    return caught.value


def test_a_recipe_without_them_is_what_it_always_was() -> None:
    """Its document, by which experiments are told apart and which model files hold."""
    for facts in (FACTS, facts_of_pictures()):
        document = recipe_document(resolve(facts))
        assert not {"features", "augmentation"} & set(document)
        assert recipe_from(json.loads(json.dumps(document))) == resolve(facts)


def test_features_are_completed_and_come_back_from_json() -> None:
    recipe = resolve(recipe_id="linear", features=EVERYTHING)
    assert recipe.features[0].settings["value"] == ""
    document = json.loads(json.dumps(recipe_document(recipe)))
    assert document["features"][0] == {"columns": ["age"], "impute": {"by": "mean", "indicator": True, "value": ""}}
    assert recipe_from(document) == recipe


def test_features_name_the_place_in_the_request() -> None:
    error = refused(lambda: resolve(features=(Step("impute", {}, ("ages",)),)))
    assert error.violations[0].field == "training_job.recipe.features[0].columns[0]"
    assert "did you mean 'age'?" in error.message


def test_features_are_for_tables_and_policies_for_what_has_them() -> None:
    assert "are for tables" in refused(lambda: resolve(facts_of_pictures(), features=IMPUTED)).message
    error = refused(lambda: resolve(augmentation=TURNED))
    assert "training_job.recipe.augmentation has 2 steps, and the task is tabular_classification" in error.message


def test_a_policy_takes_the_place_of_the_level_and_of_mixup() -> None:
    recipe = resolve(facts_of_pictures(), augmentation=TURNED, hyperparameters={"augmentation": "standard", "mixup": 0.3})
    assert [step.do for step in recipe.augmentation] == ["rotate", "shift", "flip"]
    assert (recipe.hyperparameters.augmentation, recipe.hyperparameters.mixup) == ("custom", 0.0)
    none = resolve(facts_of_pictures(), augmentation=(Step("policy", {"name": "none"}),))
    assert (none.augmentation, none.hyperparameters.augmentation) == ((), "none")


def test_custom_without_steps_is_refused() -> None:
    error = refused(lambda: resolve(facts_of_pictures(), hyperparameters={"augmentation": "custom"}))
    assert "training_job.recipe.augmentation is empty" in error.message


def test_series_know_policies_by_their_names() -> None:
    facts = facts_of_rows(task="series_classification")
    recipe = resolve(facts, hyperparameters={"augmentation": "strong"})
    assert recipe.augmentation == named_policy("series_classification", "strong")
    assert resolve(facts, hyperparameters={"augmentation": "none"}).augmentation == ()


def test_going_on_keeps_the_features_and_may_change_the_policy() -> None:
    source = resolve(recipe_id="linear", features=IMPUTED)
    assert resolve_resumed(RecipeRequest(), source).features == source.features
    assert resolve_resumed(RecipeRequest(features=IMPUTED), source).features == source.features
    other = RecipeRequest(features=(Step("impute", {"by": "median"}, ("age",)),))
    assert refused(lambda: resolve_resumed(other, source)).reason == "ARCHITECTURE_MISMATCH"
    pictures = resolve(facts_of_pictures(), augmentation=TURNED)
    assert resolve_resumed(RecipeRequest(), pictures) == pictures
    assert resolve_resumed(RecipeRequest(hyperparameters={"augmentation": "light"}), pictures).augmentation == ()
    assert resolve_resumed(RecipeRequest(augmentation=(Step("blur"),)), pictures).augmentation[0].do == "blur"


def test_a_warm_start_takes_the_features_of_its_model() -> None:
    source = resolve(recipe_id="linear", features=IMPUTED)
    assert resolve_recipe(like(source, RecipeRequest()), FACTS).features == source.features


@pytest.mark.parametrize(("facts", "asked"), [(FACTS, {"features": EVERYTHING}), (facts_of_pictures(), {"augmentation": TURNED})])
def test_a_recipe_goes_out_and_comes_back_with_its_steps(facts: Any, asked: Any) -> None:
    recipe = resolve(facts, **asked)
    message = convert.recipe_message(recipe)
    assert resolve_recipe(convert.recipe_request(message), facts) == recipe
    assert message.features_version == version_of(recipe.features)
    assert message.augmentation_version == version_of(recipe.augmentation)


def test_what_is_not_set_is_left_to_the_default_and_zero_is_a_value() -> None:
    flip = transform_pb2.AugmentationStep(flip=transform_pb2.FlipStep(probability=0.0))
    asked = convert.recipe_request(pb.Recipe(augmentation=[flip, transform_pb2.AugmentationStep(blur={})]))
    assert asked.augmentation == (Step("flip", {"probability": 0.0}), Step("blur", {}))
    error = refused(lambda: convert.recipe_request(pb.Recipe(features=[transform_pb2.FeatureStep(columns=["age"])])))
    assert error.violations[0].field == "training_job.recipe.features[0]"
    assert "says no step" in error.message


class World:
    def __init__(self) -> None:
        self.jobs, self.resources = FakeJobs(), FakeResources()
        self.datasets = FakeDatasets({PICTURES: facts_of_pictures(), ROWS: FACTS})

    def create(self, job: str, version: str = ROWS, **recipe: Any) -> Any:
        new = NewTrainingJob(PARENT, version, MODEL, job, recipe=RecipeRequest(**recipe))
        return training_jobs.create_training_job(self.jobs, self.datasets, self.resources, new)


def test_another_pipeline_is_another_experiment_and_a_comparison_shows_both() -> None:
    world = World()
    first = world.create("first", recipe_id="linear", features=IMPUTED)
    other = world.create("other", recipe_id="linear", features=(Step("impute", {"by": "median"}, ("age",)),))
    without = world.create("without", recipe_id="linear")
    specs = [spec_from(job.spec) for job in (first, other, without)]
    assert len({spec.experiment for spec in specs}) == 3
    found = compare_training_jobs(world.jobs, world.resources, PARENT, [first.name, other.name, without.name])
    shown = found.settings["features"]
    assert shown[0] == f"{version_of(specs[0].recipe.features)}: impute age (by mean)"
    assert shown[1].endswith("impute age (by median)")
    assert shown[2] == ""
    names = [world.create(f"p{at}", PICTURES, augmentation=(Step("rotate", {"degrees": at}),)).name for at in (5, 6)]
    compared = compare_training_jobs(world.jobs, world.resources, PARENT, names)
    assert "rotate (degrees 5)" in compared.settings["augmentation_policy"][0]


def test_what_was_asked_is_shown_as_it_was_asked() -> None:
    job = World().create("first", recipe_id="linear", features=IMPUTED)
    message = convert.training_job_message(job)
    assert message.recipe.features[0].impute.by == "mean"
    assert not message.recipe.features[0].impute.HasField("value")
    assert message.resolved_recipe.features[0].impute.HasField("value")
    assert spec_from(spec_document(spec_from(job.spec))) == spec_from(job.spec)


def test_a_preview_is_checked_when_it_is_asked_for() -> None:
    world = World()

    def create(recipe: RecipeRequest, counts: tuple[int, int] = (0, 0), version: str = ROWS) -> Any:
        return create_recipe_preview(world.jobs, world.datasets, PARENT, "", version, recipe, counts, Request("", "m", "f"))

    job = create(RecipeRequest("linear", features=IMPUTED))
    assert (spec_of_preview(job).example_count, spec_of_preview(job).variant_count) == (8, 3)
    message = preview_message(job)
    assert message.resolved_recipe.features[0].impute.by == "mean"
    assert message.dataset_version == ROWS
    error = refused(lambda: create(RecipeRequest(features=(Step("impute", {}, ("ages",)),))))
    assert error.violations[0].field == "recipe_preview.recipe.features[0].columns[0]"
    assert "training_job" not in error.message
    assert refused(lambda: create(RecipeRequest(), (65, 0))).violations[0].field == "recipe_preview.example_count"
    assert refused(lambda: create(RecipeRequest(), (0, 9))).violations[0].field == "recipe_preview.variant_count"
    assert refused(lambda: create(RecipeRequest(), version="rows")).violations[0].field == "recipe_preview.dataset_version"


def test_a_request_goes_through_json_with_its_steps() -> None:
    """As a selection among models, and a cross-validation, keep it."""
    for facts, asked in ((FACTS, {"features": EVERYTHING}), (facts_of_pictures(), {"augmentation": TURNED})):
        request = RecipeRequest(**asked)
        document = json.loads(json.dumps(training_jobs.asked(request)))
        assert resolve_recipe(request_from(document), facts) == resolve_recipe(request, facts)
    new = NewTrainingJob(PARENT, ROWS, MODEL, recipe=RecipeRequest(features=EVERYTHING))
    kept = from_document(json.loads(json.dumps(to_document(new))), NewTrainingJob)
    assert resolve_recipe(kept.recipe, FACTS) == resolve_recipe(new.recipe, FACTS)
