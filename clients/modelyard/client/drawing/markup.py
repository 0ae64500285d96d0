"""HTML as values: whatever is text is escaped, so that no name, label or message of a service can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

_VOID: Final = frozenset({"br", "hr", "img", "input", "col", "link", "meta", "source"})
_NAMES: Final = {"cls": "class", "for_": "for", "type_": "type", "as_": "as"}

Child = "Markup | str | int | float | None | Iterable[Child]"


class Markup(str):
    """HTML that is safe to show: made by `h`, never of what somebody said."""

    __slots__ = ()


def h(tag: str, *children: object, **attributes: object) -> Markup:
    """An element. Children: text (escaped), other elements, lists of both; None and "" are nothing.

    Attributes: `cls` is class, `for_` is for; `_` becomes `-` (data_act, aria_label); None and False leave one out, True is bare.
    """
    said = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{said}>")
    return Markup(f"<{tag}{said}>{join(children)}</{tag}>")


def join(children: Iterable[object], between: str = "") -> Markup:
    """Several of what `h` takes, one after the other."""
    return Markup(html.escape(between).join(part for part in map(_child, children) if part))


def page_text(title: str, style: str, body: Markup, refresh: str = "") -> str:
    """A whole page without scripts; `refresh`: a path it goes to at once."""
    head = [
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", http_equiv="refresh", content=f"0;url={refresh}") if refresh else None,
        h("title", title),
        Markup(f"<style>{style}</style>"),
    ]
    return f'<!doctype html><html lang="en">{h("head", head)}{h("body", body)}</html>'


def _child(child: object) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(str(child))
    if isinstance(child, Iterable):
        return join(child)
    raise TypeError(f"{type(child).__name__} is no child of an element")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = _NAMES.get(name, name.replace("_", "-"))
    if value is True:
        return f" {written}"
    return f' {written}="{html.escape(str(value))}"'
