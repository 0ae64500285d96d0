"""What is drawn, with the style it needs: a page of its own, or the output of a notebook's cell."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from modelyard.client.drawing.markup import Markup, h


@cache
def style() -> str:
    """The style sheet."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def framed(body: Markup) -> str:
    """For a notebook: the style comes along, and touches nothing else there."""
    return f"<style>{style()}</style>{h('div', body, cls='modelyard modelyard-cell')}"


def whole_page(title: str, header: Markup, body: Markup, footer: Markup) -> str:
    """A page in one file: no script, and nothing is loaded from anywhere (the policy in it forbids it, too)."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", title),
        Markup(f"<style>{style()}body {{ margin: 0; }}</style>"),
    )
    main = h("body", h("header", header), h("main", body), h("footer", footer), cls="modelyard")
    return f'<!doctype html><html lang="en">{head}{main}</html>\n'
