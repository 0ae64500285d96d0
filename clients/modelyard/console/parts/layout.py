"""Cards, facts, tables, tabs, empty states: the same on every page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode

from modelyard.client import last_part
from modelyard.client.drawing.layout import card, facts, figure, figures, table
from modelyard.client.drawing.markup import Markup, h
from modelyard.console.parts.icons import icon

__all__ = [
    "button",
    "card",
    "empty",
    "facts",
    "figure",
    "figures",
    "link",
    "name_link",
    "new_tab",
    "path",
    "place_of",
    "shown_once",
    "skeleton",
    "table",
    "tabs",
]


def empty(title: str, text: object, *actions: object, picture: str = "info") -> Markup:
    """What a page says when there is nothing to show, and what to do about it."""
    return h("div", icon(picture), h("div", h("h2", title), h("p", text)), h("div", *actions, cls="actions"), cls="state")


def skeleton(lines: int = 4) -> Markup:
    """What is seen while something is on its way."""
    rows = [h("div", cls="bone", style=f"width:{95 - 13 * (at % 4)}%") for at in range(lines)]
    return h("div", h("span", "Loading", cls="unseen"), *rows, cls="card skeleton", role="status")


def link(text: object, href: str, cls: str = "") -> Markup:
    return h("a", text, href=href, cls=cls or None)


def new_tab(text: object, href: str, cls: str = "button") -> Markup:
    """A page that is none of the console's, beside it."""
    return h("a", text, href=href, target="_blank", rel="noopener", cls=cls or None, title="Opens in a new tab")


def button(
    text: object, act: str, arg: str = "", *, kind: str = "", confirm: str = "", danger: bool = False, **more: object
) -> Markup:
    """A button that leads to an act; `confirm`: asked first."""
    return h(
        "button",
        text,
        type_="button",
        cls=f"button {kind}".strip() + (" danger" if danger else ""),
        data_act=act,
        data_arg=arg or None,
        data_confirm=confirm or None,
        data_danger=danger,
        **more,
    )


def shown_once(words: str, secret: str) -> Markup | None:
    """A token that is seen this once, with a button that copies it; nothing where there is none."""
    if not secret:
        return None
    copy = h("button", "Copy", type_="button", cls="button small", data_copy=secret)
    return h("p", words, " ", h("code", secret), " ", copy, role="status")


def tabs(current: str, each: Iterable[tuple[str, str, str]], label: str) -> Markup:
    """Parts of a page, each with an address of its own: (key, words, href)."""
    items = [h("li", h("a", words, href=href, aria_current="page" if key == current else None)) for key, words, href in each]
    return h("nav", h("ul", items), cls="tabs", aria_label=label)


def path(project: str, *parts: str, **query: object) -> str:
    """An address of the console: path("default", "datasets", "flowers", tab="quality")."""
    said = {name: str(value) for name, value in query.items() if value not in (None, "", 0)}
    place = "/".join(quote(part, safe="") for part in (project, *parts))
    return f"/p/{place}" + (f"?{urlencode(said)}" if said else "")


_SHOWN: Final = frozenset(
    {
        "datasets",
        "pipelineRuns",
        "trainingJobs",
        "crossValidations",
        "models",
        "evaluations",
        "exports",
        "endpoints",
        "devices",
    }
)


def place_of(name: str) -> str:
    """Where a resource is shown: its name as an address; empty for what has no page."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "projects":
        return ""
    project, collection = parts[1], parts[2]
    shown = {"pipelineRuns": "runs", "trainingJobs": "jobs", "gateDecisions": "gates", "crossValidations": "crossings"}.get(
        collection, collection
    )
    if collection not in _SHOWN:
        return ""
    if collection == "datasets" and len(parts) == 6 and parts[4] == "versions":
        return path(project, "datasets", parts[3], version=parts[5])
    if collection == "models" and len(parts) == 6:
        return path(project, "models", parts[3], parts[5])
    return path(project, shown, parts[3])


def name_link(name: str, text: str = "") -> Markup | str:
    """A resource by its short name, with a link where it has a page."""
    if not name:
        return ""
    shown = text or ("/".join(name.split("/")[3::2]) if name.startswith("projects/") else last_part(name))
    place = place_of(name)
    return link(shown, place) if place else shown
