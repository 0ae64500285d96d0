"""`modelyard dataset`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.commands.dataset_edits import add_to as add_edits
from modelyard.cli.commands.dataset_quality import add_to as add_quality
from modelyard.cli.commands.dataset_quality import print_findings, throw_away
from modelyard.cli.commands.dataset_versions import add_to as add_versions
from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from pathlib import Path

    from modelyard.cli.session import Session
    from modelyard.dataset.v1 import dataset_pb2

TASKS = (
    "image_classification, image_multilabel, object_detection, semantic_segmentation, instance_segmentation, keypoint_detection, "
    "tabular_classification, tabular_regression, audio_classification, series_classification, anomaly_detection or forecasting"
)
FORMATS = (
    "image_folders, idx, csv, tsv, json_lines, parquet, coco, voc, yolo, cvat, labelme, masks, colour_masks, manifest, "
    "audio_folders, ts or sensor_csv"
)

app = new_app(
    "Import, check, report, fix, publish, edit, diff, tag, lineage, folds, export, list, show, examples, delete."
    "\n\n\b\nExample: modelyard dataset import flowers/ --name flowers"
)


@app.command("import")
@with_common
def import_(
    common: Common,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder, file, zip or tar; or an artifact:// URI.")],
    name: Annotated[str, typer.Option("--name", help="Name of the dataset; made when it does not exist.")],
    task: Annotated[str, typer.Option(help=f"{TASKS}. Default: detected.")] = "",
    label: Annotated[str, typer.Option(help="Tables: the column to predict. Recordings: columns of labels, with commas.")] = "",
    usage_column: Annotated[str, typer.Option(help="Tables: the column that says train, validation or test.")] = "",
    format: Annotated[str, typer.Option(help=f"{FORMATS}. Default: detected.")] = "",
    time_column: Annotated[str, typer.Option(help="Recordings: the column of the times.")] = "",
    name_pattern: Annotated[str, typer.Option(help="Sounds: what names say, such as {label}_{speaker}_{number}.")] = "",
    class_name: Annotated[list[str], typer.Option(help="Masks: name of value 0, then given again of 1....")] = [],  # noqa: B006
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="People are to label these pictures, sounds or rows; folders are no classes.")
    ] = False,
) -> None:
    """Read data into a dataset.

    \b
    Example: modelyard dataset import houses.csv --name houses --label price
    """
    from modelyard.cli.asking import import_begun, source_of
    from modelyard.cli.commands.auto import checked_name
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.client import AlreadyExists, ModelyardClientError

    checked_name(name)
    with session(common) as here:
        found, file_name = source_of(here, source)
        datasets = here.client.datasets
        try:
            made = bool(datasets.create_dataset(name).name)
        except AlreadyExists:
            made = False
        try:
            started = import_begun(
                here,
                name,
                source,
                found,
                file_name=file_name,
                format=format,
                task=task,
                label_column=label,
                usage_column=usage_column,
                time_column=time_column,
                name_pattern=name_pattern,
                classes=class_name,
                unlabelled=unlabelled,
            )
            with job_bar("import", "dataset_import", lambda: datasets.cancel_import(started.name)) as show:
                done = datasets.wait_import(started.name, on_change=show)
        except (ModelyardClientError, KeyboardInterrupt):
            if made:  # nothing is in it: a name that was tried is free again
                throw_away(here, name)
            raise
    print_json(plain(done)) if common.json else _print_import(name, done)


def _print_import(name: str, done: dataset_pb2.Import) -> None:
    from modelyard.cli.output import enum_name, print_facts
    from modelyard.dataset.v1 import dataset_pb2
    from modelyard.type.v1 import learning_pb2

    summary = done.summary
    facts = {
        "dataset": name,
        "format": enum_name(dataset_pb2.SourceFormat.DESCRIPTOR, done.format).lower(),
        "task": enum_name(learning_pb2.Task.DESCRIPTOR, done.task).lower(),
        "examples": summary.example_count,
        "classes": [f"{label} {count}" for label, count in zip(summary.classes, summary.class_counts, strict=False)],
        "columns": [column.name for column in summary.columns],
        "left out": summary.rejected_count,
    }
    print_facts(facts)
    for assumption in summary.assumptions:
        print(f"- {assumption}")
    for rejected in summary.rejected[:20]:
        print(f"left out: {rejected.path}: {rejected.reason}: {rejected.message}")
    if done.findings:
        print_findings(done.findings)


@app.command("publish")
@with_common
def publish(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    train_ratio: Annotated[str, typer.Option(help="Share to train on, above 0 and below 1, one to five decimals.")] = "0.8",
    split: Annotated[str, typer.Option(help="auto, ratio, or given (only the usage that came with the data).")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    group_by: Annotated[
        str, typer.Option(help="Keep together what belongs together: an attribute, a column, or a pattern: {group}_{number}.")
    ] = "",
    time_by: Annotated[str, typer.Option(help="Tables: column of the time; the latest rows become the test.")] = "",
    test_where: Annotated[
        list[str],
        typer.Option(help='What is test: "index < 5", "speaker = jackson" (attribute or column); may be given again.'),
    ] = [],  # noqa: B006
    validation_where: Annotated[list[str], typer.Option(help="The same for validation.")] = [],  # noqa: B006
    exclude: Annotated[list[str], typer.Option(help="Tables: a column to leave out; may be given again.")] = [],  # noqa: B006
    keep_leaking: Annotated[bool, typer.Option("--keep-leaking", help="Keep columns that leak the target.")] = False,
    version_name: Annotated[str, typer.Option(help="Name of the version. Default: V001, V002...")] = "",
    freeze_test: Annotated[
        bool, typer.Option("--freeze-test", help="Its test examples stay test in all later versions, and no training reads them.")
    ] = False,
    new_test: Annotated[
        bool, typer.Option("--new-test", help="Draw and freeze another test set. Models trained before may have seen it.")
    ] = False,
    note: Annotated[str, typer.Option(help="Notes about the version, for people.")] = "",
) -> None:
    """Split a dataset's content and freeze it as a version.

    \b
    Example: modelyard dataset publish flowers --train-ratio 0.7
    """
    from modelyard.cli.live import job_bar
    from modelyard.cli.session import session

    with session(common) as here:
        started = here.client.datasets.create_dataset_version(
            dataset,
            dataset_version_id=version_name,
            train_ratio=train_ratio,
            split_source=split,
            seed=seed,
            group_by=group_by,
            time_by=time_by,
            test_where=test_where,
            validation_where=validation_where,
            excluded_columns=exclude,
            keep_leaking_columns=keep_leaking,
            test_policy="replace" if new_test else "freeze" if freeze_test else "",
            description=note,
        )
        with job_bar("publish", "dataset_version", lambda: here.client.datasets.cancel_dataset_version(started.name)) as show:
            done = here.client.datasets.wait_dataset_version(started.name, on_change=show)
    show_version(common, done)


@app.command("export")
@with_common
def export(
    common: Common,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A dataset version (flowers/V001), or flowers for its newest.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A folder to write to, or a file that ends in .zip.")],
    format: Annotated[str, typer.Option(help=f"{FORMATS}.")],
    lossy: Annotated[bool, typer.Option("--lossy", help="Leave out what the format cannot carry, and say what.")] = False,
) -> None:
    """Write a version as files of a format that other tools read.

    \b
    Example: modelyard dataset export cells/V001 cells-coco/ --format coco
    """
    from pathlib import Path

    from modelyard.cli.live import bar, job_bar
    from modelyard.cli.output import plain, print_json, several
    from modelyard.cli.session import session

    place = Path(out)
    _check_place(place)
    with session(common) as here:
        started = here.client.datasets.create_dataset_export(version, format, lossy=lossy)
        with job_bar("export", "dataset_export", lambda: here.client.datasets.cancel_dataset_export(started.name)) as show:
            done = here.client.datasets.wait_dataset_export(started.name, on_change=show)
        with bar("download") as told:
            files = _fetched(here, done, place, told)
    if common.json:
        print_json({**plain(done), "files": files})
        return
    print(f"{several(done.example_count, 'example')}, {several(files, 'file')}: {place}")
    for note in done.notes:
        print(f"- {note}")


def _check_place(place: Path) -> None:
    """Nothing of the user's is written over."""
    from modelyard.cli.asking import written_to, wrong

    if place.is_file() or (place.is_dir() and (place.suffix.lower() == ".zip" or any(place.iterdir()))):
        raise wrong(
            "OUT", str(place), f"OUT is {str(place)!r}, which is there already; give an empty or a new folder, or a new file"
        )
    written_to("OUT", place)


def _fetched(here: Session, done: dataset_pb2.DatasetExport, place: Path, told: Any) -> int:
    """Writes the zip, or its files into a folder; how many files there are."""
    import tempfile

    from modelyard.cli.unpack import unpack

    if place.suffix.lower() == ".zip":
        place.parent.mkdir(parents=True, exist_ok=True)
        here.client.artifacts.download(done.archive, place, told)
        return 1
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".modelyard-") as folder:
        return len(unpack(here.client.artifacts.download(done.archive, f"{folder}/export.zip", told), place))


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List the datasets, newest first.

    \b
    Example: modelyard dataset list
    """
    from modelyard.cli.output import changed, enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.type.v1 import learning_pb2

    with session(common) as here:
        datasets = list(here.client.datasets.list_datasets())
    if common.json:
        print_json({"datasets": [plain(dataset) for dataset in datasets]})
        return
    rows = [
        (
            last_part(one.name),
            enum_name(learning_pb2.Task.DESCRIPTOR, one.task).lower(),
            last_part(one.latest_version),
            changed(one),
        )
        for one in datasets
    ]
    print_table(("dataset", "task", "latest version", "changed"), rows)


@app.command("show")
@with_common
def show(
    common: Common,
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset (flowers) or a version of it (flowers/V001, flowers/latest).")
    ],
) -> None:
    """Show a dataset with its versions, or a version with its counts, columns and notes.

    \b
    Example: modelyard dataset show flowers/V001
    """
    from modelyard.cli.session import session

    with session(common) as here:
        if "/versions/" in dataset or (not dataset.startswith("projects/") and dataset.count("/") == 1):
            show_version(common, here.client.datasets.get_dataset_version(dataset))
        else:
            _show_dataset(here, dataset)


def _show_dataset(here: Session, name: str) -> None:
    from modelyard.cli.live import state_name
    from modelyard.cli.output import date, enum_name, plain, print_facts, print_json, print_table
    from modelyard.client import last_part
    from modelyard.type.v1 import learning_pb2

    dataset = here.client.datasets.get_dataset(name)
    versions = list(here.client.datasets.list_dataset_versions(name))
    if here.common.json:
        print_json({**plain(dataset), "versions": [plain(version) for version in versions]})
        return
    facts = {
        "dataset": last_part(dataset.name),
        "task": enum_name(learning_pb2.Task.DESCRIPTOR, dataset.task).lower(),
        "description": dataset.description,
        "latest version": last_part(dataset.latest_version),
        "created": date(dataset.create_time),
    }
    print_facts(facts)
    rows = [
        (
            last_part(one.name),
            state_name(one.status.state),
            sum(count.example_count for count in one.counts),
            one.digest[:12],
            date(one.status.create_time),
        )
        for one in versions
    ]
    if rows:
        print()
        print_table(("version", "state", "examples", "digest", "created"), rows)


def show_version(common: Common, version: dataset_pb2.DatasetVersion) -> None:
    from modelyard.cli.live import state_name
    from modelyard.cli.output import enum_name, plain, print_facts, print_json, print_table, several
    from modelyard.cli.results import usage
    from modelyard.client import short
    from modelyard.dataset.v1 import dataset_pb2

    if common.json:
        print_json(plain(version))
        return
    facts = {"version": short(version.name), "state": state_name(version.status.state), "digest": version.digest}
    if version.tags:
        facts["tags"] = ", ".join(version.tags)
    if version.HasField("frozen_test"):
        frozen = version.frozen_test
        facts["frozen test"] = f"{several(frozen.example_count, 'example')}, since {short(frozen.dataset_version)}"
    if version.test_evaluation_count:
        facts["test looked at"] = f"by {several(version.test_evaluation_count, 'evaluation')}"
    if version.description:
        facts["note"] = version.description
    print_facts(facts)
    for text in version.notes:
        print(f"- {text}")
    print()
    counts = sorted(version.counts, key=lambda one: one.usage)
    rows = [("all", *(count.example_count for count in counts))]
    rows += [
        (label, *(count.class_counts[at] if at < len(count.class_counts) else "" for count in counts))
        for at, label in enumerate(version.classes)
    ]
    print_table(("examples", *(usage(count.usage) for count in counts)), rows)
    if version.columns:
        role = dataset_pb2.Column.Role.DESCRIPTOR
        kind = dataset_pb2.Column.Type.DESCRIPTOR
        print()
        columns = [
            (
                one.name,
                enum_name(kind, one.type).lower(),
                enum_name(role, one.role).lower(),
                one.set_aside_reason,
                one.missing_count,
            )
            for one in version.columns
        ]
        print_table(("column", "type", "role", "set aside", "missing"), columns)


@app.command("examples")
@with_common
def examples(
    common: Common,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A dataset version: flowers/V001.")],
    usage: Annotated[str, typer.Option(help="Only train, validation or test.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most examples to list.")] = 20,
) -> None:
    """List examples of a version with their usage and label.

    \b
    Example: modelyard dataset examples flowers/V001 --usage test --limit 5
    """
    from modelyard.cli import results
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.session import session

    with session(common) as here:
        resolved = here.client.datasets.get_dataset_version(version).name
        found = list(islice(here.client.datasets.list_examples(resolved, usage=usage, page_size=min(limit, 1000)), limit))
    if common.json:
        print_json({"examples": [plain(example) for example in found]})
        return
    print_table(
        ("example", "usage", "label", "path"), [(one.example_id, results.usage(one.usage), one.label, one.path) for one in found]
    )


add_edits(app)
add_versions(app)
add_quality(app)
