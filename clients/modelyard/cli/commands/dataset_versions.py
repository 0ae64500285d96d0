"""`modelyard dataset tag`, `untag`, `describe`, `lineage`, `folds` and `delete`: what is kept about versions."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, with_common


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard dataset`."""
    for command in (tag, untag, tags, describe, lineage, folds, delete):
        app.command(command.__name__)(with_common(command))


def tag(
    common: Common,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="The version to name: flowers/V002, or flowers for its newest.")
    ],
    name: Annotated[str, typer.Argument(metavar="TAG", help="A word, such as golden. It names one version at a time.")],
    etag: Annotated[str, typer.Option(help="Only if nobody moved the tag since it was read with this etag.")] = "",
) -> None:
    """Give a version a name that can move: flowers/golden then stands for it wherever a version is named.

    \b
    Example: modelyard dataset tag flowers/V002 golden
    """
    from modelyard.cli.output import plain, print_facts, print_json
    from modelyard.cli.session import session
    from modelyard.client import short

    with session(common) as here:
        full = here.client.names.dataset_version(version)
        moved = here.client.datasets.set_tag(f"{full.rpartition('/versions/')[0]}/tags/{name}", full, etag=etag)
    if common.json:
        print_json(plain(moved))
    else:
        print_facts({"tag": short(moved.name), "version": short(moved.dataset_version), "etag": moved.etag})


def untag(
    common: Common, tag: Annotated[str, typer.Argument(metavar="TAG", help="The tag, with its dataset: flowers/golden.")]
) -> None:
    """Take a tag away. The version that it named stays.

    \b
    Example: modelyard dataset untag flowers/golden
    """
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        here.client.datasets.delete_tag(tag)
    if common.json:
        print_json({"deleted": tag})
    else:
        print(f"{tag} is gone")


def tags(common: Common, dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]) -> None:
    """List the tags of a dataset.

    \b
    Example: modelyard dataset tags flowers
    """
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        found = list(here.client.datasets.list_tags(dataset))
    if common.json:
        print_json({"tags": [plain(one) for one in found]})
        return
    rows = [(last_part(one.name), last_part(one.dataset_version), date(one.update_time), one.etag) for one in found]
    print_table(("tag", "version", "moved", "etag"), rows)


def describe(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version: flowers/V002.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Notes for people; replaces what was noted before.")],
) -> None:
    """Note something about a version.

    \b
    Example: modelyard dataset describe flowers/V002 "labels checked by the gardener"
    """
    from modelyard.cli.commands.dataset import show_version
    from modelyard.cli.session import session

    with session(common) as here:
        described = here.client.datasets.update_dataset_version(version, text)
    show_version(common, described)


def lineage(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version: flowers/V001, or flowers for its newest.")],
) -> None:
    """Show what a version was made from, and which versions, models, exports, evaluations and endpoints stand on it.

    \b
    Example: modelyard dataset lineage flowers/V001
    """
    from modelyard.cli.lineage import Known, print_lineage
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.datasets.get_dataset_version(version)
        print_lineage(here, Known(here.client).of_dataset(found))


def folds(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version: flowers/V001, or flowers for its newest.")],
    k: Annotated[int, typer.Option(help="Parts; 2 to 20.")] = 5,
    repeats: Annotated[int, typer.Option(help="How often they are drawn, each time anew.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    group_by: Annotated[
        str, typer.Option(help="Keep together what belongs together, see `publish`. Default: as the version.")
    ] = "",
) -> None:
    """Share a version's train and validation examples out for cross-validation. Test examples take no part.

    \b
    Example: modelyard dataset folds digits/V001 --k 5 --repeats 3
    """
    from modelyard.cli.output import plain, print_facts, print_json
    from modelyard.cli.session import session
    from modelyard.client import short

    with session(common) as here:
        made = here.client.datasets.create_folds(version, k, repeats=repeats, seed=seed, group_by=group_by)
    if common.json:
        print_json(plain(made))
        return
    print_facts({"folds": short(made.name), "examples": made.example_count, "assignment": made.assignment_blob.uri})
    for text in made.notes:
        print(f"- {text}")


def delete(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset (flowers) or a version of it (flowers/V001).")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a dataset with all its versions, or one version. Refused while a model stands on it.

    \b
    Example: modelyard dataset delete flowers/V001 --yes
    """
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        if not yes:
            typer.confirm(f"Delete {dataset}?", abort=True, err=True)
        if "/versions/" in dataset or (not dataset.startswith("projects/") and "/" in dataset):
            here.client.datasets.delete_dataset_version(dataset)
        else:
            here.client.datasets.delete_dataset(dataset)
    if common.json:
        print_json({"deleted": dataset})
    else:
        print(f"{dataset} is deleted")
