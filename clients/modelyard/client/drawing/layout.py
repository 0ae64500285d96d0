"""Cards, facts, figures and tables: the same in reports, notebooks and the console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelyard.client.drawing.markup import Markup, h


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
    columns: Sequence[str | Markup], rows: Iterable[Sequence[object]], *, caption: str, numeric: Sequence[int] = (), cls: str = ""
) -> Markup:
    """A table; `caption` is what screen readers call it. Cells in columns that are `numeric` stand on the right."""
    head = h("tr", [h("th", name, scope="col", cls="num" if at in numeric else None) for at, name in enumerate(columns)])
    body = [h("tr", [h("td", cell, cls="num" if at in numeric else None) for at, cell in enumerate(row)]) for row in rows]
    inner = h("table", h("caption", caption, cls="unseen"), h("thead", head), h("tbody", body), cls=cls)
    return h("div", inner, cls="table", tabindex=0, role="region", aria_label=caption)


def badge(text: str, kind: str = "off") -> Markup:
    """A word with a colour; kind: good, bad, wait, busy or off. The colour never says what the word does not."""
    return h("span", text, cls=f"badge badge-{kind}")
