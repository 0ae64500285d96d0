"""One model version: where it comes from, what it scored, its exports side by side, its gate reports."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import background_tasks, ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, metric_word, milliseconds, moment, number, size, task_word
from modelyard.console.content import download_address
from modelyard.console.pages.train_form import FORMATS, PRECISIONS
from modelyard.console.parts.badges import progress_bar, state_badge, verdict_badge
from modelyard.console.parts.forms import choice
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.gate import verdict_card
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import button, card, facts, link, name_link, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.trouble import toast, trouble_card
from modelyard.exporter.v1 import exporter_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

MOST = 200


@route("/p/{project}/models/{model}/{version}")
async def model_version(project: str, model: str, version: str) -> None:
    crumbs = [("Models", f"/p/{project}/models"), (model, f"/p/{project}/models/{model}")]
    actions = link("Train from it", f"/p/{project}/train?dataset={model}", "button")
    with frame(project, "models", f"{model} {version}", crumbs=crumbs, actions=actions) as here:
        await stretch(lambda: _fetch(here, f"{model}/{version}"), lambda found: _build(here, *found), bones=8)


async def _fetch(here: Here, name: str) -> tuple[Any, ...]:
    client = here.client
    version, (exports, _), (targets, _) = await asyncio.gather(
        client.models.get_model_version(name),
        first(client.exports.list_exports(model_version=name, page_size=MOST), MOST),
        first(client.targets.list_targets(page_size=100), 100),
    )
    own = [one.name for one in exports]
    scored, _ = await first(client.evaluations.list_evaluations(exports=own, page_size=MOST), MOST) if own else ([], False)
    about = [one.name for one in scored]
    decided, _ = await first(client.gate.list_gate_decisions(evaluations=about, page_size=MOST), MOST) if about else ([], False)
    return version, exports, scored, decided, targets


def _build(
    here: Here, version: Any, exports: list[Any], evaluations: list[Any], decisions: list[Any], targets: list[Any]
) -> None:
    Fragment(
        h(
            "div",
            _lineage(version),
            h("div", card("Facts", _facts(version)), card("Validation, at the end of training", _metrics(version)), cls="halves"),
        )
    )
    Exports(here, version, exports, evaluations, decisions, targets)
    for decision in decisions[:3]:
        Fragment(verdict_card(decision, here))


def _lineage(version: Any) -> Markup:
    """Data, parent, training, version: what led to what."""
    steps = [
        ("data", "Dataset version", name_link(version.dataset_version)),
        (
            "model",
            "Started from",
            name_link(version.parent_version) or ("ImageNet weights" if version.recipe.weights else "nothing"),
        ),
        ("run", "Training", name_link(version.training_job)),
        ("check", "This version", last_part(version.name)),
    ]
    items = [
        h(
            "li",
            h("span", icon(picture), cls="mark good"),
            h("div", h("span", words, cls="small muted"), h("p", value)),
            h("span"),
        )
        for picture, words, value in steps
    ]
    return card("Lineage", h("ol", items, cls="timeline across"))


def _facts(version: Any) -> Markup:
    return facts(
        (
            ("Task", task_word(version.task)),
            ("Recipe", version.recipe.recipe_id),
            ("Architecture", version.recipe.architecture),
            ("Parameters", count(version.recipe.parameter_count) if version.recipe.parameter_count else ""),
            (
                "Input",
                f"{version.recipe.input_width} × {version.recipe.input_height} × {version.recipe.input_channels}"
                if version.recipe.input_width
                else "",
            ),
            (
                "Classes",
                f"{len(version.classes)}: {', '.join(version.classes[:12])}{'…' if len(version.classes) > 12 else ''}"
                if version.classes
                else "",
            ),
            ("Data digest", h("code", version.dataset_digest[:16])),
            ("Made", moment(version.create_time)),
            (
                "Model file",
                link(size(version.model_file.size_bytes), download_address(version.model_file, "model.zip"))
                if version.model_file.uri
                else "",
            ),
            ("Notes", version.description),
        )
    )


def _metrics(version: Any) -> Markup:
    return facts((metric_word(name), number(value)) for name, value in sorted(version.training_metrics.items()))


class Exports:
    """Exports side by side, and a form for another one."""

    def __init__(
        self, here: Here, version: Any, exports: list[Any], evaluations: list[Any], decisions: list[Any], targets: list[Any]
    ) -> None:
        self._here, self._version = here, version
        scores = {one.export: one for one in evaluations}
        verdicts = {one.evaluation: one for one in decisions}
        rows = [self._row(one, scores.get(one.name), verdicts) for one in exports]
        columns = ["Export", "State", "Form", "Numbers", "Hardware", "Size", "p95", "Test score", "Agrees", "Gate", ""]
        shown = (
            table(columns, rows, caption="Exports", numeric=(5, 6, 7, 8)) if rows else h("p", "Not exported yet.", cls="muted")
        )
        Fragment(card("Exports side by side", shown))
        self._state = Fragment()
        options = [(last_part(one.name), last_part(one.name)) for one in targets]
        form = h(
            "form",
            choice("target", "Hardware", options, "cpu"),
            choice("format", "Form", FORMATS),
            choice("precision", "Numbers", PRECISIONS),
            h("button", "Export", type_="submit", cls="button"),
            data_submit="export",
            cls="filters",
        )
        Fragment(card("Another export", form)).does(export=self._export)

    def _row(self, one: exporter_pb2.Export, evaluation: Any, verdicts: dict[str, Any]) -> list[object]:
        format_ = exporter_pb2.Format.Name(one.format).removeprefix("FORMAT_").lower().replace("unspecified", "onnx")
        precision = exporter_pb2.Precision.Name(one.precision).removeprefix("PRECISION_").lower().replace("unspecified", "fp32")
        score = (
            next((each for each in evaluation.scores if each.usage == learning_pb2.USAGE_TEST), None)
            if evaluation is not None
            else None
        )
        decision = verdicts.get(evaluation.name) if evaluation is not None else None
        blob = one.artifact
        return [
            name_link(one.name, last_part(one.name)[-6:]),
            state_badge(one.status.state),
            format_,
            precision,
            one.target or "cpu",
            size(one.model_size_bytes) if one.model_size_bytes else "",
            milliseconds(one.latency.p95_ms) if one.HasField("latency") else h("span", one.unmeasured_reason, cls="small muted"),
            link(number(score.metrics[0].value), self._here.path("evaluations", last_part(evaluation.name)))
            if score is not None and score.metrics
            else "",
            f"{100 * one.parity.label_agreement:.1f} %" if one.HasField("parity") else "",
            verdict_badge(decision.verdict) if decision is not None else "",
            link(
                icon("download", "Download the bundle"),
                download_address(
                    blob, f"{self._version.name.split('/')[3]}-{last_part(self._version.name)}-{format_}-{precision}.zip"
                ),
                "button small",
            )
            if blob.uri
            else "",
        ]

    async def _export(self, act: Act) -> None:
        made = await self._here.client.exports.create_export(
            self._version.name, target=act.text("target"), format=act.text("format"), precision=act.text("precision")
        )
        background_tasks.create(self._follow(made.name), name="export")

    async def _follow(self, name: str) -> None:
        try:
            async for change in self._here.client.exports.watch_export(name):
                one = change.export
                if one.status.state == job_pb2.JOB_STATE_SUCCEEDED:
                    self._state.show(card("Exported", name_link(name), actions=button("Score it", "score", name, kind="primary")))
                    self._state.does(score=self._score)
                    return
                if one.status.state == job_pb2.JOB_STATE_FAILED:
                    self._state.show(card("The export failed", h("p", one.status.error.message, role="alert"), cls="state-error"))
                    return
                self._state.show(card("Exporting", progress_bar(one.status, "Export")))
        except Exception as error:
            self._state.show(trouble_card(error, again=False))

    async def _score(self, act: Act) -> None:
        made = await self._here.client.evaluations.create_evaluation(act.arg)
        toast("It is being scored")
        ui.navigate.to(self._here.path("evaluations", last_part(made.name)))
