"""Inputs with their labels, help and errors, as browsers and screen readers know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelyard.client.drawing.markup import Markup, h

Errors = Mapping[str, str]


def field(name: str, label: str, control: Markup, *, help: object = "", error: str = "") -> Markup:
    """A labelled input; `control` must have the id `name`."""
    return h(
        "div",
        h("label", label, for_=name),
        control,
        h("p", error, cls="field-error", id=f"{name}-error", role="alert") if error else None,
        h("p", help, cls="help", id=f"{name}-help") if help else None,
        cls="field" + (" wrong" if error else ""),
    )


def text(name: str, label: str, value: str = "", *, help: object = "", errors: Errors | None = None, **more: object) -> Markup:
    """A line of text."""
    error = (errors or {}).get(name, "")
    said = {
        "id": name,
        "name": name,
        "value": value,
        "autocomplete": "off",
        "spellcheck": "false",
        **_described(name, help, error),
    }
    return field(name, label, h("input", **{"type_": "text", **said, **more}), help=help, error=error)


def number(
    name: str, label: str, value: object = "", *, help: object = "", errors: Errors | None = None, **more: object
) -> Markup:
    """A number, as text that the page checks: browsers differ in what they take for one."""
    return text(name, label, str(value), help=help, errors=errors, **{"inputmode": "decimal", "cls": "short", **more})


def choice(
    name: str,
    label: str,
    options: Iterable[tuple[str, str]],
    value: str = "",
    *,
    help: object = "",
    errors: Errors | None = None,
    **more: object,
) -> Markup:
    """One of several: (value, words)."""
    error = (errors or {}).get(name, "")
    items = [h("option", words, value=key, selected=key == value) for key, words in options]
    return field(
        name, label, h("select", items, id=name, name=name, **_described(name, help, error), **more), help=help, error=error
    )


def cards(name: str, legend: str, options: Iterable[tuple[str, str, object]], value: str, **more: object) -> Markup:
    """One of a few, each with a word of explanation: (value, words, explanation)."""
    items = [
        h(
            "label",
            h("input", type_="radio", name=name, value=key, id=f"{name}-{key}", checked=key == value, **more),
            h("span", h("strong", words), h("span", note, cls="small muted") if note else None),
            cls="pick",
        )
        for key, words, note in options
    ]
    return h("fieldset", h("legend", legend), h("div", items, cls="picks"), cls="field")


def switch(name: str, label: str, on: bool = False, *, help: object = "", **more: object) -> Markup:
    """Yes or no."""
    box = h("input", type_="checkbox", id=name, name=name, value="yes", checked=on, **_described(name, help, ""), **more)
    return h(
        "div",
        h("label", box, " ", label, cls="switch", for_=name),
        h("p", help, cls="help", id=f"{name}-help") if help else None,
        cls="field",
    )


def _described(name: str, help: object, error: str) -> dict[str, object]:
    ids = " ".join(part for part in (f"{name}-error" if error else "", f"{name}-help" if help else "") if part)
    return {"aria_describedby": ids or None, "aria_invalid": "true" if error else None}
