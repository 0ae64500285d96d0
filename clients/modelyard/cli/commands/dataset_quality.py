"""`modelyard dataset check`, `report` and `fix`: what spoils a model, to read, to look at, and mended."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, with_common

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from modelyard.cli.session import Session
    from modelyard.dataset.v1 import dataset_pb2

EXAMPLES_SHOWN = 3
PATIENCE_S = 20.0
"""How long a cancelled job of a throw-away dataset may take to end before the dataset is left behind."""


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard dataset`."""
    for name, command in (("check", check), ("report", report), ("fix", fix)):
        app.command(name)(with_common(command))


def check(
    common: Common,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A dataset, a version (flowers/V001), or a folder, file, zip, tar or artifact://."),
    ],
    name: Annotated[
        str, typer.Option("--name", help="A source of files: keep what was imported as this dataset. Default: it is thrown away.")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Only what the import knows; no example is read again.")] = False,
    page: Annotated[str, typer.Option(metavar="FILE", help="Write the report as a page (.html) too.")] = "",
    task: Annotated[str, typer.Option(help="A source of files: its task, as for import.")] = "",
    format: Annotated[str, typer.Option(help="A source of files: its format, as for import.")] = "",
    label: Annotated[str, typer.Option(help="A source of files: the column to predict.")] = "",
    usage_column: Annotated[str, typer.Option(help="A source of files: the column that says train, validation or test.")] = "",
    time_column: Annotated[str, typer.Option(help="A source of files: the column of the times.")] = "",
    name_pattern: Annotated[str, typer.Option(help="A source of files: what names of sounds say.")] = "",
) -> None:
    """Look for what spoils a model: wrong labels, duplicates, bad pictures, outliers, missing values, imbalance, leaks.

    \b
    Example: modelyard dataset check flowers
    Example: modelyard dataset check ./flowers/ --json
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    options = {"task": task, "format": format, "label_column": label, "usage_column": usage_column}
    options |= {"time_column": time_column, "name_pattern": name_pattern}
    place = _place(page) if page else None
    with session(common) as here:
        given = [option for option, value in {**options, "name": name}.items() if value]
        mend = source if _is_dataset(here, source) else name
        if mend == source:
            if given:
                option = "--" + given[0].replace("label_column", "label").replace("_", "-")
                message = f"{option} goes with a source of files, and {source!r} is a dataset here; give ./{source} for the files"
                raise wrong(option, source, message)
            done = _checked(here, source, quick)
            _write_page(here, done, place)
        else:
            with _imported(here, source, name, options) as dataset:
                done = _checked(here, dataset, quick)
                _write_page(here, done, place)
    if common.json:
        print_json(plain(done))
        return
    print_findings(done.findings, mend)
    for note in done.notes:
        print(f"- {note}")


def report(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset, or a version of it (flowers/V001).")],
    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="The page. Default: DATASET-quality.html.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Check again, even if this content was checked before.")] = False,
) -> None:
    """Write what a check found as one page (HTML) with pictures of the worst examples. It refers to nothing outside itself.

    \b
    Example: modelyard dataset report flowers -o report.html
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    place = _place(out or f"{dataset.rpartition('projects/')[2].replace('/', '-')}-quality.html")
    with session(common) as here:
        found = None if new else _earlier(here, dataset)
        done = found or _checked(here, dataset, quick=False)
        _write_page(here, done, place)
    print_json({**plain(done), "file": str(place)}) if common.json else print(place)


def fix(
    common: Common,
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset: its present content; or a version (flowers/V001) to go on from.")
    ],
    kind: Annotated[list[str], typer.Option("--kind", help="Kind of finding, such as LABEL_ERRORS; may be given again.")],
    column: Annotated[list[str], typer.Option(help="Tables: only findings of this column; may be given again.")] = [],  # noqa: B006
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Only examples with at least this score.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
) -> None:
    """Do what a check proposes: make a version with the findings of a kind mended. The content before stays as it is.

    \b
    Example: modelyard dataset fix flowers --kind EXACT_DUPLICATES
    Example: modelyard dataset fix flowers --kind LABEL_ERRORS --min-score 0.8
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.commands.dataset_edits import publish_edits
    from modelyard.cli.session import session

    with session(common) as here:
        found = _earlier(here, dataset) or _checked(here, dataset, quick=False)
    findings = [one for one in found.findings if one.HasField("fix")]
    for name in column:
        if not any(one.column == name for one in findings):
            have = ", ".join(sorted({one.column for one in findings if one.column})) or "none"
            raise wrong("--column", name, f"--column is {name!r}; the columns with a finding that an edit mends are: {have}")
    findings = [one for one in findings if not column or one.column in column]
    mended = {finding.kind for finding in findings}
    for wanted in kind:
        if wanted not in mended:
            have = ", ".join(sorted(mended)) or "none"
            raise wrong("--kind", wanted, f"--kind is {wanted!r}; the findings here that an edit mends are: {have}")
    edits = edits_of([finding for finding in findings if finding.kind in kind], min_score)
    if not edits:
        raise wrong("--min-score", min_score, f"--min-score is {min_score:g}; no example of these findings scores as high")
    if dry_run:
        _tell(common, edits)
        return
    publish_edits(common, *_split(dataset), edits)


def edits_of(findings: Sequence[dataset_pb2.Finding], min_score: float) -> list[dataset_pb2.Edit]:
    """The fixes of findings, each example in the first that names it; only those with at least this score where one is asked for.

    InvalidArgument when a score is asked for and a finding has none.
    """
    from modelyard.cli.asking import wrong

    edits, gone = [], set[str]()
    for finding in findings:
        if finding.fix.column and not min_score:  # of a column of the table, not of examples
            edits.append(finding.fix)
            continue
        ids, labels, scores = list(finding.fix.example_ids), list(finding.fix.labels), list(finding.fix_scores)
        if min_score and not scores:
            message = f"--min-score is {min_score:g}, but examples of {finding.kind} have no scores; leave it out"
            raise wrong("--min-score", min_score, message)
        places = [at for at, id_ in enumerate(ids) if id_ not in gone and (not min_score or scores[at] >= min_score)]
        if not places:
            continue
        gone.update(ids[at] for at in places)
        edit = type(finding.fix)()
        edit.CopyFrom(finding.fix)
        edit.reason = finding.kind
        edit.example_ids[:] = [ids[at] for at in places]
        edit.labels[:] = [labels[at] for at in places] if labels else []
        edits.append(edit)
    return edits


def print_findings(findings: Any, mend: str = "") -> None:
    """Each with its cost, what to do and a few examples; `mend`: the dataset that `fix` would be given."""
    from modelyard.cli.output import enum_name
    from modelyard.dataset.v1 import dataset_pb2

    if not findings:
        print("nothing found")
    for finding in findings:
        severity = enum_name(dataset_pb2.Finding.Severity.DESCRIPTOR, finding.severity).lower()
        print(f"{severity}: {finding.kind}: {finding.message}")
        if finding.cost:
            print(f"  cost: {finding.cost}")
        if finding.action:
            print(f"  {finding.action}")
        if finding.examples:
            more = ", ..." if finding.example_count > EXAMPLES_SHOWN else ""
            print(f"  {', '.join(finding.examples[:EXAMPLES_SHOWN])}{more}")
        if mend and finding.HasField("fix"):
            print(f"  modelyard dataset fix {mend} --kind {finding.kind}")


def _is_dataset(here: Session, source: str) -> bool:
    """Whether a dataset is meant: one that is there, or a name where there is no such file."""
    from pathlib import Path

    from modelyard.cli.output import note
    from modelyard.client import InvalidArgument, NotFound

    if source.startswith(("artifact://", "./", "../", "/", "~")):
        return False
    path = Path(source).expanduser()
    try:
        here.client.datasets.get_dataset(_split(source)[0])
    except (NotFound, InvalidArgument):
        if path.exists():
            return False
        raise
    if path.exists():
        note(f"{source} is a dataset and a file; the dataset is checked (./{source} is the file)")
    return True


def _split(dataset: str) -> tuple[str, str]:
    """A dataset's name, and the name of its version where one is given, else ""."""
    full = dataset.startswith("projects/")
    name = dataset.partition("/versions/" if full else "/")[0]
    return name, dataset if name != dataset else ""


def _checked(here: Session, dataset: str, quick: bool) -> dataset_pb2.QualityReport:
    from modelyard.cli.live import job_bar

    name, version = _split(dataset)
    started = here.client.datasets.create_quality_report(name, dataset_version=version, depth="quick" if quick else "full")
    with job_bar("check", "quality_report", lambda: here.client.datasets.cancel_quality_report(started.name)) as show:
        return here.client.datasets.wait_quality_report(started.name, on_change=show)


def _earlier(here: Session, dataset: str) -> dataset_pb2.QualityReport | None:
    """The newest full report of the same content, if there is one: it would say the same again."""
    from modelyard.dataset.v1 import dataset_pb2
    from modelyard.type.v1 import job_pb2

    name, version = _split(dataset)
    datasets = here.client.datasets
    wanted = datasets.get_dataset_version(version).name if version else ""
    current = datasets.get_dataset(name).current_import
    for found in datasets.list_quality_reports(name):
        full = found.depth == dataset_pb2.QualityReport.DEPTH_FULL
        same = found.dataset_version == wanted and (wanted or found.dataset_import == current) and not found.base_version
        if found.status.state == job_pb2.JOB_STATE_SUCCEEDED and full and same:
            return found
    return None


@contextlib.contextmanager
def _imported(here: Session, source: str, name: str, options: dict[str, Any]) -> Iterator[str]:
    """A dataset with what is in a source: under a name of the user's, or one that is gone afterwards."""
    from modelyard.cli.asking import import_begun, source_of
    from modelyard.cli.commands.auto import checked_name
    from modelyard.cli.live import job_bar
    from modelyard.client import AlreadyExists

    if name:
        checked_name(name)
    datasets = here.client.datasets
    found, file_name = source_of(here, source)
    dataset = name or f"check-{uuid.uuid4().hex[:12]}"
    with contextlib.suppress(AlreadyExists):
        datasets.create_dataset(dataset)
    try:
        started = import_begun(here, dataset, source, found, file_name=file_name, **options)
        with job_bar("import", "dataset_import", lambda: datasets.cancel_import(started.name)) as show:
            datasets.wait_import(started.name, on_change=show)
        yield dataset
    finally:
        if not name:
            throw_away(here, dataset)


def throw_away(here: Session, dataset: str) -> None:
    """Deletes a dataset; what still runs in it is cancelled first."""
    import time

    from modelyard.cli.interrupts import CALL_S, interrupts
    from modelyard.cli.output import note
    from modelyard.client import DeadlineExceeded, ModelyardClientError, Unavailable

    datasets, end = here.client.datasets, time.monotonic() + (CALL_S if interrupts.asked else PATIENCE_S)
    while True:
        try:
            for running in datasets.list_imports(dataset):
                datasets.cancel_import(running.name)
            for checking in datasets.list_quality_reports(dataset):
                datasets.cancel_quality_report(checking.name)
            datasets.delete_dataset(dataset)
            return
        except (Unavailable, DeadlineExceeded):
            return  # the server has ended, or hangs; what it was doing goes on
        except ModelyardClientError as error:
            if time.monotonic() > end:
                note(f"the dataset {dataset} could not be thrown away: {error}")
                return
        time.sleep(0.3)


def _place(file: str) -> Path:
    """Where the page goes. Another report is written over, nothing else is."""
    from pathlib import Path

    from modelyard.cli.asking import written_to, wrong

    place = Path(file).expanduser()
    if place.is_dir():
        raise wrong("--out", file, f"--out is {file!r}, a folder; give the name of a file, such as report.html")
    if place.exists() and not place.read_bytes()[:15].lower().startswith(b"<!doctype html>"):
        raise wrong("--out", file, f"--out is {file!r}, which is there already and is no page; give another name")
    return written_to("--out", place)


def _write_page(here: Session, done: dataset_pb2.QualityReport, place: Path | None) -> None:
    if place is not None:
        here.client.artifacts.download(done.page, place)


def _tell(common: Common, edits: Sequence[dataset_pb2.Edit]) -> None:
    from modelyard.cli.output import enum_name, plain, print_json, several
    from modelyard.dataset.v1 import dataset_pb2

    if common.json:
        print_json({"edits": [plain(edit) for edit in edits]})
        return
    for edit in edits:
        action = enum_name(dataset_pb2.Edit.Action.DESCRIPTOR, edit.action).lower()
        concerned = f"column {edit.column}" if edit.column else several(len(edit.example_ids), "example")
        print(f"{edit.reason}: {action} {concerned}")
