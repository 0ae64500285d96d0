"""One training: its curves, its notes, its log, and its ends."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf import json_format
from nicegui.element import Element

from modelyard.client import ModelyardClientError, last_part
from modelyard.client.drawing.curves import training_charts
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import moment, number, seconds_of, size, spoken
from modelyard.console.connection import connection
from modelyard.console.pages.run import ENDED
from modelyard.console.parts.advice import Advisor, CrossValidating, Remarks
from modelyard.console.parts.badges import progress_bar, state_badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, name_link, new_tab
from modelyard.console.parts.live import Curves, follow
from modelyard.console.parts.page import QUICK_S, Here, frame, route, stretch
from modelyard.console.parts.trouble import toast
from modelyard.console.reports import report_address
from modelyard.jobs.v1 import jobs_service_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2

LOG_CHARACTERS = 200_000


@route("/p/{project}/jobs/{job}")
async def job(project: str, job: str) -> None:
    crumbs = [("Runs", f"/p/{project}/runs"), ("Trainings", f"/p/{project}/runs?tab=jobs")]
    title = await title_of(project, job)
    with frame(project, "runs", title, crumbs=crumbs) as here:
        await stretch(lambda: here.client.training.get_training_job(job), lambda found: JobView(here, found), bones=8)


async def title_of(project: str, job: str) -> str:
    """What a training is called: its display name, else its model's; its id where that is not known yet."""
    try:
        found = await asyncio.wait_for(connection().client(project).training.get_training_job(job), QUICK_S)
    except (ModelyardClientError, TimeoutError):
        return job
    return found.display_name or f"{last_part(found.model)} · {job[-6:]}"


def _said(value: object) -> str:
    """A setting as people write it: adamw, not OPTIMIZER_ADAMW."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text.partition("_")[2].lower() if text.isupper() and "_" in text else text


class JobView:
    """Follows a training."""

    def __init__(self, here: Here, found: trainer_pb2.TrainingJob) -> None:
        self._here, self._job = here, found
        self._curves = Curves()
        self._state = Fragment().does(stop=self._stop, cancel=self._cancel)
        with Element("div").classes("split"):
            with Element("div"):
                self._charts, self._notes = Fragment(), Fragment()
            self._side = Fragment()
        self._draw()
        if found.status.state in ENDED:
            Advisor(here, found)
            CrossValidating(here, found)
        Remarks(here, found)
        self._log, self._said = Fragment(), ""
        follow(self._state, lambda: here.client.training.watch_training_job(found.name), self._take, self._draw)
        follow(self._log, lambda: here.client.jobs.watch_job_log(found.name), self._hear, self._show_log)

    def _take(self, change: Any) -> None:
        self._job = change.training_job
        self._curves.take(change.points)

    def _hear(self, piece: jobs_service_pb2.LogPiece) -> None:
        self._said = (self._said + piece.data.decode("utf-8", "replace"))[-LOG_CHARACTERS:]

    def _show_log(self) -> None:
        log = (
            h("pre", self._said, cls="log", data_follow=True, tabindex=0, role="log", aria_label="Log")
            if self._said
            else h("p", "The workers have written nothing.", cls="muted")
        )
        self._log.show(card("Log", log))

    async def _stop(self, act: Act) -> None:
        await self._here.client.training.stop_training_job(self._job.name)
        toast("Training ends now; the best model so far is kept")

    async def _cancel(self, act: Act) -> None:
        await self._here.client.training.cancel_training_job(self._job.name)
        toast("The training is being cancelled; its checkpoints stay")

    def _draw(self) -> None:
        """Each part by itself: what did not change is not sent again, least of all the curves."""
        self._state.show(self._state_card())
        if self._curves.last is not None:
            self._charts.show(card("Curves", training_charts(self._curves)))
        self._notes.show(self._notes_card())
        self._side.show(card("Facts", self._facts()), self._settings())

    def _state_card(self) -> Markup:
        one = self._job
        running = one.status.state not in ENDED
        actions = [
            button("Stop, keep the best", "stop", confirm="End the training now and keep the best model?"),
            button("Cancel", "cancel", danger=True, confirm="Cancel the training without a model version?"),
        ]
        error = (
            h("p", one.status.error.message, cls="field-error", role="alert")
            if one.status.state == job_pb2.JOB_STATE_FAILED
            else None
        )
        reason = h("span", one.status.reason.replace("_", " ").lower(), cls="small muted")
        head = h(
            "div",
            h("div", state_badge(one.status.state), " ", reason),
            h("div", *(actions if running else [new_tab("Report", report_address(one.name))]), cls="actions"),
            cls="card-head",
        )
        return h(
            "section",
            head,
            progress_bar(one.status, "Training") if running else None,
            error,
            cls="card",
            aria_label="State",
            aria_live="polite",
        )

    def _notes_card(self) -> Markup | None:
        notes = [
            h(
                "li",
                h("strong", note.reason.replace("_", " ").lower()),
                f" at step {note.step:,}: " if note.step else ": ",
                note.message,
            )
            for note in self._job.notes
        ]
        return card("Notes", h("ul", notes, cls="reasons")) if notes else None

    def _facts(self) -> Markup:
        one = self._job
        checkpoints = ", ".join(
            f"{trainer_pb2.CheckpointKind.Name(each.kind).removeprefix('CHECKPOINT_KIND_').lower()} at step {each.step:,}"
            for each in one.checkpoints
        )
        return facts(
            (
                ("Dataset version", name_link(one.dataset_version)),
                ("Model version", name_link(one.model_version)),
                ("Recipe", one.resolved_recipe.recipe_id or one.recipe.recipe_id),
                ("Parameters", f"{one.resolved_recipe.parameter_count:,}" if one.resolved_recipe.parameter_count else ""),
                ("Trained for", spoken(seconds_of(one.train_duration)) if one.HasField("train_duration") else ""),
                ("Experiment", h("code", one.experiment[:16]) if one.experiment else ""),
                ("Repeats", name_link(one.repeat_of)),
                ("Attempt", one.status.attempt if one.status.attempt > 1 else ""),
                ("Processes", one.processes if one.processes > 1 else ""),
                ("GPU memory", size(one.peak_memory_bytes) if one.peak_memory_bytes else ""),
                ("Checkpoints", checkpoints),
                ("Started from", name_link(one.warm_start_model_version) or name_link(one.resume_from.training_job)),
                ("Created", moment(one.status.create_time)),
            )
        )

    def _settings(self) -> Markup | None:
        said = json_format.MessageToDict(self._job.resolved_recipe.hyperparameters, preserving_proto_field_name=True)
        if not said:
            return None
        rows = [(name.replace("_", " "), _said(value)) for name, value in said.items()]
        return card("Hyperparameters", facts(rows))
