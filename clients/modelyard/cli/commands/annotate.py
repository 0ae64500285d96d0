"""`modelyard annotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.commands import annotate_models, annotate_results, annotate_tasks
from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.dataset.v1 import annotation_pb2

SHAPES = "class, classes, box, polygon, mask, keypoints, range or text"
Round = Annotated[str, typer.Argument(metavar="ROUND", help="A round: flowers/first.")]

app = new_app(
    "Let people label examples: schema, create, label, review, agreement, prelabel, propose, publish."
    "\n\n\b\nExample: modelyard annotate create flowers first --unlabelled"
)
annotate_tasks.add_to(app)
annotate_results.add_to(app)
annotate_models.add_to(app)


@app.command("schema")
@with_common
def schema(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, or flowers/V001 to show an older one.")],
    shape: Annotated[list[str], typer.Option(metavar="SHAPE", help=f"{SHAPES}; may be given again.")] = [],  # noqa: B006
    class_: Annotated[
        list[str], typer.Option("--class", metavar="NAME[=WHAT IT IS]", help="A class; may be given again, in their order.")
    ] = [],  # noqa: B006
    keypoint: Annotated[list[str], typer.Option(metavar="NAME", help="A point of an object; may be given again.")] = [],  # noqa: B006
    guidelines: Annotated[str, typer.Option(metavar="FILE", help="How to decide, as Markdown.")] = "",
    file: Annotated[str, typer.Option(metavar="FILE", help="All of it as JSON, as --json shows it.")] = "",
) -> None:
    """Say what annotators may say, and how they should decide; without options, show it.

    \b
    Example: modelyard annotate schema flowers --class rose --class "tulip=one bloom, no leaves on the stem" --guidelines how.md
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import annotation_pb2

    wanted = _schema_file(file) if file else annotation_pb2.LabelSchema()
    with session(common) as here:
        if file or shape or class_ or guidelines or keypoint:
            wanted.MergeFrom(_schema(here, dataset, shape, class_, keypoint, guidelines, with_shape=not wanted.shapes))
            found = here.client.annotations.create_label_schema(dataset, wanted)
        else:
            found = here.client.annotations.get_label_schema(dataset)
    print_json(plain(found)) if common.json else _print_schema(found)


def _schema_file(path: str) -> annotation_pb2.LabelSchema:
    from pathlib import Path

    from google.protobuf import json_format

    from modelyard.cli.asking import wrong
    from modelyard.dataset.v1 import annotation_pb2

    text = _text(path, "--file")
    try:
        return json_format.Parse(_full_enums(text), annotation_pb2.LabelSchema())
    except (json_format.ParseError, ValueError) as error:
        raise wrong("--file", path, f"{Path(path).name} is no label schema: {str(error)[:300]}") from None


def _full_enums(text: str) -> str:
    """Shapes and kinds may be short, as --json shows them: BOX for SHAPE_BOX. What the server sets is left out."""
    import json

    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    for name in ("name", "creator", "create_time", "createTime"):
        said.pop(name, None)
    said["shapes"] = [_prefixed(each, "SHAPE_") for each in said.get("shapes", [])]
    for attributes in (said.get("attributes", []), *(each.get("attributes", []) for each in said.get("classes", []))):
        for each in attributes:
            if "kind" in each:
                each["kind"] = _prefixed(each["kind"], "KIND_")
    return json.dumps(said)


def _prefixed(word: Any, prefix: str) -> Any:
    return word if not isinstance(word, str) or word.upper().startswith(prefix) else prefix + word.upper()


def _schema(
    here: Any,
    dataset: str,
    shapes: list[str],
    classes: list[str],
    keypoints: list[str],
    guidelines: str,
    *,
    with_shape: bool,
) -> annotation_pb2.LabelSchema:
    from modelyard.client.enums import enum_number
    from modelyard.dataset.v1 import annotation_pb2
    from modelyard.type.v1 import learning_pb2

    usual = {
        learning_pb2.TASK_IMAGE_MULTILABEL: "classes",
        learning_pb2.TASK_OBJECT_DETECTION: "box",
        learning_pb2.TASK_SEMANTIC_SEGMENTATION: "mask",
        learning_pb2.TASK_INSTANCE_SEGMENTATION: "polygon",
        learning_pb2.TASK_KEYPOINT_DETECTION: "keypoints",
        learning_pb2.TASK_ANOMALY_DETECTION: "range",
    }
    if not shapes and with_shape:
        shapes = [usual.get(here.client.datasets.get_dataset(dataset).task, "class")]
    named = [each.partition("=") for each in classes]
    return annotation_pb2.LabelSchema(
        shapes=[enum_number(annotation_pb2.Shape, each, "--shape") for each in shapes],
        classes=[annotation_pb2.LabelClass(name=name.strip(), description=what.strip()) for name, _, what in named],
        keypoints=keypoints,
        guidelines=_text(guidelines, "--guidelines") if guidelines else "",
    )


def _text(path: str, option: str) -> str:
    from pathlib import Path

    from modelyard.cli.asking import wrong

    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "it is not UTF-8 text"
        raise wrong(option, path, f"{option} is {path!r}: {why}") from None


def _print_schema(found: annotation_pb2.LabelSchema) -> None:
    from modelyard.cli.output import enum_name, print_facts, print_table
    from modelyard.client import short
    from modelyard.dataset.v1 import annotation_pb2

    shapes = [enum_name(annotation_pb2.Shape.DESCRIPTOR, each).lower() for each in found.shapes]
    print_facts({"label schema": short(found.name), "shapes": shapes, "keypoints": list(found.keypoints), "by": found.creator})
    print_table(("class", "key", "colour", "what it is"), [(e.name, e.key, e.colour, e.description) for e in found.classes])
    if found.guidelines:
        print()
        print(found.guidelines.rstrip())


@app.command("create")
@with_common
def create(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the round: a-z, 0-9 and -.")],
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only examples that have no label yet.")] = False,
    version: Annotated[str, typer.Option(help="Look again at a version: V001. Default: the present content.")] = "",
    finding: Annotated[str, typer.Option(metavar="KIND", help="Only those of a finding of a check, such as LABEL_ISSUES.")] = "",
    usage: Annotated[str, typer.Option(help="Only train, validation or test.")] = "",
    of_class: Annotated[str, typer.Option(metavar="CLASS", help="Only one class.")] = "",
    examples: Annotated[str, typer.Option(metavar="FILE", help="Exactly these: a file of ids, one a line; - is stdin.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most this many, drawn at random.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the order. Default: the order of the source.")] = 0,
    overlap: Annotated[int, typer.Option(help="How many people answer each example.")] = 1,
    overlap_share: Annotated[float, typer.Option(help="Share of the examples that so many answer; one answers the others.")] = 1,
    annotator: Annotated[
        list[str], typer.Option(metavar="WHO", help="Who may: user:anna; may be given again. Default: all.")
    ] = [],  # noqa: B006
    reviewer: Annotated[list[str], typer.Option(metavar="WHO", help="Who may review, beside editors; may be given again.")] = [],  # noqa: B006
    lease: Annotated[str, typer.Option(help="How long a task is held for one person: 30m, 2h.")] = "30m",
    schema_version: Annotated[str, typer.Option("--schema", help="Label schema: V001. Default: the newest.")] = "",
) -> None:
    """Open a round: choose examples, and give them out.

    \b
    Example: modelyard annotate create flowers first --unlabelled --limit 200 --overlap 2
    """
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.client._messages import duration
    from modelyard.dataset.v1 import annotation_pb2

    wanted = annotation_pb2.ExampleSelection(
        example_ids=_ids(examples) if examples else (),
        unlabelled=unlabelled,
        usage=usage,
        of_class=of_class,
        finding_kind=finding,
        limit=limit,
        seed=seed,
    )
    with session(common) as here:
        names = here.client.names
        if finding:
            wanted.finding_source = _checked(here, dataset)
        made = here.client.annotations.create_round(
            dataset,
            name,
            annotation_pb2.AnnotationRound(
                label_schema=names.label_schema(f"{dataset}/{schema_version}") if schema_version else "",
                dataset_version=names.dataset_version(f"{dataset}/{version}") if version else "",
                selection=wanted,
                overlap=overlap,
                overlap_share=overlap_share,
                annotators=annotator,
                reviewers=reviewer,
                lease=duration(seconds_of(lease, "lease")),
            ),
        )
    print_json(plain(made)) if common.json else annotate_results.print_round(made)


def _checked(here: Any, dataset: str) -> str:
    """The name of a check of the dataset, made now."""
    from modelyard.cli.live import job_bar

    started = here.client.datasets.create_quality_report(dataset)
    with job_bar("check", "quality_report", lambda: here.client.datasets.cancel_quality_report(started.name)) as show:
        return str(here.client.datasets.wait_quality_report(started.name, on_change=show).name)


def _ids(path: str) -> list[str]:
    import sys

    text = sys.stdin.read() if path == "-" else _text(path, "--examples")
    return [line.split()[0] for line in text.splitlines() if line.strip()]
