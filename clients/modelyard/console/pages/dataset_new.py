"""Bringing data: dropped files, a folder, a zip, or a path on the machine that the console runs on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nicegui import background_tasks, ui

from modelyard.client import AlreadyExists, InvalidArgument, Violation
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, reason_word, size, task_word
from modelyard.console.connection import connection
from modelyard.console.parts.badges import progress_bar
from modelyard.console.parts.forms import choice, switch, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import button, card, link
from modelyard.console.parts.page import Here, frame, route
from modelyard.console.parts.trouble import message_of, trouble_card
from modelyard.console.uploads import drop_basket, new_basket
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

_TASKS = [(name, task_word(number)) for name, number in learning_pb2.Task.items() if number]


@route("/p/{project}/datasets/new")
async def dataset_new(project: str, dataset: str = "") -> None:
    title = f"New data for {dataset}" if dataset else "Add a dataset"
    with frame(project, "datasets", title, crumbs=[("Datasets", f"/p/{project}/datasets")]) as here:
        Bringing(here, dataset)


class Bringing:
    """From files to an import, on one page."""

    def __init__(self, here: Here, dataset: str) -> None:
        self._here, self._dataset = here, dataset
        self._key, self._basket = new_basket()
        self._source: Path | None = None
        self._said = ""
        # The machine that a shared console runs on is nobody's own: its files are none of those who sign in.
        self._shared = connection().shared
        self._errors: dict[str, str] = {}
        self._form = Fragment(self._form_markup()).does(dropped=self._dropped, begin=self._begin, empty=self._empty)
        self._state = Fragment()
        ui.context.client.on_delete(lambda: drop_basket(self._key))

    def _form_markup(self, name: str = "", place: str = "") -> Markup:
        files = h(
            "div",
            icon("upload"),
            h("h2", "Drop a folder, a zip or a table here"),
            h(
                "p",
                "Pictures in class folders, COCO, VOC, YOLO, CVAT, masks, CSV, Parquet, WAV, sensor recordings and more",
                cls="muted small",
            ),
            h(
                "div",
                h(
                    "label",
                    icon("folder"),
                    "Choose a folder",
                    h("input", type_="file", webkitdirectory=True, multiple=True, id="folder"),
                    cls="button",
                ),
                h("label", icon("file"), "Choose files", h("input", type_="file", multiple=True, id="files"), cls="button"),
                cls="actions",
            ),
            h("p", self._said, data_sent=True, role="status", cls="small"),
            button("Start over", "empty", kind="small") if self._source is not None else None,
            h("button", "", type_="button", data_act="dropped", data_dropped=True, hidden=True),
            cls="drop",
            data_drop=f"/upload/{self._key}",
            id="drop",
        )
        more = h(
            "details",
            h(
                "summary",
                "More: the task, labels, columns" if self._shared else "More: a path on this machine, the task, labels, columns",
            ),
            h(
                "div",
                None
                if self._shared
                else text(
                    "place",
                    "Folder or file on this machine",
                    place,
                    help="Instead of dropping files: nothing is sent twice.",
                    errors=self._errors,
                ),
                choice("task", "Task", [("", "find it out"), *_TASKS]),
                switch(
                    "unlabelled", "They have no labels yet", help="Folders are no classes then; people label them in a round."
                ),
                text(
                    "label_column", "Column to predict (tables)", help="Empty: target, label or class, or else the last column."
                ),
                text("name_pattern", "What file names say (sounds)", placeholder="{label}_{speaker}_{number}"),
                cls="fields",
            ),
            open=bool(place or self._errors.get("place")),
        )
        named = (
            None
            if self._dataset
            else text(
                "name",
                "Name",
                name,
                help="a-z, 0-9 and -, beginning with a letter; the model and the endpoint get it too.",
                errors=self._errors,
                maxlength=63,
            )
        )
        return h(
            "form",
            files,
            card(
                "", named, more, h("div", h("button", "Import", type_="submit", cls="button primary", id="import"), cls="actions")
            ),
            data_submit="begin",
        )

    def _dropped(self, act: Act) -> None:
        said = json.loads(act.arg)
        if said["failed"]:
            self._said = said["failed"]
            return
        self._source = self._basket.source
        one = self._basket.files == 1
        files = "1 file" if one else f"{count(self._basket.files)} files"
        self._said = f"{files}, {size(self._basket.bytes)}, {'is' if one else 'are'} here. Press Import."
        first = str(said["first"]).split("/")[0]
        self._form.show(self._form_markup(act.text("name") or _id_of(first)))

    def _empty(self, act: Act) -> None:
        """What was dropped was the wrong thing; else the next would be added to it."""
        self._basket.empty()
        self._source, self._said = None, ""
        self._form.show(self._form_markup("", act.text("place")))

    async def _begin(self, act: Act) -> None:
        self._errors = {}
        name, place = self._dataset or act.text("name"), "" if self._shared else act.text("place")
        source = Path(place).expanduser() if place else self._source
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
            self._errors["name"] = f"name is {name!r}; give 1 to 63 of a-z, 0-9 and '-', starting with a letter"
        if source is None:
            self._said = "Drop files here, or choose them, first."
            self._errors["place"] = "Drop files above, or give a path here."
        elif place and not source.exists():
            self._errors["place"] = f"There is no {place} on this machine."
        if self._errors or source is None:
            self._form.show(self._form_markup(name, place))
            return
        self._state.show(card("Importing", h("p", "The files are handed to the dataset service.", role="status")))
        self._form.set_visibility(False)
        background_tasks.create(self._import(name, source, act), name="import")

    async def _import(self, name: str, source: Path, act: Act) -> None:
        client = self._here.client
        try:
            try:
                await client.datasets.create_dataset(name)
            except AlreadyExists:
                if not self._dataset and not await self._is_empty(name):
                    message = f"There is a dataset {name} already; choose another name, or add to it from its own page."
                    raise InvalidArgument(message, reason="NAME_TAKEN", violations=(Violation("name", message),)) from None
            blob = await client.artifacts.upload(source)
            file_name = source.name if source != self._basket.folder else name
            made = await client.datasets.create_import(
                name,
                blob,
                file_name=file_name,
                task=act.text("task"),
                label_column=act.text("label_column"),
                name_pattern=act.text("name_pattern"),
                unlabelled=act.text("unlabelled") == "yes",
            )
            async for change in client.datasets.watch_import(made.name):
                self._show(name, change.dataset_import)
        except Exception as error:
            message = message_of(error)[0]
            self._form.set_visibility(True)
            self._state.show(trouble_card(error, again=False) if message else "")

    async def _is_empty(self, name: str) -> bool:
        return not (await self._here.client.datasets.get_dataset(name)).current_import

    def _show(self, name: str, found: dataset_pb2.Import) -> None:
        if found.status.state == job_pb2.JOB_STATE_SUCCEEDED:
            drop_basket(self._key)  # no sooner: who has to correct a name or a column presses Import again
            self._state.show(_summary(self._here, name, found))
            return
        if found.status.state == job_pb2.JOB_STATE_FAILED:
            self._form.set_visibility(True)
            self._state.show(card("The import failed", h("p", found.status.error.message, role="alert"), cls="state-error"))
            return
        self._state.show(card("Importing", progress_bar(found.status, "Import")))


def _summary(here: Here, name: str, found: dataset_pb2.Import) -> Markup:
    summary = found.summary
    classes: Any = [
        h("span", f"{label} {count(number)}", cls="badge badge-off")
        for label, number in zip(summary.classes, summary.class_counts, strict=False)
    ]
    left_out = [
        h("li", None if one.message.startswith(one.path) else [h("code", one.path), " "], one.message)
        for one in summary.rejected[:20]
    ]
    told = [h("li", h("strong", reason_word(one.kind)), " ", one.message) for one in found.findings[:20]]
    return h(
        "div",
        card(
            f"{count(summary.example_count)} examples of {task_word(found.task)}",
            h("ul", [h("li", text_) for text_ in summary.assumptions]),
            h("div", *classes[:60], cls="chips") if classes else None,
            h("div", h("h3", f"{count(summary.rejected_count)} left out"), h("ul", left_out)) if summary.rejected_count else None,
            h("div", h("h3", "Found in the source"), h("ul", told)) if told else None,
            actions=[
                link("Look at it", here.path("datasets", name), "button"),
                link("Train a model", here.path("train", dataset=name), "button primary"),
            ],
            id="imported",
        ),
    )


def _id_of(name: str) -> str:
    """A name for a dataset from that of a file or folder."""
    bare = re.sub(r"\.(zip|tar|tgz|gz|csv|tsv|parquet|jsonl?|txt)$", "", name.lower())
    bare = re.sub(r"[^a-z0-9]+", "-", bare).strip("-")
    return re.sub(r"^[^a-z]+", "", bare)[:63]
