"""Series before and after a recipe's augmentation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.dataset import TRAIN, DatasetReader
from modelyard.formats.series import fitted_series, usual_steps
from modelyard.recipes.augment_series import changed_series
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.recipe_preview import PreviewSpec
from modelyard.trainer.worker.preview_page import Drawing, Look, Previewed, lines_html


def series_preview(reader: DatasetReader, recipe: Recipe, spec: PreviewSpec, places: NDArray[np.int64], look: Look) -> Previewed:
    """See preview.previewed."""
    look("reading series", 0, 2)
    series = fitted_series(reader, TRAIN, places, usual_steps(reader))
    look("changing them", 1, 2)
    seed = recipe.tabular.seed if recipe.tabular is not None else recipe.hyperparameters.seed
    changed = [changed_series(series, recipe.policy, seed * 1000 + copy) for copy in range(spec.variant_count)]
    ids, labels = reader.example_ids(TRAIN), reader.labels(TRAIN)
    drawings = tuple(
        Drawing(
            f"{ids[place]} {reader.descriptor.classes[int(labels[place])]}",
            lines_html(series[at]),
            tuple(lines_html(each[at]) for each in changed) if recipe.policy else (),
        )
        for at, place in enumerate(places.tolist())
    )
    title = f"What {recipe.name} makes of {'/'.join(spec.dataset_version.split('/')[3::2])}"
    return Previewed(title=title, recipe=recipe, drawings=drawings)
