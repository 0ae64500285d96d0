"""An evaluation and the gate's decision, drawn: of every task, by what the scores hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from modelyard.client.drawing.layout import badge, card, facts, figure, figures, table
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, metric_word, number, percent, usage_word
from modelyard.client.names import short
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.type.v1 import learning_pb2

MOST_CLASSES: Final = 40
"""A confusion matrix of more is no picture any more."""
_FIRST: Final = (
    *(
        "accuracy",
        "map_50",
        "forecast_skill",
        "balanced_accuracy",
        "mean_iou",
        "mean_average_precision",
        "rmse",
        "mae",
        "r2",
        "f1_macro",
        "roc_auc",
    ),
    *("map_50_95", "dice", "f1_micro", "pr_auc"),
)
_VERDICTS: Final[Mapping[int, tuple[str, str]]] = {
    evaluator_pb2.VERDICT_DEPLOY: ("Deploy", "good"),
    evaluator_pb2.VERDICT_RETRY_WITH_QAT: ("Retry with quantization-aware training", "wait"),
    evaluator_pb2.VERDICT_BACK_TO_DATA: ("Back to the data", "bad"),
    evaluator_pb2.VERDICT_NOT_ENOUGH_DATA: ("Not enough data to tell", "wait"),
}
_OUTCOMES: Final[Mapping[int, tuple[str, str]]] = {
    evaluator_pb2.GateTest.OUTCOME_PASSED: ("passed", "good"),
    evaluator_pb2.GateTest.OUTCOME_FAILED: ("failed", "bad"),
    evaluator_pb2.GateTest.OUTCOME_UNSURE: ("not enough to tell", "wait"),
}


def main_metrics(metrics: Sequence[learning_pb2.Metric]) -> list[learning_pb2.Metric]:
    """The metrics, those first that say most."""
    best = [metric for name in _FIRST for metric in metrics if metric.name == name]
    return best + [metric for metric in metrics if metric not in best]


def main_name(names: Iterable[str]) -> str:
    """Of the names of metrics, as training (val_accuracy) or an evaluation (accuracy) gives them, the one that says most."""
    known = sorted(names)
    best = (each for first in _FIRST for each in known if each.removeprefix("val_") == first)
    return next(best, known[0] if known else "")


def tells_better(metric: learning_pb2.Metric) -> str:
    """Which way is better, where that is not as usual; nothing of what only describes (where residuals lie)."""
    return "" if metric.higher_is_better or metric.name.startswith("residual_") else "less is better"


def interval(metric: learning_pb2.Metric) -> str:
    """0.84 to 0.91; empty where there is none."""
    return f"{number(metric.lower)} to {number(metric.upper)}" if metric.lower != metric.upper else ""


def scores_card(one: evaluator_pb2.Evaluation, title: str = "Scores of the exported bytes") -> Markup:
    """Every usage's scores, the test's first and in full; the others' main figures beside them."""
    test = next((score for score in one.scores if score.usage == learning_pb2.USAGE_TEST), None)
    chosen = test or (one.scores[0] if one.scores else None)
    about = facts(
        (
            ("Evaluation", h("code", short(one.name))),
            ("Of the export", h("code", short(one.export))),
            ("Sha256", h("code", one.artifact_sha256)),
            ("On", h("code", short(one.dataset_version)) if one.dataset_version else ""),
            ("Suggested threshold", number(one.suggested_threshold) if one.suggested_threshold else ""),
        )
    )
    if chosen is None:
        why = one.status.error.message or "It did not come to a score."
        return card(title, about, h("p", why), id="scores")
    return card(
        title,
        about,
        h("h3", f"{usage_word(chosen.usage).capitalize()}: {count(chosen.example_count)} examples"),
        _figures(one, chosen),
        metrics_table(one, chosen),
        h("h3", "Classes") if chosen.classes else None,
        classes_table(chosen),
        confusion(chosen),
        slices(one),
        gaps(one),
        id="scores",
    )


def _figures(one: evaluator_pb2.Evaluation, score: evaluator_pb2.UsageScore) -> Markup:
    baseline = {metric.name: metric for each in one.baseline_scores if each.usage == score.usage for metric in each.metrics}
    shown = []
    for metric in main_metrics(score.metrics)[:4]:
        base = baseline.get(metric.name)
        note = "; ".join(filter(None, (interval(metric), f"baseline {number(base.value)}" if base is not None else "")))
        shown.append(figure(metric_word(metric.name), number(metric.value), note))
    return figures(*shown)


def metrics_table(one: evaluator_pb2.Evaluation, chosen: evaluator_pb2.UsageScore) -> Markup:
    """All metrics of a usage with their intervals, and what the other usages have."""
    others = [score for score in one.scores if score.usage != chosen.usage]
    values = {(score.usage, metric.name): metric.value for score in others for metric in score.metrics}
    rows = [
        [
            h("span", metric_word(metric.name), h("span", f" ({way})", cls="muted") if (way := tells_better(metric)) else ""),
            number(metric.value),
            interval(metric),
            *(number(values[each.usage, metric.name]) if (each.usage, metric.name) in values else "" for each in others),
        ]
        for metric in main_metrics(chosen.metrics)
    ]
    columns = [
        "Figure",
        usage_word(chosen.usage).capitalize(),
        "95 % interval",
        *(usage_word(each.usage).capitalize() for each in others),
    ]
    return table(columns, rows, caption="Metrics", numeric=(1, 2, *range(3, 3 + len(others))))


def classes_table(score: evaluator_pb2.UsageScore, *, intervals: bool = True) -> Markup | None:
    """Statistics of each class; what a task does not have is left out. intervals: beside the figures, else under the pointer."""
    if not score.classes:
        return None
    shown_classes: Sequence[Any] = score.classes
    usual = [name for name in ("recall", "precision", "accuracy", "f1") if any(each.HasField(name) for each in shown_classes)]
    more = list(dict.fromkeys(metric.name for each in shown_classes for metric in each.metrics))
    rows: list[list[Any]] = []
    for each in shown_classes:
        extra = {metric.name: metric for metric in each.metrics}
        found = [getattr(each, name) if each.HasField(name) else None for name in usual] + [extra.get(name) for name in more]
        rows.append([each.label, count(each.support), *(_class_figure(metric, intervals) for metric in found)])
    columns = ["Class", "Examples", *map(metric_word, [*usual, *more])]
    return table(columns, rows, caption="Classification statistics by class", numeric=range(1, len(columns)))


def _class_figure(metric: learning_pb2.Metric | None, intervals: bool) -> Markup | str:
    if metric is None:
        return ""
    if not intervals:
        said = interval(metric)
        return h("span", f"{metric.value:.3f}", title=f"95 % interval: {said}" if said else None)
    return h("span", f"{metric.value:.3f}", h("span", f" {interval(metric)}" if interval(metric) else "", cls="muted small"))


def confusion(score: evaluator_pb2.UsageScore) -> Markup | None:
    """Which classes are taken for which: rows are what examples are, columns what they were called."""
    names = [one.label for one in score.classes]
    if not score.confusion or len(names) != len(score.confusion):
        return None
    if len(names) > MOST_CLASSES:
        return h("p", f"{len(names)} classes are too many for a confusion matrix; see the statistics of each.", cls="muted")
    head = h("tr", h("th", "is ↓ called →", scope="col"), [h("th", name, scope="col") for name in names])
    body = [
        h(
            "tr",
            h("th", name, scope="row"),
            [h("td", _cell(at == to, value, sum(row.counts))) for to, value in enumerate(row.counts)],
        )
        for at, (name, row) in enumerate(zip(names, score.confusion, strict=True))
    ]
    matrix = h("table", h("caption", "Confusion matrix", cls="unseen"), h("thead", head), h("tbody", body), cls="matrix")
    room = h("div", matrix, cls="table", tabindex=0, role="region", aria_label="Confusion matrix")
    return h("div", h("h3", "Confusion"), room)


def _cell(right: bool, value: int, total: int) -> Markup:
    tone = ("tone-good" if right else "tone-bad") if value else ""
    return h("span", count(value), cls=f"cell {tone}".strip(), style=f"--share:{value / total if total else 0:.3f}")


def slices(one: evaluator_pb2.Evaluation) -> Markup | None:
    """Slices of the test usage, the worst first."""
    rows = [
        [each.column, each.value, count(each.example_count), metric_word(metric.name), number(metric.value), interval(metric)]
        for each in one.slices
        for metric in each.metrics[:1]
    ]
    if not rows:
        return None
    columns = ["Column", "Value", "Examples", "Figure", "", "95 % interval"]
    return h("div", h("h3", "Slices, the worst first"), table(columns, rows, caption="Slices", numeric=(2, 4, 5)))


def gaps(one: evaluator_pb2.Evaluation) -> Markup | None:
    """How much better it is on what it learned from."""
    sure = [gap for gap in one.train_gaps if gap.lower > 0]
    if not sure:
        return None
    said = ", ".join(f"{metric_word(gap.name)} by {number(gap.value)} ({interval(gap)})" for gap in sure)
    return h("p", f"It does better on what it learned from: {said}. That is overfitting.")


def examples_table(found: Sequence[evaluator_pb2.ExampleScore], caption: str, paths: Mapping[str, str]) -> Markup:
    """Examples as rows: where pictures cannot be shown."""
    rows = [
        [
            paths.get(one.example_id) or h("code", one.example_id[:12]),
            usage_word(one.usage),
            one.label,
            one.prediction,
            percent(one.probability) if one.probability else "",
            number(one.loss),
        ]
        for one in found
    ]
    columns = ["Example", "Usage", "Label", "The model says", "Surety", "Loss"]
    return table(columns, rows, caption=caption, numeric=(4, 5))


def verdict_card(decision: evaluator_pb2.GateDecision, title: str = "The gate's verdict") -> Markup:
    """The verdict, its reasons, and every test with its numbers."""
    word, kind = _VERDICTS.get(decision.verdict, ("No decision", "off"))
    rows = [
        [
            test.name,
            badge(*_OUTCOMES.get(test.outcome, ("passed", "good") if test.passed else ("failed", "bad"))),
            number(test.value),
            f"{number(test.lower)} to {number(test.upper)}" if test.lower != test.upper else "",
            number(test.bound),
            test.message,
        ]
        for test in decision.tests
    ]
    columns = ["Test", "", "Measured", "95 % interval", "Bound", "In words"]
    return card(
        title,
        h("ul", [h("li", reason) for reason in decision.reasons]),
        table(columns, rows, caption="Tests of the gate", numeric=(2, 3, 4)) if rows else None,
        actions=badge(word, kind),
        cls=f"verdict verdict-{kind if kind in ('good', 'bad') else 'wait'}",
        id="gate",
    )
