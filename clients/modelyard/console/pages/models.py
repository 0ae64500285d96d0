"""The models of a project, and the versions of one."""

from __future__ import annotations

from typing import Any

from modelyard.client import last_part
from modelyard.client.drawing.charts import Line, line_chart
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.scores import main_name
from modelyard.client.drawing.words import ago, metric_word, number, task_word
from modelyard.console.parts.badges import badge
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.layout import card, empty, link, name_link, table
from modelyard.console.parts.lists import first, pager
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.trainer.v1 import trainer_pb2

MOST = 100


@route("/p/{project}/models")
async def models(project: str, skip: int = 0) -> None:
    start = max(skip, 0)
    with frame(project, "models", "Models") as here:
        await stretch(
            lambda: first(here.client.models.list_models(page_size=MOST + 1), MOST, start),
            lambda found: _build(here, *found, start),
        )


def _build(here: Here, shown: list[trainer_pb2.Model], more: bool, skip: int) -> None:
    if not shown:
        Fragment(
            empty(
                "No model yet",
                "A training makes the first version of one.",
                link("Train a model", here.path("train"), "button primary"),
                picture="model",
            )
        )
        return
    cards = [
        h(
            "a",
            h("h2", one.display_name or last_part(one.name)),
            h("p", one.description, cls="muted") if one.description else None,
            h(
                "p",
                badge(last_part(one.latest_version) or "no version", "good" if one.latest_version else "off"),
                " ",
                h("span", ago(one.update_time), cls="small muted"),
            ),
            href=here.path("models", last_part(one.name)),
            cls="card",
        )
        for one in shown
    ]
    pages = pager(shown, skip, MOST, more, lambda at: here.path("models", skip=at))
    Fragment(h("div", h("div", *cards, cls="cards"), pages))


@route("/p/{project}/models/{model}")
async def model(project: str, model: str, skip: int = 0) -> None:
    start = max(skip, 0)
    with frame(project, "models", model, crumbs=[("Models", f"/p/{project}/models")]) as here:
        await stretch(
            lambda: first(here.client.models.list_model_versions(model, page_size=MOST + 1), MOST, start),
            lambda found: _versions(here, model, *found, start),
        )


def _versions(here: Here, model: str, found: list[trainer_pb2.ModelVersion], more: bool, skip: int) -> None:
    if not found:
        Fragment(
            empty(
                "No version yet",
                "A training of this model makes one.",
                link("Train it", here.path("train", dataset=model), "button primary"),
                picture="model",
            )
        )
        return
    main = main_name({metric for one in found for metric in one.training_metrics})
    rows = [
        [
            link(last_part(one.name), here.path("models", model, last_part(one.name))),
            one.recipe.recipe_id,
            number(one.training_metrics[main]) if main in one.training_metrics else "",
            name_link(one.dataset_version),
            name_link(one.parent_version) or "fresh",
            name_link(one.training_job),
            h("span", ago(one.create_time), cls="small muted"),
        ]
        for one in found
    ]
    Fragment(
        h(
            "div",
            _progress(found, main),
            card(
                f"{'Versions' if skip or more else f'{len(found)} versions'} of {task_word(found[0].task)}",
                table(
                    ["Version", "Recipe", metric_word(main) or "Metric", "Trained on", "From", "Training", "When"],
                    rows,
                    caption="Versions",
                    numeric=(2,),
                ),
                pager(found, skip, MOST, more, lambda at: here.path("models", model, skip=at)),
                h(
                    "p",
                    "These are the training graph's validation metrics. What ships is scored anew, on the exported bytes.",
                    cls="small muted",
                ),
            ),
        )
    )


def _progress(found: list[Any], main: str) -> Markup | None:
    points = [
        (float(at + 1), one.training_metrics[main]) for at, one in enumerate(reversed(found)) if main in one.training_metrics
    ]
    if len(points) < 2:
        return None
    return card(
        "",
        line_chart(f"{metric_word(main)}, version by version", [Line(metric_word(main), points)], x_name="version", height=170),
    )
