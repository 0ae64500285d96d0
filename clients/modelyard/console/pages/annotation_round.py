"""One round: how far it is, who did what, how far people agree, a model's word, publication."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nicegui import background_tasks, ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, moment, percent, seconds_of, spoken
from modelyard.console.pages.annotation import crumbs_of, round_of
from modelyard.console.pages.annotation_agreement import agreement_markup
from modelyard.console.parts.forms import choice, number, switch
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, figure, figures, link, name_link, table, tabs
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.prelabels import Asked, prelabel
from modelyard.console.parts.prose import prose
from modelyard.console.parts.rounds import SHAPES, round_path, round_progress, round_state
from modelyard.console.parts.trouble import message_of, toast
from modelyard.dataset.v1 import annotation_pb2

_STATE: Final = annotation_pb2.AnnotationRound
_METHODS: Final = (("", "as fits"), ("majority", "majority"), ("dawid_skene", "Dawid and Skene"))
_TABS: Final = (("", "Overview"), ("agreement", "Agreement"), ("flags", "Skipped and flagged"))
MOST_SKIPS: Final = 100
MOST_ENTRIES: Final = 5000


@route("/p/{project}/annotation/{dataset}/{round_}")
async def annotation_round(project: str, dataset: str, round_: str, tab: str = "", method: str = "") -> None:
    with frame(project, "annotation", round_, crumbs=crumbs_of(project, dataset)) as here:
        shown = [(key, words, here.path("annotation", dataset, round_, tab=key)) for key, words in _TABS]
        Fragment(tabs(tab if tab in dict(_TABS) else "", shown, round_))
        if tab == "agreement":
            await stretch(
                lambda: _agreement(here, dataset, round_, method),
                lambda found: Fragment(agreement_markup(here, found, method)).does(
                    method=lambda act: _method(here, dataset, round_, act)
                ),
            )
        elif tab == "flags":
            await stretch(lambda: _skips(here, dataset, round_), lambda found: Fragment(_flags(here, dataset, round_, *found)))
        else:
            await stretch(lambda: _fetch(here, dataset, round_), lambda found: RoundView(here, *found), bones=8)


def _method(here: Here, dataset: str, round_: str, act: Act) -> None:
    ui.navigate.to(here.path("annotation", dataset, round_, tab="agreement", method=str(act.value or "")))


async def _agreement(here: Here, dataset: str, round_: str, method: str) -> annotation_pb2.AnnotationAgreement:
    known = method if method in dict(_METHODS) else ""
    return await here.client.annotations.agreement(f"{dataset}/{round_}", method=known)


async def _skips(here: Here, dataset: str, round_: str) -> tuple[list[annotation_pb2.AnnotationEntry], bool]:
    """The newest skips, among the first entries of a round."""
    found, more = await first(here.client.annotations.list_entries(f"{dataset}/{round_}", page_size=1000), MOST_ENTRIES)
    skips = [one for one in found if one.kind == annotation_pb2.AnnotationEntry.KIND_SKIP]
    return sorted(skips, key=lambda one: (not one.reason.startswith("flag:"), -one.time.seconds))[:MOST_SKIPS], more


def _flags(here: Here, dataset: str, round_: str, skips: list[annotation_pb2.AnnotationEntry], more: bool) -> Markup:
    if not skips:
        return card("Skipped and flagged", h("p", "Nobody has skipped anything.", cls="muted"))
    rows = [
        [
            h("code", last_part(one.task)[:12]),
            "flagged" if one.reason.startswith("flag:") else "skipped",
            one.annotator,
            one.reason.removeprefix("flag:").strip() or "no reason given",
            h("span", ago(one.time), cls="small muted"),
            link("Look", here.path("annotation", dataset, round_, "review", task=last_part(one.task)), "button small"),
        ]
        for one in skips
    ]
    note = h("p", f"Of the first {count(MOST_ENTRIES)} entries of the round.", cls="small muted") if more else None
    columns = ["Task", "What", "Who", "Why", "When", h("span", "Look", cls="unseen")]
    return card("Skipped and flagged", table(columns, rows, caption="Skipped and flagged", cls="wrap"), note)


async def _fetch(here: Here, dataset: str, round_: str) -> tuple[Any, ...]:
    found = await round_of(here, dataset, round_)
    schema, statistics, (endpoints, _) = await asyncio.gather(
        here.client.annotations.get_label_schema(found.label_schema),
        here.client.annotations.statistics(found.name),
        first(here.client.endpoints.list_endpoints(page_size=100), 100),
    )
    return found, schema, statistics, endpoints


class RoundView:
    """The overview, with what can be done."""

    def __init__(self, here: Here, found: Any, schema: Any, statistics: Any, endpoints: list[Any]) -> None:
        self._here, self._round, self._schema, self._statistics, self._endpoints = here, found, schema, statistics, endpoints
        Fragment(self._head()).does(pause=self._set, open=self._set, close=self._set)
        Fragment(h("div", self._people(), h("div", self._said(), self._facts()), cls="split"))
        if endpoints and found.state != _STATE.STATE_CLOSED:
            self._model = Fragment(self._model_card("")).does(prelabel=self._prelabel)
        self._publish_room = Fragment(self._publish_card()).does(publish=self._publish)

    def _head(self) -> Markup:
        progress, state = self._statistics.progress, self._round.state
        work = [
            link("Label", round_path(self._here, self._round.name, "label"), "button primary")
            if state == _STATE.STATE_OPEN
            else None,
            link("Review", round_path(self._here, self._round.name, "review"), "button")
            if state != _STATE.STATE_CLOSED
            else None,
            button("Pause", "pause") if state == _STATE.STATE_OPEN else None,
            button("Open again", "open") if state != _STATE.STATE_OPEN else None,
            button("Close", "close", confirm="Nothing is taken any more until it is opened again. Close it?")
            if state != _STATE.STATE_CLOSED
            else None,
        ]
        each = figures(
            figure("Tasks", count(self._round.task_count), f"{count(progress.open)} open"),
            figure("To review", count(progress.labelled), "all answers are there"),
            figure("Accepted", count(progress.accepted), f"{count(progress.corrected)} corrected"),
            figure("Held now", count(progress.leased)),
            figure(
                "Skipped",
                count(progress.skipped),
                link("why", round_path(self._here, self._round.name, tab="flags")) if progress.skipped else "",
            ),
            figure("Model's word", count(progress.prelabelled), "pre-labels"),
        )
        head = h("div", round_state(state), h("div", *work, cls="actions"), cls="card-head")
        return h("div", card("", head, round_progress(progress, "Answers of the round"), id="round"), each)

    async def _set(self, act: Act) -> None:
        state = {"pause": _STATE.STATE_PAUSED, "open": _STATE.STATE_OPEN, "close": _STATE.STATE_CLOSED}[act.name]
        await self._here.client.annotations.update_round(_STATE(name=self._round.name, state=state), ["state"])
        ui.navigate.reload()

    def _people(self) -> Markup:
        if not self._statistics.annotators:
            return card("People", h("p", "Nobody has answered yet.", cls="muted"))
        rows = [
            [
                one.annotator,
                count(one.answers),
                count(one.revisions),
                count(one.skips),
                count(one.rejections),
                f"{one.median_seconds:.1f} s" if one.median_seconds else "",
                self._used(one),
                h("span", ago(one.last_time), cls="small muted"),
            ]
            for one in self._statistics.annotators
        ]
        columns = ["Who", "Answers", "Changed", "Skipped", "Rejected", "Median time", "Model's word taken", "Last"]
        return card("People", table(columns, rows, caption="What each person did", numeric=(1, 2, 3, 4, 5)))

    @staticmethod
    def _used(one: annotation_pb2.AnnotatorStatistics) -> str:
        total = one.pre_labels_unchanged + one.pre_labels_changed
        return f"{percent(one.pre_labels_unchanged / total, 0)} of {count(total)}" if total else ""

    def _said(self) -> Markup:
        shapes = ", ".join(SHAPES[shape][1] for shape in self._schema.shapes if shape in SHAPES)
        classes = [
            h(
                "li",
                h("span", cls="swatch", style=f"background:{one.colour}"),
                " ",
                h("strong", one.name),
                " ",
                h("kbd", one.key) if one.key else None,
                h("span", f" {one.description}", cls="muted small"),
            )
            for one in self._schema.classes[:100]
        ]
        guide = h("details", h("summary", "Guidelines"), *prose(self._schema.guidelines)) if self._schema.guidelines else None
        return card("What may be said", h("p", shapes.capitalize()), h("ul", classes, cls="class-words"), guide)

    def _facts(self) -> Markup:
        one = self._round
        return card(
            "Facts",
            facts(
                (
                    ("Examples of", name_link(one.dataset_version) or "the present content"),
                    ("Label schema", last_part(one.label_schema)),
                    (
                        "Answers each",
                        f"{one.overlap or 1}" + (f", of {percent(one.overlap_share, 0)}" if 0 < one.overlap_share < 1 else ""),
                    ),
                    ("Annotators", ", ".join(one.annotators) or "whoever has the role"),
                    ("Reviewers", ", ".join(one.reviewers) or "the editors"),
                    ("A task is held", spoken(seconds_of(one.lease)) if one.HasField("lease") else "30 min"),
                    ("Published", name_link(one.published_version)),
                    ("Opened", f"{moment(one.create_time)} by {one.creator}"),
                )
            ),
        )

    def _model_card(self, told: str) -> Markup:
        form = h(
            "form",
            choice("endpoint", "Endpoint", [(last_part(one.name), last_part(one.name)) for one in self._endpoints]),
            h("button", "Ask about the open tasks", type_="submit", cls="button", id="prelabel"),
            data_submit="prelabel",
            cls="filters",
        )
        about = h(
            "p", "A served model says first what it sees; people accept or change it. Each answer records which.", cls="muted"
        )
        return card("A model's word", about, form, h("p", told, role="status", id="prelabelled") if told else None)

    async def _prelabel(self, act: Act) -> None:
        endpoint = act.text("endpoint")
        self._model.show(self._model_card(f"{endpoint} is being asked."))

        def told(state: Asked) -> None:
            if not self._model.is_deleted:
                self._model.show(self._model_card(_asked_words(state)))

        async def run() -> None:
            try:
                told(await prelabel(self._here.client, self._round.name, endpoint, told))
            except Exception as error:
                if not self._model.is_deleted:
                    with self._model:
                        toast(message_of(error)[0], "bad")
                    self._model.show(self._model_card(""))

        background_tasks.create(run(), name="prelabel")

    def _publish_card(self) -> Markup:
        form = h(
            "form",
            choice(
                "method", "Consensus", _METHODS, help="As fits: Dawid and Skene where three people answered ten tasks together."
            ),
            number("least", "Least confidence", "", help="0 to 1; empty: more than half, or 0.8 of Dawid and Skene."),
            switch("reviewed", "Only what a reviewer accepted or corrected"),
            switch("incomplete", "Also tasks that still wait for answers"),
            h("div", h("button", "Publish as the next version", type_="submit", cls="button primary", id="publish")),
            data_submit="publish",
            cls="fields",
        )
        about = (
            "The answers become a version of the dataset. Its test examples stay as they are; "
            "where people disagree the example stays as it was."
        )
        return card("Publish", h("p", about, cls="muted"), form)

    async def _publish(self, act: Act) -> None:
        made = await self._here.client.annotations.publish_round(
            self._round.name,
            method=act.text("method"),
            min_confidence=float(act.text("least") or 0),
            reviewed_only=act.text("reviewed") == "yes",
            include_incomplete=act.text("incomplete") == "yes",
        )
        ui.navigate.to(self._here.path("datasets", made.name.split("/")[3], tab="versions", version=last_part(made.name)))


def _asked_words(state: Asked) -> str:
    words = f"{count(state.asked)} of {count(state.total)} tasks asked about, {count(state.taken)} have the model's word"
    unknown = ", ".join(sorted(state.unknown)[:20])
    return words + (f"; left out, because the schema has no such class: {unknown}" if unknown else "")
