"""One evaluation: statistics of each class, confusion, curves, slices, examples that were answered worst."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nicegui import ui

from modelyard.client import ModelyardClientError, last_part
from modelyard.client.drawing.charts import Line, line_chart
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.scores import classes_table, main_metrics, tells_better
from modelyard.client.drawing.words import count, metric_word, number, percent, usage_word
from modelyard.console.content import picture_address
from modelyard.console.pages.run import ENDED
from modelyard.console.parts.badges import progress_bar, state_badge
from modelyard.console.parts.confusion import confusion_matrix
from modelyard.console.parts.forms import text
from modelyard.console.parts.found_boxes import found_tiles
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, empty, figure, figures, link, name_link, table, tabs
from modelyard.console.parts.live import follow
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.residuals import predicted_against_true, residual_figures, residual_histogram
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.type.v1 import learning_pb2

_USAGES: Final = {"test": learning_pb2.USAGE_TEST, "validation": learning_pb2.USAGE_VALIDATION, "train": learning_pb2.USAGE_TRAIN}
_PICTURES: Final = (
    learning_pb2.TASK_IMAGE_CLASSIFICATION,
    learning_pb2.TASK_IMAGE_MULTILABEL,
    learning_pb2.TASK_OBJECT_DETECTION,
    learning_pb2.TASK_SEMANTIC_SEGMENTATION,
)
MOST_CLASSES: Final = 40
CELL: Final = 120
FOUND_SHOWN: Final = 24


@route("/p/{project}/evaluations/{evaluation}")
async def evaluation(
    project: str, evaluation: str, usage: str = "test", tab: str = "scores", label: str = "", prediction: str = ""
) -> None:
    with frame(project, "models", "Evaluation", crumbs=[("Models", f"/p/{project}/models")]) as here:
        await stretch(
            lambda: _fetch(here, evaluation, usage, tab, label, prediction),
            lambda found: _build(here, found, usage, tab, label, prediction),
            bones=8,
        )


async def _fetch(here: Here, evaluation: str, usage: str, tab: str, label: str, prediction: str) -> dict[str, Any]:
    client = here.client
    one = await client.evaluations.get_evaluation(evaluation)
    said: dict[str, Any] = {"evaluation": one, "export": None, "cell": None, "curves": None, "found": None}
    if one.status.state not in ENDED:
        return said
    said["export"] = await _quietly(client.exports.get_export(one.export))
    if one.predictions.uri:
        curves = _quietly(client.evaluations.get_curves(evaluation, usage=usage))
        cell = (
            client.evaluations.list_predictions(evaluation, usage=usage, label=label, prediction=prediction, page_size=CELL)
            if label and prediction
            else None
        )
        said["curves"] = await curves
        said["cell"] = await cell if cell is not None else None
        if tab == "examples":
            said["found"] = await _quietly(_detections(here, one, said["export"], usage))
    return said


async def _detections(here: Here, one: evaluator_pb2.Evaluation, export: Any, usage: str) -> tuple[Any, Any] | None:
    """Pictures with what is in them and what a detector found, the worst first; None for other tasks."""
    if export is None or export.task != learning_pb2.TASK_OBJECT_DETECTION:
        return None
    version = one.dataset_version or export.dataset_version
    ids = [each.example_id for each in one.worst_examples if each.usage == _USAGES.get(usage)]
    if len(ids) < FOUND_SHOWN:  # what was found right is worth a look too
        others = await here.client.examples.page(version, usage=usage, page_size=FOUND_SHOWN)
        ids = list(dict.fromkeys([*ids, *(each.example_id for each in others.examples)]))[:FOUND_SHOWN]
    if not ids:
        return None
    views, listed = await asyncio.gather(
        here.client.examples.view(version, ids, max_size=512),
        here.client.evaluations.list_predictions(one.name, usage=usage, example_ids=ids, page_size=len(ids)),
    )
    return views, {each.example_id: each for each in listed.predictions}


async def _quietly(call: Any) -> Any:
    """What a page can do without: None where it is not there."""
    try:
        return await call
    except ModelyardClientError:
        return None


def _build(here: Here, found: dict[str, Any], usage: str, tab: str, label: str, prediction: str) -> None:
    one = found["evaluation"]
    if one.status.state not in ENDED:
        _wait(here, one)
        return
    if not one.scores:
        Fragment(
            empty(
                "It did not come to a score",
                one.status.error.message or one.status.reason,
                state_badge(one.status.state),
                picture="alert",
            )
        )
        return
    View(here, found, usage, tab, label, prediction)


def _wait(here: Here, one: evaluator_pb2.Evaluation) -> None:
    async def cancel(act: Act) -> None:
        await here.client.evaluations.cancel_evaluation(one.name)

    room = Fragment(
        card("Scoring the exported bytes", progress_bar(one.status, "Evaluation"), actions=button("Cancel", "cancel"))
    ).does(cancel=cancel)
    kept = {"status": one.status}

    def take(change: Any) -> None:
        kept["status"] = change.evaluation.status

    def draw() -> None:
        if kept["status"].state in ENDED:
            with room:
                ui.navigate.to(here.path("evaluations", last_part(one.name)))
            return
        room.show(
            card("Scoring the exported bytes", progress_bar(kept["status"], "Evaluation"), actions=button("Cancel", "cancel"))
        )

    follow(room, lambda: here.client.evaluations.watch_evaluation(one.name), take, draw)


class View:
    """A finished evaluation."""

    def __init__(self, here: Here, found: dict[str, Any], usage: str, tab: str, label: str, prediction: str) -> None:
        self._here, self._found, self._one = here, found, found["evaluation"]
        self._id = last_part(self._one.name)
        known = {usage_word(score.usage): score for score in self._one.scores}
        self._usage = usage if usage in known else next(iter(known))
        self._score = known[self._usage]
        task = found["export"].task if found["export"] is not None else 0
        self._pictures, self._version = (
            task in _PICTURES,
            self._one.dataset_version or (found["export"].dataset_version if found["export"] else ""),
        )
        Fragment(self._head(known))
        Fragment(
            tabs(
                tab,
                [
                    (key, words, here.path("evaluations", self._id, usage=self._usage, tab=key))
                    for key, words in (("scores", "Scores"), ("slices", "Slices"), ("examples", "Examples"))
                ],
                "Evaluation",
            )
        )
        if tab == "slices":
            Fragment(self._slices()).does(slice=self._slice)
        elif tab == "examples":
            Fragment(self._examples())
        else:
            Fragment(self._scores(label, prediction))

    def _head(self, known: dict[str, Any]) -> Markup:
        one = self._one
        baseline = {(score.usage, metric.name): metric for score in one.baseline_scores for metric in score.metrics}
        each = []
        for metric in [one for one in main_metrics(self._score.metrics) if not one.name.startswith("residual_")][:5]:
            note = f"{number(metric.lower)} to {number(metric.upper)}"
            base = baseline.get((self._score.usage, metric.name))
            each.append(
                figure(
                    metric_word(metric.name),
                    number(metric.value),
                    f"{note}; baseline {number(base.value)}" if base is not None else note,
                )
            )
        links = [
            link(
                f"{name} · {count(score.example_count)}",
                self._here.path("evaluations", self._id, usage=name),
                "button small" + (" primary" if name == self._usage else ""),
            )
            for name, score in known.items()
        ]
        gaps = (
            [
                h(
                    "p",
                    "It does better on what it learned from: ",
                    ", ".join(f"{metric_word(gap.name)} by {number(gap.value)}" for gap in one.train_gaps if gap.lower > 0),
                    ". That is overfitting.",
                    cls="muted",
                )
            ]
            if any(gap.lower > 0 for gap in one.train_gaps)
            else []
        )
        about = h(
            "p",
            "Export ",
            name_link(one.export),
            " on ",
            name_link(self._version),
            " · bytes ",
            h("code", one.artifact_sha256[:16]),
            cls="muted",
        )
        return h(
            "div",
            card("", h("div", about, h("div", *links, cls="actions", role="group", aria_label="Usage"), cls="card-head"), *gaps),
            figures(*each),
        )

    def _scores(self, label: str, prediction: str) -> Markup:
        return h(
            "div",
            self._cell(label, prediction),
            self._classes(),
            h("div", self._confusion(label, prediction), self._more_metrics(), cls="halves"),
            self._curves(),
        )

    def _classes(self) -> Markup | None:
        shown = classes_table(self._score, intervals=False)
        return card("Classification statistics", shown) if shown is not None else None

    def _confusion(self, label: str, prediction: str) -> Markup | None:
        names = [one.label for one in self._score.classes]
        if not self._score.confusion or len(names) != len(self._score.confusion):
            return None
        if len(names) > MOST_CLASSES:
            words = f"{len(names)} classes are too many for a picture; see the statistics of each."
            return card("Confusion", h("p", words, cls="muted"))

        def address(is_: str, called: str) -> str:
            return self._here.path("evaluations", self._id, usage=self._usage, label=is_, prediction=called)

        counts = [list(row.counts) for row in self._score.confusion]
        shown = confusion_matrix(names, counts, address, (label, prediction))
        return card("Confusion", h("p", "Open a cell to see its examples.", cls="small muted"), shown)

    def _cell(self, label: str, prediction: str) -> Markup | None:
        found = self._found["cell"]
        if found is None:
            return None
        close = link("Close", self._here.path("evaluations", self._id, usage=self._usage), "button small")
        title = f"{count(found.total_size)} examples of {label} that were called {prediction}"
        return card(title, self._example_tiles(list(found.predictions)), actions=close, id="cell")

    def _more_metrics(self) -> Markup | None:
        rows = [
            [
                h(
                    "span",
                    metric_word(metric.name),
                    h("span", f" {way}", cls="small muted") if (way := tells_better(metric)) else "",
                ),
                number(metric.value),
                f"{number(metric.lower)} to {number(metric.upper)}",
            ]
            for metric in self._score.metrics
        ]
        return (
            card("All figures", table(["Figure", "Value", "95 % interval"], rows, caption="All figures", numeric=(1,)))
            if rows
            else None
        )

    def _curves(self) -> Markup | None:
        found = self._found["curves"]
        if found is None:
            return None
        if found.HasField("residuals") and found.residuals.example_count:
            drawn = (predicted_against_true(found.residuals, self._example_address), residual_histogram(found.residuals))
            return card("Residuals", residual_figures(found.residuals), h("div", *drawn, cls="halves"), id="residuals")
        charts: list[Any] = []
        if found.precision_recall:
            lines = [
                Line(
                    curve.label,
                    [*zip(curve.recall, curve.precision, strict=True)],
                    at % 8 + 1,
                    said=f"AP {number(curve.average_precision)}",
                )
                for at, curve in enumerate(found.precision_recall[:8])
            ]
            charts.append(line_chart("Precision over recall", lines, x_name="recall", low=0.0, high=1.0))
        if found.calibration:
            lines = [
                Line(
                    "measured", [(bin_.confidence, bin_.accuracy) for bin_ in found.calibration if bin_.example_count], 1, said=""
                ),
                Line("perfect", [(0.0, 0.0), (1.0, 1.0)], 8, dashed=True, said=""),
            ]
            charts.append(
                line_chart("How often it is right, by how sure it says it is", lines, x_name="surety", low=0.0, high=1.0)
            )
        return card("Curves", h("div", *charts, cls="halves")) if charts else None

    async def _slice(self, act: Act) -> None:
        columns = [part.strip() for part in act.text("columns").split(",") if part.strip()]
        made = await self._here.client.evaluations.create_evaluation(
            self._one.export, dataset_version=self._one.dataset_version, slice_columns=columns
        )
        ui.navigate.to(self._here.path("evaluations", last_part(made.name), tab="slices"))

    def _slices(self) -> Markup:
        form = h(
            "form",
            text("columns", "Cut the test examples by", placeholder="width, height" if self._pictures else "a column, another"),
            h("button", "Score them", type_="submit", cls="button"),
            data_submit="slice",
            cls="filters",
        )
        if not self._one.slices:
            words = "The figures of parts of the test examples show where a model fails though it is good on the whole."
            return h("div", empty("Not cut into slices yet", words, picture="data"), card("", form))
        rows = [
            [
                one.column,
                one.value,
                count(one.example_count),
                *(
                    [
                        metric_word(one.metrics[0].name),
                        number(one.metrics[0].value),
                        f"{number(one.metrics[0].lower)} to {number(one.metrics[0].upper)}",
                    ]
                    if one.metrics
                    else ["", "", ""]
                ),
            ]
            for one in self._one.slices
        ]
        return card(
            "Slices of the test examples, the worst first",
            table(["Column", "Value", "Examples", "Figure", "", "95 % interval"], rows, caption="Slices", numeric=(2, 4)),
        )

    def _examples(self) -> Markup:
        worst = [one for one in self._one.worst_examples if one.usage == self._score.usage]
        suspects = list(self._one.label_suspects)
        if self._found["found"] is not None:
            views, said = self._found["found"]
            threshold = self._one.suggested_threshold or 0.5
            shown = found_tiles(self._version, views, said, threshold, self._example_address)
            more = card("Labels that are probably wrong", self._example_tiles(suspects)) if suspects else None
            return h("div", more, card(f"What was found, {self._usage}, the worst first", shown, id="worst"))
        if not worst and not suspects:
            return empty("No examples", "Nothing was answered so badly that it would be kept.", picture="check")
        return h(
            "div",
            card("Labels that are probably wrong", self._example_tiles(suspects)) if suspects else None,
            card(f"Answered worst, {self._usage}", self._example_tiles(worst), id="worst") if worst else None,
        )

    def _example_tiles(self, found: list[Any]) -> Markup:
        if not self._pictures or not self._version:
            rows = [
                [self._example_link(one.example_id), one.label, one.prediction, percent(one.probability), number(one.loss)]
                for one in found
            ]
            if not any(one.probability for one in found):
                rows = [[*row[:3], row[4]] for row in rows]  # of a number nobody says how sure it is
                return table(["Example", "True", "Predicted", "Off by"], rows, caption="Examples", numeric=(1, 2, 3))
            return table(["Example", "Label", "The model says", "Surety", "Loss"], rows, caption="Examples", numeric=(3, 4))
        tiles = []
        for one in found:
            words = f"{one.label}, called {one.prediction}" if one.label != one.prediction else one.label
            image = h("img", src=picture_address(self._version, one.example_id, 160), alt=words, loading="lazy", cls="fit")
            said = h("span", h("span", words), h("span", percent(one.probability, 0), cls="muted"), cls="words")
            tiles.append(
                h("a", h("span", image, cls="frame"), said, href=self._example_address(one.example_id), cls="picture told")
            )
        return h("div", tiles, cls="grid-pictures")

    def _example_address(self, example_id: str) -> str:
        parts = self._version.split("/")
        return self._here.path("datasets", parts[3], version=parts[5], example=example_id) if len(parts) == 6 else "#"

    def _example_link(self, example_id: str) -> Markup:
        return h("a", h("code", example_id[:12]), href=self._example_address(example_id))
