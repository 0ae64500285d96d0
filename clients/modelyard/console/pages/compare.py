"""Trainings side by side: their curves in one picture, and what differs in their settings."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from google.protobuf import json_format

from modelyard.client import last_part
from modelyard.client.drawing.charts import Line, line_chart
from modelyard.client.drawing.markup import h
from modelyard.client.drawing.words import metric_word, number, seconds_of, spoken
from modelyard.console.parts.badges import state_badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.layout import card, empty, link, table
from modelyard.console.parts.live import Curves
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.trainer.v1 import trainer_pb2

MOST = 8
READ_S = 5.0


@route("/p/{project}/compare")
async def compare(project: str, jobs: str = "") -> None:
    names = [name for name in jobs.split(",") if name][:MOST]
    with frame(project, "runs", "Compare trainings", crumbs=[("Trainings", f"/p/{project}/runs?tab=jobs")]) as here:
        if not names:
            Fragment(
                empty(
                    "Nothing to compare",
                    "Tick two or more trainings in the list.",
                    link("To the list", here.path("runs", tab="jobs"), "button"),
                    picture="compare",
                )
            )
            return
        await stretch(lambda: asyncio.gather(*(_read(here, name) for name in names)), lambda found: _build(here, found))


async def _read(here: Here, name: str) -> tuple[trainer_pb2.TrainingJob, Curves]:
    """A training and its curve as far as it is now."""
    curves, job = Curves(), await here.client.training.get_training_job(name)
    end = job.status.sequence

    async def read() -> None:
        async for change in here.client.training.watch_training_job(name):
            curves.take(change.points)
            if change.sequence >= end:
                return

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(read(), READ_S)
    return job, curves


def _build(here: Here, found: list[tuple[trainer_pb2.TrainingJob, Curves]]) -> None:
    names = [last_part(job.name) for job, _ in found]
    metrics = sorted({metric for _, curves in found for metric in curves.metrics})
    losses = [
        Line(name, curves.loss.points() if curves.loss.count else [], at + 1)
        for at, (name, (_, curves)) in enumerate(zip(names, found, strict=True))
    ]
    charts = [line_chart("Training loss", losses)]
    for metric in metrics[:6]:
        lines = [
            Line(name, curves.metrics[metric].points(), at + 1)
            for at, (name, (_, curves)) in enumerate(zip(names, found, strict=True))
            if metric in curves.metrics
        ]
        charts.append(line_chart(metric_word(metric), lines))
    heads = [link(name, here.path("jobs", name)) for name in names]
    Fragment(
        h(
            "div",
            card("Curves", h("div", *charts, cls="halves")),
            card("What they came to, and what differs", table(["", *heads], _rows(found), caption="Trainings side by side")),
        )
    )


def _rows(found: list[tuple[trainer_pb2.TrainingJob, Curves]]) -> list[list[Any]]:
    jobs = [job for job, _ in found]
    rows: list[list[Any]] = [
        ["State", *(state_badge(job.status.state) for job in jobs)],
        ["Recipe", *(job.resolved_recipe.recipe_id for job in jobs)],
        ["Dataset version", *("/".join(job.dataset_version.split("/")[3::2]) for job in jobs)],
        ["Trained for", *(spoken(seconds_of(job.train_duration)) if job.HasField("train_duration") else "" for job in jobs)],
        ["Steps", *(f"{job.latest_point.step:,}" for job in jobs)],
    ]
    for metric in sorted({name for job in jobs for name in job.latest_point.metrics}):
        points = [job.latest_point.metrics for job in jobs]
        rows += [[metric_word(metric), *(number(each[metric]) if metric in each else "" for each in points)]]
    settings = [json_format.MessageToDict(job.resolved_recipe.hyperparameters, preserving_proto_field_name=True) for job in jobs]
    for name in sorted({name for each in settings for name in each}):
        values = [str(each.get(name, "")) for each in settings]
        if len(set(values)) > 1:
            rows.append([h("strong", name.replace("_", " ")), *values])
    for name in ("features_version", "augmentation_version"):
        versions = [str(getattr(job.resolved_recipe, name)) for job in jobs]
        if len(set(versions)) > 1:
            rows.append([h("strong", name.replace("_", " ")), *versions])
    return rows
