"""One run from data to endpoint, as it goes: its steps, its training's curves, the gate's verdict with its reasons."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from modelyard.client import ModelyardClientError, last_part
from modelyard.client.drawing.curves import training_charts
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.scores import main_metrics
from modelyard.client.drawing.words import (
    metric_word,
    milliseconds,
    moment,
    number,
    plain,
    reason_word,
    seconds_of,
    size,
    spoken,
    step_words,
)
from modelyard.client.ratios import examples_needed, too_few_tested
from modelyard.console.connection import connection
from modelyard.console.parts.badges import progress_bar, severity_badge, state_badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.gate import verdict_card
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import button, card, facts, figure, figures, link, name_link, new_tab, table
from modelyard.console.parts.live import Curves, follow
from modelyard.console.parts.page import QUICK_S, Here, frame, route, stretch
from modelyard.console.parts.trouble import toast
from modelyard.console.reports import report_address
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import selection_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

_MARKS: Final[Mapping[int, tuple[str, str, str]]] = {
    job_pb2.JOB_STATE_QUEUED: ("clock", "off", "waits"),
    job_pb2.JOB_STATE_RUNNING: ("run", "busy", "runs"),
    job_pb2.JOB_STATE_SUCCEEDED: ("check", "good", "done"),
    job_pb2.JOB_STATE_FAILED: ("cross", "bad", "failed"),
    job_pb2.JOB_STATE_CANCELLED: ("dash", "off", "cancelled"),
}
STEPS: Final[Mapping[str, str]] = {
    "import": "Import the data",
    "check": "Check the data",
    "publish": "Publish the dataset version",
    "choose_recipe": "Choose the architecture by measuring",
    "train": "Train",
    "export_float": "Export, float",
    "evaluate_float": "Score the float export",
    "export": "Export for the hardware",
    "evaluate": "Score the exported bytes",
    "evaluate_incumbent": "Score what serves now",
    "gate": "Decide",
    "retry_export": "Train with quantization, export again",
    "retry_evaluate": "Score again",
    "retry_gate": "Decide again",
    "deploy": "Serve",
}
ENDED: Final = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


@route("/p/{project}/runs/{run}")
async def run(project: str, run: str) -> None:
    title = await title_of(project, run)
    with frame(project, "runs", title, crumbs=[("Runs", f"/p/{project}/runs")]) as here:
        await stretch(lambda: here.client.pipelines.get_pipeline_run(run), lambda found: RunView(here, found), bones=8)


async def title_of(project: str, run: str) -> str:
    """What a run is called: its display name, else its model's; its id where that is not known yet."""
    try:
        found = await asyncio.wait_for(connection().client(project).pipelines.get_pipeline_run(run), QUICK_S)
    except (ModelyardClientError, TimeoutError):
        return run
    return found.display_name or f"{last_part(found.model or found.dataset or found.dataset_version)} · {run[-6:]}"


class RunView:
    """Follows a run."""

    def __init__(self, here: Here, found: pipeline_pb2.PipelineRun) -> None:
        self._here, self._run = here, found
        self._curves = Curves()
        self._page = Fragment(self._markup()).does(cancel=self._cancel, stop=self._stop)
        name = found.name
        follow(self._page, lambda: here.client.pipelines.watch_pipeline_run(name), self._take, self._draw)

    def _take(self, change: Any) -> None:
        self._run = change.pipeline_run
        self._curves.take(change.points)

    def _draw(self) -> None:
        self._page.show(self._markup())

    async def _cancel(self, act: Act) -> None:
        await self._here.client.pipelines.cancel_pipeline_run(self._run.name)
        toast("The run is being cancelled")

    async def _stop(self, act: Act) -> None:
        made = self._run.result
        if made.model_selection:
            await self._here.client.selections.stop_model_selection(made.model_selection)
        else:
            await self._here.client.training.stop_training_job(made.training_job)
        toast("Training ends now; the best model so far is kept")

    def _markup(self) -> Markup:
        one = self._run
        left = h(
            "div", self._next(), self._verdict(), self._curve_card(), self._competition(), self._candidates(), self._findings()
        )
        right = h("div", card("Steps", self._timeline()), card("What it made", self._made()))
        return h(
            "div",
            self._state(),
            self._result(),
            h("div", left, right, cls="split"),
            data_state=_MARKS.get(one.status.state, ("", "", ""))[2],
            id="run",
        )

    def _state(self) -> Markup:
        one = self._run
        running = one.status.state not in ENDED
        actions = []
        if (
            running
            and any(step.step_id == "train" and step.state == job_pb2.JOB_STATE_RUNNING for step in one.steps)
            and (one.result.training_job or one.result.model_selection)
        ):
            actions.append(
                button(
                    "Stop training, keep the best", "stop", confirm="End the training now and go on with the best model so far?"
                )
            )
        if running:
            actions.append(button("Cancel the run", "cancel", danger=True, confirm="Cancel this run and what it waits for?"))
        if not running and one.result.training_job:
            actions.append(new_tab("Report", report_address(one.name)))
        if one.result.endpoint:
            actions.append(link("Ask it", self._here.path("endpoints", last_part(one.result.endpoint)), "button primary"))
        words = h("p", "It goes on when this page is closed.", cls="small muted") if running else None
        failed = (
            h("p", one.status.error.message, cls="field-error", role="alert")
            if one.status.state == job_pb2.JOB_STATE_FAILED
            else None
        )
        took = (
            ""
            if running or not one.status.HasField("start_time")
            else f"took {spoken(one.status.end_time.seconds - one.status.start_time.seconds)}"
        )
        head = h(
            "div",
            h("div", state_badge(one.status.state), " ", h("span", took, cls="small muted")),
            h("div", *actions, cls="actions"),
            cls="card-head",
        )
        return h(
            "section",
            head,
            progress_bar(one.status, "Run", STEPS) if running else None,
            words,
            failed,
            cls="card",
            aria_label="State",
            aria_live="polite",
        )

    def _result(self) -> Markup | None:
        result = self._run.result
        score = next((each for each in result.scores if each.usage == learning_pb2.USAGE_TEST), None)
        each = []
        if score is not None:
            for metric in main_metrics(score.metrics)[:3]:
                note = (
                    f"{number(metric.lower)} to {number(metric.upper)}, {score.example_count:,} examples"
                    if metric.lower != metric.upper
                    else ""
                )
                each.append(figure(f"{metric_word(metric.name)}, test", number(metric.value), note))
        if result.HasField("latency"):
            each.append(figure("Answer (p95)", milliseconds(result.latency.p95_ms), f"on {result.latency.target}, measured"))
        if result.HasField("train_duration"):
            each.append(figure("Training took", spoken(seconds_of(result.train_duration))))
        return figures(*each) if each else None

    def _timeline(self) -> Markup:
        items = []
        for step in self._run.steps:
            picture, kind, word = _MARKS.get(step.state, ("clock", "off", ""))
            name = STEPS.get(step.step_id, step.step_id.replace("_", " ").capitalize())
            items.append(
                h(
                    "li",
                    h("span", icon(picture, word), cls=f"mark {kind}"),
                    h(
                        "div",
                        h("strong", name_link(step.resource, name) if step.resource else name),
                        h("p", step_words(step.message), cls="small muted") if step.message else None,
                    ),
                    h("span", _took(step), cls="small muted"),
                )
            )
        return h("ol", items, cls="timeline")

    def _next(self) -> Markup | None:
        """What somebody does whose run did not end in an endpoint."""
        one, here = self._run, self._here
        of = one.result.dataset_version or one.dataset_version or one.dataset or one.source.dataset
        if one.status.state not in ENDED or one.result.endpoint or one.skip_deployment or not of:
            return None
        dataset = of.split("/")[3]
        more = link("Bring more data", here.path("datasets", "new", dataset=dataset), "button")
        again = link("Train again", here.path("train", dataset=dataset), "button primary")
        checks = link("Look at the data", here.path("datasets", dataset, tab="quality"), "button")
        if one.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            return card("What now?", h("p", "Nothing was served. What was made so far stays."), h("p", again, " ", checks))
        if too_few_tested(one.result.gate_decision):
            words = "Too few examples were kept for the test to tell how good the model is, so it is not served. Bring more, or "
            words += f"train on a smaller share: with {examples_needed()} examples or more the dialog proposes one."
            return card("What now?", h("p", words), h("p", again, " ", more), id="next")
        wrong = link(
            "See what it gets wrong", here.path("evaluations", last_part(one.result.evaluation), tab="examples"), "button"
        )
        words = "The model did not pass its tests, so it is not served; the reasons are below. What helps, in this order: labels "
        words += "that are right, more examples of what it gets wrong, more time."
        return card("What now?", h("p", words), h("p", wrong, " ", checks, " ", again), id="next")

    def _verdict(self) -> Markup | None:
        decision = self._run.result.gate_decision
        if not decision.name:
            return None
        return verdict_card(decision, self._here)

    def _curve_card(self) -> Markup | None:
        if self._curves.last is None:
            if self._run.status.state in ENDED:
                return None
            return card(
                "Training", h("p", "The curves of loss, metrics and learning rate appear here when training begins.", cls="muted")
            )
        point = self._curves.last
        words = [f"step {point.step:,}", f"epoch {point.epoch:.1f}"]
        if point.examples_per_second:
            words.append(f"{point.examples_per_second:,.0f} examples/s")
        if point.HasField("eta") and self._run.status.state not in ENDED:
            words.append(f"{spoken(seconds_of(point.eta))} left")
        job = self._run.result.training_job
        more = link("Log and details", self._here.path("jobs", last_part(job)), "button small") if job else None
        return card("Training", training_charts(self._curves), h("p", " · ".join(words), cls="muted small"), actions=more)

    def _candidates(self) -> Markup | None:
        found = self._run.result.candidates
        if not found:
            return None
        chosen = self._run.result.recipe_id
        rows = [
            [
                h("strong", one.recipe_id) if one.recipe_id == chosen else one.recipe_id,
                milliseconds(one.latency.p95_ms) if one.HasField("latency") else "",
                size(one.size_bytes) if one.size_bytes else "",
                "chosen" if one.recipe_id == chosen else one.error_message or one.unmeasured_reason,
            ]
            for one in found
        ]
        return card(
            "Architectures that were measured before any was trained",
            table(["Recipe", "p95", "Size", ""], rows, caption="Candidates", numeric=(1, 2)),
        )

    def _competition(self) -> Markup | None:
        """Those that compete, or competed, for the training time."""
        found = self._run.result.selection_candidates
        if not found:
            return None
        rows = [
            [
                f"{one.recipe.recipe_id} {one.input}".rstrip(),
                reason_word(selection_pb2.CandidateState.Name(one.state).removeprefix("CANDIDATE_STATE_")),
                f"{one.metric:.4g} ± {one.standard_error:.1g}" if one.HasField("metric") else "",
                spoken(seconds_of(one.train_duration)) if one.training_jobs else "",
                one.message,
            ]
            for one in found
        ]
        names = ["Recipe", "", "Validation", "Trained", ""]
        return card(
            "Candidates that compete for the training time",
            table(names, rows, caption="Model selection", numeric=(2, 3)),
            h("p", self._run.result.selection_summary, cls="muted") if self._run.result.selection_summary else None,
        )

    def _findings(self) -> Markup | None:
        found = self._run.result.findings
        if not found or not self._run.result.dataset_version:
            return None
        dataset = self._run.result.dataset_version.split("/")[3]
        items = [
            h("li", severity_badge(one.severity), h("span", h("strong", reason_word(one.kind)), " ", plain(one.message)))
            for one in found[:6]
        ]
        see = link(
            "All findings" if len(found) > 1 else "See it", self._here.path("datasets", dataset, tab="quality"), "button small"
        )
        return card("What was found in the data", h("ul", items, cls="reasons"), actions=see)

    def _made(self) -> Markup:
        result = self._run.result
        return facts(
            (
                ("Dataset version", name_link(result.dataset_version)),
                ("Recipe", result.recipe_id),
                ("Training", name_link(result.training_job)),
                ("Model version", name_link(result.model_version)),
                ("Export", name_link(result.export)),
                ("Evaluation", name_link(result.evaluation)),
                ("Endpoint", name_link(result.endpoint)),
                ("Hardware", self._run.target or "cpu"),
                ("Longest answer", f"{self._run.max_inference_duration_ms or 500} ms"),
                ("Run", h("code", last_part(self._run.name))),
                ("Started", moment(self._run.status.create_time)),
            )
        )


def _took(step: pipeline_pb2.PipelineStep) -> str:
    if not step.HasField("start_time"):
        return ""
    end = step.end_time.ToSeconds() if step.HasField("end_time") else time.time()
    return spoken(end - step.start_time.ToSeconds())
