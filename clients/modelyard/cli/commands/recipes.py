"""`modelyard recipes`: what can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.trainer.v1 import recipe_preview_pb2

app = new_app(
    "List recipes, and show one as the JSON that `train --recipe FILE.json` takes.\n\n\b\n"
    "Example: modelyard recipes show tinynet > mine.json"
)
_SHOWN = 12
"""Columns of a preview that a terminal shows."""

Version = Annotated[
    str, typer.Option("--for", metavar="DATASET_VERSION", help="Those that suit a dataset version, filled in for it.")
]


@app.command("list")
@with_common
def list_(common: Common, for_: Version = "", task: Annotated[str, typer.Option(help="Only of this task.")] = "") -> None:
    """List the recipes, the most accurate first.

    \b
    Example: modelyard recipes list --for flowers/V001
    """
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.session import session

    with session(common) as here:
        training = here.client.training
        if for_:
            found = training.suggest_recipes(here.client.datasets.get_dataset_version(for_).name)
        else:
            found = training.list_recipes(task)
    if common.json:
        print_json({"recipes": [plain(recipe) for recipe in found]})
        return
    rows = [(one.recipe_id, one.architecture, one.parameter_count, one.summary) for one in found]
    print_table(("recipe", "architecture", "parameters", "when"), rows)


@app.command("preview")
@with_common
def preview(
    common: Common,
    dataset_version: Annotated[
        str, typer.Argument(metavar="DATASET_VERSION", help="Whose training examples are shown: flowers/V001.")
    ],
    recipe: Annotated[
        str, typer.Option(help="A recipe, or a JSON file with one (`modelyard recipes show`). Default: the service chooses.")
    ] = "",
    examples: Annotated[int, typer.Option(min=1, max=64, help="Examples, spread over the training examples.")] = 8,
    variants: Annotated[int, typer.Option(min=1, max=8, help="Changed versions of each picture, sound or series.")] = 3,
    augmentation: Annotated[str, typer.Option(help="Its augmentation: none, light, standard or strong.")] = "",
    out: Annotated[
        str,
        typer.Option("-o", "--out", metavar="FILE", help="The page (HTML). Default: for tables none, else DATASET-preview.html."),
    ] = "",
) -> None:
    """Show what a recipe makes of some training examples: rows after its features, pictures after its augmentation.

    \b
    Example: modelyard recipes preview titanic/V001 --recipe mine.json
    Example: modelyard recipes preview flowers/V001 --augmentation strong -o flowers.html
    """
    from pathlib import Path

    from modelyard.cli.asking import wrong
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.recipe_file import read_recipe
    from modelyard.cli.session import session
    from modelyard.trainer.v1 import trainer_pb2

    if out and not out.lower().endswith((".html", ".htm")):
        raise wrong("out", out, f"out is {out!r}; give a file that ends in .html")
    wanted = read_recipe(recipe) if recipe.endswith(".json") else trainer_pb2.Recipe(recipe_id=recipe)
    if augmentation:
        wanted.hyperparameters.augmentation = augmentation
    with session(common) as here:
        version = here.client.datasets.get_dataset_version(dataset_version).name
        training = here.client.training
        job = training.create_recipe_preview(version, wanted, example_count=examples, variant_count=variants)
        with job_bar("preview", "recipe_preview", lambda: training.cancel_recipe_preview(job.name)) as show:
            done = training.wait_recipe_preview(job.name, on_change=show)
        place = out or ("" if done.rows else f"{'-'.join(version.split('/')[3::2])}-preview.html")
        if place:
            here.client.artifacts.download(done.page, Path(place).expanduser())
    if common.json:
        print_json({**plain(done), "file": place})
        return
    _print_preview(done)
    if place:
        print(place)


@app.command("show")
@with_common
def show(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="RECIPE|JOB", help="A recipe's id, or a training job, whose recipe it is.")],
    for_: Version = "",
) -> None:
    """Print a recipe as JSON: edit it, and train with `--recipe FILE.json`.

    \b
    Example: modelyard recipes show tinynet --for flowers/V001 > mine.json
    """
    import json

    from modelyard.cli.recipe_file import recipe_document
    from modelyard.cli.session import session
    from modelyard.client import NotFound

    with session(common) as here:
        training = here.client.training
        version = here.client.datasets.get_dataset_version(for_).name if for_ else ""
        known = training.suggest_recipes(version) if version else training.list_recipes()
        recipe = next((each for each in known if each.recipe_id == name), None)
        if recipe is None:
            try:
                recipe = training.get_training_job(name).resolved_recipe
            except NotFound as error:
                ids = ", ".join(dict.fromkeys(each.recipe_id for each in known))
                message = f"there is no recipe and no training job {name!r}; the recipes are {ids}"
                raise NotFound(message, reason=error.reason, values={"name": name}) from None
    print(json.dumps(recipe_document(recipe), ensure_ascii=False, indent=None if common.json else 2))


def _print_preview(done: recipe_preview_pb2.RecipePreview) -> None:
    """The rows before and after, and what was learned; of pictures the page alone."""
    import math

    from modelyard.cli.output import print_table

    if not done.rows:
        return
    before, after = list(done.columns_before)[:_SHOWN], list(done.columns_after)[:_SHOWN]
    print_table(("row",), [(row.example_id, *row.before[:_SHOWN]) for row in done.rows], before)
    numbers = [
        (row.example_id, *("" if math.isnan(value) else f"{value:.4g}" for value in row.after[:_SHOWN])) for row in done.rows
    ]
    print_table(("row",), numbers, after)
    print(f"{done.width} numbers a row" + (f", the first {_SHOWN} shown; -o FILE.html has more" if done.width > _SHOWN else ""))
    for each in done.learned[:_SHOWN]:
        print(f"- {each}")
