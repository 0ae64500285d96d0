"""The frame of every page: navigation, project, title; and stretches that load, fail and try again by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from nicegui import background_tasks, ui
from nicegui.element import Element

from modelyard.client import AsyncClient
from modelyard.client.drawing.markup import Markup, h, join
from modelyard.console.connection import connection
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import link, path, skeleton
from modelyard.console.parts.trouble import trouble_card

T = TypeVar("T")
RESPONSE_S: Final = 30.0
QUICK_S: Final = 0.8
"""What is there by then comes with the page itself; what is not is awaited behind a skeleton."""

_SECTIONS: Final = (
    ("", "home", "Overview"),
    ("datasets", "data", "Datasets"),
    ("annotation", "pen", "Annotation"),
    ("runs", "run", "Runs"),
    ("models", "model", "Models"),
    ("endpoints", "endpoint", "Endpoints"),
    ("devices", "device", "Devices"),
    ("audit", "audit", "Audit"),
    ("settings", "settings", "Settings"),
)
HEAD: Final = (
    '<link rel="stylesheet" href="/static/console.css"><link rel="stylesheet" href="/static/annotate.css">'
    '<script src="/static/console.js"></script>'
)


def route(path: str) -> Callable[..., object]:
    """Makes a function the page of an address. On a machine that is busy it may take its time."""
    return ui.page(path, response_timeout=RESPONSE_S)


@dataclass(frozen=True)
class Here:
    """Where a page is: its project, and the client of it."""

    project: str
    client: AsyncClient

    def path(self, *parts: str, **query: object) -> str:
        """An address in this project."""
        return path(self.project, *parts, **query)


@contextmanager
def frame(
    project: str, section: str, title: str, *, crumbs: Sequence[tuple[str, str]] = (), actions: object = None
) -> Iterator[Here]:
    """A page in its frame; what is made inside is its content. crumbs: (words, href) of what it is part of."""
    here = Here(project, connection().client(project))
    ui.page_title(f"{title} · Modelyard")
    ui.add_head_html(HEAD)
    with ui.context.client.layout:
        Fragment(_navigation(here, section), cls="frame-nav").move(target_index=0)
    Fragment(_heading(title, crumbs, actions), cls="frame-head")
    with Element("div").classes("frame-body"):
        yield here


def heading(title: str, *, crumbs: Sequence[tuple[str, str]] = (), actions: object = None) -> Fragment:
    """The title of a page that is known later."""
    return Fragment(_heading(title, crumbs, actions), cls="frame-head")


async def stretch(fetch: Callable[[], Awaitable[T]], build: Callable[[T], object], *, bones: int = 4) -> None:
    """A part of a page: waits for `fetch`, then lets `build` make its elements.

    Shows a skeleton while it waits, and an error in its place, with a button that tries again.
    """
    room = Element("div").classes("stretch")
    task = asyncio.ensure_future(_caught(fetch))
    done, _ = await asyncio.wait({task}, timeout=QUICK_S)
    if done:
        _fill(room, task.result(), fetch, build)
        return
    with room:
        Fragment(skeleton(bones))
    background_tasks.create(_later(room, task, fetch, build), name="stretch")


async def _later(
    room: Element, task: asyncio.Future[T | Exception], fetch: Callable[[], Awaitable[T]], build: Callable[[T], object]
) -> None:
    await room.client.connected()
    result = await task
    if not room.is_deleted:
        _fill(room, result, fetch, build)


def _fill(room: Element, result: T | Exception, fetch: Callable[[], Awaitable[T]], build: Callable[[T], object]) -> None:
    room.clear()
    with room:
        if not isinstance(result, Exception):
            try:
                build(result)
                return
            except Exception as error:
                room.clear()
                result = error
        failed = result

        async def again(act: Act) -> None:
            room.clear()
            with room:
                Fragment(skeleton())
            background_tasks.create(_later(room, asyncio.ensure_future(_caught(fetch)), fetch, build), name="again")

        Fragment(trouble_card(failed)).does(again=again)


async def _caught(fetch: Callable[[], Awaitable[T]]) -> T | Exception:
    try:
        return await fetch()
    except Exception as error:
        return error


def not_found_page() -> None:
    """What an address that leads nowhere shows."""
    with frame("default", "none", "No such page"):
        Fragment(
            h(
                "div",
                icon("info"),
                h("div", h("h2", "This address leads nowhere"), h("p", "It may have been mistyped, or be of another version.")),
                link("To the overview", path("default"), "button"),
                cls="state",
            )
        )


def _navigation(here: Here, section: str) -> Markup:
    items = [
        h(
            "li",
            h(
                "a",
                icon(picture),
                h("span", words),
                href=here.path(part) if part else here.path(),
                aria_current="page" if part == section else None,
            ),
        )
        for part, picture, words in _SECTIONS
    ]
    top = h(
        "div",
        h("a", icon("logo"), h("span", "Modelyard"), href=here.path(), cls="brand"),
        h(
            "button",
            icon("menu", "Menu"),
            type_="button",
            cls="quiet menu-button",
            aria_expanded="false",
            aria_controls="menu",
            data_menu=True,
        ),
        cls="nav-top",
    )
    foot = h(
        "div",
        h("label", "Project", for_="project"),
        h(
            "input",
            id="project",
            value=here.project,
            list="projects",
            data_project=True,
            autocomplete="off",
            spellcheck="false",
            maxlength=63,
        ),
        h("datalist", id="projects"),
        h("button", icon("moon"), h("span", "Dark or light"), type_="button", cls="quiet", data_theme_button=True),
        _sign_out(connection().person),
        cls="nav-foot",
    )
    train = h("a", icon("plus"), h("span", "Train a model"), href=here.path("train"), cls="button primary wide")
    skip = h("a", "Skip to content", href="#content", cls="skip")
    return h("header", skip, top, h("nav", train, h("ul", items), foot, id="menu", aria_label="Main"), cls="nav")


def _sign_out(person: str) -> Markup | None:
    """Who is in, and the way out, where several people share the console."""
    if not person:
        return None
    words = h("span", "Sign out ", h("span", person, cls="small muted"))
    return h("form", h("button", icon("door"), words, type_="submit", cls="quiet"), method="post", action="/sign-out")


def _heading(title: str, crumbs: Sequence[tuple[str, str]], actions: object) -> Markup:
    trail = h("nav", h("ol", [h("li", link(words, href)) for words, href in crumbs]), cls="crumbs", aria_label="Breadcrumb")
    return h(
        "div",
        h("div", trail if crumbs else None, h("h1", title, id="content", tabindex=-1)),
        h("div", join([actions]), cls="actions") if actions else None,
        cls="heading",
    )
