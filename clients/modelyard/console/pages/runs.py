"""The runs of a project: journeys from data to endpoint, and trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from modelyard.client import last_part, parent_of
from modelyard.client.drawing.markup import Markup, h, join
from modelyard.client.drawing.scores import main_metrics, main_name
from modelyard.client.drawing.words import ago, metric_word, number, seconds_of, spoken
from modelyard.console.pages.crossing import crossings_table
from modelyard.console.pages.run import STEPS
from modelyard.console.parts.badges import stage_words, state_badge, verdict_badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.icons import icon
from modelyard.console.parts.layout import card, empty, link, name_link, table, tabs
from modelyard.console.parts.lists import first, pager
from modelyard.console.parts.live import listed
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

MOST = 50


@route("/p/{project}/runs")
async def runs(project: str, tab: str = "runs", skip: int = 0) -> None:
    start = max(skip, 0)
    train = link(join([icon("plus"), "Train a model"]), f"/p/{project}/train", "button primary")
    with frame(project, "runs", "Runs", actions=train) as here:
        Fragment(
            tabs(
                tab,
                [
                    ("runs", "From data to endpoint", here.path("runs")),
                    ("jobs", "Trainings", here.path("runs", tab="jobs")),
                    ("crossings", "Cross-validations", here.path("runs", tab="crossings")),
                ],
                "Kinds of runs",
            )
        )
        if tab == "jobs":
            await stretch(lambda: _jobs(here, start), lambda found: _build_jobs(here, found, start))
        elif tab == "crossings":
            await stretch(lambda: _crossings(here, start), lambda found: _build_crossings(here, found, start))
        else:
            await stretch(lambda: _runs(here, start), lambda found: _build_runs(here, found, start))


async def _runs(here: Here, skip: int) -> tuple[list[pipeline_pb2.PipelineRun], bool]:
    return await first(here.client.pipelines.list_pipeline_runs(skip=skip, page_size=MOST + 1), MOST)


async def _jobs(here: Here, skip: int) -> tuple[list[trainer_pb2.TrainingJob], bool]:
    return await first(here.client.training.list_training_jobs(skip=skip, page_size=MOST + 1), MOST)


async def _crossings(here: Here, skip: int) -> tuple[list[Any], bool]:
    return await first(here.client.advisor.list_cross_validations(skip=skip, page_size=MOST + 1), MOST)


def _build_crossings(here: Here, found: tuple[list[Any], bool], skip: int) -> None:
    shown, more = found
    if not shown:
        about = "It trains one recipe on several parts of the data: a figure comes with its spread. A training's page starts one."
        Fragment(
            empty("No cross-validation yet", about, link("Trainings", here.path("runs", tab="jobs"), "button"), picture="run")
        )
        return
    pages = pager(shown, skip, MOST, more, lambda at: here.path("runs", tab="crossings", skip=at))
    Fragment(card("", crossings_table(here, shown), pages))


def _build_runs(here: Here, found: tuple[list[pipeline_pb2.PipelineRun], bool], skip: int) -> None:
    shown, more = found
    if not shown:
        Fragment(
            empty(
                "No run yet",
                "A run takes data to a model that is proven and served.",
                link("Train a model", here.path("train"), "button primary"),
                picture="run",
            )
        )
        return
    pages = pager(shown, skip, MOST, more, lambda at: here.path("runs", skip=at))
    listed(found, lambda: _runs(here, skip), lambda again: card("", runs_table(here, again[0]), pages), lambda again: again[0])


def runs_table(here: Here, shown: Sequence[pipeline_pb2.PipelineRun], *, short: bool = False) -> Markup:
    """Pipeline runs, a row each. short: without what they made and scored."""
    columns = ["Run", "State", *([] if short else ["Made", "Test score"]), "Gate", "Started"]
    rows = [
        [
            link(_name_of(run), here.path("runs", last_part(run.name))),
            state_badge(run.status.state),
            *([] if short else [_model_of(run), _score_of(run)]),
            verdict_badge(run.result.gate_decision.verdict) or h("span", _why(run), cls="small muted"),
            h("span", ago(run.status.create_time), cls="small muted"),
        ]
        for run in shown
    ]
    return table(columns, rows, caption="Runs from data to endpoint")


def _name_of(run: pipeline_pb2.PipelineRun) -> str:
    return run.display_name or f"{last_part(run.model or run.dataset or run.dataset_version)} · {last_part(run.name)[-6:]}"


def _model_of(run: pipeline_pb2.PipelineRun) -> Markup | str:
    return name_link(run.result.model_version)


def _score_of(run: pipeline_pb2.PipelineRun) -> str:
    for score in run.result.scores:
        if score.usage == learning_pb2.USAGE_TEST and score.metrics:
            best = main_metrics(score.metrics)[0]
            return f"{metric_word(best.name)} {number(best.value)}"
    return ""


def _why(run: pipeline_pb2.PipelineRun) -> str:
    if run.status.state == job_pb2.JOB_STATE_FAILED:
        return str(run.status.error.message)[:120]
    return stage_words(run.status.progress.stage, STEPS) if run.status.state == job_pb2.JOB_STATE_RUNNING else ""


def _build_jobs(here: Here, found: tuple[list[trainer_pb2.TrainingJob], bool], skip: int) -> None:
    shown, more = found
    if not shown:
        Fragment(
            empty(
                "No training yet",
                "Each training of a model is here, with its curve, its notes and its log.",
                link("Train a model", here.path("train"), "button primary"),
                picture="run",
            )
        )
        return

    def go(act: Any) -> None:
        picked = act.many("job")
        if picked:
            ui.navigate.to(here.path("compare", jobs=",".join(picked[:8])))

    pages = pager(shown, skip, MOST, more, lambda at: here.path("runs", tab="jobs", skip=at))
    room = listed(found, lambda: _jobs(here, skip), lambda again: _jobs_form(here, again[0], pages), lambda again: again[0])
    room.does(go=go)


def _jobs_form(here: Here, shown: Sequence[trainer_pb2.TrainingJob], pages: Markup | None) -> Markup:
    rows = []
    for job in shown:
        point = job.latest_point
        metric = main_name(point.metrics)
        rows.append(
            [
                h(
                    "input",
                    type_="checkbox",
                    name="job",
                    value=last_part(job.name),
                    aria_label=f"Compare {last_part(job.name)}",
                    id=f"pick-{last_part(job.name)}",
                    data_keep=True,
                ),
                link(job.display_name or last_part(job.name), here.path("jobs", last_part(job.name))),
                state_badge(job.status.state),
                name_link(parent_of(job.dataset_version)),
                job.resolved_recipe.recipe_id or job.recipe.recipe_id,
                f"{metric_word(metric)} {number(point.metrics[metric])}" if metric else "",
                spoken(seconds_of(job.train_duration)) if job.HasField("train_duration") else "",
                h("span", ago(job.status.create_time), cls="small muted"),
            ]
        )
    columns = [h("span", "Compare", cls="unseen"), "Training", "State", "Dataset", "Recipe", "Last metric", "Took", "Started"]
    compare = h("button", icon("compare"), "Compare what is ticked", type_="submit", cls="button")
    return h(
        "form",
        h("div", compare, h("span", "Tick two or more.", cls="small muted"), cls="filters"),
        card("", table(columns, rows, caption="Trainings"), pages),
        data_submit="go",
    )
