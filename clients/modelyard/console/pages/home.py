"""What goes on in a project, and where to begin."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import RedirectResponse

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago
from modelyard.console.connection import connection
from modelyard.console.pages.runs import runs_table
from modelyard.console.parts.badges import badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import card, empty, figure, figures, link
from modelyard.console.parts.lists import first
from modelyard.console.parts.live import listed, under_way
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.serving.v1 import serving_pb2

FEW = 6
COUNTED = 200


@route("/")
def root() -> RedirectResponse:
    return RedirectResponse(f"/p/{connection().behind.project}")


@route("/p/{project}")
async def home(project: str) -> None:
    with frame(project, "", "Overview") as here:
        await stretch(lambda: _fetch(here), lambda found: _build(here, found))


async def _fetch(here: Here) -> tuple[Any, ...]:
    client = here.client
    return await asyncio.gather(
        first(client.pipelines.list_pipeline_runs(page_size=FEW + 1), FEW),
        first(client.datasets.list_datasets(page_size=COUNTED), COUNTED),
        first(client.models.list_models(page_size=COUNTED), COUNTED),
        first(client.endpoints.list_endpoints(page_size=COUNTED), COUNTED),
    )


def _build(here: Here, found: tuple[Any, ...]) -> None:
    if not any(items for items, _ in found):
        Fragment(_welcome(here))
        return
    listed(found, lambda: _fetch(here), lambda again: _overview(here, again), lambda again: again[0][0])


def _overview(here: Here, found: tuple[Any, ...]) -> Markup:
    (runs, more_runs), (datasets, more_data), (models, more_models), (endpoints, more_endpoints) = found
    ready = sum(_answers(endpoint) for endpoint in endpoints)
    top = figures(
        figure("Runs under way", under_way(runs)),
        figure("Datasets", _counted(datasets, more_data)),
        figure("Models", _counted(models, more_models)),
        figure("Endpoints that answer", f"{ready} of {_counted(endpoints, more_endpoints)}"),
    )
    latest = card(
        "Latest runs",
        runs_table(here, runs, short=True) if runs else h("p", "No run yet.", cls="muted"),
        actions=link("All runs", here.path("runs"), "button small") if more_runs else None,
    )
    data = [
        h(
            "li",
            link(one.display_name or last_part(one.name), here.path("datasets", last_part(one.name))),
            " ",
            h("span", ago(one.update_time), cls="small muted"),
        )
        for one in datasets[:FEW]
    ]
    served = [
        h(
            "li",
            link(last_part(one.name), here.path("endpoints", last_part(one.name))),
            " ",
            badge("answers", "good", "check") if _answers(one) else badge("silent", "off"),
        )
        for one in endpoints[:FEW]
    ]
    side = h(
        "div",
        card(
            "Datasets",
            h("ul", data, cls="plain") if data else h("p", "None yet.", cls="muted"),
            actions=link("Add", here.path("datasets", "new"), "button small"),
        ),
        card("Endpoints", h("ul", served, cls="plain") if served else h("p", "None yet.", cls="muted")),
    )
    return h("div", top, h("div", latest, side, cls="split"))


def _welcome(here: Here) -> Markup:
    steps = (
        ("data", "Bring your data", "A folder of pictures, a table, sounds or sensor recordings. What is in it is found out."),
        (
            "wand",
            "Press Train",
            "Say how long training may take and how fast an answer must be. The rest is chosen by measuring.",
        ),
        ("endpoint", "Ask it", "What passes its tests is served behind an address, with the reasons why, or why not."),
    )
    shown = [h("div", icon(picture), h("h2", title), h("p", text, cls="muted"), cls="card") for picture, title, text in steps]
    return h(
        "div",
        empty(
            "From a folder of data to a model that answers",
            "This project is empty. Begin with data; everything else follows from it.",
            link("Add a dataset", here.path("datasets", "new"), "button primary"),
            picture="logo",
        ),
        h("div", *shown, cls="cards"),
    )


def _answers(endpoint: serving_pb2.Endpoint) -> bool:
    return any(one.state == serving_pb2.Deployment.STATE_READY for one in endpoint.deployments)


def _counted(items: list[Any], more: bool) -> str:
    return f"{len(items)}+" if more else str(len(items))
