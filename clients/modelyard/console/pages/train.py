"""The training dialog: what to train on, for which hardware, how fast it must answer, how long it may take; a page to confirm.

It makes a pipeline run, which goes on when the page is closed. Three levels: quick, full, and the run as JSON.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from google.protobuf import json_format
from nicegui import ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.ratios import ratio_for
from modelyard.console.pages.train_form import (
    Asked,
    confirmation,
    data_card,
    full_cards,
    hardware_card,
    limits_card,
    steps_bar,
)
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import card, empty, link
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.plan import Plan, plan_of, problems, run_of
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2

_LEVELS = (("quick", "Quick"), ("full", "Full"), ("json", "JSON"))


@route("/p/{project}/train")
async def train(project: str, dataset: str = "", version: str = "", level: str = "quick") -> None:
    with frame(project, "train", "Train a model") as here:
        chosen = level if level in dict(_LEVELS) else "quick"
        await stretch(lambda: _fetch(here, dataset), lambda found: _build(here, dataset, version, chosen, found), bones=8)


async def _fetch(here: Here, dataset: str) -> dict[str, Any]:
    client = here.client
    (datasets, _), (models, _), targets, flavors = await asyncio.gather(
        first(client.datasets.list_datasets(page_size=200), 200),
        first(client.models.list_models(page_size=200), 200),
        first(client.targets.list_targets(page_size=200), 200),
        client.jobs.list_instance_flavors(),
    )
    return {
        "datasets": [one for one in datasets if one.current_import],
        "models": models,
        "targets": targets[0],
        "flavors": flavors,
    }


def _build(here: Here, dataset: str, version: str, level: str, found: dict[str, Any]) -> None:
    if not found["datasets"]:
        Fragment(
            empty(
                "There is nothing to train on yet",
                "Bring data first; then this page asks a few questions and starts.",
                link("Add a dataset", here.path("datasets", "new"), "button primary"),
                picture="data",
            )
        )
        return
    Dialog(here, found, dataset, version, level)


class Dialog:
    """The dialog on its page: asks, checks, shows what will be done, does it."""

    def __init__(self, here: Here, found: dict[str, Any], dataset: str, version: str, level: str) -> None:
        self._here, self._models, self._level = here, found["models"], level
        names = [last_part(one.name) for one in found["datasets"]]
        chosen = dataset if dataset in names else names[0]
        plan = Plan(dataset=chosen, model=chosen, endpoint=chosen, version=version or "new")
        self._asked = Asked(plan, found["datasets"], found["targets"], found["flavors"])
        self._json = ""
        self._page = Fragment(h("p", "Loading", cls="muted", role="status"))
        self._page.does(
            dataset=self._choose_dataset,
            model=self._choose_model,
            ask=self._ask,
            level=self._to_level,
            back=self._back,
            start=self._start,
            keep=self._keep,
        )
        ui.timer(0.01, self._open, once=True)

    async def _open(self) -> None:
        await self._load()
        self._asked.plan = replace(self._asked.plan, ratio=ratio_for(self._asked.examples, Plan.ratio))
        self._show()

    async def _load(self) -> None:
        """Versions of the dataset and of the model that are chosen, and how many examples there are to share out."""
        client, plan = self._here.client, self._asked.plan
        imported = next((one.current_import for one in self._asked.datasets if last_part(one.name) == plan.dataset), "")
        (versions, _), found = await asyncio.gather(
            first(client.datasets.list_dataset_versions(plan.dataset, page_size=200), 200), client.datasets.get_import(imported)
        )
        self._asked.examples = 0 if found.summary.examples_with_usage else found.summary.example_count
        self._asked.versions = [one for one in versions if one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
        known = {last_part(one.name) for one in self._models}
        self._asked.bases = (
            (await first(client.models.list_model_versions(plan.model, page_size=100), 100))[0] if plan.model in known else []
        )
        if plan.version not in ("new", *(last_part(one.name) for one in self._asked.versions)):
            self._asked.plan = replace(plan, version="new")

    async def _choose_dataset(self, act: Act) -> None:
        plan = plan_of(act.form, self._asked.plan)
        self._asked.plan = replace(plan, model=plan.dataset, endpoint=plan.dataset, version="new", base="")
        await self._load()
        self._asked.plan = replace(self._asked.plan, ratio=ratio_for(self._asked.examples, Plan.ratio))
        self._show()

    async def _choose_model(self, act: Act) -> None:
        self._asked.plan = replace(plan_of(act.form, self._asked.plan), base="")
        await self._load()
        self._show()

    def _keep(self, act: Act) -> None:
        self._take(act)
        self._show()

    def _take(self, act: Act) -> None:
        """The answers as they are now; what was wrong is looked at again."""
        self._asked.plan = plan_of(act.form, self._asked.plan)
        self._asked.errors = problems(self._asked.plan) if self._asked.errors else {}

    def _to_level(self, act: Act) -> None:
        if self._level == "json" and act.arg != "json":
            self._read_json(act.text("json"))
            if self._asked.errors:
                self._show()
                return
        elif self._level != "json":
            self._take(act)
        self._level = act.arg
        self._show()

    def _ask(self, act: Act) -> None:
        self._asked.errors = {}
        if self._level == "json":
            self._json = act.text("json")
            try:
                json_format.Parse(self._json, pipeline_pb2.PipelineRun())
            except json_format.ParseError as error:
                self._asked.errors = {"json": str(error)}
        else:
            self._asked.plan = plan_of(act.form, self._asked.plan)
            self._asked.errors = problems(self._asked.plan)
        if self._asked.errors:
            self._show()
            ui.run_javascript("document.querySelector('[aria-invalid]')?.focus()")
            return
        run = self._run()
        plan = Plan.from_run(run, self._asked.plan) if self._level == "json" else self._asked.plan
        self._page.show(confirmation(plan, self._asked.versions))
        ui.run_javascript("window.scrollTo(0, 0); document.getElementById('confirm')?.focus()")

    def _back(self, act: Act) -> None:
        self._show()

    async def _start(self, act: Act) -> None:
        made = await self._here.client.pipelines.create_pipeline_run(self._run())
        ui.navigate.to(self._here.path("runs", last_part(made.name)))

    def _run(self) -> pipeline_pb2.PipelineRun:
        if self._level == "json":
            return json_format.Parse(self._json, pipeline_pb2.PipelineRun())
        return run_of(self._asked.plan, self._here.client.names)

    def _read_json(self, said: str) -> None:
        self._asked.errors = {}
        try:
            self._asked.plan = Plan.from_run(json_format.Parse(said, pipeline_pb2.PipelineRun()), self._asked.plan)
        except json_format.ParseError as error:
            self._json, self._asked.errors = said, {"json": str(error)}

    def _show(self) -> None:
        self._page.show(h("form", self._top(), self._fields(), self._foot(), data_submit="ask", novalidate=True, id="dialog"))

    def _top(self) -> Markup:
        items = [
            h(
                "button",
                words,
                type_="button",
                cls="button small" + (" primary" if key == self._level else ""),
                data_act="level",
                data_arg=key,
                aria_pressed="true" if key == self._level else "false",
            )
            for key, words in _LEVELS
        ]
        return h("div", steps_bar(1), h("div", items, cls="actions", role="group", aria_label="How much to say"), cls="card-head")

    def _foot(self) -> Markup:
        return h(
            "div",
            h("button", "Continue", type_="submit", cls="button primary", id="continue"),
            h("p", "Nothing starts before you have confirmed it.", cls="small muted"),
            cls="actions",
        )

    def _fields(self) -> Markup:
        if self._level == "json":
            if "json" not in self._asked.errors:
                self._json = json_format.MessageToJson(
                    run_of(self._asked.plan, self._here.client.names), preserving_proto_field_name=True, indent=2
                )
            error = self._asked.errors.get("json", "")
            area = h(
                "textarea",
                self._json,
                id="json",
                name="json",
                spellcheck="false",
                cls="mono",
                aria_invalid="true" if error else None,
            )
            return card(
                "",
                h(
                    "div",
                    h("label", "The pipeline run", for_="json"),
                    area,
                    h("p", error, cls="field-error", role="alert") if error else None,
                    cls="field",
                ),
            )
        full = full_cards(self._asked) if self._level == "full" else None
        return h("div", data_card(self._asked), hardware_card(self._asked), limits_card(self._asked), full)
