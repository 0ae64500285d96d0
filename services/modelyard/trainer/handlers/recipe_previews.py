"""Previews of recipes: create, read, list, cancel. They run in a worker, with the code that trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FieldViolation, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.recipes.recipe import recipe_document
from modelyard.trainer.domain.recipe import PATH, RecipeRequest, resolve_recipe
from modelyard.trainer.domain.recipe_preview import KEPT_PREVIEWS, KIND, PreviewResult, PreviewSpec, check_counts
from modelyard.trainer.handlers.training_jobs import asked
from modelyard.trainer.ports import Datasets, JobPage, Jobs

OWN_PATH = "recipe_preview.recipe"


def create_recipe_preview(
    jobs: Jobs,
    datasets: Datasets,
    parent: str,
    job_id: str,
    dataset_version: str,
    recipe: RecipeRequest,
    counts: tuple[int, int],
    request: Request,
) -> Job:
    """Starts one. Raises InvalidArgument, NotFound, FailedPrecondition as a training of the same recipe would."""
    project = names.PROJECT.parse(parent, "parent")["project"]
    if job_id:
        names.check_id(job_id, "recipe_preview_id")
    names.DATASET_VERSION.parse(dataset_version, "recipe_preview.dataset_version")
    examples, variants = check_counts(*counts)
    version = datasets.get_version(dataset_version)
    with placed():
        resolved = resolve_recipe(recipe, version.facts)
    spec = PreviewSpec(version.name, version.descriptor, recipe_document(resolved), asked(recipe), examples, variants)
    made = jobs.submit(
        names.RECIPE_PREVIEW.format(project, job_id or names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )
    _tidy(jobs, parent)
    return made


def get_recipe_preview(jobs: Jobs, name: str) -> Job:
    """Reads one. Raises NotFound RECIPE_PREVIEW_NOT_FOUND."""
    names.RECIPE_PREVIEW.parse(name)
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound("RECIPE_PREVIEW_NOT_FOUND", f"{name} does not exist", name=name) from error


def list_recipe_previews(jobs: Jobs, parent: str, page_size: int, page_token: str) -> JobPage:
    """Those of a project, the newest first."""
    names.PROJECT.parse(parent, "parent")
    return jobs.list(KIND, parent, page_size, page_token)


def spec_of_preview(job: Job) -> PreviewSpec:
    """What was asked."""
    return from_document(dict(job.spec), PreviewSpec)


def result_of_preview(job: Job) -> PreviewResult | None:
    """What came of it; None before the end."""
    document = (job.result or {}).get("preview")
    return from_document(dict(document), PreviewResult) if document else None


@contextmanager
def placed() -> Iterator[None]:
    """Complaints about a recipe with the field where a preview has it."""
    try:
        yield
    except InvalidArgument as error:

        def moved(text: Any) -> Any:
            return text.replace(PATH, OWN_PATH) if isinstance(text, str) else text

        violations = tuple(FieldViolation(moved(each.field), moved(each.description)) for each in error.violations)
        values: dict[str, Any] = {name: moved(value) for name, value in error.values.items()}
        raise InvalidArgument(error.reason, moved(error.message), violations=violations, **values) from error


def _tidy(jobs: Jobs, parent: str) -> None:
    """Removes the oldest ended previews of a project: each is cheap to make again."""
    ended = [job for job in jobs.find(KIND, parent=parent) if job.state.terminal]
    for job in ended[: max(0, len(ended) - KEPT_PREVIEWS)]:
        jobs.delete(job.name)
