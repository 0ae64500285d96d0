"""python -m modelyard.exporter.worker: one export, or one latency profile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modelyard.core.documents import from_document, to_document
from modelyard.core.jobs.allocator import keep_freed_memory
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker

if TYPE_CHECKING:
    from modelyard.exporter.domain.export import Candidate, Measured
    from modelyard.recipes.recipe import Recipe

MEASURE_CANDIDATE_S = 1.0


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Exports or measures, by the kind of the job."""
    from modelyard.exporter.handlers import profiles

    return profile(assignment, link) if assignment.kind == profiles.KIND else export(assignment, link)


def export(assignment: Assignment, link: WorkerLink) -> Completion:
    """Makes the bundle, proves and measures it, and only then stores it."""
    from modelyard.core import errors
    from modelyard.exporter.domain.export import ExportSpec
    from modelyard.exporter.worker.export_job import Reports, run_export

    keep_freed_memory()  # it may train on with rounding
    highest = 0.0

    def on_stage(stage: str, fraction: float, eta_s: float | None) -> None:
        nonlocal highest
        _stop_if_cancelled(link)
        highest = max(highest, fraction)  # roads that turn out dearer than thought must not set the bar back
        link.report(stage=stage, fraction=highest, eta_s=eta_s)

    reports = Reports(on_stage, lambda: link.instruction() == "cancel")
    try:
        result = run_export(from_document(assignment.spec, ExportSpec), link.artifacts, link.workdir, reports)
    except errors.Cancelled as error:
        raise Cancelled from error
    return Completion(to_document(result))


def profile(assignment: Assignment, link: WorkerLink) -> Completion:
    """Measures every candidate."""
    from modelyard.exporter.domain.export import ProfileResult, ProfileSpec
    from modelyard.exporter.worker.candidates import measure_candidates
    from modelyard.exporter.worker.measuring import facts_of
    from modelyard.formats.dataset import open_dataset

    spec = from_document(assignment.spec, ProfileSpec)
    recipes = [_recipe(candidate) for candidate in spec.candidates]
    total = len(recipes)

    def measured(number: int, result: Measured) -> None:
        _stop_if_cancelled(link)
        link.report(stage=f"measured {result.recipe_id}", fraction=number / total, done=number, total=total, unit="recipes")

    link.report(stage="measure recipes", total=total, unit="recipes")
    reader = open_dataset(link.artifacts, spec.descriptor)
    target = facts_of(spec.facts, spec.target)
    found = measure_candidates(recipes, reader, link.workdir, target, seconds=MEASURE_CANDIDATE_S, on_measured=measured)
    return Completion(to_document(ProfileResult(found)))


def _recipe(candidate: Candidate) -> Recipe:
    """The catalogue's recipe of that name at the given input, or one of the given architecture alone."""
    from dataclasses import replace

    from modelyard.core.errors import NotFound
    from modelyard.formats.model import PictureInput
    from modelyard.recipes.catalogue import find_recipe
    from modelyard.recipes.recipe import Recipe

    picture = None
    if candidate.input_height:
        picture = PictureInput(candidate.input_height, candidate.input_width, candidate.input_channels)
    try:
        known = find_recipe(candidate.recipe_id, candidate.task)
    except NotFound:
        known = Recipe(candidate.recipe_id, candidate.task, candidate.architecture)
    return replace(known, architecture=candidate.architecture, input=picture)


def _stop_if_cancelled(link: WorkerLink) -> None:
    if link.instruction() == "cancel":
        raise Cancelled


if __name__ == "__main__":
    sys.exit(run_worker(work))
