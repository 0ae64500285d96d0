"""Where people label and review: the table is drawn by `static/annotate`, what is beside it is here."""

from __future__ import annotations

import json
from typing import Any, Final

from nicegui import ui

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import seconds_of
from modelyard.console.content import picture_address
from modelyard.console.pages.annotation import crumbs_of, round_of
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.layout import card, empty, link
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.prose import prose
from modelyard.console.parts.rounds import round_path, schema_json
from modelyard.dataset.v1 import annotation_pb2

SCRIPT: Final = '<script type="module" src="/static/annotate/main.js"></script>'
LEASE_S: Final = 1800.0


@route("/p/{project}/annotation/{dataset}/{round_}/label")
async def annotation_label(project: str, dataset: str, round_: str) -> None:
    ui.add_head_html(SCRIPT)
    with frame(project, "annotation", "Label", crumbs=crumbs_of(project, dataset, round_)) as here:
        await stretch(lambda: _fetch(here, dataset, round_), lambda found: _label(here, *found), bones=8)


@route("/p/{project}/annotation/{dataset}/{round_}/review")
async def annotation_review(project: str, dataset: str, round_: str, task: str = "", only: str = "") -> None:
    ui.add_head_html(SCRIPT)
    with frame(project, "annotation", "Review", crumbs=crumbs_of(project, dataset, round_)) as here:
        await stretch(lambda: _fetch_review(here, dataset, round_, task, only), lambda found: _review(here, *found), bones=8)


async def _fetch(here: Here, dataset: str, round_: str) -> tuple[Any, Any]:
    found = await round_of(here, dataset, round_)
    return found, await here.client.annotations.get_label_schema(found.label_schema)


async def _fetch_review(here: Here, dataset: str, round_: str, task: str, only: str) -> tuple[Any, Any, list[str]]:
    found, schema = await _fetch(here, dataset, round_)
    if task:
        return found, schema, [f"{found.name}/tasks/{task}"]
    if only == "disagreements":
        return found, schema, list((await here.client.annotations.agreement(found.name)).disagreements)
    return found, schema, []


def _label(here: Here, found: annotation_pb2.AnnotationRound, schema: annotation_pb2.LabelSchema) -> None:
    if found.state == annotation_pb2.AnnotationRound.STATE_CLOSED:
        back = link("To the round", round_path(here, found.name), "button")
        Fragment(empty("The round is closed", "Nothing is taken any more until it is opened again.", back, picture="pen"))
        return
    said = {
        "mode": "label",
        "round": found.name,
        "schema": schema_json(schema),
        "lease_s": seconds_of(found.lease) if found.HasField("lease") else LEASE_S,
        "answers": found.progress.answers,
        "wanted": found.progress.answers_wanted,
        "paused": found.state == annotation_pb2.AnnotationRound.STATE_PAUSED,
    }
    _table(said)
    Fragment(_guidelines(found, schema))


def _review(here: Here, found: annotation_pb2.AnnotationRound, schema: annotation_pb2.LabelSchema, tasks: list[str]) -> None:
    _table({"mode": "review", "round": found.name, "schema": schema_json(schema), "tasks": tasks})
    Fragment(_guidelines(found, schema))


def _table(said: dict[str, Any]) -> None:
    """Room for the table; the script fills it, and the server never changes it."""
    Fragment(h("section", data_annotate=json.dumps(said), cls="card annotate", aria_label="The example and what is said of it"))


def _guidelines(found: annotation_pb2.AnnotationRound, schema: annotation_pb2.LabelSchema) -> Markup:
    if not (schema.guidelines or schema.guideline_examples or any(one.description for one in schema.classes)):
        return h("p")
    content = found.dataset_version
    classes = [h("li", h("strong", one.name), f" {one.description}") for one in schema.classes if one.description]
    pictures = [
        h(
            "figure",
            h(
                "img",
                src=picture_address(content, one.example_id),
                alt=one.caption or "An example of the guidelines",
                loading="lazy",
            ),
            h("figcaption", h("strong", "Not so: " if one.counterexample else "So: "), one.caption),
            cls="guide",
        )
        for one in schema.guideline_examples
        if content
    ]
    body = [
        *prose(schema.guidelines),
        h("ul", classes) if classes else None,
        h("div", pictures, cls="guides") if pictures else None,
    ]
    return card("", h("details", h("summary", "Guidelines"), *body, open=True), id="guidelines")
