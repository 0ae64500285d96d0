"""Previews of recipes: contract messages to domain values and back."""

from __future__ import annotations

import math

from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Job
from modelyard.trainer.domain.recipe import RecipeRequest, recipe_from
from modelyard.trainer.domain.recipe_preview import PreviewedRow
from modelyard.trainer.handlers.recipe_previews import placed, result_of_preview, spec_of_preview
from modelyard.trainer.rpc.convert import asked_recipe_message, recipe_message, recipe_request
from modelyard.trainer.v1 import recipe_preview_pb2 as pb


def preview_recipe(preview: pb.RecipePreview) -> RecipeRequest:
    """What a request says of its recipe."""
    with placed():
        return recipe_request(preview.recipe)


def preview_message(job: Job) -> pb.RecipePreview:
    """A preview as it stands."""
    spec, result = spec_of_preview(job), result_of_preview(job)
    message = pb.RecipePreview(
        name=job.name,
        dataset_version=spec.dataset_version,
        recipe=asked_recipe_message(spec.requested),
        resolved_recipe=recipe_message(recipe_from(spec.recipe)),
        example_count=spec.example_count,
        variant_count=spec.variant_count,
        status=convert.status_message(job),
    )
    if result is not None:
        message.columns_before.extend(result.columns_before)
        message.columns_after.extend(result.columns_after)
        message.rows.extend(_row(row) for row in result.rows)
        message.learned.extend(result.learned)
        message.width = result.width
        if (page := convert.blob_message(result.page)) is not None:
            message.page.CopyFrom(page)
    return message


def _row(row: PreviewedRow) -> pb.PreviewedRow:
    numbers = [math.nan if value is None else value for value in row.after]
    return pb.PreviewedRow(example_id=row.example_id, before=row.before, after=numbers)
