"""How far people agree in a round: figures with their intervals, each person, who confuses what, and where they disagree."""

from __future__ import annotations

from typing import Final

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, number, percent
from modelyard.console.parts.forms import choice
from modelyard.console.parts.layout import card, empty, link, table
from modelyard.console.parts.page import Here
from modelyard.console.parts.rounds import parts_of, round_path
from modelyard.dataset.v1 import annotation_pb2

_WORDS: Final = {
    "fleiss_kappa": "Fleiss' kappa, all together",
    "krippendorff_alpha": "Krippendorff's alpha, all together",
    "cohen_kappa": "Cohen's kappa",
    "percent_agreement": "Equal answers",
    "mean_iou": "Mean overlap (IoU) of what was marked",
}
_METHODS: Final = (("", "as fits"), ("majority", "majority"), ("dawid_skene", "Dawid and Skene"))
MOST_SHOWN: Final = 200


def agreement_markup(here: Here, found: annotation_pb2.AnnotationAgreement, method: str) -> Markup:
    """The page."""
    if not found.compared_tasks:
        return empty(
            "Nothing to compare yet",
            "Agreement is of examples that two people or more answered; a round with two answers each, or of a share, has some.",
            picture="compare",
        )
    form = h("form", choice("method", "Consensus", _METHODS, method, data_change="method"), cls="filters")
    return h(
        "div",
        form,
        card(
            f"Agreement over {count(found.compared_tasks)} examples",
            _figures(found),
            *(h("p", note, cls="small muted") for note in found.notes),
        ),
        _people(found),
        _classes(found),
        _disagreements(here, found),
    )


def _figures(found: annotation_pb2.AnnotationAgreement) -> Markup:
    rows = [
        [
            _WORDS.get(one.name, one.name.replace("_", " ")),
            " and ".join(one.annotators) or "all",
            percent(one.value) if one.name == "percent_agreement" else number(one.value),
            f"{number(one.lower)} to {number(one.upper)}",
            "" if one.name == "percent_agreement" else _strength(one.name, one.value),
            count(one.tasks),
        ]
        for one in found.figures
    ]
    about = h(
        "p",
        "A kappa of 0 is the agreement of chance, 1 is full agreement. Words after Landis and Koch (1977).",
        cls="small muted",
    )
    return h(
        "div",
        table(["Figure", "Of", "Value", "95 % interval", "In words", "Examples"], rows, caption="Agreement", numeric=(2, 5)),
        about,
    )


def _strength(name: str, value: float) -> str:
    if name == "mean_iou":
        return ""
    words = ("poor", "slight", "fair", "moderate", "substantial", "almost perfect")
    return words[0] if value < 0 else words[1 + sum(value > edge for edge in (0.2, 0.4, 0.6, 0.8))]


def _people(found: annotation_pb2.AnnotationAgreement) -> Markup | None:
    if not found.annotators:
        return None
    rows = [
        [one.annotator, percent(one.agreement) if one.compared else "", count(one.compared)]
        for one in sorted(found.annotators, key=lambda one: one.agreement)
    ]
    columns = ["Who", "With the consensus", "Examples"]
    return card("Each person, the least agreement first", table(columns, rows, caption="Each person's agreement", numeric=(1, 2)))


def _classes(found: annotation_pb2.AnnotationAgreement) -> Markup | None:
    """How often each person recognises each class, and what they take it for otherwise; Dawid and Skene's estimate."""
    if not found.confusions:
        return None
    rows = []
    for one in found.confusions:
        classes, shares = list(one.classes), list(one.shares)
        for at, name in enumerate(classes):
            row = shares[at * len(classes) : (at + 1) * len(classes)]
            other = max((place for place in range(len(classes)) if place != at), key=lambda place: row[place], default=at)
            taken = f"{classes[other]}, {percent(row[other], 0)}" if other != at and row[other] >= 0.01 else ""
            rows.append((row[at], [one.annotator, name, percent(row[at], 0), taken]))
    shown = [cells for _, cells in sorted(rows, key=lambda row: row[0])[:MOST_SHOWN]]
    about = h(
        "p",
        "How often each person says a class when it is the true one, as estimated by Dawid and Skene's model.",
        cls="small muted",
    )
    table_ = table(["Who", "Class", "Recognised", "Mostly taken for"], shown, caption="Each person and class", numeric=(2,))
    return card("Each person and class, the worst first", about, table_)


def _disagreements(here: Here, found: annotation_pb2.AnnotationAgreement) -> Markup:
    if not found.disagreement_count:
        return card("Where they disagree", h("p", "There is a consensus on every example.", cls="muted"))
    links = [
        h("li", link(last_part(task)[:12], round_path(here, task, "review", task=last_part(task)), "button small"))
        for task in found.disagreements[:MOST_SHOWN]
    ]
    dataset, round_ = parts_of(found.name)
    everything = link(
        "Review all of them", here.path("annotation", dataset, round_, "review", only="disagreements"), "button primary"
    )
    return card(
        f"Where they disagree: {count(found.disagreement_count)}",
        h("p", "A reviewer says what is right, or a new round asks again.", cls="muted"),
        h("div", everything, cls="actions"),
        h("ul", links, cls="chips", id="disagreements"),
    )
