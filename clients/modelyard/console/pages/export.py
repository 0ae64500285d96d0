"""One export: its form, how closely it agrees with the trained model, how fast it is, and what was tried on the way."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import milliseconds, moment, number, size
from modelyard.console.content import download_address
from modelyard.console.pages.run import ENDED
from modelyard.console.parts.badges import progress_bar, state_badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, figure, figures, link, name_link, table
from modelyard.console.parts.live import follow
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.exporter.v1 import exporter_pb2


@route("/p/{project}/exports/{export}")
async def export(project: str, export: str) -> None:
    with frame(project, "models", export, crumbs=[("Models", f"/p/{project}/models")]) as here:
        await stretch(lambda: here.client.exports.get_export(export), lambda found: ExportView(here, found))


class ExportView:
    """Follows an export."""

    def __init__(self, here: Here, found: exporter_pb2.Export) -> None:
        self._here, self._export = here, found
        self._page = Fragment(self._markup()).does(cancel=self._cancel, score=self._score)
        if found.status.state not in ENDED:
            follow(
                self._page,
                lambda: here.client.exports.watch_export(found.name),
                self._take,
                lambda: self._page.show(self._markup()),
            )

    def _take(self, change: Any) -> None:
        self._export = change.export

    async def _cancel(self, act: Act) -> None:
        await self._here.client.exports.cancel_export(self._export.name)

    async def _score(self, act: Act) -> None:
        made = await self._here.client.evaluations.create_evaluation(self._export.name)
        ui.navigate.to(self._here.path("evaluations", last_part(made.name)))

    def _markup(self) -> Markup:
        one = self._export
        if one.status.state not in ENDED:
            return card("Exporting", progress_bar(one.status, "Export"), actions=button("Cancel", "cancel"))
        error = h("p", one.status.error.message, cls="field-error", role="alert") if one.status.error.message else None
        each = []
        if one.HasField("latency"):
            each = [
                figure("Median answer", milliseconds(one.latency.p50_ms)),
                figure("p95", milliseconds(one.latency.p95_ms)),
                figure("p99", milliseconds(one.latency.p99_ms)),
            ]
        if one.model_size_bytes:
            each.append(figure("Model file", size(one.model_size_bytes)))
        if one.latency.memory_bytes:
            each.append(figure("Memory", size(one.latency.memory_bytes)))
        if one.HasField("parity"):
            each.append(
                figure(
                    "Same class as trained",
                    f"{100 * one.parity.label_agreement:.2f} %",
                    f"{one.parity.example_count} real examples",
                )
            )
        actions = [button("Score it", "score")]
        if one.artifact.uri:
            actions.append(
                link("Download the bundle", download_address(one.artifact, f"{last_part(one.name)}.zip"), "button primary")
            )
        head = card("", h("div", state_badge(one.status.state), h("div", *actions, cls="actions"), cls="card-head"), error)
        return h(
            "div", head, figures(*each) if each else None, h("div", card("Facts", self._facts()), cls="halves"), self._trail()
        )

    def _facts(self) -> Markup:
        one = self._export
        return facts(
            (
                ("Model version", name_link(one.model_version)),
                ("Form", exporter_pb2.Format.Name(one.format).removeprefix("FORMAT_").lower()),
                ("Numbers", exporter_pb2.Precision.Name(one.precision).removeprefix("PRECISION_").lower()),
                ("Hardware", one.target or "cpu"),
                ("Measured on", one.latency.hardware),
                ("Threads", one.latency.threads),
                ("Not measured", one.unmeasured_reason),
                (
                    "Largest difference",
                    f"{number(one.parity.max_abs_difference)} (allowed {number(one.parity.tolerance)})"
                    if one.HasField("parity")
                    else "",
                ),
                ("Calibrated on", f"{one.calibration.example_count} examples" if one.HasField("calibration") else ""),
                ("sha256", h("code", one.artifact.sha256) if one.artifact.sha256 else ""),
                ("Made", moment(one.status.create_time)),
            )
        )

    def _trail(self) -> Markup | None:
        if not self._export.trail:
            return None
        rows = [
            [
                step.road,
                size(step.size_bytes) if step.size_bytes else "",
                milliseconds(step.latency.p95_ms) if step.HasField("latency") else "",
                number(step.loss.value) if step.HasField("loss") else "",
                "kept" if step.accepted else "",
                h("span", step.message, cls="small muted"),
            ]
            for step in self._export.trail
        ]
        return card(
            "What was tried, the cheapest first",
            table(["Road", "Size", "p95", "Loss", "", ""], rows, caption="Compression", numeric=(1, 2, 3)),
        )
