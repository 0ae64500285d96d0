"""python -m modelyard.exporter.worker: one export, or one latency profile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modelyard.core.documents import from_document, to_document
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker

if TYPE_CHECKING:
    from modelyard.exporter.domain.export import Candidate
    from modelyard.recipes.recipe import Recipe

STAGES = ("graph", "parity", "latency", "store")
MEASURE_S = 2.0
MEASURE_CANDIDATE_S = 1.0


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Exports or measures, by the kind of the job."""
    from modelyard.exporter.handlers import profiles

    return profile(assignment, link) if assignment.kind == profiles.KIND else export(assignment, link)


def export(assignment: Assignment, link: WorkerLink) -> Completion:
    """Writes the bundle, proves and measures it, and only then stores it."""
    from modelyard.exporter.domain.export import ExportResult, ExportSpec, Parity
    from modelyard.exporter.domain.latency import Latency
    from modelyard.exporter.worker.export import export_model
    from modelyard.formats.bundle import Source
    from modelyard.formats.dataset import open_dataset
    from modelyard.runtime.latency import measure

    spec = from_document(assignment.spec, ExportSpec)
    path = link.workdir / "model.bundle"
    source = Source(spec.model_version, spec.dataset_version, spec.dataset_digest, spec.model_file.sha256)
    reader = open_dataset(link.artifacts, spec.descriptor)
    card = export_model(link.artifacts.path(spec.model_file), reader, path, source, lambda stage: _enter(link, stage))
    _enter(link, "latency")
    latency = measure(path, spec.target, seconds=MEASURE_S)
    _enter(link, "store")
    if card.parity is None:
        raise AssertionError("export_model gives a proven bundle")
    parity = Parity(card.parity.examples, card.parity.max_abs_difference, card.parity.label_agreement, card.parity.tolerance)
    return Completion(to_document(ExportResult(link.artifacts.put_file(path), parity, Latency(**vars(latency)))))


def profile(assignment: Assignment, link: WorkerLink) -> Completion:
    """Measures every candidate."""
    from modelyard.exporter.domain.export import Measured, ProfileResult, ProfileSpec
    from modelyard.exporter.domain.latency import Latency
    from modelyard.exporter.worker.candidates import CandidateResult, measure_candidates
    from modelyard.formats.dataset import open_dataset

    spec = from_document(assignment.spec, ProfileSpec)
    recipes = [_recipe(candidate) for candidate in spec.candidates]
    total = len(recipes)

    def measured(number: int, result: CandidateResult) -> None:
        _stop_if_cancelled(link)
        link.report(stage=f"measured {result.recipe}", fraction=number / total, done=number, total=total, unit="recipes")

    link.report(stage="measure recipes", total=total, unit="recipes")
    reader = open_dataset(link.artifacts, spec.descriptor)
    results = measure_candidates(
        recipes, reader, link.workdir, target=spec.target, seconds=MEASURE_CANDIDATE_S, on_measured=measured
    )
    found = tuple(
        Measured(result.recipe, Latency(**vars(result.latency)) if result.latency else None, result.size_bytes, result.error)
        for result in results
    )
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


def _enter(link: WorkerLink, stage: str) -> None:
    _stop_if_cancelled(link)
    link.report(
        stage=stage, fraction=STAGES.index(stage) / len(STAGES), done=STAGES.index(stage), total=len(STAGES), unit="stages"
    )


def _stop_if_cancelled(link: WorkerLink) -> None:
    if link.instruction() == "cancel":
        raise Cancelled


if __name__ == "__main__":
    sys.exit(run_worker(work))
