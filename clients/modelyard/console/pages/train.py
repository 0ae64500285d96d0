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
from modelyard.console.parts.forms import cards, choice, number, switch, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, empty, facts, link
from modelyard.console.parts.lists import first
from modelyard.console.parts.markup import Markup, h
from modelyard.console.parts.page import Here, frame, stretch
from modelyard.console.parts.plan import Plan, next_version, plan_of, problems, run_of
from modelyard.console.parts.words import count, size, spoken, task_word
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2

_LEVELS = (("quick", "Quick"), ("full", "Full"), ("json", "JSON"))
FORMATS = [("", "the hardware's own")] + [
    (name.removeprefix("FORMAT_").lower(), name.removeprefix("FORMAT_").lower().replace("_", " "))
    for name, at in exporter_pb2.Format.items()
    if at
]
PRECISIONS = [("", "the hardware's own")] + [
    (name.removeprefix("PRECISION_").lower(), name.removeprefix("PRECISION_").lower().replace("_", " "))
    for name, at in exporter_pb2.Precision.items()
    if at
]


@ui.page("/p/{project}/train")
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
        self._here, self._found, self._level = here, found, level
        names = [last_part(one.name) for one in found["datasets"]]
        chosen = dataset if dataset in names else names[0]
        self._plan = Plan(dataset=chosen, model=chosen, endpoint=chosen, version=version or "new")
        self._versions: list[Any] = []
        self._bases: list[Any] = []
        self._errors: dict[str, str] = {}
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
        self._show()

    async def _load(self) -> None:
        """Versions of the dataset and of the model that are chosen."""
        client, plan = self._here.client, self._plan
        versions, _ = await first(client.datasets.list_dataset_versions(plan.dataset, page_size=200), 200)
        self._versions = [one for one in versions if one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
        known = {last_part(one.name) for one in self._found["models"]}
        self._bases = (
            (await first(client.models.list_model_versions(plan.model, page_size=100), 100))[0] if plan.model in known else []
        )
        if plan.version not in ("new", *(last_part(one.name) for one in self._versions)):
            self._plan = replace(plan, version="new")

    async def _choose_dataset(self, act: Act) -> None:
        plan = plan_of(act.form, self._plan)
        self._plan = replace(plan, model=plan.dataset, endpoint=plan.dataset, version="new", base="")
        await self._load()
        self._show()

    async def _choose_model(self, act: Act) -> None:
        self._plan = replace(plan_of(act.form, self._plan), base="")
        await self._load()
        self._show()

    def _keep(self, act: Act) -> None:
        self._plan = plan_of(act.form, self._plan)
        self._show()

    def _to_level(self, act: Act) -> None:
        if self._level == "json" and act.arg != "json":
            self._read_json(act.text("json"))
            if self._errors:
                self._show()
                return
        elif self._level != "json":
            self._plan = plan_of(act.form, self._plan)
        self._level = act.arg
        self._show()

    def _ask(self, act: Act) -> None:
        self._errors = {}
        if self._level == "json":
            self._json = act.text("json")
            try:
                json_format.Parse(self._json, pipeline_pb2.PipelineRun())
            except json_format.ParseError as error:
                self._errors = {"json": str(error)}
        else:
            self._plan = plan_of(act.form, self._plan)
            self._errors = problems(self._plan)
        if self._errors:
            self._show()
            ui.run_javascript("document.querySelector('[aria-invalid]')?.focus()")
            return
        self._page.show(self._confirmation())
        ui.run_javascript("window.scrollTo(0, 0); document.getElementById('confirm')?.focus()")

    def _back(self, act: Act) -> None:
        self._show()

    async def _start(self, act: Act) -> None:
        made = await self._here.client.pipelines.create_pipeline_run(self._run())
        ui.navigate.to(self._here.path("runs", last_part(made.name)))

    def _run(self) -> pipeline_pb2.PipelineRun:
        if self._level == "json":
            return json_format.Parse(self._json, pipeline_pb2.PipelineRun())
        return run_of(self._plan, self._here.client.names)

    def _read_json(self, said: str) -> None:
        self._errors = {}
        try:
            self._plan = Plan.from_run(json_format.Parse(said, pipeline_pb2.PipelineRun()), self._plan)
        except json_format.ParseError as error:
            self._json, self._errors = said, {"json": str(error)}

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
        return h("div", _progress(1), h("div", items, cls="actions", role="group", aria_label="How much to say"), cls="card-head")

    def _foot(self) -> Markup:
        return h(
            "div",
            h("button", "Continue", type_="submit", cls="button primary", id="continue"),
            h("p", "Nothing starts before you have confirmed it.", cls="small muted"),
            cls="actions",
        )

    def _fields(self) -> Markup:
        if self._level == "json":
            if not self._errors:
                self._json = json_format.MessageToJson(
                    run_of(self._plan, self._here.client.names), preserving_proto_field_name=True, indent=2
                )
            error = self._errors.get("json", "")
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
        return h("div", self._data(), self._hardware(), self._limits(), self._full() if self._level == "full" else None)

    def _data(self) -> Markup:
        plan, errors = self._plan, self._errors
        versions = [
            ("new", f"publish {next_version(self._versions)} when training starts"),
            *((last_part(one.name), last_part(one.name)) for one in self._versions),
        ]
        new = plan.version == "new"
        share = plan.train_share
        bar = (
            h("div", h("span", style=f"width:{100 * share:.3f}%"), h("span"), cls="ratio", aria_hidden="true")
            if new and share
            else None
        )
        words = (
            f"{plan.ratio} to train on, {1 - share:.5g} to validate and test; drawn at random by class."
            if share
            else "Above 0 and below 1, one to five decimals."
        )
        bases = [
            ("", "none: start fresh"),
            *((one.name, f"{last_part(plan.model)} {last_part(one.name)}") for one in self._bases),
        ]
        return card(
            "Data",
            h(
                "div",
                choice(
                    "dataset",
                    "Dataset",
                    [(last_part(one.name), f"{last_part(one.name)} · {task_word(one.task)}") for one in self._found["datasets"]],
                    plan.dataset,
                    data_change="dataset",
                    errors=errors,
                ),
                choice(
                    "version",
                    "Dataset version",
                    versions,
                    plan.version,
                    data_change="keep",
                    help="A version is frozen: what was trained on stays as it is.",
                    errors=errors,
                ),
                text(
                    "version_name",
                    "Name of the new version",
                    plan.version_name,
                    placeholder=next_version(self._versions),
                    help="Empty: the next number.",
                    errors=errors,
                )
                if new
                else None,
                h(
                    "div",
                    number("ratio", "Training and validation ratio", plan.ratio, help=words, errors=errors, data_change="keep"),
                    bar,
                )
                if new
                else None,
                choice(
                    "base",
                    "Incremental training version",
                    bases,
                    plan.base,
                    help="Goes on from the weights of an earlier version: faster, and often better. Take the most precise one.",
                    errors=errors,
                ),
                cls="fields",
            ),
        )

    def _hardware(self) -> Markup:
        def note(one: Any) -> str:
            said = [one.display_name]
            if one.ram_bytes:
                said.append(f"{size(one.ram_bytes)} RAM")
            if one.agent:
                said.append("measured on the device")
            elif not one.local:
                said.append("not here: cannot be measured")
            return " · ".join(part for part in said if part)

        options = [(last_part(one.name), last_part(one.name), note(one)) for one in self._found["targets"]]
        return card("", cards("target", "Expected inference hardware", options, self._plan.target))

    def _limits(self) -> Markup:
        plan, errors = self._plan, self._errors
        flavors = [(one.name, _flavor_words(one)) for one in self._found["flavors"]]
        return card(
            "Limits",
            h(
                "div",
                number(
                    "max_ms",
                    "Max inference duration, ms",
                    plan.max_ms,
                    help="1 to 20000. How slow an answer may be on that hardware decides how large a model is chosen.",
                    errors=errors,
                ),
                number(
                    "hours",
                    "Max training time, hours",
                    plan.hours,
                    help="When it is up, the best model so far is saved and training ends. Empty: the recipe's own length.",
                    errors=errors,
                ),
                choice(
                    "flavor",
                    "Instance flavor",
                    [("", "the default"), *flavors],
                    plan.flavor,
                    help="The size of machine it trains on.",
                    errors=errors,
                ),
                cls="fields",
            ),
        )

    def _full(self) -> Markup:
        plan, errors = self._plan, self._errors
        return h(
            "div",
            card(
                "Where it goes",
                h(
                    "div",
                    text(
                        "model",
                        "Model",
                        plan.model,
                        help="Gets the next version: V001, V002...",
                        errors=errors,
                        data_change="model",
                    ),
                    text("endpoint", "Endpoint", plan.endpoint, help="Where it will answer.", errors=errors),
                    switch("no_deploy", "End after the gate, deploy nothing", plan.no_deploy),
                    cls="fields",
                ),
            ),
            card(
                "What it must reach",
                h(
                    "div",
                    number(
                        "accuracy",
                        "Least accuracy on the test examples",
                        plan.accuracy,
                        help="0 to 1. Empty: better than the baseline and not worse than what serves now.",
                        errors=errors,
                    ),
                    number(
                        "max_loss", "Most it may lose by compression", plan.max_loss, help="0 to 1. Empty: 0.01.", errors=errors
                    ),
                    cls="fields",
                ),
            ),
            card(
                "The model",
                h(
                    "div",
                    text(
                        "recipe",
                        "Recipe",
                        plan.recipe,
                        help="Empty: chosen by measuring the candidates on the hardware.",
                        errors=errors,
                    ),
                    choice("format", "Form", FORMATS, plan.format, errors=errors),
                    choice("precision", "Numbers", PRECISIONS, plan.precision, errors=errors),
                    number("epochs", "Most epochs", plan.epochs, help="Empty: the recipe's own.", errors=errors),
                    number("learning_rate", "Learning rate", plan.learning_rate, help="Empty: the recipe's own.", errors=errors),
                    number("batch_size", "Batch size", plan.batch_size, help="Empty: the recipe's own.", errors=errors),
                    number("seed", "Seed", plan.seed, errors=errors),
                    text(
                        "group_by",
                        "Keep together in the split",
                        plan.group_by,
                        help="A column, an attribute, or a pattern such as {group}_{number}.",
                        errors=errors,
                    ),
                    cls="fields",
                ),
            ),
        )

    def _confirmation(self) -> Markup:
        run = self._run()
        plan = Plan.from_run(run, self._plan) if self._level == "json" else self._plan
        new = plan.version == "new"
        hours = float(plan.hours) if plan.hours else 0.0
        rows: list[tuple[str, object]] = [
            ("Dataset", plan.dataset),
            (
                "Dataset version",
                f"{plan.version_name or next_version(self._versions)}, published when training starts" if new else plan.version,
            ),
            ("Training : validation", f"{plan.ratio} : {1 - plan.train_share:.5g}" if new else "as the version has it"),
            ("Incremental version", "/".join(plan.base.split("/")[3::2]) if plan.base else "none"),
            ("Expected hardware", plan.target),
            ("Max inference duration", f"{plan.max_ms or 500} ms"),
            ("Max training time", f"{plan.hours} h ({spoken(3600 * hours)})" if plan.hours else "the recipe's own length"),
            ("Instance flavor", plan.flavor or "the default"),
            ("Model", plan.model),
            ("Endpoint", "nothing is deployed" if plan.no_deploy else plan.endpoint),
            ("Least accuracy", plan.accuracy),
            ("Recipe", plan.recipe or "chosen by measuring"),
        ]
        return h(
            "div",
            _progress(2),
            card(
                "Is this right?",
                facts(rows),
                h(
                    "p",
                    "The data are checked and split, the model is trained, exported, scored and, if it passes its tests, served. "
                    "You can close the page: it goes on.",
                    cls="muted",
                ),
            ),
            h("div", button("Back", "back"), button("Start training", "start", kind="primary", id="start"), cls="actions"),
            id="confirm",
            tabindex=-1,
        )


def _progress(at: int) -> Markup:
    words = ("Say what you need", "Confirm")
    items = [
        h("li", h("b", number_), text_, aria_current="step" if number_ == at else None) for number_, text_ in enumerate(words, 1)
    ]
    return h("ol", items, cls="steps-bar", aria_label="Steps")


def _flavor_words(one: Any) -> str:
    parts = [one.name, f"{one.cpu_cores:g} cores", size(one.memory_bytes)]
    if one.gpu_count:
        parts.append(f"{one.gpu_count} GPU")
    if one.node_count > 1:
        parts.append(f"{count(one.node_count)} nodes")
    return " · ".join(parts)
