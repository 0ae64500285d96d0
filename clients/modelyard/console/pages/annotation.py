"""The rounds of annotation of a project, or of one of its datasets."""

from __future__ import annotations

import asyncio
from typing import Any

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h, join
from modelyard.client.drawing.words import ago, count
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import card, empty, link, name_link, path, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.rounds import round_path, round_state
from modelyard.dataset.v1 import annotation_pb2

MOST_DATASETS = 60
MOST = 100


@route("/p/{project}/annotation")
async def annotation(project: str, dataset: str = "") -> None:
    new = f"/p/{project}/annotation/new" + (f"?dataset={dataset}" if dataset else "")
    add = link(join([icon("plus"), "Open a round"]), new, "button primary")
    with frame(project, "annotation", "Annotation", actions=add) as here:
        await stretch(lambda: _fetch(here, dataset), lambda found: Fragment(_markup(here, dataset, *found)))


async def _fetch(here: Here, dataset: str) -> tuple[list[Any], bool]:
    """The newest rounds; whether there are datasets at all."""
    if dataset:
        return (await first(here.client.annotations.list_rounds(dataset, page_size=MOST), MOST))[0], True
    datasets, _ = await first(here.client.datasets.list_datasets(page_size=MOST_DATASETS), MOST_DATASETS)
    listed = await asyncio.gather(*(first(here.client.annotations.list_rounds(one.name, page_size=20), 20) for one in datasets))
    rounds = [each for found, _ in listed for each in found]
    return sorted(rounds, key=lambda each: -each.create_time.seconds)[:MOST], bool(datasets)


def _markup(here: Here, dataset: str, rounds: list[annotation_pb2.AnnotationRound], has_data: bool) -> Markup:
    if not rounds:
        about = "People label examples in rounds: each answers tasks with keys or the mouse; what most say becomes a version."
        start = (
            link("Open a round", here.path("annotation", "new", dataset=dataset), "button primary")
            if has_data
            else link("Add a dataset", here.path("datasets", "new"), "button primary")
        )
        return empty("No round yet", about, start, picture="pen")
    rows = [
        [
            link(one.display_name or last_part(one.name), round_path(here, one.name)),
            name_link("/".join(one.name.split("/")[:4])),
            round_state(one.state),
            count(one.task_count),
            one.overlap or 1,
            name_link(one.published_version) or h("span", "not yet", cls="small muted"),
            h("span", ago(one.create_time), cls="small muted"),
            link("Label", round_path(here, one.name, "label"), "button small")
            if one.state == annotation_pb2.AnnotationRound.STATE_OPEN
            else "",
        ]
        for one in rounds
    ]
    columns = ["Round", "Dataset", "State", "Tasks", "Answers each", "Published", "Opened", h("span", "Work", cls="unseen")]
    title = f"Rounds of {dataset}" if dataset else "Rounds"
    return card(title, table(columns, rows, caption="Rounds of annotation", numeric=(3, 4)))


async def round_of(here: Here, dataset: str, round_: str) -> annotation_pb2.AnnotationRound:
    """A round by its short names."""
    return await here.client.annotations.get_round(f"{dataset}/{round_}")


def crumbs_of(project: str, dataset: str, round_: str = "") -> list[tuple[str, str]]:
    """What a page about a round is part of."""
    trail = [("Annotation", path(project, "annotation")), (dataset, path(project, "annotation", dataset=dataset))]
    return [*trail, (round_, path(project, "annotation", dataset, round_))] if round_ else trail
