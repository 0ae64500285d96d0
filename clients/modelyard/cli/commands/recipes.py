"""`modelyard recipes`: what can be trained."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app(
    "List recipes, and show one as the JSON that `train --recipe FILE.json` takes.\n\n\b\n"
    "Example: modelyard recipes show tinynet > mine.json"
)

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
