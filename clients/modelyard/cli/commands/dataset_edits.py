"""`modelyard dataset edit` and `diff`: versions made from versions."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, with_common

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelyard.cli.session import Session
    from modelyard.dataset.v1 import dataset_pb2

SHOWN = 20


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard dataset`."""
    for name, command in (("edit", edit), ("diff", diff)):
        app.command(name)(with_common(command))


def edit(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version to start from: flowers/V001, or flowers.")],
    drop: Annotated[list[str], typer.Option(metavar="ID", help="Leave this example out; may be given again.")] = [],  # noqa: B006
    relabel: Annotated[list[str], typer.Option(metavar="ID=CLASS", help="Put it into a class; may be given again.")] = [],  # noqa: B006
    move: Annotated[list[str], typer.Option(metavar="ID=USAGE", help="To train, validation or test.")] = [],  # noqa: B006
    merge: Annotated[list[str], typer.Option(metavar="OLD=CLASS", help="Put a whole class into another.")] = [],  # noqa: B006
    set_value: Annotated[list[str], typer.Option(metavar="ID=NUMBER", help="Its value to predict.")] = [],  # noqa: B006
    reclass: Annotated[
        list[str], typer.Option(metavar="OLD=CLASS", help="Rename a class of boxes or other marks, or merge it.")
    ] = [],  # noqa: B006
    cap: Annotated[list[str], typer.Option(metavar="COLUMN=LOW:HIGH", help="Tables: cut a column's numbers to limits.")] = [],  # noqa: B006
    impute: Annotated[list[str], typer.Option(metavar="COLUMN[=VALUE]", help="Tables: fill in what a column lacks.")] = [],  # noqa: B006
    new_class: Annotated[bool, typer.Option("--new-class", help="CLASS may be one that the dataset does not have.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Make a new version from one, with some examples changed. Nothing else is stored again, and the old version stays.

    \b
    Example: modelyard dataset edit flowers/V001 --relabel 3f9c2a=tulip --drop 77ab01
    Example: modelyard dataset edit titanic/V001 --impute age --cap fare=0:300
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.commands.dataset_columns import column_edits
    from modelyard.dataset.v1 import dataset_pb2
    from modelyard.type.v1 import learning_pb2

    usages = {"train": learning_pb2.USAGE_TRAIN, "validation": learning_pb2.USAGE_VALIDATION, "test": learning_pb2.USAGE_TEST}
    edits = []
    if drop:
        edits.append(dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_DROP, example_ids=drop, reason=reason))
    relabels = [(dataset_pb2.Edit(example_ids=[id_]), to) for id_, to in _pairs(relabel, "--relabel", "ID=CLASS")]
    relabels += [(dataset_pb2.Edit(of_class=old), to) for old, to in _pairs(merge, "--merge", "OLD=CLASS")]
    for made, label in relabels:
        made.MergeFrom(dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_RELABEL, label=label, new_class=new_class, reason=reason))
        edits.append(made)
    for id_, usage in _pairs(move, "--move", "ID=USAGE"):
        if usage not in usages:
            raise wrong("--move", usage, f"--move is {id_}={usage}; the usage is train, validation or test")
        number = usages[usage]
        edits.append(dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_MOVE, example_ids=[id_], usage=number, reason=reason))
    for id_, value in _pairs(set_value, "--set-value", "ID=NUMBER"):
        made = dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_SET_VALUE, example_ids=[id_], reason=reason)
        made.value = _number(value)
        edits.append(made)
    for old, label in _pairs(reclass, "--reclass", "OLD=CLASS"):
        made = dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_RECLASS, of_class=old, label=label, new_class=new_class)
        made.reason = reason
        edits.append(made)
    edits += column_edits(cap, impute, reason)
    if not edits:
        options = "--drop, --relabel, --move, --merge, --set-value, --reclass, --cap or --impute"
        raise wrong("--drop", "", f"there is nothing to change: give {options}")
    publish_edits(common, version.partition("/")[0], version.partition("/")[2] or "latest", edits)


def _number(text: str) -> float:
    from modelyard.cli.asking import wrong

    try:
        return float(text)
    except ValueError as error:
        raise wrong("--set-value", text, f"--set-value is {text!r}; it has the form ID=NUMBER") from error


def diff(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version: flowers/V002, or flowers for its newest.")],
    base: Annotated[str, typer.Option(help="Compare with this version. Default: the one it was made from, or before it.")] = "",
    drift: Annotated[
        bool, typer.Option("--drift", help="Also say which columns, sizes, sounds or classes are spread otherwise.")
    ] = False,
) -> None:
    """Say what became of each example between two versions.

    \b
    Example: modelyard dataset diff flowers/V002 --base V001 --drift
    """
    from modelyard.cli.output import plain, print_facts, print_json
    from modelyard.cli.session import session
    from modelyard.client import last_part

    if base and "/" not in base:
        base = f"{version.partition('/')[0]}/{base}"
    with session(common) as here:
        found = here.client.datasets.diff_dataset_versions(version, base)
        changes = here.client.datasets.list_example_changes(version, base, page_size=1000)
        listed = list(changes) if common.json else list(islice(changes, SHOWN + 1))
        report = _drift_report(here, found) if drift else None
    if common.json:
        document = {**plain(found), "changes": [plain(change) for change in listed]}
        print_json(document if report is None else {**document, "drift": [plain(finding) for finding in report.findings]})
        return
    facts = {
        "from": last_part(found.base_version),
        "to": last_part(found.dataset_version),
        "added": found.added_count,
        "removed": found.removed_count,
        "relabelled": found.relabelled_count,
        "moved": found.moved_count,
        "unchanged": found.unchanged_count,
    }
    print_facts(facts)
    for sentence in (
        *(f'class "{name}" is new' for name in found.added_classes),
        *(f'class "{name}" is gone' for name in found.removed_classes),
        *found.column_changes,
    ):
        print(f"- {sentence}")
    for change in listed[:SHOWN]:
        print(_sentence(change))
    if len(listed) > SHOWN:
        print("... (--json lists them all)")
    if report is not None:
        _print_drift(report)


def _drift_report(here: Session, found: dataset_pb2.DatasetVersionDiff) -> dataset_pb2.QualityReport:
    from modelyard.cli.live import job_bar

    datasets = here.client.datasets
    dataset = found.dataset_version.partition("/versions/")[0]
    started = datasets.create_quality_report(dataset, dataset_version=found.dataset_version, base_version=found.base_version)
    with job_bar("compare", "quality_report", lambda: datasets.cancel_quality_report(started.name)) as show:
        return datasets.wait_quality_report(started.name, on_change=show)


def _print_drift(report: dataset_pb2.QualityReport) -> None:
    from modelyard.cli.commands.dataset_quality import print_findings

    print()
    for note in report.notes:
        print(f"- {note}")
    if report.findings:
        print_findings(report.findings)
    else:
        print("no drift found")


def _sentence(change: dataset_pb2.ExampleChange) -> str:
    from modelyard.cli.output import enum_name
    from modelyard.dataset.v1 import dataset_pb2
    from modelyard.type.v1 import learning_pb2

    kind = enum_name(dataset_pb2.ExampleChange.Kind.DESCRIPTOR, change.kind).lower().replace("_", " ")
    example = change.example
    parts = [f"{kind}: {example.example_id} {example.path}"]
    if "relabelled" in kind:
        parts.append(f"{change.base_label} -> {example.label}")
    if "moved" in kind:
        before, after = (enum_name(learning_pb2.Usage.DESCRIPTOR, usage).lower() for usage in (change.base_usage, example.usage))
        parts.append(f"{before} -> {after}")
    return ", ".join(parts)


def _pairs(given: Iterable[str], option: str, form: str) -> list[tuple[str, str]]:
    from modelyard.cli.asking import wrong

    found = [each.partition("=") for each in given]
    for left, _, right in found:
        if not left or not right:
            raise wrong(option, left, f"{option} is {left!r}; it has the form {form}")
    return [(left, right) for left, _, right in found]


def publish_edits(common: Common, dataset: str, base: str, edits: list[Any]) -> None:
    """Makes a version of a dataset's present content, or of its version `base`, with these edits, and shows it."""
    from modelyard.cli.commands.dataset import show_version
    from modelyard.cli.live import job_bar
    from modelyard.cli.session import session

    with session(common) as here:
        started = here.client.datasets.create_dataset_version(dataset, base_version=base, edits=edits)
        with job_bar("publish", "dataset_version", lambda: here.client.datasets.cancel_dataset_version(started.name)) as show:
            done = here.client.datasets.wait_dataset_version(started.name, on_change=show)
    show_version(common, done)
