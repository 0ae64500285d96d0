"""The endpoints of a project."""

from __future__ import annotations

from typing import Any

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago
from modelyard.console.parts.badges import badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.layout import empty, link
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.serving.v1 import serving_pb2

MOST = 200


@route("/p/{project}/endpoints")
async def endpoints(project: str) -> None:
    with frame(project, "endpoints", "Endpoints") as here:
        await stretch(
            lambda: first(here.client.endpoints.list_endpoints(page_size=MOST), MOST), lambda found: _build(here, found[0])
        )


def _build(here: Here, shown: list[serving_pb2.Endpoint]) -> None:
    if not shown:
        Fragment(
            empty(
                "Nothing is served yet",
                "A run whose model passes the gate is served behind an address by itself.",
                link("Train a model", here.path("train"), "button primary"),
                picture="endpoint",
            )
        )
        return
    Fragment(h("div", [_card(here, one) for one in shown], cls="cards"))


def _card(here: Here, one: serving_pb2.Endpoint) -> Markup:
    shares = {share.deployment: share.percent for share in one.traffic}
    parts: list[Any] = [
        h(
            "li",
            last_part(each.name),
            " ",
            state_of(each),
            " ",
            h("span", f"{shares[last_part(each.name)]} %" if last_part(each.name) in shares else "", cls="small muted"),
        )
        for each in one.deployments
    ]
    return h(
        "a",
        h("h2", one.display_name or last_part(one.name)),
        h("ul", parts, cls="reasons") if parts else h("p", "serves nothing", cls="muted"),
        h("p", f"changed {ago(one.update_time)}", cls="small muted"),
        href=here.path("endpoints", last_part(one.name)),
        cls="card",
    )


def state_of(one: serving_pb2.Deployment) -> Markup:
    """Where a deployment is."""
    kinds = serving_pb2.Deployment
    said = {
        kinds.STATE_READY: ("answers", "good", "check"),
        kinds.STATE_LOADING: ("loads", "busy", "clock"),
        kinds.STATE_FAILED: ("failed", "bad", "cross"),
        kinds.STATE_UNHEALTHY: ("unhealthy", "bad", "alert"),
        kinds.STATE_UNLOADED: ("unloaded", "off", "dash"),
    }
    words, kind, picture = said.get(one.state, ("unknown", "off", "info"))
    return badge(words, kind, picture)
