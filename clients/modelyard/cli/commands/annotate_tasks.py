"""`modelyard annotate` next, label, submit, skip, undo, tasks, history, review: what people do with tasks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelyard.cli.options import Common, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.dataset.v1 import annotation_pb2

Round = Annotated[str, typer.Argument(metavar="ROUND", help="A round: flowers/first.")]
Task = Annotated[str, typer.Argument(metavar="TASK", help="A task: flowers/first/e3f9c2a...")]
As = Annotated[str, typer.Option("--as", metavar="WHO", help="Who answers, such as user:anna. Default: you.")]
Class = Annotated[list[str], typer.Option("--class", metavar="CLASS", help="The class; may be given again.")]
Box = Annotated[
    list[str], typer.Option("--box", metavar="CLASS=LEFT,TOP,RIGHT,BOTTOM", help="A box, in pixels; may be given again.")
]
Range = Annotated[list[str], typer.Option("--range", metavar="CLASS=START,END", help="Steps of a series; may be given again.")]
Text = Annotated[str, typer.Option("--text", help="The text.")]
AnswerFile = Annotated[str, typer.Option("--answer", metavar="FILE", help="The whole answer as JSON, as --json shows it.")]
Nothing = Annotated[bool, typer.Option("--nothing", help="There is nothing to mark.")]
ENDINGS: Final = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "application/json": ".json",
}


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `modelyard annotate`."""
    commands = (
        ("next", next_),
        ("label", label),
        ("submit", submit),
        ("skip", skip),
        ("undo", undo),
        ("tasks", tasks),
        ("history", history),
        ("review", review),
    )
    for name, command in commands:
        app.command(name)(with_common(command))


def next_(
    common: Common,
    round_: Round,
    count: Annotated[int, typer.Option(min=1, max=50, help="How many to hold at once.")] = 1,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Save what is to be labelled here.")] = "",
    who: As = "",
) -> None:
    """Take the next tasks; they are held for you until the lease ends.

    \b
    Example: modelyard annotate next flowers/first --out look/
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        found = here.client.annotations.claim(round_, count=count, annotator=who)
        files = [_saved(here, task, Path(out)) for task in found.tasks] if out else [None] * len(found.tasks)
    if common.json:
        print_json({**plain(found), "files": [str(file) for file in files if file]})
        return
    for task, file in zip(found.tasks, files, strict=True):
        print(f"{last_part(task.name)}  {file or task.example.path}{_hint(task)}")
    if not found.tasks:
        print("nothing is left for you in this round now")


def _hint(task: annotation_pb2.AnnotationTask) -> str:
    parts = []
    if task.HasField("pre_label"):
        parts.append(f"the model says {said(task.pre_label.answer)} ({100 * task.pre_label.confidence:.0f}%)")
    if task.reject_reason:
        parts.append(f"came back: {task.reject_reason}")
    if task.HasField("earlier_answer"):
        parts.append(f"you said {said(task.earlier_answer)}")
    return f"  ({'; '.join(parts)})" if parts else ""


def said(answer: annotation_pb2.Answer) -> str:
    """An answer in a few words."""
    parts = [", ".join(answer.classes)] if answer.classes else []
    parts += [f"{each.label} at {', '.join(f'{value:g}' for value in each.box)}" for each in answer.objects[:5]]
    if len(answer.objects) > 5:
        parts.append(f"{len(answer.objects) - 5} more")
    parts += [f"{each.label} in steps {each.start} to {each.end}" for each in answer.ranges[:5]]
    parts += [repr(answer.text[:60])] if answer.text else []
    parts += [f"{name}={value}" for name, value in sorted(answer.attributes.items())]
    return "; ".join(parts) or "nothing"


def _saved(here: Session, task: annotation_pb2.AnnotationTask, folder: Path) -> Path:
    return _written(here.client.annotations.task_content(task.name), task, folder)


def _written(content: annotation_pb2.TaskContent, task: annotation_pb2.AnnotationTask, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (task.name.rpartition("/")[2] + ENDINGS.get(content.media_type, ".bin"))
    path.write_bytes(content.data)
    return path


def row_of(content: annotation_pb2.TaskContent) -> dict[str, Any] | None:
    """A row of a table, by column; None for what is none (a series is JSON too, of lists)."""
    if content.media_type != "application/json":
        return None
    said = json.loads(content.data)
    if not isinstance(said, dict) or any(isinstance(value, list | dict) for value in said.values()):
        return None
    return said


def _shown(here: Session, task: annotation_pb2.AnnotationTask, folder: Path) -> str:
    """What is to be labelled: a row as its columns and values, anything else as the file that it was saved to."""
    content = here.client.annotations.task_content(task.name)
    row = row_of(content)
    if row is None:
        return str(_written(content, task, folder))
    cells = [f"  {name}: {value}" for name, value in row.items() if value is not None]
    return "\n".join([task.example.path, *cells])


def label(
    common: Common,
    round_: Round,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where each picture is saved to be looked at.")] = "to-label",
    who: As = "",
) -> None:
    """Label classes here in the terminal: each row is shown, each picture saved to a folder, and one key answers it.

    \b
    Example: modelyard annotate label flowers/first
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import annotation_pb2

    done = 0
    with session(common) as here:
        calls = here.client.annotations
        schema = calls.get_label_schema(calls.get_round(round_).label_schema)
        if annotation_pb2.SHAPE_CLASS not in schema.shapes:
            raise wrong("ROUND", round_, f"{round_} asks for more than one class; answer with `annotate submit` or the console")
        keys = {each.key: each.name for each in schema.classes if each.key}
        print("  ".join(f"{key} {name}" for key, name in keys.items()))
        print("Enter takes the model's word, / skips, < takes the last answer back, . ends.")
        last = ""
        while True:
            found = calls.claim(round_, annotator=who)
            if not found.tasks:
                print("nothing is left for you in this round now")
                break
            task = found.tasks[0]
            print(f"{_shown(here, task, Path(out))}{_hint(task)}")
            start = time.monotonic()
            pressed = _asked(task, keys)
            if pressed == ".":
                calls.release(task.name, annotator=who)
                break
            if pressed == "<":
                if last:
                    calls.release(task.name, annotator=who)
                    calls.withdraw(last, annotator=who)
                    done, last = done - 1, ""
                continue
            if pressed == "/":
                calls.skip(task.name, annotator=who)
                continue
            answer = annotation_pb2.Answer(classes=[pressed])
            calls.submit(task.name, answer, seconds=time.monotonic() - start, annotator=who)
            done, last = done + 1, task.name
    print(f"{done} answered")


def _asked(task: annotation_pb2.AnnotationTask, keys: dict[str, str]) -> str:
    """A class, or one of / < . as typed; asked again until it is one."""
    while True:
        try:
            typed = input("> ").strip()
        except EOFError:
            return "."
        if typed in ("/", "<", "."):
            return typed
        if not typed and task.HasField("pre_label") and task.pre_label.answer.classes:
            return str(task.pre_label.answer.classes[0])
        if typed in keys:
            return keys[typed]
        if typed in keys.values():
            return typed
        print(f"type one of {', '.join(keys)}, the name of a class, or / < .")


def submit(
    common: Common,
    task: Task,
    class_: Class = [],  # noqa: B006
    box: Box = [],  # noqa: B006
    range_: Range = [],  # noqa: B006
    text: Text = "",
    answer: AnswerFile = "",
    nothing: Nothing = False,
    seconds: Annotated[float, typer.Option(min=0, help="How long it took.")] = 0.0,
    who: As = "",
) -> None:
    """Answer a task that you took; given again, it replaces the answer before.

    \b
    Example: modelyard annotate submit flowers/first/e3f9c2a77ab01 --class rose

    \b
    Example: modelyard annotate submit cells/first/e3f9c2a77ab01 --box "RBC=10,12,50,48" --box "WBC=60,10,90,44"
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    given = answer_of(class_, box, range_, text, answer, nothing)
    with session(common) as here:
        made = here.client.annotations.submit(task, given, seconds=seconds, annotator=who)
    print_json(plain(made)) if common.json else print(f"answered: {said(made.answer)}")


def answer_of(
    classes: list[str], boxes: list[str], ranges: list[str], text: str, file: str, nothing: bool
) -> annotation_pb2.Answer:
    """An answer from options. Raises InvalidArgument where they say nothing, or have another form."""
    from google.protobuf import json_format

    from modelyard.cli.asking import wrong
    from modelyard.dataset.v1 import annotation_pb2

    if file:
        try:
            return json_format.Parse(Path(file).expanduser().read_text(encoding="utf-8"), annotation_pb2.Answer())
        except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
            raise wrong("--answer", file, f"--answer is {file!r}: {str(error)[:300]}") from None
    if not (classes or boxes or ranges or text or nothing):
        raise wrong("--class", "", "say what it is: --class, --box, --range, --text, --answer, or --nothing")
    return annotation_pb2.Answer(
        classes=classes,
        objects=[
            annotation_pb2.MarkedObject(label=name, box=_numbers(rest, 4, "--box")) for name, rest in _pairs(boxes, "--box")
        ],
        ranges=[
            annotation_pb2.SeriesRange(label=name, start=int(ends[0]), end=int(ends[1]))
            for name, rest in _pairs(ranges, "--range")
            for ends in (_numbers(rest, 2, "--range"),)
        ],
        text=text,
    )


def _pairs(given: list[str], option: str) -> list[tuple[str, str]]:
    from modelyard.cli.asking import wrong

    found = [each.rpartition("=") for each in given]
    for name, _, rest in found:
        if not name or not rest:
            raise wrong(option, name or rest, f"{option} is {name or rest!r}; it has the form CLASS=NUMBERS")
    return [(name, rest) for name, _, rest in found]


def _numbers(text: str, count: int, option: str) -> list[float]:
    from modelyard.cli.asking import wrong

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise wrong(option, text, f"{option} has {text!r}; it needs {count} numbers with commas")
    return values


def skip(
    common: Common,
    task: Task,
    reason: Annotated[str, typer.Option(help="Why, for whoever comes next.")] = "",
    who: As = "",
) -> None:
    """Leave a task to others.

    \b
    Example: modelyard annotate skip flowers/first/e3f9c2a77ab01 --reason "too dark"
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        made = here.client.annotations.skip(task, reason=reason, annotator=who)
    print_json(plain(made)) if common.json else print("skipped")


def undo(common: Common, task: Task, who: As = "") -> None:
    """Take your answer back; the task is yours again.

    \b
    Example: modelyard annotate undo flowers/first/e3f9c2a77ab01
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        made = here.client.annotations.withdraw(task, annotator=who)
    print_json(plain(made)) if common.json else print("taken back")


def tasks(
    common: Common,
    round_: Round,
    state: Annotated[str, typer.Option(help="Only open, labelled, accepted or corrected.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most tasks to list.")] = 20,
) -> None:
    """List the tasks of a round.

    \b
    Example: modelyard annotate tasks flowers/first --state labelled
    """
    from itertools import islice

    from modelyard.cli.output import enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.dataset.v1 import annotation_pb2

    with session(common) as here:
        found = list(islice(here.client.annotations.list_tasks(round_, state=state, page_size=min(limit, 1000)), limit))
    if common.json:
        print_json({"tasks": [plain(task) for task in found]})
        return
    rows = [
        (
            last_part(one.name),
            enum_name(annotation_pb2.AnnotationTask.State.DESCRIPTOR, one.state).lower(),
            f"{one.answer_count} of {one.answers_wanted}",
            said(one.pre_label.answer) if one.HasField("pre_label") else "",
            one.example.path,
        )
        for one in found
    ]
    print_table(("task", "state", "answers", "model says", "path"), rows)


def history(
    common: Common,
    what: Annotated[str, typer.Argument(metavar="ROUND or TASK", help="flowers/first, or a task of it.")],
    limit: Annotated[int, typer.Option(min=1, help="Most entries to list.")] = 100,
) -> None:
    """List who did what, in order. Nothing of it is ever changed.

    \b
    Example: modelyard annotate history flowers/first/e3f9c2a77ab01
    """
    from itertools import islice

    from modelyard.cli.output import date, enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.dataset.v1 import annotation_pb2

    with session(common) as here:
        found = list(islice(here.client.annotations.list_entries(what, page_size=min(limit, 1000)), limit))
    if common.json:
        print_json({"entries": [plain(entry) for entry in found]})
        return
    kinds, verdicts = annotation_pb2.AnnotationEntry.Kind.DESCRIPTOR, annotation_pb2.AnnotationReview.Verdict.DESCRIPTOR
    rows = [
        (
            last_part(one.task),
            date(one.time),
            one.annotator,
            enum_name(verdicts, one.verdict).lower() if one.verdict else enum_name(kinds, one.kind).lower(),
            said(one.answer) if one.HasField("answer") else one.reason,
            "yes" if one.counts else "",
        )
        for one in found
    ]
    print_table(("task", "time", "who", "what", "answer", "counts"), rows)


def review(
    common: Common,
    task: Task,
    accept: Annotated[bool, typer.Option("--accept", help="The consensus is right, or the answer of --of.")] = False,
    reject: Annotated[str, typer.Option("--reject", metavar="WHY", help="It is wrong: give the task out again.")] = "",
    of: Annotated[str, typer.Option("--of", metavar="WHO", help="Whose answer.")] = "",
    class_: Class = [],  # noqa: B006
    box: Box = [],  # noqa: B006
    range_: Range = [],  # noqa: B006
    text: Text = "",
    answer: AnswerFile = "",
    nothing: Nothing = False,
) -> None:
    """Accept or reject the answers to a task, or say what is right.

    \b
    Example: modelyard annotate review flowers/first/e3f9c2a77ab01 --accept --of user:anna

    \b
    Example: modelyard annotate review flowers/first/e3f9c2a77ab01 --class tulip
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import enum_name, plain, print_json
    from modelyard.cli.session import session
    from modelyard.dataset.v1 import annotation_pb2

    corrected = bool(class_ or box or range_ or text or answer or nothing)
    if accept + bool(reject) + corrected != 1:
        raise wrong("--accept", "", "give one of --accept, --reject WHY, or what is right (--class, --box, --answer...)")
    verdict = "accept" if accept else "reject" if reject else "correct"
    right = answer_of(class_, box, range_, text, answer, nothing) if corrected else None
    with session(common) as here:
        made = here.client.annotations.review(task, verdict, answer=right, annotator=of, reason=reject)
    if common.json:
        print_json(plain(made))
    else:
        print(enum_name(annotation_pb2.AnnotationTask.State.DESCRIPTOR, made.state).lower())
