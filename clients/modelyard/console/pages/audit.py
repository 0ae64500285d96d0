"""Who did what in the project, and what was refused."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui

from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import moment
from modelyard.console.parts.badges import badge
from modelyard.console.parts.forms import choice, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import card, empty, link, name_link, table
from modelyard.console.parts.page import Here, frame, route, stretch

SERVICES: Final = ("pipeline", "dataset", "trainer", "exporter", "evaluator", "serving")
MOST: Final = 100


@route("/p/{project}/audit")
async def audit(project: str, service: str = "pipeline", principal: str = "", refused: str = "", page: str = "") -> None:
    of = service if service in SERVICES else "pipeline"
    with frame(project, "audit", "Audit") as here:
        Fragment(_filters(of, principal, refused)).does(filter=lambda act: _go(here, act))
        await stretch(
            lambda: _fetch(here, of, principal, bool(refused), page), lambda found: _build(here, found, of, principal, refused)
        )


async def _fetch(here: Here, service: str, principal: str, refused: bool, page: str) -> Any:
    return await here.client.access.of(service).list_audit_events(
        principal=principal, refused=refused, page_size=MOST, page_token=page
    )


def _filters(service: str, principal: str, refused: str) -> Markup:
    return h(
        "form",
        choice("service", "Service", [(one, one) for one in SERVICES], service, data_change="filter"),
        text("principal", "By whom", principal, placeholder="user:anna", data_change="filter"),
        choice("refused", "Show", [("", "all that was done"), ("yes", "what was refused")], refused, data_change="filter"),
        cls="filters",
        data_submit="filter",
    )


def _go(here: Here, act: Act) -> None:
    ui.navigate.to(here.path("audit", service=act.text("service"), principal=act.text("principal"), refused=act.text("refused")))


def _build(here: Here, found: Any, service: str, principal: str, refused: str) -> None:
    if not found.audit_events:
        Fragment(empty("Nothing here", "No call of this kind is on record.", picture="audit"))
        return
    rows = [
        [
            moment(one.create_time),
            one.principal,
            one.method.rpartition("/")[2] or one.method,
            name_link(one.resource),
            badge(one.code.replace("_", " ").lower(), "good" if one.code in ("OK", "200") else "bad"),
            h("span", one.reason, cls="small muted"),
            h("span", one.peer, cls="small muted"),
        ]
        for one in found.audit_events
    ]
    more = (
        link(
            "Older",
            here.path("audit", service=service, principal=principal, refused=refused, page=found.next_page_token),
            "button small",
        )
        if found.next_page_token
        else None
    )
    Fragment(card("", table(["When", "Who", "What", "About", "Outcome", "Why", "From"], rows, caption="Audit events"), more))
