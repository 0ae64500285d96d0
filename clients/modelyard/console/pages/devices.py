"""Devices outside the cluster, and roll-outs of versions to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from nicegui import ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, moment
from modelyard.console.parts.badges import badge
from modelyard.console.parts.forms import text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, empty, facts, shown_once, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.trouble import toast
from modelyard.serving.v1 import device_pb2

MOST = 200
_STATES: Final[Mapping[int, tuple[str, str]]] = {
    1: ("online", "good"),
    2: ("offline", "wait"),
    3: ("revoked", "bad"),
    4: ("enrolled", "off"),
}
_ROLLOUTS: Final[Mapping[int, tuple[str, str]]] = {
    1: ("running", "busy"),
    2: ("paused", "wait"),
    3: ("done", "good"),
    4: ("cancelled", "off"),
    5: ("reverting", "wait"),
    6: ("reverted", "off"),
}


@route("/p/{project}/devices")
async def devices(project: str) -> None:
    with frame(project, "devices", "Devices") as here:
        await stretch(lambda: _fetch(here), lambda found: Devices(here, *found))


async def _fetch(here: Here) -> tuple[Any, ...]:
    found, rollouts = await asyncio.gather(
        first(here.client.devices.list_devices(page_size=MOST), MOST), first(here.client.devices.list_rollouts(page_size=50), 50)
    )
    return found[0], rollouts[0]


class Devices:
    """A table of them, tokens to enrol with, and roll-outs with their buttons."""

    def __init__(self, here: Here, found: list[device_pb2.Device], rollouts: list[device_pb2.Rollout]) -> None:
        self._here = here
        if not found:
            Fragment(
                empty(
                    "No device yet",
                    "A device fetches what it is to serve. Make a token below, give it to one, and it appears here.",
                    picture="device",
                )
            )
        else:
            Fragment(card(f"{len(found)} devices", self._table(found))).does(revoke=self._revoke)
        self._token = Fragment(self._token_form("")).does(enrol=self._enrol)
        if rollouts:
            Fragment(card("Roll-outs", *(self._rollout(one) for one in rollouts))).does(
                pause=self._pause, resume=self._resume, revert=self._revert
            )

    def _table(self, found: list[device_pb2.Device]) -> Markup:
        rows = []
        for one in found:
            words, kind = _STATES.get(one.state, ("unknown", "off"))
            serves = ", ".join(f"{last_part(each.endpoint)} {each.version}" for each in one.assignments)
            labels = [h("span", f"{key}={value}", cls="badge badge-off") for key, value in sorted(one.labels.items())]
            rows.append(
                [
                    h("strong", last_part(one.name)),
                    badge(words, kind),
                    ago(one.last_seen_time),
                    serves,
                    h("div", labels, cls="chips"),
                    button(
                        "Revoke",
                        "revoke",
                        one.name,
                        kind="small",
                        danger=True,
                        confirm=f"Refuse {last_part(one.name)} from now on? What it serves it goes on serving.",
                    ),
                ]
            )
        return table(["Device", "State", "Last heard", "Serves", "Labels", ""], rows, caption="Devices")

    def _token_form(self, token: str) -> Markup:
        form = h(
            "form",
            text("pattern", "Names it may take", placeholder="cam-*"),
            h("button", "Make a token", type_="submit", cls="button"),
            data_submit="enrol",
            cls="filters",
        )
        return card("Enrol a device", form, shown_once("Give this to the device; it is shown this once:", token))

    async def _enrol(self, act: Act) -> None:
        made = await self._here.client.devices.create_enrolment_token(name_pattern=act.text("pattern"))
        self._token.show(self._token_form(made.token))

    async def _revoke(self, act: Act) -> None:
        await self._here.client.devices.revoke_device(act.arg)
        toast(f"{last_part(act.arg)} is refused from now on")

    def _rollout(self, one: device_pb2.Rollout) -> Markup:
        words, kind = _ROLLOUTS.get(one.state, ("unknown", "off"))
        counted: dict[str, int] = {}
        for device in one.devices:
            name = device_pb2.RolloutDevice.State.Name(device.state).removeprefix("STATE_").replace("_", " ").lower()
            counted[name] = counted.get(name, 0) + 1
        actions = []
        if one.state == device_pb2.Rollout.STATE_RUNNING:
            actions.append(button("Pause", "pause", one.name, kind="small"))
        if one.state == device_pb2.Rollout.STATE_PAUSED:
            actions.append(button("Go on", "resume", one.name, kind="small"))
        if one.state in (device_pb2.Rollout.STATE_RUNNING, device_pb2.Rollout.STATE_PAUSED, device_pb2.Rollout.STATE_SUCCEEDED):
            actions.append(
                button(
                    "Take it back",
                    "revert",
                    one.name,
                    kind="small",
                    danger=True,
                    confirm="Tell every device of it to go back to what it had?",
                )
            )
        return h(
            "article",
            h(
                "div",
                h("h3", "/".join(one.deployment.split("/")[3::2])),
                badge(words, kind),
                h("span", f"stage {one.stage + 1} of {max(len(one.stages), 1)}", cls="small muted"),
                cls="finding-head",
            ),
            facts(
                (
                    ("Devices", ", ".join(f"{number} {name}" for name, number in counted.items())),
                    ("Why", one.state_message),
                    ("Begun", moment(one.create_time)),
                )
            ),
            h("div", *actions, cls="actions") if actions else None,
            cls="finding",
        )

    async def _pause(self, act: Act) -> None:
        await self._here.client.devices.pause_rollout(act.arg)
        ui.navigate.reload()

    async def _resume(self, act: Act) -> None:
        await self._here.client.devices.resume_rollout(act.arg)
        ui.navigate.reload()

    async def _revert(self, act: Act) -> None:
        await self._here.client.devices.revert_rollout(act.arg, reason="asked in the console")
        ui.navigate.reload()
