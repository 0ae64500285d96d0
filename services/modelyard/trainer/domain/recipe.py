"""From what a request leaves open to a recipe with every field filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from modelyard.core.errors import FieldViolation, InvalidArgument, NotFound
from modelyard.formats.dataset_descriptor import FORECASTING
from modelyard.formats.tasks import task_of
from modelyard.recipes.catalogue import (
    WHERE_TASKS,
    DatasetFacts,
    at_sizes,
    candidates,
    catalogue,
    find_recipe,
    fit_to_dataset,
    input_of,
)
from modelyard.recipes.features import FEATURE_FORMS, check_features
from modelyard.recipes.features import REASON as INVALID_FEATURES
from modelyard.recipes.policy import ALL_FORMS, CUSTOM, check_policy, named_policy
from modelyard.recipes.policy import FORMS as POLICY_FORMS
from modelyard.recipes.recipe import Hyperparameters, PictureInput, Recipe, recipe_document, unused_settings
from modelyard.recipes.steps import Step, completed, steps_from, version_of
from modelyard.recipes.tabular import ForecastHyperparameters, TabularHyperparameters
from modelyard.trainer.domain.hyperparameters import RULES, check_hyperparameters, settled

PATH: Final = "training_job.recipe"
_ARCHITECTURE = re.compile(r"(timm|modelyard):[a-z0-9_.]{1,100}")


@dataclass(frozen=True)
class RecipeRequest:
    """What a request says of its recipe; empty and 0 leave it to the service. `hyperparameters` holds only those that are set."""

    recipe_id: str = ""
    task: str = ""
    architecture: str = ""
    input_height: int = 0
    input_width: int = 0
    input_channels: int = 0
    weights: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[Step, ...] = ()
    augmentation: tuple[Step, ...] = ()
    framework: str = ""


def resolve_recipe(request: RecipeRequest, facts: DatasetFacts) -> Recipe:
    """The recipe that is run on a dataset: the request's, or else the catalogue's, with every field filled.

    Raises InvalidArgument naming the field: INVALID_HYPERPARAMETER, HYPERPARAMETER_NOT_USED, INVALID_RECIPE, UNKNOWN_RECIPE,
    UNKNOWN_ARCHITECTURE, TASK_MISMATCH, ARCHITECTURE_MISMATCH, NO_RECIPE, INVALID_FEATURES, INVALID_AUGMENTATION.
    """
    check_hyperparameters(request.hyperparameters, f"{PATH}.hyperparameters")
    _check_task(request, facts.task)
    base = _with_input(_base(request, facts), request, facts)
    finished = _finished(fit_to_dataset(base, facts), request)
    return replace(finished, features=_features(request, facts)) if request.features else finished


def resolve_resumed(request: RecipeRequest, source: Recipe) -> Recipe:
    """The recipe of a run that goes on from a checkpoint of `source`: the same model, with hyperparameters changed.

    Raises InvalidArgument ARCHITECTURE_MISMATCH when the request asks for another model than the checkpoint holds.
    """
    check_hyperparameters(request.hyperparameters, f"{PATH}.hyperparameters")
    _check_task(request, source.task)
    _same("recipe_id", request.recipe_id, source.name)
    _same("architecture", request.architecture, source.architecture)
    _same("framework", request.framework, source.framework)
    for name, value in asdict(source.input).items() if source.input else ():
        _same(f"input_{name}", getattr(request, f"input_{name}"), value)
    if request.features:
        asked = version_of(completed(request.features, FEATURE_FORMS, f"{PATH}.features", INVALID_FEATURES))
        _same("features", asked, version_of(source.features))
    return _finished(source, replace(request, weights=""))


def like(earlier: Recipe, request: RecipeRequest) -> RecipeRequest:
    """The request, with the model and input of an earlier recipe where it names none."""
    if request.recipe_id or request.architecture:
        return request
    named = replace(
        request,
        recipe_id=earlier.name,
        architecture=earlier.architecture,
        features=request.features or earlier.features,
        framework=request.framework or earlier.framework,
    )
    if earlier.input is None:
        return named
    return replace(
        named,
        input_height=request.input_height or earlier.input.height,
        input_width=request.input_width or earlier.input.width,
        input_channels=request.input_channels or earlier.input.channels,
    )


def recipe_from(document: Mapping[str, Any]) -> Recipe:
    """A recipe as `recipe_document` wrote it."""
    values = {name: document[name] for name in (each.name for each in fields(Recipe)) if name in document}
    if document.get("input"):
        values["input"] = PictureInput(**document["input"])
    if document.get("hyperparameters"):
        values["hyperparameters"] = _structured(Hyperparameters, document["hyperparameters"])
    if document.get("tabular"):
        kind = ForecastHyperparameters if document.get("task") == FORECASTING else TabularHyperparameters
        values["tabular"] = _structured(kind, document["tabular"])
    for name, forms in (("features", FEATURE_FORMS), ("augmentation", ALL_FORMS)):
        if name in values:
            values[name] = steps_from(values[name], forms)
    return Recipe(**values)


def request_from(document: Mapping[str, Any]) -> RecipeRequest:
    """A request as handlers.training_jobs.asked wrote it."""
    values = dict(document)
    for name, forms in (("features", FEATURE_FORMS), ("augmentation", ALL_FORMS)):
        if name in values:
            values[name] = steps_from(values[name], forms)
    return RecipeRequest(**values)


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The hyperparameters of the contract that a recipe has a value for."""
    found = asdict(recipe.tabular if recipe.tabular is not None else recipe.hyperparameters)
    unused = unused_settings(recipe)
    return {name: found[name] for name in RULES if found.get(name) is not None and name not in unused}


def suggested(facts: DatasetFacts, *, sizes: bool = False) -> tuple[Recipe, ...]:
    """The recipes that suit a dataset, the most accurate first, with every field filled. sizes: some at several inputs."""
    return at_sizes(facts) if sizes else candidates(facts)


def _structured(cls: type[Any], document: Mapping[str, Any]) -> Any:
    """A dataclass of plain numbers; JSON does not keep 1.0 and 1 apart, the fields' defaults do."""
    defaults = asdict(cls())
    return cls(**{name: _like(defaults[name], value) for name, value in document.items() if name in defaults})


def _like(default: object, value: Any) -> Any:
    return float(value) if isinstance(default, float) and isinstance(value, int) else value


def _base(request: RecipeRequest, facts: DatasetFacts) -> Recipe:
    if request.recipe_id:
        return _named(request, facts.task)
    if request.architecture:
        return _of_architecture(request.architecture, facts.task)
    return candidates(facts)[0]


def _named(request: RecipeRequest, task: str) -> Recipe:
    """By its id. One that is not in the catalogue is named after its architecture, as `_custom` does."""
    if request.recipe_id == request.architecture:
        return _of_architecture(request.architecture, task)
    recipe = _found(request.recipe_id, task)
    _same("architecture", request.architecture, recipe.architecture)
    return recipe


def _found(recipe_id: str, task: str) -> Recipe:
    try:
        return find_recipe(recipe_id, task)
    except NotFound as error:
        elsewhere = sorted({recipe.task for recipe in catalogue() if recipe.name == recipe_id})
        known = ", ".join(recipe.name for recipe in catalogue(task))
        why = f"which is for {', '.join(elsewhere)}" if elsewhere else "which is not in the catalogue"
        message = f"{PATH}.recipe_id is {recipe_id!r}, {why}; for {task} there are {known}"
        raise InvalidArgument("UNKNOWN_RECIPE", message, field=f"{PATH}.recipe_id", value=recipe_id, expected=known) from error


def _of_architecture(architecture: str, task: str) -> Recipe:
    for recipe in catalogue(task):
        if recipe.architecture == architecture:
            return recipe
    return _custom(architecture, task)


def _custom(architecture: str, task: str) -> Recipe:
    """A network for pictures that is in no recipe; whether the library has it only the worker can say."""
    if not task_of(task).pictured or not _ARCHITECTURE.fullmatch(architecture):
        known = ", ".join(dict.fromkeys(recipe.architecture for recipe in catalogue(task)))
        message = f"{PATH}.architecture is {architecture!r}; for {task} there are {known}"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field=f"{PATH}.architecture", value=architecture, expected=known)
    return Recipe(name=architecture, task=task, architecture=architecture)


def _with_input(recipe: Recipe, request: RecipeRequest, facts: DatasetFacts) -> Recipe:
    asked = (request.input_height, request.input_width, request.input_channels)
    if not any(asked):
        return recipe
    if not task_of(recipe.task).pictured:
        message = f"{PATH} has an input of {asked[0]} x {asked[1]} x {asked[2]}; {recipe.name} is not for pictures and takes none"
        raise InvalidArgument("INVALID_RECIPE", message, field=f"{PATH}.input_height", value=asked[0])
    chosen = recipe.input or input_of(recipe, facts)
    height = request.input_height or request.input_width or chosen.height
    width = request.input_width or (chosen.width if recipe.task in WHERE_TASKS and not request.input_height else height)
    _check_multiple(recipe.task, height, width)
    return replace(recipe, input=PictureInput(height, width, request.input_channels or chosen.channels))


def _check_multiple(task: str, height: int, width: int) -> None:
    """Networks that say where things are halve their input five times. Raises InvalidArgument INVALID_RECIPE."""
    for name, value in (("input_height", height), ("input_width", width)) if task in WHERE_TASKS else ():
        if value % 32:
            message = f"{PATH}.{name} is {value}; for {task} a multiple of 32 is right"
            raise InvalidArgument("INVALID_RECIPE", message, field=f"{PATH}.{name}", value=value)


def _features(request: RecipeRequest, facts: DatasetFacts) -> tuple[Step, ...]:
    """The feature pipeline that is asked for, checked against the columns."""
    path = f"{PATH}.features"
    if not task_of(facts.task).table:
        message = f"{path} has {len(request.features)} steps; they are for tables, and the dataset version is for {facts.task}"
        raise InvalidArgument(INVALID_FEATURES, message, field=path, value=len(request.features))
    return check_features(request.features, facts.columns, path, rows=facts.rows, target=facts.target)


def _with_augmentation(recipe: Recipe, request: RecipeRequest) -> tuple[Recipe, Mapping[str, Any]]:
    """The recipe with the policy that is asked for, and the hyperparameters that are left to set.

    A policy takes the place of the hyperparameters `augmentation` and `mixup`. Series have no such hyperparameters: a name stands
    for its policy.
    """
    values, path = dict(request.hyperparameters), f"{PATH}.augmentation"
    named = values.get("augmentation")
    if request.augmentation:
        policy = check_policy(request.augmentation, recipe.task, path)
    elif named == CUSTOM and not recipe.augmentation:
        message = f"{PATH}.hyperparameters.augmentation is 'custom', and {path} is empty; give its steps, or another name"
        raise InvalidArgument(
            "INVALID_HYPERPARAMETER", message, field=path, name=f"{PATH}.hyperparameters.augmentation", value=CUSTOM
        )
    elif named is not None and named != CUSTOM:
        policy = named_policy(recipe.task, str(named)) if recipe.tabular is not None else ()
    else:
        policy = recipe.augmentation
    if recipe.tabular is not None and recipe.task in POLICY_FORMS:
        values.pop("augmentation", None)
    elif policy:
        values |= {"augmentation": CUSTOM, "mixup": 0.0}
    elif request.augmentation:  # it spells out no step: nothing is changed
        values |= {"augmentation": "none", "mixup": 0.0}
    return replace(recipe, augmentation=policy), values


def _finished(recipe: Recipe, request: RecipeRequest) -> Recipe:
    recipe, values = _with_augmentation(recipe, request)
    changed = _with_hyperparameters(recipe, values)
    framework = request.framework or changed.framework
    finished = replace(changed, weights=request.weights or changed.weights, framework=framework)
    try:
        finished.validate()
    except InvalidArgument as error:
        raise _placed(error) from error
    return finished


def _with_hyperparameters(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    settings = recipe.tabular if recipe.tabular is not None else recipe.hyperparameters
    unused = set(values) - {each.name for each in fields(settings)}
    if unused:
        raise _not_used(recipe, sorted(unused), [name for name in RULES if hasattr(settings, name)])
    known = {each.name for each in fields(settings)}
    changed = replace(settings, **{name: value for name, value in settled(values).items() if name in known})
    return replace(recipe, tabular=changed) if recipe.tabular is not None else replace(recipe, hyperparameters=changed)


def _not_used(recipe: Recipe, unused: list[str], known: list[str]) -> InvalidArgument:
    paths = [f"{PATH}.hyperparameters.{name}" for name in unused]
    text = f"is not used by {recipe.name}, which has {', '.join(known)}"
    return InvalidArgument(
        "HYPERPARAMETER_NOT_USED",
        f"{', '.join(paths)} {text}",
        violations=tuple(FieldViolation(path, f"{path} {text}") for path in paths),
        recipe=recipe.name,
        name=paths[0],
    )


def _check_task(request: RecipeRequest, task: str) -> None:
    if request.task not in ("", task):
        message = f"{PATH}.task is {request.task!r}, but the dataset version is for {task!r}"
        raise InvalidArgument("TASK_MISMATCH", message, field=f"{PATH}.task", value=request.task, expected=task)


def _same(name: str, asked: object, right: object) -> None:
    if asked and asked != right:
        message = f"{PATH}.{name} is {asked!r}, but here it is {right!r}; leave it empty or give that"
        raise InvalidArgument("ARCHITECTURE_MISMATCH", message, field=f"{PATH}.{name}", value=asked, expected=right)


def _placed(error: InvalidArgument) -> InvalidArgument:
    """A recipe's own complaint with the fields as the request has them."""
    violations = tuple(
        FieldViolation(f"{PATH}.{each.field}", each.description.replace(each.field, f"{PATH}.{each.field}", 1))
        for each in error.violations
    )
    message = "; ".join(each.description for each in violations) or error.message
    values: dict[str, Any] = dict(error.values)
    return InvalidArgument(error.reason, message, violations=violations, **values)


__all__ = [
    "RecipeRequest",
    "like",
    "recipe_document",
    "recipe_from",
    "request_from",
    "resolve_recipe",
    "resolve_resumed",
    "settings_of",
    "suggested",
]
