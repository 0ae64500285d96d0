"""One endpoint: ask it, share its traffic out, watch how its versions fare, take a change back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from nicegui import ui

from modelyard.client import DEFAULT_ADDRESS, FailedPrecondition, ModelyardClientError, Unavailable, last_part
from modelyard.client.drawing.charts import Line, line_chart
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, milliseconds, moment, number, size
from modelyard.console.connection import connection
from modelyard.console.pages.endpoints import state_of
from modelyard.console.parts.asking import Asking
from modelyard.console.parts.badges import badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, figure, figures, name_link, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.shares import even_out
from modelyard.console.parts.trouble import message_of, toast
from modelyard.serving.v1 import serving_pb2

EVENTS = 30
LOOK_S = 2.0
KEPT = 120


@route("/p/{project}/endpoints/{endpoint}")
async def endpoint(project: str, endpoint: str) -> None:
    with frame(project, "endpoints", endpoint, crumbs=[("Endpoints", f"/p/{project}/endpoints")]) as here:
        await stretch(lambda: _fetch(here, endpoint), lambda found: EndpointView(here, endpoint, *found), bones=8)


async def _fetch(here: Here, name: str) -> tuple[Any, ...]:
    client = here.client
    found = await client.endpoints.get_endpoint(name)
    metadata = None
    if any(one.state == serving_pb2.Deployment.STATE_READY for one in found.deployments):
        with contextlib.suppress(Unavailable):  # its model is being loaded: the rest of the page can be shown
            metadata = await client.predictions.metadata(name)
    events, statistics = await asyncio.gather(
        first(client.endpoints.list_deployment_events(name, page_size=EVENTS), EVENTS), _statistics(here, found)
    )
    return found, metadata, events[0], statistics


async def _statistics(here: Here, found: serving_pb2.Endpoint) -> dict[str, serving_pb2.DeploymentStatistics]:
    said: dict[str, serving_pb2.DeploymentStatistics] = {}
    for one in found.deployments:
        try:
            said[last_part(one.name)] = await here.client.endpoints.get_deployment_statistics(one.name)
        except FailedPrecondition:
            continue  # it is not loaded here
    return said


class EndpointView:
    """Shows an endpoint; figures of its versions come anew every few seconds while somebody looks."""

    def __init__(
        self,
        here: Here,
        name: str,
        found: serving_pb2.Endpoint,
        metadata: Any,
        events: list[serving_pb2.DeploymentEvent],
        statistics: dict[str, serving_pb2.DeploymentStatistics],
    ) -> None:
        self._here, self._name, self._found, self._statistics = here, name, found, statistics
        self._shares = {share.deployment: share.percent for share in found.traffic} or _alone(found)
        self._rates: list[tuple[float, float]] = []
        self._latencies: list[tuple[float, float]] = []
        self._seen, self._away = (0.0, self._requests()), ""
        pictures = metadata is not None and any(one.name == "image" for one in metadata.inputs)
        columns = [one.name for one in metadata.inputs][:2] if metadata is not None else []
        self._asks = (
            'image="picture.jpg"' if pictures else f"rows=[{{{', '.join(f'{json.dumps(one)}: ...' for one in columns)}}}]"
        )
        if metadata is not None:
            newest = found.deployments[-1].model_version
            Asking(here, name, metadata, [last_part(one.name) for one in found.deployments], newest)
        elif found.deployments:
            again = button("Look again", "again")
            words = h("p", "No version of it can be asked at this moment: it is being loaded, or has failed (see below).")
            Fragment(card("Try it", words, actions=again)).does(again=lambda act: ui.navigate.reload())
        self._traffic = Fragment(self._traffic_markup()).does(
            share=self._share, set=self._set, rollback=self._rollback, label=self._label, remove=self._remove
        )
        self._figures = Fragment(self._figures_markup())
        Fragment(self._history(events))
        self._timer = ui.timer(LOOK_S, self._look)
        self._clock = 0.0

    async def _look(self) -> None:
        self._clock += LOOK_S
        try:
            self._statistics, self._away = await _statistics(self._here, self._found), ""
        except ModelyardClientError as error:
            self._away = message_of(error)[0]
            self._figures.show(self._figures_markup())
            return
        then, before = self._seen
        now = self._requests()
        self._rates.append((self._clock, max(now - before, 0) / max(self._clock - then, 1e-9)))
        slowest = max((one.p99_ms for one in self._statistics.values()), default=0.0)
        self._latencies.append((self._clock, slowest))
        del self._rates[:-KEPT], self._latencies[:-KEPT]
        self._seen = (self._clock, now)
        self._figures.show(self._figures_markup())

    def _requests(self) -> int:
        return sum(one.successes + one.failures for one in self._statistics.values())

    def _figures_markup(self) -> Markup:
        total = self._requests()
        failures = sum(one.failures for one in self._statistics.values())
        rate = self._rates[-1][1] if self._rates else 0.0
        slowest = max((one.p99_ms for one in self._statistics.values()), default=0.0)
        top = figures(
            figure("Requests a second", number(rate)),
            figure("Requests, since it was loaded", count(total)),
            figure("Failed", count(failures), f"{100 * failures / total:.2f} %" if total else ""),
            figure("p99", milliseconds(slowest) if slowest else "—"),
        )
        charts = (
            h(
                "div",
                line_chart("Requests a second", [Line("requests/s", self._rates)], x_name="seconds", low=0.0, height=160),
                line_chart("Latency, p99", [Line("ms", self._latencies, 2)], x_name="seconds", low=0.0, height=160),
                cls="halves",
            )
            if len(self._rates) > 1
            else None
        )
        away = h("p", f"These are old: {self._away}", cls="field-error", role="alert") if self._away else None
        return h("div", card("How it fares", away, top, charts), self._drift())

    def _drift(self) -> Markup | None:
        level = serving_pb2.Drift
        said = {
            level.LEVEL_TOO_FEW: ("too few", "off"),
            level.LEVEL_NONE: ("as in training", "good"),
            level.LEVEL_SOME: ("worth a look", "wait"),
            level.LEVEL_STRONG: ("others than in training", "bad"),
        }
        rows = []
        for version, one in self._statistics.items():
            for drift in sorted(one.drift, key=lambda each: -each.score)[:20]:
                words, kind = said.get(drift.level, ("", "off"))
                way = "asked" if drift.direction == level.DIRECTION_INPUT else "answered"
                rows.append(
                    [
                        version,
                        drift.feature,
                        way,
                        number(drift.score),
                        count(drift.examples),
                        badge(words, kind),
                        h("span", drift.note, cls="small muted"),
                    ]
                )
        if not rows:
            return None
        return card(
            "Drift: how far what is seen is from the training data",
            table(["Version", "Feature", "", "Score", "Examples", "", ""], rows, caption="Drift", numeric=(3, 4)),
        )

    def _traffic_markup(self) -> Markup:
        found = self._found
        if not found.deployments:
            return card("Versions", h("p", "This endpoint serves nothing.", cls="muted"))
        labels: dict[str, list[str]] = {}
        for label in found.labels:
            labels.setdefault(label.deployment, []).append(label.label)
        total = sum(self._shares.values())
        rows = [self._version(one, labels.get(last_part(one.name), []), len(found.deployments)) for one in found.deployments]
        canary = next((label.deployment for label in found.labels if label.label == "canary"), "")
        policy = found.rollback_policy
        watched = (
            ""
            if policy.disabled
            else f"A change is watched for {policy.window.seconds // 60 or 10} minutes: taken back when errors or latency rise."
        )
        changed = self._shares != ({share.deployment: share.percent for share in found.traffic} or _alone(found))
        actions = [
            button(
                "Take the last change back",
                "rollback",
                confirm="Put traffic and labels back to what they were before their last change?",
            ),
            button("Set the traffic", "set", kind="primary", disabled=total != 100 or not changed),
        ]
        words = (
            h("p", f"The shares make {total} %; they must make 100 %.", cls="field-error", role="alert")
            if total != 100
            else h("p", watched, cls="small muted")
        )
        return card(
            "Versions and traffic",
            h("form", *rows),
            h("p", badge(f"canary: {canary}", "wait"), cls="chips") if canary else None,
            words,
            actions=actions,
        )

    def _version(self, one: serving_pb2.Deployment, labels: list[str], of: int) -> Markup:
        name = last_part(one.name)
        share = self._shares.get(name, 0)
        statistics = self._statistics.get(name)
        known = facts(
            (
                ("Model version", name_link(one.model_version)),
                ("Export", name_link(one.export)),
                ("Deployed", moment(one.create_time)),
                ("Memory", size(statistics.memory_bytes) if statistics is not None and statistics.memory_bytes else ""),
                ("Crashes", statistics.crashes if statistics is not None and statistics.crashes else ""),
                ("sha256", h("code", one.artifact.sha256[:16])),
                ("Why not", one.error_message),
            )
        )
        slider = h(
            "input",
            type_="range",
            min=0,
            max=100,
            step=1,
            value=share,
            id=f"share-{name}",
            name=f"share-{name}",
            data_input="share",
            data_arg=name,
            aria_label=f"Share of {name} in percent",
            disabled=of == 1,
        )
        others = [
            button("Champion", "label", f"champion={name}", kind="small") if "champion" not in labels else None,
            button("Remove", "remove", name, kind="small", danger=True, confirm=f"Take {name} off this endpoint?")
            if share == 0
            else None,
        ]
        head = h(
            "div",
            h("h3", name),
            state_of(one),
            [badge(label, "busy") for label in labels],
            h("output", f"{share} %", for_=f"share-{name}"),
            cls="finding-head",
        )
        return h(
            "article", head, slider, h("details", h("summary", "Details"), known), h("div", *others, cls="actions"), cls="finding"
        )

    def _share(self, act: Act) -> None:
        self._shares = even_out(
            {last_part(one.name): self._shares.get(last_part(one.name), 0) for one in self._found.deployments},
            act.arg,
            int(act.value or 0),
        )
        self._traffic.show(self._traffic_markup())

    async def _set(self, act: Act) -> None:
        shares = {name: percent for name, percent in self._shares.items() if percent}
        self._found = await self._here.client.endpoints.update_endpoint(self._name, traffic=shares, etag=self._found.etag)
        self._traffic.show(self._traffic_markup())
        toast("The traffic is shared out anew")

    async def _rollback(self, act: Act) -> None:
        self._found = await self._here.client.endpoints.rollback_endpoint(self._name, reason="asked in the console")
        self._shares = {share.deployment: share.percent for share in self._found.traffic} or _alone(self._found)
        self._traffic.show(self._traffic_markup())
        toast("The last change is taken back")

    async def _label(self, act: Act) -> None:
        label, _, version = act.arg.partition("=")
        labels = {one.label: one.deployment for one in self._found.labels} | {label: version}
        self._found = await self._here.client.endpoints.update_endpoint(self._name, labels=labels, etag=self._found.etag)
        self._traffic.show(self._traffic_markup())
        toast(f"{version} is {label} now")

    async def _remove(self, act: Act) -> None:
        await self._here.client.endpoints.delete_deployment(f"{self._name}/{act.arg}")
        self._found = await self._here.client.endpoints.get_endpoint(self._name)
        self._traffic.show(self._traffic_markup())
        toast(f"{act.arg} is gone")

    def _history(self, events: list[serving_pb2.DeploymentEvent]) -> Markup:
        kinds = serving_pb2.DeploymentEvent.Kind
        rows = [
            [
                h("span", ago(one.time), title=moment(one.time)),
                kinds.Name(one.kind).removeprefix("KIND_").replace("_", " ").lower(),
                last_part(one.deployment),
                one.detail,
            ]
            for one in events
        ]
        shown = (
            table(["When", "What", "Version", ""], rows, caption="What served when")
            if rows
            else h("p", "Nothing yet.", cls="muted")
        )
        where = h("pre", _example_call(self._name, self._here.project, self._asks), cls="log", tabindex=0)
        return h("div", card("What served when", shown), card("From a program", where))


def _alone(found: serving_pb2.Endpoint) -> dict[str, int]:
    """Who answers where no shares are set."""
    champion = next((label.deployment for label in found.labels if label.label == "champion"), found.default_version)
    return {last_part(champion): 100} if champion else {}


def _example_call(name: str, project: str, asks: str) -> str:
    behind = connection()
    server = DEFAULT_ADDRESS if behind.shared else behind.behind.server  # a pod's way to the services is nobody else's
    of = "" if project == "default" else f", project={json.dumps(project)}"
    return (
        "from modelyard.client import Client\n\n"
        f"with Client({json.dumps(server)}{of}) as client:\n"
        f"    print(client.predictions.predict({json.dumps(name)}, {asks}).labels)\n"
    )
