"""Annotations from files of other tools into a round, and a round as such a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from modelyard.core.artifacts import Blob
from modelyard.core.clock import now
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.answers import Answer, Facts, checked_answer
from modelyard.dataset.domain.json_stream import items
from modelyard.dataset.domain.label_schema import LabelSchema
from modelyard.dataset.domain.label_studio import StudioTask, Submitted, Wrong, keys_of, read_task, written_task
from modelyard.dataset.domain.records import LISTED_REJECTED, RejectedInput
from modelyard.dataset.domain.rounds import PreLabel, Round
from modelyard.dataset.handlers.annotation_rounds import Annotating, read_round, read_schema_of
from modelyard.dataset.ports import Files, Listed

LARGEST_FILE = 1 << 30
_CHUNK = 1 << 20
_AT_ONCE = 1000


@dataclass(frozen=True)
class Imported:
    """What became of a file: tasks read, answers and pre-labels taken, and what was left out (the first thousand are listed)."""

    tasks: int
    answers: int
    pre_labels: int
    rejected: tuple[RejectedInput, ...]
    rejected_count: int


@dataclass(frozen=True)
class Exported:
    """A file of annotations."""

    file: Blob
    tasks: int
    answers: int


def import_annotations(at: Annotating, files: Files, parent: str, source: Blob) -> Imported:
    """Takes what fits; everything else is listed with its task and field.

    Raises NotFound, InvalidArgument SOURCE_REQUIRED, SOURCE_TOO_LARGE, BAD_JSON, FailedPrecondition ROUND_CLOSED.
    """
    round_ = read_round(at.resources, parent, "parent")
    rounds.check_takes_answers(round_)
    if not source.uri:
        raise InvalidArgument("SOURCE_REQUIRED", "source.uri is empty; it names the file that was uploaded", field="source.uri")
    known = files.stat(source.uri)
    if known.size_bytes > LARGEST_FILE:
        message = f"the file has {known.size_bytes} bytes; at most {LARGEST_FILE} are read"
        raise InvalidArgument("SOURCE_TOO_LARGE", message, field="source", size_bytes=known.size_bytes)
    taking = _Taking(at, round_, read_schema_of(at, round_))
    for number, task in enumerate(_tasks(files.path(known), "source")):
        taking.take(task, number)
    return taking.finish()


def export_annotations(at: Annotating, files: Files, name: str) -> Exported:
    """Writes a round as Label Studio's JSON. Raises NotFound."""
    round_ = read_round(at.resources, name)
    schema = read_schema_of(at, round_)
    tasks = answers = 0
    with tempfile.TemporaryDirectory(prefix="modelyard-annotation-") as folder:
        path = Path(folder, "label-studio.json")
        with path.open("w", encoding="utf-8") as file:
            file.write("[")
            for each in at.annotations.answers(round_.key):
                example, model = each.task.example, each.task.pre_label
                data = {round_.content.kind: example.path, "example_id": example.example_id}
                predicted = Submitted("", model.answer, score=model.confidence, model=model.model) if model is not None else None
                said = written_task(tasks + 1, data, each.answers, predicted, schema, example.facts, round_.content.kind)
                file.write((",\n" if tasks else "\n") + json.dumps(said, ensure_ascii=False))
                tasks, answers = tasks + 1, answers + len(each.answers)
            file.write("\n]\n")
        return Exported(files.put_file(path), tasks, answers)


class _Taking:
    """Takes tasks one after the other into a round."""

    def __init__(self, at: Annotating, round_: Round, schema: LabelSchema) -> None:
        self._at, self._round, self._schema = at, round_, schema
        here = set(at.annotations.example_ids(round_.key))
        listed = [each for each in at.contents.listed(round_.content) if each.example_id in here]
        self._by_id = {each.example_id: each for each in listed}
        self._by_path = {each.path: each for each in listed}
        self._by_name = _unique({each: _file_name(each.path) for each in listed})
        self._answers: list[tuple[str, str, Answer, float]] = []
        self._pre_labels: list[tuple[str, PreLabel]] = []
        self._rejected: list[RejectedInput] = []
        self._tasks = self._taken = self._labelled = self._rejected_count = 0

    def take(self, task: Any, number: int) -> None:
        """Takes a task's annotations and its last prediction."""
        self._tasks += 1
        example = self._example(task) if isinstance(task, Mapping) else None
        if isinstance(task, Mapping) and example is None:
            shown = str(task.get("id", f"at {number}"))[:80]
            self._reject(f"task {shown}: data", "UNKNOWN_EXAMPLE", "it names no example of the round")
            return
        facts = _facts(example) if example is not None else Facts()
        wrong = Wrong()
        read = read_task(task, number, self._schema, facts, wrong)
        for path, why in wrong.found:
            self._reject(path, "BAD_RESULT", why)
        if example is not None:
            self._keep(read, rounds.task_id(example.example_id), facts)
        if len(self._answers) + len(self._pre_labels) >= _AT_ONCE:
            self._flush()

    def finish(self) -> Imported:
        """What came of it."""
        self._flush()
        return Imported(self._tasks, self._taken, self._labelled, tuple(self._rejected), self._rejected_count)

    def _keep(self, read: StudioTask, name: str, facts: Facts) -> None:
        for place, said in enumerate(read.annotations):
            checked = self._checked(said, facts, f"task {read.id}: annotations[{place}]")
            if checked is not None:
                who = said.who.removeprefix("label-studio:") if said.who.startswith("label-studio:user:") else said.who
                self._answers.append((name, who, checked, said.seconds))
        for place, said in enumerate(read.predictions[-1:]):
            checked = self._checked(said, facts, f"task {read.id}: predictions[{len(read.predictions) - 1 + place}]")
            if checked is not None:
                self._pre_labels.append((name, PreLabel(checked, said.score, said.model)))

    def _checked(self, said: Submitted, facts: Facts, path: str) -> Answer | None:
        try:
            return checked_answer(said.answer, self._schema, facts, path)
        except InvalidArgument as error:
            self._reject(error.violations[0].field if error.violations else path, error.reason, error.message)
            return None

    def _example(self, task: Mapping[str, Any]) -> Listed | None:
        for key in keys_of(task):
            found = self._by_id.get(key) or self._by_path.get(key) or self._by_name.get(_file_name(key))
            if found is not None:
                return found
        return None

    def _reject(self, path: str, reason: str, why: str) -> None:
        self._rejected_count += 1
        if len(self._rejected) < LISTED_REJECTED:
            self._rejected.append(RejectedInput(path, reason, why))

    def _flush(self) -> None:
        if self._answers:
            self._taken += self._at.annotations.import_answers(self._round.key, self._answers, now())
        if self._pre_labels:
            self._labelled += self._at.annotations.put_pre_labels(self._round.key, self._pre_labels)
        self._answers, self._pre_labels = [], []


def _tasks(path: Path, name: str) -> Iterator[Any]:
    """The tasks of a file: those of the list that it is, or its one task. Raises InvalidArgument BAD_JSON."""
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        file.seek(0)
        body = iter(lambda: file.read(_CHUNK), b"")
        if start == b"{":
            yield from _whole(b"".join(body), name)
            return
        if start != b"[":
            message = f"{name} is no JSON list of tasks; Label Studio exports one as JSON or JSON-MIN (JSON is needed)"
            raise InvalidArgument("BAD_JSON", message, field="source")
        # The reader takes objects: the list becomes the member of one.
        yield from (value for _, value in items(chain((b'{"tasks":',), _without_mark(body), (b"}",)), name=name))


def _without_mark(body: Iterator[bytes]) -> Iterator[bytes]:
    first = next(body, b"")
    yield first.removeprefix(b"\xef\xbb\xbf")
    yield from body


def _whole(data: bytes, name: str) -> Iterator[Any]:
    try:
        yield json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_JSON", f"{name} is not JSON: {error}", field="source") from error


def _facts(example: Listed) -> Facts:
    return Facts(example.width, example.height, example.steps)


def _file_name(path: str) -> str:
    """The last part of a path or an address, without what Label Studio puts before it at an upload (eight digits and a dash)."""
    name = path.split("?", 1)[0].replace("\\", "/").rsplit("/", 1)[-1]
    head, dash, tail = name.partition("-")
    is_upload = dash and tail and len(head) == 8 and all(digit in "0123456789abcdef" for digit in head)
    return tail if is_upload else name


def _unique(names: Mapping[Listed, str]) -> dict[str, Listed]:
    """By name, those that no other one shares."""
    counts: dict[str, int] = {}
    for name in names.values():
        counts[name] = counts.get(name, 0) + 1
    return {name: each for each, name in names.items() if counts[name] == 1}
