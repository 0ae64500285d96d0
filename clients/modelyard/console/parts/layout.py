"""Cards, facts, tables, tabs, empty states: the same on every page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlencode

from modelyard.client import last_part
from modelyard.console.parts.icons import icon
from modelyard.console.parts.markup import Markup, h


def card(title: str, *body: object, actions: object = None, cls: str = "", id: str = "") -> Markup:
    """A titled stretch of a page."""
    head = h("div", h("h2", title), h("div", actions, cls="actions") if actions else None, cls="card-head") if title else None
    return h("section", head, *body, cls=f"card {cls}".strip(), id=id or None)


def facts(rows: Iterable[tuple[str, object]]) -> Markup:
    """Names and values; rows without a value are left out."""
    return h("dl", [[h("dt", name), h("dd", value)] for name, value in rows if value not in (None, "")], cls="facts")


def figure(name: str, value: object, note: object = "") -> Markup:
    """A number to look at."""
    return h("div", h("dt", name), h("dd", value), h("dd", note, cls="note") if note else None, cls="figure")


def figures(*each: Markup) -> Markup:
    """Numbers side by side."""
    return h("dl", *each, cls="figures")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numeric: Sequence[int] = (), cls: str = ""
) -> Markup:
    """A table; `caption` is what screen readers call it. Cells in columns that are `numeric` stand on the right."""
    head = h("tr", [h("th", name, scope="col", cls="num" if at in numeric else None) for at, name in enumerate(columns)])
    body = [h("tr", [h("td", cell, cls="num" if at in numeric else None) for at, cell in enumerate(row)]) for row in rows]
    inner = h("table", h("caption", caption, cls="unseen"), h("thead", head), h("tbody", body), cls=cls)
    return h("div", inner, cls="table", tabindex=0, role="region", aria_label=caption)


def empty(title: str, text: object, *actions: object, picture: str = "info") -> Markup:
    """What a page says when there is nothing to show, and what to do about it."""
    return h("div", icon(picture), h("div", h("h2", title), h("p", text)), h("div", *actions, cls="actions"), cls="state")


def skeleton(lines: int = 4) -> Markup:
    """What is seen while something is on its way."""
    rows = [h("div", cls="bone", style=f"width:{95 - 13 * (at % 4)}%") for at in range(lines)]
    return h("div", h("span", "Loading", cls="unseen"), *rows, cls="card skeleton", role="status")


def link(text: object, href: str, cls: str = "") -> Markup:
    return h("a", text, href=href, cls=cls or None)


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


def tabs(current: str, each: Iterable[tuple[str, str, str]], label: str) -> Markup:
    """Parts of a page, each with an address of its own: (key, words, href)."""
    items = [h("li", h("a", words, href=href, aria_current="page" if key == current else None)) for key, words, href in each]
    return h("nav", h("ul", items), cls="tabs", aria_label=label)


def path(project: str, *parts: str, **query: object) -> str:
    """An address of the console: path("default", "datasets", "flowers", tab="quality")."""
    said = {name: str(value) for name, value in query.items() if value not in (None, "", 0)}
    place = "/".join(quote(part, safe="") for part in (project, *parts))
    return f"/p/{place}" + (f"?{urlencode(said)}" if said else "")


def place_of(name: str) -> str:
    """Where a resource is shown: its name as an address; empty for what has no page."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "projects":
        return ""
    project, collection = parts[1], parts[2]
    shown = {"pipelineRuns": "runs", "trainingJobs": "jobs", "gateDecisions": "gates"}.get(collection, collection)
    if collection not in ("datasets", "pipelineRuns", "trainingJobs", "models", "evaluations", "exports", "endpoints", "devices"):
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
