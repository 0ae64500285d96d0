"""The datasets of a project."""

from __future__ import annotations

from typing import Any

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h, join
from modelyard.client.drawing.words import ago, task_word
from modelyard.console.parts.badges import badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import empty, link
from modelyard.console.parts.lists import first, pager
from modelyard.console.parts.page import Here, frame, route, stretch

MOST = 60


@route("/p/{project}/datasets")
async def datasets(project: str, skip: int = 0) -> None:
    add = link(join([icon("plus"), "Add a dataset"]), f"/p/{project}/datasets/new", "button primary")
    with frame(project, "datasets", "Datasets", actions=add) as here:
        await stretch(
            lambda: first(here.client.datasets.list_datasets(page_size=MOST + 1), MOST, max(skip, 0)),
            lambda found: _build(here, found, max(skip, 0)),
        )


def _build(here: Here, found: tuple[list[Any], bool], skip: int) -> None:
    shown, more = found
    if not shown:
        Fragment(
            empty(
                "No data yet",
                "A folder of pictures, a table, sounds or recordings of sensors: drop it here, and what is in it is found out.",
                link("Add a dataset", here.path("datasets", "new"), "button primary"),
                picture="data",
            )
        )
        return
    cards = [_card(here, one) for one in shown]
    Fragment(h("div", h("div", *cards, cls="cards"), pager(shown, skip, MOST, more, lambda at: here.path("datasets", skip=at))))


def _card(here: Here, one: Any) -> Markup:
    name = last_part(one.name)
    version = last_part(one.latest_version) if one.latest_version else ""
    state = version or ("not published yet" if one.current_import else "empty")
    return h(
        "a",
        h("h2", one.display_name or name),
        h("p", one.description or task_word(one.task).capitalize() or "Nothing imported yet", cls="muted"),
        h(
            "p",
            h(
                "span",
                badge(state, "good" if version else "off"),
                " ",
                h("span", f"changed {ago(one.update_time)}", cls="small muted"),
            ),
        ),
        href=here.path("datasets", name),
        cls="card",
    )
