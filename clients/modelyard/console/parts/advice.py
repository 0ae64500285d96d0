"""The advisor on a page: which case a training is, by what evidence, and buttons for what to try next. And remarks about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nicegui import background_tasks, ui

from modelyard.client import InvalidArgument, Violation, last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, seconds_of, spoken
from modelyard.client.enums import short_name
from modelyard.console.parts.badges import badge, progress_bar, state_badge
from modelyard.console.parts.forms import number, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, name_link
from modelyard.console.parts.page import Here
from modelyard.console.parts.trouble import trouble_card
from modelyard.trainer.v1 import advice_pb2, trainer_pb2
from modelyard.type.v1 import job_pb2

_KINDS: Final[Mapping[int, str]] = {
    advice_pb2.RUN_CASE_CONVERGED: "good",
    advice_pb2.RUN_CASE_NEVER_IMPROVED: "bad",
    advice_pb2.RUN_CASE_DIVERGED: "bad",
}
_RUNNING: Final = (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)


class Advisor:
    """Asks the advisor about a training that has ended, starts what it proposes, or lets it act within a budget."""

    def __init__(self, here: Here, job: trainer_pb2.TrainingJob) -> None:
        self._here, self._job = here, job
        self._advice: advice_pb2.Advice | None = None
        self._page = Fragment(self._markup()).does(advise=self._advise, take=self._take, act=self._act)

    def _markup(self) -> Markup:
        one = self._advice
        if one is None:
            words = "What became of this run, by what evidence, and what to try next."
            return card("The advisor", h("p", words, cls="muted"), actions=button("Ask the advisor", "advise", id="advise"))
        case = short_name(advice_pb2.RunCase, one.run_case).replace("_", " ") or "nothing to say"
        proposals = [self._proposal(at, each) for at, each in enumerate(one.proposals)]
        evidence = h("details", h("summary", "Evidence"), h("ul", [h("li", each.text) for each in one.evidence], cls="reasons"))
        budget = h(
            "form",
            number("budget", "Let it act by itself, for at most hours", "1"),
            h("button", "Let it act", type_="submit", cls="button"),
            data_submit="act",
            cls="filters",
        )
        badge_ = badge(case, _KINDS.get(one.run_case, "wait"))
        return card(
            "The advisor",
            h("p", one.summary),
            evidence if one.evidence else None,
            *proposals,
            budget,
            actions=badge_,
            id="advice",
        )

    def _proposal(self, at: int, one: advice_pb2.Proposal) -> Markup:
        changes = [(name.replace("_", " "), value) for name, value in sorted(one.changes.items())]
        said = [f"about {spoken(seconds_of(one.expected_duration))}"] if one.HasField("expected_duration") else []
        if one.short_run_first:
            said.append(f"a short run of {one.short_run_steps:,} steps would tell first")
        start = None
        if one.kind == advice_pb2.PROPOSAL_KIND_TRAIN:
            start = button("Start it", "take", str(at), kind="small primary", confirm=f"Start a training: {one.reason}")
        return h(
            "article",
            h(
                "div",
                h("h3", one.rung.replace("_", " ").capitalize()),
                h("span", " · ".join(said), cls="small muted"),
                cls="finding-head",
            ),
            h("p", one.reason),
            facts(changes) if changes else None,
            h("p", "Tried before by ", name_link(one.tried_by), ".", cls="small muted") if one.tried_by else None,
            h("div", start, cls="actions") if start else None,
            cls="finding",
        )

    async def _advise(self, act: Act) -> None:
        self._advice = await self._here.client.advisor.advise(self._job.name)
        self._page.show(self._markup())

    async def _take(self, act: Act) -> None:
        if self._advice is None:
            return
        wanted = trainer_pb2.TrainingJob()
        wanted.CopyFrom(self._advice.proposals[int(act.arg)].training_job)
        made = await self._here.client.training.create_training_job(wanted)
        ui.navigate.to(self._here.path("jobs", last_part(made.name)))

    async def _act(self, act: Act) -> None:
        made = await self._here.client.advisor.create_advised_training(self._job.name, _hours(act.text("budget")) * 3600)
        room = Fragment(card("The advisor acts", progress_bar(made.status)))
        background_tasks.create(self._follow(room, made.name), name="advised")

    async def _follow(self, room: Fragment, name: str) -> None:
        try:
            async for change in self._here.client.advisor.watch_advised_training(name):
                if room.is_deleted:
                    return
                room.show(self._advised(change.advised_training))
        except Exception as error:
            room.show(trouble_card(error, again=False))

    def _advised(self, one: Any) -> Markup:
        steps = [
            h(
                "li",
                badge(short_name(advice_pb2.StepEffect, step.effect).replace("_", " ") or "runs", _effect(step.effect)),
                h("span", h("strong", step.rung.replace("_", " ")), " ", step.message or step.reason),
            )
            for step in one.steps
        ]
        bar = progress_bar(one.status, "Advised training") if one.status.state in _RUNNING else None
        return card("The advisor acts", bar, h("ul", steps, cls="reasons"), actions=state_badge(one.status.state))


class CrossValidating:
    """Starts a cross-validation of a training's own recipe on its own version."""

    def __init__(self, here: Here, job: trainer_pb2.TrainingJob) -> None:
        self._here, self._job = here, job
        form = h(
            "form",
            number("folds", "Folds", "5", help="2 to 20; 0: the version's split, other seeds only."),
            number("repeats", "Times", "1", help="1 to 100."),
            text("group_by", "Keep together by", help="A column or an attribute; empty: equal bytes.", maxlength=200),
            h("button", "Cross-validate", type_="submit", cls="button", id="cross"),
            data_submit="cross",
            cls="filters",
        )
        about = "How far the figures go with the cut and the seed: this recipe, trained again on several parts of the data."
        Fragment(card("Cross-validation", h("p", about, cls="muted"), form)).does(cross=self._start)

    async def _start(self, act: Act) -> None:
        wanted = trainer_pb2.TrainingJob(dataset_version=self._job.dataset_version, model=self._job.model)
        asked = self._job.recipe if self._job.recipe.recipe_id else self._job.resolved_recipe
        wanted.recipe.CopyFrom(asked)
        if self._job.HasField("max_training_time"):
            wanted.max_training_time.CopyFrom(self._job.max_training_time)
        folds, repeats = (_whole(act.text(name), name) for name in ("folds", "repeats"))
        create = self._here.client.advisor.create_cross_validation
        made = await create(wanted, folds=folds, repeats=repeats, group_by=act.text("group_by"))
        ui.navigate.to(self._here.path("crossings", last_part(made.name)))


def _whole(given: str, name: str) -> int:
    if not given.isdecimal():
        message = f"{name} is {given!r}; give a whole number"
        raise InvalidArgument(message, reason="BAD_NUMBER", violations=(Violation(name, message),))
    return int(given)


class Remarks:
    """What people wrote down about a training, and its tags."""

    def __init__(self, here: Here, job: trainer_pb2.TrainingJob) -> None:
        self._here, self._job = here, job
        self._page = Fragment(self._markup()).does(remark=self._remark, tags=self._tags)

    def _markup(self) -> Markup:
        said = [
            h("li", h("span", one.text, " ", h("span", f"{one.author}, {ago(one.create_time)}", cls="small muted")))
            for one in self._job.remarks
        ]
        add = h(
            "form",
            text("remark", "What did you learn?", maxlength=2000),
            h("button", "Write it down", type_="submit", cls="button"),
            data_submit="remark",
            cls="filters",
        )
        tag = h(
            "form",
            text("tags", "Tags", ", ".join(self._job.tags), placeholder="baseline, augmented"),
            h("button", "Keep the tags", type_="submit", cls="button"),
            data_submit="tags",
            cls="filters",
        )
        shown = h("ul", said, cls="reasons") if said else h("p", "Nothing has been written down yet.", cls="muted")
        return card("Notes", shown, h("div", add, tag, cls="halves"))

    async def _remark(self, act: Act) -> None:
        self._job = await self._here.client.training.add_training_remark(self._job.name, act.text("remark"))
        self._page.show(self._markup())

    async def _tags(self, act: Act) -> None:
        tags = [part.strip() for part in act.text("tags").split(",") if part.strip()]
        self._job = await self._here.client.training.set_training_tags(self._job.name, tags)
        self._page.show(self._markup())


def _hours(said: str) -> float:
    try:
        hours = float(said)
    except ValueError:
        hours = 0.0
    if not 1 / 60 <= hours <= 24 * 30:
        message = f"budget is {said!r}; give hours, from 0.02 to 720"
        raise InvalidArgument(message, reason="BAD_BUDGET", violations=(Violation("budget", message),))
    return hours


def _effect(effect: advice_pb2.StepEffect.ValueType) -> str:
    return {advice_pb2.STEP_EFFECT_HELPED: "good", advice_pb2.STEP_EFFECT_WORSE: "bad", advice_pb2.STEP_EFFECT_FAILED: "bad"}.get(
        effect, "off"
    )
