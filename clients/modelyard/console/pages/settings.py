"""Who you are, what the project uses, and tokens for those who only ask."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, moment, size
from modelyard.console.connection import connection
from modelyard.console.parts.forms import choice, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, empty, facts, shown_once, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.trouble import toast

SERVICES: Final = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
_DAYS: Final = (("30", "30 days"), ("365", "a year"), ("", "for ever"))


@route("/p/{project}/settings")
async def settings(project: str) -> None:
    with frame(project, "settings", "Settings") as here:
        await stretch(lambda: _fetch(here), lambda found: _build(here, *found))


async def _fetch(here: Here) -> tuple[Any, ...]:
    access = here.client.access
    caller, usages, (endpoints, _) = await asyncio.gather(
        access.get_caller(),
        asyncio.gather(*(access.of(service).get_usage() for service in SERVICES)),
        first(here.client.endpoints.list_endpoints(page_size=100), 100),
    )
    tokens = [
        token
        for one in endpoints
        for token in (await first(here.client.inference_tokens.list_inference_tokens(one.name), 100))[0]
    ]
    return caller, dict(zip(SERVICES, usages, strict=True)), endpoints, tokens


def _build(here: Here, caller: Any, usages: dict[str, Any], endpoints: list[Any], tokens: list[Any]) -> None:
    roles = [(f"in {project}" if project != "*" else "everywhere", role) for project, role in sorted(caller.roles.items())]
    who = card("Who you are", facts((("To the server", caller.principal), *roles, ("Server", connection().behind.server))))
    Fragment(h("div", who, card("What the project uses", _quotas(usages)), cls="halves"))
    Tokens(here, endpoints, tokens)


def _quotas(usages: dict[str, Any]) -> Markup:
    rows: list[list[object]] = []
    seen: set[tuple[str, int, int]] = set()
    for service, usage in usages.items():
        for one in usage.quotas:
            same = (one.quota, one.limit, one.used)
            if same in seen:
                continue  # services that are one process count together
            seen.add(same)
            shown = size if one.quota.endswith("bytes") else count
            used = "" if one.quota == "upload_bytes" else shown(one.used)
            rows.append(
                [
                    one.quota.replace("_", " "),
                    used,
                    "no limit" if one.limit < 0 else shown(one.limit),
                    h("span", service, cls="small muted"),
                ]
            )
    return (
        table(["Quota", "Used", "Limit", "Service"], rows, caption="Quotas", numeric=(1, 2))
        if rows
        else h("p", "Nothing is counted.", cls="muted")
    )


class Tokens:
    """Tokens that are good for asking one endpoint."""

    def __init__(self, here: Here, endpoints: list[Any], tokens: list[Any]) -> None:
        self._here, self._endpoints, self._tokens = here, endpoints, tokens
        self._page = Fragment(self._markup("")).does(make=self._make, revoke=self._revoke)

    def _markup(self, made: str) -> Markup:
        if not self._endpoints:
            return card(
                "Tokens for asking",
                empty("No endpoint yet", "A token is good for asking one endpoint; there is none to ask.", picture="endpoint"),
            )
        form = h(
            "form",
            choice("endpoint", "Endpoint", [(last_part(one.name), last_part(one.name)) for one in self._endpoints]),
            text("who", "Who it is for", maxlength=200),
            choice("days", "Good", list(_DAYS), "365"),
            h("button", "Make a token", type_="submit", cls="button"),
            data_submit="make",
            cls="filters",
        )
        rows = [
            [
                one.name.split("/")[3],
                one.display_name,
                one.creator,
                ago(one.create_time),
                moment(one.expire_time) or "never",
                button(
                    "Revoke",
                    "revoke",
                    one.name,
                    kind="small",
                    danger=True,
                    confirm="Nobody is answered for it any more. Revoke it?",
                ),
            ]
            for one in self._tokens
        ]
        listed = (
            table(["Endpoint", "For", "Made by", "Made", "Ends", ""], rows, caption="Tokens")
            if rows
            else h("p", "None yet.", cls="muted")
        )
        return card(
            "Tokens for asking",
            h(
                "p",
                "For applications: such a token is good for the predictions of one endpoint, and for nothing else.",
                cls="muted",
            ),
            form,
            shown_once("This is shown once:", made),
            listed,
        )

    async def _make(self, act: Act) -> None:
        days = act.text("days")
        ends = datetime.now(UTC) + timedelta(days=int(days)) if days else None
        made = await self._here.client.inference_tokens.create_inference_token(
            act.text("endpoint"), display_name=act.text("who"), expire_time=ends
        )
        self._tokens = [made, *self._tokens]
        self._page.show(self._markup(made.token))

    async def _revoke(self, act: Act) -> None:
        await self._here.client.inference_tokens.delete_inference_token(act.arg)
        self._tokens = [one for one in self._tokens if one.name != act.arg]
        self._page.show(self._markup(""))
        toast("The token is revoked")
