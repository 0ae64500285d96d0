"""Opening a round: what may be said, which examples, who answers, and how many times."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from nicegui import ui

from modelyard.client import InvalidArgument, ModelyardClientError, NotFound, last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count
from modelyard.console.parts.forms import Errors, cards, choice, field, number, switch, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import card, empty, link
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.rounds import SHAPES, round_path
from modelyard.dataset.v1 import annotation_pb2
from modelyard.type.v1 import learning_pb2

_NEW: Final = "new"
_BY_TASK: Final = {
    learning_pb2.TASK_IMAGE_MULTILABEL: "classes",
    learning_pb2.TASK_OBJECT_DETECTION: "box",
    learning_pb2.TASK_SEMANTIC_SEGMENTATION: "mask",
    learning_pb2.TASK_INSTANCE_SEGMENTATION: "polygon",
    learning_pb2.TASK_KEYPOINT_DETECTION: "keypoints",
    learning_pb2.TASK_ANOMALY_DETECTION: "range",
}
_USAGES: Final = (("", "all"), ("train", "train"), ("validation", "validation"), ("test", "test"))


@route("/p/{project}/annotation/new")
async def annotation_new(project: str, dataset: str = "", finding: str = "", source: str = "") -> None:
    with frame(project, "annotation", "Open a round", crumbs=[("Annotation", f"/p/{project}/annotation")]) as here:
        await stretch(lambda: _fetch(here, dataset), lambda found: Opening(here, found, finding, source), bones=8)


async def _fetch(here: Here, dataset: str) -> dict[str, Any]:
    datasets, _ = await first(here.client.datasets.list_datasets(page_size=200), 200)
    chosen = next((one for one in datasets if last_part(one.name) == dataset), None)
    if dataset and chosen is None:
        chosen = await here.client.datasets.get_dataset(dataset)
    chosen = chosen or next((one for one in datasets if one.current_import), None)
    if chosen is None:
        return {"datasets": datasets, "dataset": None}
    schemas, classes, unlabelled = await asyncio.gather(
        _schemas(here, chosen.name), _classes(here, chosen), _unlabelled(here, chosen)
    )
    return {"datasets": datasets, "dataset": chosen, "schemas": schemas, "classes": classes, "unlabelled": unlabelled}


async def _schemas(here: Here, dataset: str) -> list[annotation_pb2.LabelSchema]:
    return (await first(here.client.annotations.list_label_schemas(dataset, page_size=50), 50))[0]


async def _classes(here: Here, dataset: Any) -> list[str]:
    """The classes that the data came with, to begin a schema with."""
    if not dataset.current_import:
        return []
    return list((await here.client.datasets.get_import(dataset.current_import)).summary.classes)[:200]


async def _unlabelled(here: Here, dataset: Any) -> bool:
    """Whether there is an example that nobody has labelled."""
    try:
        return bool((await first(here.client.annotations.list_unlabelled_examples(dataset.name, page_size=1), 1))[0])
    except ModelyardClientError:
        return False


class Opening:
    """The form."""

    def __init__(self, here: Here, found: dict[str, Any], finding: str, source: str) -> None:
        self._here, self._found, self._finding, self._source = here, found, finding, source
        if found["dataset"] is None:
            Fragment(
                empty(
                    "There is nothing to label yet",
                    "Bring pictures, sounds or recordings first; they need no labels.",
                    link("Add a dataset", here.path("datasets", "new"), "button primary"),
                    picture="data",
                )
            )
            return
        self._name = last_part(found["dataset"].name)
        self._said: dict[str, Any] = {"schema": last_part(found["schemas"][0].name) if found["schemas"] else _NEW}
        self._page = Fragment(self._markup({})).does(open=self._open, schema=self._choose, dataset=self._go)

    def _go(self, act: Act) -> None:
        ui.navigate.to(self._here.path("annotation", "new", dataset=str(act.value)))

    def _choose(self, act: Act) -> None:
        self._said = dict(act.form)
        self._page.show(self._markup({}))

    def _value(self, name: str, default: str = "") -> str:
        value = self._said.get(name, default)
        return str(value[-1] if isinstance(value, list) else value)

    def _markup(self, errors: Errors) -> Markup:
        schemas = [(last_part(one.name), _words_of(one)) for one in self._found["schemas"]]
        data = [
            (last_part(one.name), one.display_name or last_part(one.name))
            for one in self._found["datasets"]
            if one.current_import
        ]
        what = card(
            "What may be said",
            choice("dataset", "Dataset", data, self._name, data_change="dataset"),
            choice("schema", "Label schema", [*schemas, (_NEW, "a new one")], self._value("schema", _NEW), data_change="schema"),
            self._schema(errors) if self._value("schema", _NEW) == _NEW else None,
        )
        form = h(
            "form",
            what,
            self._examples(errors),
            self._people(errors),
            h("div", h("button", "Open the round", type_="submit", cls="button primary", id="open"), cls="actions"),
            data_submit="open",
            id="round-form",
        )
        return form

    def _schema(self, errors: Errors) -> Markup:
        usual = _BY_TASK.get(
            self._found["dataset"].task, "range" if not self._found["classes"] and self._is_series() else "class"
        )
        classes = self._value("classes", "\n".join(self._found["classes"]))
        return h(
            "div",
            cards(
                "shape",
                "What people do",
                [(key, words.capitalize(), "") for key, words in SHAPES.values()],
                self._value("shape", usual),
            ),
            _area(
                "classes",
                "Classes",
                classes,
                errors,
                8,
                "A line each: name, or name = what belongs to it. Keys are 1 to 9, then a to z.",
            ),
            _area(
                "keypoints",
                "Names of the points",
                self._value("keypoints"),
                errors,
                3,
                "For named points alone: a line each, in their order.",
            ),
            _area(
                "guidelines",
                "Guidelines",
                self._value("guidelines"),
                errors,
                8,
                "How to decide, as Markdown; it stands beside every task.",
            ),
        )

    def _is_series(self) -> bool:
        return self._found["dataset"].task in (learning_pb2.TASK_SERIES_CLASSIFICATION, learning_pb2.TASK_ANOMALY_DETECTION)

    def _examples(self, errors: Errors) -> Markup:
        finding = (
            h(
                "p",
                "Those of the finding ",
                h("strong", self._finding.replace("_", " ").lower()),
                " of ",
                h("code", last_part(self._source)),
                ".",
            )
            if self._finding
            else None
        )
        return card(
            "Which examples",
            finding,
            h(
                "div",
                switch(
                    "unlabelled",
                    "Only those without a label",
                    self._value("unlabelled") == "yes" if "name" in self._said else self._found["unlabelled"] and not finding,
                ),
                choice("usage", "Usage", _USAGES, self._value("usage")),
                text("of_class", "Only of the class", self._value("of_class"), errors=errors),
                number("limit", "At most", self._value("limit"), help="Drawn at random; empty: all.", errors=errors),
                cls="fields",
            ),
        )

    def _people(self, errors: Errors) -> Markup:
        return card(
            "Who answers",
            h(
                "div",
                text(
                    "name",
                    "Name of the round",
                    self._value("name"),
                    help="a-z, 0-9 and -, beginning with a letter.",
                    errors=errors,
                    maxlength=63,
                ),
                number("overlap", "Answers for each example", self._value("overlap", "1"), help="1 to 20 people.", errors=errors),
                number(
                    "share",
                    "Share that so many answer",
                    self._value("share", "1"),
                    help="Above 0, to 1; one person answers the others.",
                    errors=errors,
                ),
                number(
                    "lease",
                    "Minutes that a task is held",
                    self._value("lease", "30"),
                    help="Counted from the last sign of life.",
                    errors=errors,
                ),
                cls="fields",
            ),
            _area(
                "annotators",
                "Annotators",
                self._value("annotators"),
                errors,
                3,
                "A line each, such as user:anna. Empty: whoever has the role annotator.",
            ),
            _area("reviewers", "Reviewers", self._value("reviewers"), errors, 2, "Beside the editors of the project."),
        )

    async def _open(self, act: Act) -> None:
        self._said = dict(act.form)
        errors, round_, schema = self._read(act)
        if errors:
            self._page.show(self._markup(errors))
            return
        calls = self._here.client.annotations
        try:
            if schema is not None:
                made = await calls.create_label_schema(self._name, schema)
                round_.label_schema = made.name
                self._said["schema"] = last_part(made.name)
                self._found["schemas"] = [made, *self._found["schemas"]]
            opened = await calls.create_round(self._name, act.text("name"), round_)
        except (InvalidArgument, NotFound) as error:
            self._page.show(self._markup(_named(error)))
            raise
        ui.navigate.to(round_path(self._here, opened.name))

    def _read(self, act: Act) -> tuple[dict[str, str], annotation_pb2.AnnotationRound, annotation_pb2.LabelSchema | None]:
        errors: dict[str, str] = {}
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", act.text("name")):
            errors["name"] = f"name is {act.text('name')!r}; give 1 to 63 of a-z, 0-9 and '-', starting with a letter"
        overlap = _number(act, "overlap", 1, 20, errors)
        share = _number(act, "share", 0.0001, 1, errors)
        lease = _number(act, "lease", 0.5, 7 * 1440, errors)
        limit = _number(act, "limit", 0, 1_000_000, errors) if act.text("limit") else 0
        if limit and self._finding:
            errors["limit"] = "a finding's examples are taken whole; leave this empty"
        selection = annotation_pb2.ExampleSelection(
            unlabelled=act.text("unlabelled") == "yes",
            usage=act.text("usage"),
            of_class=act.text("of_class"),
            finding_source=self._source if self._finding else "",
            finding_kind=self._finding,
            limit=int(limit),
            seed=1 if limit else 0,
        )
        round_ = annotation_pb2.AnnotationRound(
            selection=selection,
            overlap=int(overlap),
            overlap_share=share,
            annotators=_lines(act.text("annotators")),
            reviewers=_lines(act.text("reviewers")),
            lease=Duration(seconds=int(60 * lease)),
        )
        chosen = act.text("schema")
        if chosen != _NEW:
            round_.label_schema = f"{self._found['dataset'].name}/labelSchemas/{chosen}"
            return errors, round_, None
        return errors, round_, self._new_schema(act, errors)

    def _new_schema(self, act: Act, errors: dict[str, str]) -> annotation_pb2.LabelSchema:
        shape = next(number_ for number_, (key, _) in SHAPES.items() if key == (act.text("shape") or "class"))
        classes = []
        for line in _lines(act.text("classes")):
            name, _, about = line.partition("=")
            classes.append(annotation_pb2.LabelClass(name=name.strip(), description=about.strip()))
        if not classes and shape != annotation_pb2.SHAPE_TEXT:
            errors["classes"] = "give one class at least, a line each"
        points = _lines(act.text("keypoints")) if shape == annotation_pb2.SHAPE_KEYPOINTS else []
        if shape == annotation_pb2.SHAPE_KEYPOINTS and not points:
            errors["keypoints"] = "give the names of the points, a line each"
        return annotation_pb2.LabelSchema(shapes=[shape], classes=classes, keypoints=points, guidelines=act.text("guidelines"))


def _words_of(schema: annotation_pb2.LabelSchema) -> str:
    shapes = ", ".join(SHAPES[shape][0] for shape in schema.shapes if shape in SHAPES)
    return f"{last_part(schema.name)}: {shapes} of {count(len(schema.classes))} classes"


def _lines(given: str) -> list[str]:
    return [line.strip() for line in given.replace("\r", "").split("\n") if line.strip()]


def _number(act: Act, name: str, low: float, high: float, errors: dict[str, str]) -> float:
    try:
        value = float(act.text(name))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        errors[name] = f"{name} is {act.text(name)!r}; give {low:g} to {high:g}"
        return low
    return value


def _area(name: str, label: str, value: str, errors: Errors, rows: int, help_: str) -> Markup:
    error = errors.get(name, "")
    area = h(
        "textarea",
        value,
        id=name,
        name=name,
        rows=rows,
        cls="low",
        spellcheck="false",
        aria_describedby=f"{name}-help",
        aria_invalid="true" if error else None,
    )
    return field(name, label, area, help=help_, error=error)


_FIELDS: Final = {
    "classes": "classes",
    "keypoints": "keypoints",
    "guidelines": "guidelines",
    "annotation_round_id": "name",
    "overlap": "overlap",
    "overlap_share": "share",
    "annotators": "annotators",
    "reviewers": "reviewers",
    "lease": "lease",
    "of_class": "of_class",
    "limit": "limit",
}


def _named(error: ModelyardClientError) -> dict[str, str]:
    """What a service says of a field, at the input that it came from."""
    found = {}
    for violation in error.violations:
        path = re.sub(r"\[\d+\]", "", violation.field).split(".")
        name = next((_FIELDS[part] for part in path if part in _FIELDS), "")
        if name:
            found[name] = violation.description
    return found
