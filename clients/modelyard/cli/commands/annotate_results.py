"""`modelyard annotate` list, show, set, delete, agreement, publish, export, import: what rounds are and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, with_common

if TYPE_CHECKING:
    from modelyard.dataset.v1 import annotation_pb2

Round = Annotated[str, typer.Argument(metavar="ROUND", help="A round: flowers/first.")]
Method = Annotated[
    str,
    typer.Option(help="majority or dawid_skene. Default: dawid_skene for classes that people enough answered, else majority."),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard annotate`."""
    commands = (
        ("list", list_),
        ("show", show),
        ("set", set_),
        ("delete", delete),
        ("agreement", agreement),
        ("publish", publish),
        ("export", export),
        ("import", import_),
    )
    for name, command in commands:
        app.command(name)(with_common(command))


def list_(common: Common, dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")]) -> None:
    """List the rounds of a dataset, newest first.

    \b
    Example: modelyard annotate list flowers
    """
    from modelyard.cli.output import changed, enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.dataset.v1 import annotation_pb2

    with session(common) as here:
        found = list(here.client.annotations.list_rounds(dataset))
    if common.json:
        print_json({"annotation_rounds": [plain(one) for one in found]})
        return
    rows = [
        (
            last_part(one.name),
            enum_name(annotation_pb2.AnnotationRound.State.DESCRIPTOR, one.state).lower(),
            one.task_count,
            one.overlap,
            last_part(one.published_version),
            changed(one),
        )
        for one in found
    ]
    print_table(("round", "state", "tasks", "people each", "published", "changed"), rows)


def show(common: Common, round_: Round) -> None:
    """Show a round: how far it is, and what each person did.

    \b
    Example: modelyard annotate show flowers/first
    """
    from modelyard.cli.output import date, number, plain, print_json, print_table
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.annotations.get_round(round_)
        people = here.client.annotations.statistics(round_).annotators
    if common.json:
        print_json({**plain(found), "annotators": [plain(one) for one in people]})
        return
    print_round(found)
    rows = [
        (
            one.annotator,
            one.answers,
            one.leased,
            one.skips,
            one.revisions,
            one.rejections,
            number(one.median_seconds) if one.median_seconds else "",
            _share(one),
            date(one.last_time),
        )
        for one in people
    ]
    if rows:
        print()
        columns = ("who", "answers", "held", "skips", "revisions", "rejected", "median s", "model right", "last")
        print_table(columns, rows)


def _share(one: annotation_pb2.AnnotatorStatistics) -> str:
    """How often the person took the model's word."""
    total = one.pre_labels_unchanged + one.pre_labels_changed
    return f"{one.pre_labels_unchanged} of {total}" if total else ""


def print_round(found: annotation_pb2.AnnotationRound) -> None:
    """A round as facts."""
    from modelyard.cli.output import enum_name, print_facts
    from modelyard.client import last_part, short
    from modelyard.dataset.v1 import annotation_pb2

    progress = found.progress
    facts: dict[str, Any] = {
        "round": short(found.name),
        "state": enum_name(annotation_pb2.AnnotationRound.State.DESCRIPTOR, found.state).lower(),
        "label schema": last_part(found.label_schema),
        "examples of": last_part(found.dataset_version) or "the present content",
        "tasks": found.task_count,
        "answers": f"{progress.answers} of {progress.answers_wanted}",
        "open": progress.open,
        "labelled": progress.labelled,
        "accepted": progress.accepted or None,
        "corrected": progress.corrected or None,
        "held now": progress.leased or None,
        "skipped": progress.skipped or None,
        "with a model's word": progress.prelabelled or None,
        "people": list(found.annotators),
        "reviewers": list(found.reviewers),
        "published": last_part(found.published_version),
    }
    print_facts(facts)


def set_(
    common: Common,
    round_: Round,
    state: Annotated[str, typer.Option(help="open, paused (no new tasks) or closed (nothing is taken).")] = "",
    annotator: Annotated[list[str], typer.Option(metavar="WHO", help="Who may from now on; may be given again.")] = [],  # noqa: B006
    reviewer: Annotated[list[str], typer.Option(metavar="WHO", help="Who may review from now on; may be given again.")] = [],  # noqa: B006
    lease: Annotated[str, typer.Option(help="How long a task is held: 30m, 2h.")] = "",
) -> None:
    """Change a round.

    \b
    Example: modelyard annotate set flowers/first --state paused
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.client._messages import duration
    from modelyard.client.enums import enum_number
    from modelyard.dataset.v1 import annotation_pb2

    if not (state or annotator or reviewer or lease):
        raise wrong("--state", "", "there is nothing to change: give --state, --annotator, --reviewer or --lease")
    with session(common) as here:
        wanted = annotation_pb2.AnnotationRound(
            name=here.client.names.annotation_round(round_),
            state=enum_number(annotation_pb2.AnnotationRound.State, state, "--state"),
            annotators=annotator,
            reviewers=reviewer,
            lease=duration(seconds_of(lease, "lease")) if lease else None,
        )
        made = here.client.annotations.update_round(wanted)
    print_json(plain(made)) if common.json else print_round(made)


def delete(
    common: Common,
    round_: Round,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a round with all that people said in it. What was published stays.

    \b
    Example: modelyard annotate delete flowers/first --yes
    """
    import sys

    from modelyard.cli.asking import wrong
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.annotations.get_round(round_)
        if not yes and found.progress.answers:
            if not sys.stdin.isatty():
                raise wrong("--yes", "", f"{round_} holds {found.progress.answers} answers; give --yes to delete them")
            typer.confirm(f"Delete {round_} with its {found.progress.answers} answers?", abort=True)
        here.client.annotations.delete_round(round_)
    print_json({"deleted": found.name}) if common.json else print(f"deleted {round_}")


def agreement(common: Common, round_: Round, method: Method = "") -> None:
    """Say how far people agree, who differs, and on which tasks.

    \b
    Example: modelyard annotate agreement flowers/first
    """
    from modelyard.cli.output import number, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        found = here.client.annotations.agreement(round_, method=method)
    if common.json:
        print_json(plain(found))
        return
    rows = [
        (
            one.name.replace("_", " "),
            " and ".join(one.annotators),
            number(one.value),
            number(one.lower),
            number(one.upper),
            one.tasks,
        )
        for one in found.figures
    ]
    if rows:
        print_table(("figure", "of", "value", "lower", "upper", "tasks"), rows)
        print()
        people = [
            (e.annotator, number(e.agreement), e.compared, e.answers, number(e.median_seconds) if e.median_seconds else "")
            for e in found.annotators
        ]
        print_table(("who", "with the consensus", "tasks", "answers", "median s"), people)
    for text in found.notes:
        print(f"- {text}")
    if found.disagreement_count:
        print(f"no consensus on {found.disagreement_count} tasks:")
        for name in found.disagreements[:20]:
            print(f"  {last_part(name)}")


def publish(
    common: Common,
    round_: Round,
    method: Method = "",
    min_confidence: Annotated[
        float, typer.Option(help="Least confidence of a consensus, 0 to 1. Default: the method's own.")
    ] = 0.0,
    reviewed_only: Annotated[bool, typer.Option("--reviewed-only", help="Only what a reviewer accepted or corrected.")] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Also tasks for which more answers are wanted, where there is one.")
    ] = False,
    base: Annotated[str, typer.Option(help="Version to start from: V001. Default: the newest.")] = "",
    train_ratio: Annotated[str, typer.Option(help="Share of the new examples to train on.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    version_name: Annotated[str, typer.Option(help="Name of the version. Default: the next V number.")] = "",
) -> None:
    """Make the next version of the dataset from what people agree on.

    \b
    Example: modelyard annotate publish flowers/first
    """
    from modelyard.cli.commands.dataset import show_version
    from modelyard.cli.commands.dataset_quality import print_findings
    from modelyard.cli.live import job_bar
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import dataset_pb2

    split = dataset_pb2.SplitPolicy(train_ratio=train_ratio, seed=seed) if train_ratio or seed else None
    with session(common) as here:
        started = here.client.annotations.publish_round(
            round_,
            method=method,
            min_confidence=min_confidence,
            reviewed_only=reviewed_only,
            include_incomplete=incomplete,
            base_version=base,
            split=split,
            dataset_version_id=version_name,
        )
        with job_bar("publish", "dataset_version", lambda: here.client.datasets.cancel_dataset_version(started.name)) as show_:
            done = here.client.datasets.wait_dataset_version(started.name, on_change=show_)
    show_version(common, done)
    if done.findings and not common.json:
        print()
        print_findings(done.findings)


def export(
    common: Common,
    round_: Round,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The file to write: first.json.")],
) -> None:
    """Write a round's tasks, answers and model's words as Label Studio's JSON.

    \b
    Example: modelyard annotate export flowers/first first.json
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    place = Path(out).expanduser()
    if place.exists():
        raise wrong("OUT", out, f"OUT is {out!r}, which is there already; give a new file")
    with session(common) as here:
        made = here.client.annotations.export_annotations(round_)
        place.parent.mkdir(parents=True, exist_ok=True)
        here.client.artifacts.download(made.file, place)
    if common.json:
        print_json({**plain(made), "path": str(place)})
    else:
        print(f"{made.task_count} tasks, {made.answer_count} answers: {place}")


def import_(
    common: Common,
    round_: Round,
    source: Annotated[str, typer.Argument(metavar="FILE", help="Label Studio's JSON.")],
) -> None:
    """Take annotations and predictions from Label Studio's JSON into a round.

    \b
    Example: modelyard annotate import flowers/first project-1.json
    """
    from modelyard.cli.asking import uploaded, wrong
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    if not Path(source).expanduser().is_file():
        raise wrong("FILE", source, f"FILE is {source!r}: there is no such file")
    with session(common) as here:
        blob, _ = uploaded(here, source)
        found = here.client.annotations.import_annotations(round_, blob)
    if common.json:
        print_json(plain(found))
        return
    print(f"{found.task_count} tasks read, {found.answer_count} answers and {found.pre_label_count} predictions taken")
    for each in found.rejected[:20]:
        print(f"left out: {each.path}: {each.message}")
    if found.rejected_count > 20:
        print(f"left out: {found.rejected_count - 20} more (--json lists them)")
