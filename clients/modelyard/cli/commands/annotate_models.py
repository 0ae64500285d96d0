"""`modelyard annotate` prelabel and propose: what a served model says first, and what it should be taught next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelyard.cli.options import Common, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.dataset.v1 import annotation_pb2

AT_ONCE: Final = 32
"""Pictures, or rows of a table, in one request."""
BOX_SCORE: Final = 0.3
"""From this score on a box is shown to people, unless --min-confidence says otherwise."""
STRATEGIES: Final = "least_confidence, margin, entropy, diversity, mixed or random"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard annotate`."""
    for name, command in (("prelabel", prelabel), ("propose", propose)):
        app.command(name)(with_common(command))


def prelabel(
    common: Common,
    round_: Annotated[str, typer.Argument(metavar="ROUND", help="A round: flowers/first.")],
    endpoint: Annotated[str, typer.Option(help="The endpoint whose model is asked.")],
    version: Annotated[str, typer.Option(help="Version that answers. Default: the endpoint's own choice.")] = "",
    least: Annotated[float, typer.Option("--min-confidence", help="Leave out what the model is less sure of, 0 to 1.")] = 0.0,
) -> None:
    """Ask a served model about the open tasks of a round; people see what it says and correct it.

    \b
    Example: modelyard annotate prelabel flowers/first --endpoint flowers
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import annotation_pb2

    if not 0 <= least <= 1:
        raise wrong("--min-confidence", least, f"--min-confidence is {least:g}; it is 0 to 1")
    taken = asked = 0
    with session(common) as here:
        calls = here.client.annotations
        schema = calls.get_label_schema(calls.get_round(round_).label_schema)
        known = {each.name for each in schema.classes}
        tasks = list(calls.list_tasks(round_, state="open", page_size=1000))
        unknown: set[str] = set()
        read = (_content(calls.task_content(task.name), task.example.path) for task in tasks)
        ready: list[annotation_pb2.PreLabel] = []
        answers = _predicted(here, endpoint, version, read, len(tasks), schema, least)
        for task, (said, sure, model) in zip(tasks, answers, strict=True):
            asked += 1
            named = {*said.classes, *(each.label for each in said.objects)}
            unknown |= named - known
            if named <= known and sure >= least:
                for each in said.objects:  # shares of the picture until here
                    size = (task.width, task.height, task.width, task.height)
                    each.box[:] = [share * side for share, side in zip(each.box, size, strict=True)]
                ready.append(
                    annotation_pb2.PreLabel(example_id=task.example.example_id, answer=said, confidence=sure, model=model)
                )
            if len(ready) >= 500:
                taken, ready = taken + calls.import_pre_labels(round_, ready), []
        taken += calls.import_pre_labels(round_, ready) if ready else 0
    if common.json:
        print_json({"asked": asked, "pre_labels": taken, "unknown_classes": sorted(unknown)})
        return
    print(f"{asked} tasks asked about, {taken} have the model's word now")
    if unknown:
        print(f"left out, because the label schema has no such class: {', '.join(sorted(unknown)[:20])}")


def propose(
    common: Common,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name.")],
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 100,
    endpoint: Annotated[str, typer.Option(help="The endpoint whose model says what it is unsure of. Default: none.")] = "",
    version: Annotated[str, typer.Option(help="Version that answers.")] = "",
    strategy: Annotated[str, typer.Option(help=f"{STRATEGIES}. Default: mixed with an endpoint, else diversity.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    round_: Annotated[str, typer.Option("--round", metavar="NAME", help="Open a round of them.")] = "",
    overlap: Annotated[int, typer.Option(help="With --round: how many people answer each.")] = 1,
) -> None:
    """Say which unlabelled examples are most worth labelling next.

    \b
    Example: modelyard annotate propose flowers --count 50 --endpoint flowers --round second
    """
    from modelyard.cli.output import number, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import annotation_pb2

    with session(common) as here:
        calls = here.client.annotations
        predictions: dict[str, Sequence[float]] = {}
        if endpoint:
            free = list(calls.list_unlabelled_examples(dataset, page_size=1000))
            read = (_content(calls.example_content(dataset, each.example_id), each.path) for each in free)
            shares = _shares(here, endpoint, version, read, len(free))
            predictions = {each.example_id: row for each, row in zip(free, shares, strict=True)}
        found = calls.propose_examples(dataset, count, strategy=strategy, predictions=predictions, seed=seed)
        made = None
        if round_:
            selection = annotation_pb2.ExampleSelection(example_ids=[each.example_id for each in found.examples])
            wanted = annotation_pb2.AnnotationRound(selection=selection, overlap=overlap)
            made = calls.create_round(dataset, round_, wanted)
    if common.json:
        print_json({**plain(found), **({"annotation_round": plain(made)} if made is not None else {})})
        return
    rows = [(each.example_id, number(each.uncertainty), number(each.novelty), each.path) for each in found.examples[:50]]
    print_table(("example", "uncertainty", "novelty", "path"), rows)
    if len(found.examples) > 50:
        print(f"... {len(found.examples) - 50} more (--json lists them all)")
    print(f"{len(found.examples)} of {found.candidate_count} unlabelled examples" + (f", in {dataset}/{round_}" if made else ""))


def _content(content: annotation_pb2.TaskContent, path: str) -> bytes | dict[str, Any]:
    """A picture's bytes, or a table's row by column."""
    from modelyard.cli.asking import wrong
    from modelyard.cli.commands.annotate_tasks import row_of

    row = row_of(content)
    if row is not None:
        return row
    if not content.media_type.startswith("image/"):
        message = f"{path} is {content.media_type}; a served model is asked about pictures and rows of tables here "
        raise wrong("--endpoint", path, message + "(for others: import pre-labels)")
    return bytes(content.data)


def _predicted(
    here: Session,
    endpoint: str,
    version: str,
    examples: Iterator[bytes | dict[str, Any]],
    total: int,
    schema: annotation_pb2.LabelSchema,
    least: float,
) -> Iterator[tuple[annotation_pb2.Answer, float, str]]:
    """For each example what a model says (boxes as shares of the picture), how sure it is, and which model it was."""
    from modelyard.cli.marked_answers import finds_boxes
    from modelyard.dataset.v1 import annotation_pb2

    boxes = annotation_pb2.SHAPE_BOX in schema.shapes and annotation_pb2.SHAPE_CLASS not in schema.shapes

    def read(prediction: Any, at: int) -> tuple[annotation_pb2.Answer, float, str]:
        model = f"{endpoint}/{prediction.model_version}"
        if boxes and finds_boxes(prediction):
            said, sure = _boxes(prediction, at, least or BOX_SCORE)
            return said, sure, model
        row = _row(prediction, at)
        return annotation_pb2.Answer(classes=[prediction.labels[at]]), max(row), model

    return _asked(here, endpoint, version, examples, total, read)


def _boxes(prediction: Any, at: int, least: float) -> tuple[annotation_pb2.Answer, float]:
    """Boxes of at least a score, within the picture; as sure as the least sure of them (1: nothing was found)."""
    from modelyard.cli.marked_answers import objects
    from modelyard.dataset.v1 import annotation_pb2

    made, sure = [], 1.0
    for each in objects(prediction, at, None, least):
        box = [min(max(share, 0.0), 1.0) for share in each["box"]]
        if box[2] > box[0] and box[3] > box[1]:
            made.append(annotation_pb2.MarkedObject(label=each["label"], box=box))
            sure = min(sure, each["score"])
    return annotation_pb2.Answer(objects=made), sure


def _shares(
    here: Session, endpoint: str, version: str, examples: Iterator[bytes | dict[str, Any]], total: int
) -> Iterator[list[float]]:
    """For each example the probability of each class."""
    return _asked(here, endpoint, version, examples, total, _row)


def _row(prediction: Any, at: int) -> list[float]:
    from modelyard.cli.asking import wrong

    if "probabilities" not in prediction.outputs or not prediction.labels:
        have = ", ".join(prediction.outputs)
        raise wrong("--endpoint", have, f"the model answers {have}; one that says a class with its probabilities is needed")
    return [float(value) for value in prediction.rows("probabilities")[at]]


def _asked(
    here: Session,
    endpoint: str,
    version: str,
    examples: Iterator[bytes | dict[str, Any]],
    total: int,
    read: Callable[[Any, int], Any],
) -> Iterator[Any]:
    from itertools import islice

    from modelyard.cli.output import note

    done = 0
    while part := list(islice(examples, AT_ONCE)):
        rows = isinstance(part[0], dict)
        given: dict[str, Any] = {"rows" if rows else "image": part}
        prediction = here.client.predictions.predict(endpoint, **given, version=version)
        yield from (read(prediction, at) for at in range(len(part)))
        done += len(part)
        if done % (AT_ONCE * 20) == 0:
            note(f"asked the model about {done} of {total}")
