"""One cross-validation: its folds as they come, each metric with its spread and the interval of its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelyard.client import last_part
from modelyard.client.drawing.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, metric_word, moment, number
from modelyard.console.pages.run import ENDED
from modelyard.console.parts.badges import progress_bar, state_badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, facts, figure, figures, link, name_link, table
from modelyard.console.parts.live import follow
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.parts.trouble import toast
from modelyard.trainer.v1 import advice_pb2
from modelyard.type.v1 import job_pb2

MOST_METRICS: Final = 12
HEIGHT: Final = 90


@route("/p/{project}/crossings/{crossing}")
async def crossing(project: str, crossing: str) -> None:
    crumbs = [("Runs", f"/p/{project}/runs"), ("Cross-validations", f"/p/{project}/runs?tab=crossings")]
    with frame(project, "runs", f"Cross-validation {crossing[-6:]}", crumbs=crumbs) as here:
        await stretch(lambda: here.client.advisor.get_cross_validation(crossing), lambda found: Crossing(here, found), bones=8)


def crossings_table(here: Here, shown: Sequence[advice_pb2.CrossValidation]) -> Markup:
    """Cross-validations, a row each."""
    rows = [
        [
            link(last_part(one.name), here.path("crossings", last_part(one.name))),
            state_badge(one.status.state),
            name_link(one.training_job.dataset_version),
            one.training_job.recipe.recipe_id,
            _cut(one),
            _mean(one.metrics[0]) if one.metrics else "",
            h("span", ago(one.status.create_time), cls="small muted"),
        ]
        for one in shown
    ]
    columns = ["Cross-validation", "State", "Dataset", "Recipe", "Runs", "First metric", "Started"]
    return table(columns, rows, caption="Cross-validations")


def _cut(one: advice_pb2.CrossValidation) -> str:
    repeats = one.repeats or (1 if one.folds else 5)
    if not one.folds:
        return f"{repeats} seeds"
    return f"{one.folds} folds" + (f", {repeats} times" if repeats > 1 else "")


def _mean(metric: advice_pb2.CrossValidatedMetric) -> str:
    return f"{metric_word(metric.name)} {number(metric.mean)} ± {number(metric.deviation)}"


class Crossing:
    """Follows it."""

    def __init__(self, here: Here, found: advice_pb2.CrossValidation) -> None:
        self._here, self._found = here, found
        self._page = Fragment(self._markup()).does(cancel=self._cancel)
        if found.status.state not in ENDED:
            watch = here.client.advisor.watch_cross_validation
            follow(self._page, lambda: watch(found.name), self._take, lambda: self._page.show(self._markup()))

    def _take(self, change: Any) -> None:
        self._found = change.cross_validation

    async def _cancel(self, act: Act) -> None:
        await self._here.client.advisor.cancel_cross_validation(self._found.name)
        toast("It is being cancelled; what has been measured stays")

    def _markup(self) -> Markup:
        one = self._found
        running = one.status.state not in ENDED
        stop = button("Cancel", "cancel", danger=True, confirm="Cancel it? What has been measured stays.") if running else None
        failed = one.status.state == job_pb2.JOB_STATE_FAILED
        state = h(
            "section",
            h("div", h("div", state_badge(one.status.state), " ", _cut(one)), h("div", stop, cls="actions"), cls="card-head"),
            progress_bar(one.status, "Cross-validation") if running else None,
            h("p", one.status.error.message, cls="field-error", role="alert") if failed else None,
            cls="card",
            aria_label="State",
            aria_live="polite",
        )
        notes = card("What to know", h("ul", [h("li", note) for note in one.notes], cls="reasons")) if one.notes else None
        left = h("div", self._metrics(), self._folds(), notes)
        return h("div", state, self._figures(), h("div", left, h("div", self._about()), cls="split"), id="crossing")

    def _figures(self) -> Markup | None:
        shown = [figure(metric_word(one.name), number(one.mean), f"± {number(one.deviation)}") for one in self._found.metrics[:4]]
        return figures(*shown) if shown else None

    def _metrics(self) -> Markup:
        if not self._found.metrics:
            return card("Metrics", h("p", "No run has ended yet.", cls="muted"))
        rows = [
            [
                metric_word(one.name),
                number(one.mean),
                number(one.deviation),
                f"{number(one.lower)} to {number(one.upper)}" if one.HasField("lower") else "two runs are needed",
                count(one.runs),
            ]
            for one in self._found.metrics
        ]
        about = h(
            "p",
            "The interval of the mean is widened for the examples that the folds' training sets share (Nadeau and Bengio 2003).",
            cls="small muted",
        )
        charts = [fold_chart(self._found, one) for one in self._found.metrics[:MOST_METRICS] if one.runs > 1]
        shown = table(
            ["Metric", "Mean", "Spread", "95 % interval of the mean", "Runs"], rows, caption="Metrics", numeric=(1, 2, 4)
        )
        return card("Metrics", shown, about, h("div", charts, cls="halves below") if charts else None)

    def _folds(self) -> Markup | None:
        if not self._found.runs:
            return None
        names = sorted({name for run in self._found.runs for name in run.metrics})[:6]
        rows = [
            [
                link(f"{run.repeat + 1}.{run.fold + 1}" if self._found.folds else str(run.repeat + 1), self._job(run)),
                state_badge(run.state),
                count(run.train_count) if run.train_count else "",
                count(run.validation_count) if run.validation_count else "",
                *(number(run.metrics[name]) if name in run.metrics else "" for name in names),
                run.error or str(run.seed),
            ]
            for run in self._found.runs
        ]
        first = "Repeat.fold" if self._found.folds else "Run"
        columns = [first, "State", "Train", "Validation", *(metric_word(name) for name in names), "Seed"]
        return card("Runs", table(columns, rows, caption="Runs", numeric=tuple(range(2, 4 + len(names)))))

    def _job(self, run: advice_pb2.FoldRun) -> str:
        return self._here.path("jobs", last_part(run.training_job)) if run.training_job else "#"

    def _about(self) -> Markup:
        one, job = self._found, self._found.training_job
        return card(
            "Facts",
            facts(
                (
                    ("Dataset version", name_link(job.dataset_version)),
                    ("Recipe", job.recipe.recipe_id),
                    ("Kept together by", one.group_by or ("equal bytes" if one.folds else "")),
                    ("Test examples", "in no fold" if one.folds else ""),
                    ("Started", moment(one.status.create_time)),
                )
            ),
        )


def fold_chart(found: advice_pb2.CrossValidation, metric: advice_pb2.CrossValidatedMetric) -> Markup:
    """A metric of each run as a dot, the mean as a line, the interval of the mean as a band."""
    values = [run.metrics[metric.name] for run in found.runs if metric.name in run.metrics]
    ends = [metric.lower, metric.upper] if metric.HasField("lower") else []
    low, high = min([*values, *ends, metric.mean]), max([*values, *ends, metric.mean])
    axis = Axis(low, high, LEFT, WIDTH - RIGHT)
    middle = (HEIGHT - BOTTOM + TOP) / 2
    band = None
    if ends:
        band = h(
            "rect",
            x=f"{axis.at(ends[0]):.1f}",
            width=f"{max(axis.at(ends[1]) - axis.at(ends[0]), 1):.1f}",
            y=TOP,
            height=HEIGHT - BOTTOM - TOP,
            cls="bar-column",
            fill_opacity=".18",
        )
    mean = h(
        "line", x1=f"{axis.at(metric.mean):.1f}", x2=f"{axis.at(metric.mean):.1f}", y1=TOP, y2=HEIGHT - BOTTOM, cls="line c1"
    )
    dots = [
        h(
            "circle",
            h("title", number(value)),
            cx=f"{axis.at(value):.1f}",
            cy=f"{middle + 7 * ((at % 3) - 1):.1f}",
            r=5,
            cls="dot c2",
        )
        for at, value in enumerate(values)
    ]
    ticks = [h("text", number(tick), x=f"{axis.at(tick):.1f}", y=HEIGHT - 8, cls="tick tick-x") for tick in axis.ticks(5)]
    said = f"{metric_word(metric.name)}: mean {number(metric.mean)}, runs from {number(min(values))} to {number(max(values))}"
    svg = h("svg", h("title", said), band, mean, dots, ticks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", cls="fold-dots")
    return h("figure", h("figcaption", h("span", metric_word(metric.name))), svg, cls="chart")
