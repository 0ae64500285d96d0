"""python -m modelyard.trainer.worker.preview: one preview of a recipe, in a process of its own, by the code that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.artifacts_named import NamedArtifacts
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker
from modelyard.formats.dataset import SERIES, TABLE, TRAIN, DatasetReader, open_dataset
from modelyard.trainer.domain.recipe import recipe_from
from modelyard.trainer.domain.recipe_preview import PreviewResult, PreviewSpec
from modelyard.trainer.worker.preview_page import Look, Previewed, page_html

PAGE: Final = "preview.html"


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Makes the preview that the assignment asks for. Raises Cancelled, and ModelyardErrors for what cannot be shown."""
    spec = from_document(assignment.spec, PreviewSpec)
    link.report(stage="reading the data")
    store = NamedArtifacts(link.artifacts, assignment.spec, assignment.saved)

    def look(stage: str, done: int, total: int) -> None:
        if link.instruction() == "cancel":
            raise Cancelled
        link.report(stage=stage, fraction=done / max(total, 1), done=done, total=total)

    with open_dataset(store, spec.descriptor) as reader:
        made = previewed(reader, spec, look)
    path = Path(link.workdir) / PAGE
    path.write_text(page_html(made), encoding="utf-8")
    result = PreviewResult(
        page=store.put_file(path),
        columns_before=made.columns_before,
        columns_after=made.columns_after,
        rows=made.rows,
        learned=made.learned,
        width=made.width,
    )
    return Completion({"preview": to_document(result)})


def previewed(reader: DatasetReader, spec: PreviewSpec, look: Look) -> Previewed:
    """What a recipe makes of some training examples. look(stage, done, total) may raise what ends it.

    Raises FailedPrecondition NO_TRAINING_EXAMPLES, and whatever a training of the recipe would say of its features.
    """
    recipe, descriptor = recipe_from(spec.recipe), reader.descriptor
    places = spread_over(len(reader.indices(TRAIN)), spec.example_count)
    if not len(places):
        message = "the dataset version has no examples with usage train, which a preview shows"
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", message, field="recipe_preview.dataset_version")
    if descriptor.kind == TABLE:
        from modelyard.trainer.worker.preview_table import table_preview

        return table_preview(reader, recipe, spec, places, look)
    if descriptor.kind == SERIES:
        from modelyard.trainer.worker.preview_series import series_preview

        return series_preview(reader, recipe, spec, places, look)
    from modelyard.trainer.worker.preview_pictures import picture_preview

    return picture_preview(reader, recipe, spec, places, look)


def spread_over(count: int, wanted: int) -> NDArray[np.int64]:
    """At most so many places of `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)) if count else np.empty(0, np.int64)


if __name__ == "__main__":
    sys.exit(run_worker(work))
