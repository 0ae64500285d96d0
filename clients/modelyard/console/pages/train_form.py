"""What the training dialog asks, as cards of inputs, and the page to confirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, size, spoken, task_word
from modelyard.client.ratios import TESTS_NEEDED, enough_ratio, examples_needed, shared_out
from modelyard.console.parts.forms import Errors, cards, choice, number, switch, text
from modelyard.console.parts.layout import button, card, facts
from modelyard.console.parts.plan import Plan, next_version
from modelyard.exporter.v1 import exporter_pb2

FORMATS = [("", "the hardware's own")] + [
    (name.removeprefix("FORMAT_").lower(), name.removeprefix("FORMAT_").lower().replace("_", " "))
    for name, at in exporter_pb2.Format.items()
    if at
]
PRECISIONS = [("", "the hardware's own")] + [
    (name.removeprefix("PRECISION_").lower(), name.removeprefix("PRECISION_").lower().replace("_", " "))
    for name, at in exporter_pb2.Precision.items()
    if at
]


@dataclass
class Asked:
    """What is known when the dialog asks: the answers so far, what is wrong with them, and what there is to choose from."""

    plan: Plan
    datasets: Sequence[Any]
    targets: Sequence[Any]
    flavors: Sequence[Any]
    versions: Sequence[Any] = ()
    bases: Sequence[Any] = ()
    examples: int = 0
    """Of the dataset's present content; 0 where their usage came with them, so that no ratio is drawn."""
    errors: Errors = field(default_factory=dict)


def data_card(asked: Asked) -> Markup:
    """Dataset, version, ratio, incremental version."""
    plan, errors = asked.plan, asked.errors
    versions = [
        ("new", f"publish {next_version(asked.versions)} when training starts"),
        *((last_part(one.name), last_part(one.name)) for one in asked.versions),
    ]
    new = plan.version == "new"
    share = plan.train_share
    bar = (
        h("div", h("span", style=f"width:{100 * share:.3f}%"), h("span"), cls="ratio", aria_hidden="true")
        if new and share
        else None
    )
    words = _ratio_words(asked, share) if share else "Above 0 and below 1, one to five decimals."
    bases = [
        ("", "none: start fresh"),
        *((one.name, f"{last_part(plan.model)} {last_part(one.name)}") for one in asked.bases),
    ]
    return card(
        "Data",
        h(
            "div",
            choice(
                "dataset",
                "Dataset",
                [(last_part(one.name), f"{last_part(one.name)} · {task_word(one.task)}") for one in asked.datasets],
                plan.dataset,
                data_change="dataset",
                errors=errors,
            ),
            choice(
                "version",
                "Dataset version",
                versions,
                plan.version,
                data_change="keep",
                help="A version is frozen: what was trained on stays as it is.",
                errors=errors,
            ),
            text(
                "version_name",
                "Name of the new version",
                plan.version_name,
                placeholder=next_version(asked.versions),
                help="Empty: the next number.",
                errors=errors,
            )
            if new
            else None,
            h(
                "div",
                number("ratio", "Training and validation ratio", plan.ratio, help=words, errors=errors, data_change="keep"),
                bar,
            )
            if new
            else None,
            choice(
                "base",
                "Incremental training version",
                bases,
                plan.base,
                help="Goes on from the weights of an earlier version: faster, and often better. Take the most precise one.",
                errors=errors,
            ),
            cls="fields",
        ),
    )


def _ratio_words(asked: Asked, share: float) -> Markup | str:
    """What the ratio comes to; and where it leaves the gate too few to tell by, what would be enough."""
    if not asked.examples:
        return f"{asked.plan.ratio} to train on, {1 - share:.5g} to validate and test; drawn at random by class."
    parts = shared_out(asked.examples, share)
    said = "{:,} to train on, {:,} to validate and {:,} to test, drawn at random by class.".format(*parts)
    if parts[2] >= TESTS_NEEDED:
        return said
    better = enough_ratio(asked.examples, asked.plan.ratio)
    cure = f"{better} gives them." if better else f"Bring more examples, {examples_needed()} in all: this is a trial."
    return h("span", said, " ", h("strong", f"Below {TESTS_NEEDED} test examples nothing can be told, or served. {cure}"))


def hardware_card(asked: Asked) -> Markup:
    """What will answer."""

    def note(one: Any) -> str:
        said = [one.display_name]
        if one.ram_bytes:
            said.append(f"{size(one.ram_bytes)} RAM")
        if one.agent:
            said.append("measured on the device")
        elif not one.local:
            said.append("not here: cannot be measured")
        return " · ".join(part for part in said if part)

    options = [(last_part(one.name), last_part(one.name), note(one)) for one in asked.targets]
    return card("", cards("target", "Expected inference hardware", options, asked.plan.target))


def limits_card(asked: Asked) -> Markup:
    """How slow an answer may be, how long training may take, and on what."""
    plan, errors = asked.plan, asked.errors
    flavors = [(one.name, _flavor_words(one)) for one in asked.flavors]
    return card(
        "Limits",
        h(
            "div",
            number(
                "max_ms",
                "Max inference duration, ms",
                plan.max_ms,
                help="1 to 20000. How slow an answer may be on that hardware decides how large a model is chosen.",
                errors=errors,
            ),
            number(
                "hours",
                "Max training time, hours",
                plan.hours,
                help="0.05, or 3m, is three minutes. Then training ends with the best model so far. Empty: the recipe's own.",
                errors=errors,
            ),
            choice(
                "flavor",
                "Instance flavor",
                [("", "the default"), *flavors],
                plan.flavor,
                help="The size of machine it trains on.",
                errors=errors,
            ),
            cls="fields",
        ),
    )


def full_cards(asked: Asked) -> Markup:
    """What the quick level leaves to be chosen."""
    plan, errors = asked.plan, asked.errors
    return h(
        "div",
        card(
            "Where it goes",
            h(
                "div",
                text(
                    "model",
                    "Model",
                    plan.model,
                    help="Gets the next version: V001, V002...",
                    errors=errors,
                    data_change="model",
                ),
                text("endpoint", "Endpoint", plan.endpoint, help="Where it will answer.", errors=errors),
                switch("no_deploy", "End after the gate, deploy nothing", plan.no_deploy),
                cls="fields",
            ),
        ),
        card(
            "What it must reach",
            h(
                "div",
                number(
                    "accuracy",
                    "Least accuracy on the test examples",
                    plan.accuracy,
                    help="0 to 1. Empty: better than the baseline and not worse than what serves now.",
                    errors=errors,
                ),
                number("max_loss", "Most it may lose by compression", plan.max_loss, help="0 to 1. Empty: 0.01.", errors=errors),
                cls="fields",
            ),
        ),
        card(
            "The model",
            h(
                "div",
                text(
                    "recipe",
                    "Recipe",
                    plan.recipe,
                    help="Empty: chosen by measuring the candidates on the hardware.",
                    errors=errors,
                ),
                choice("format", "Form", FORMATS, plan.format, errors=errors),
                choice("precision", "Numbers", PRECISIONS, plan.precision, errors=errors),
                number("epochs", "Most epochs", plan.epochs, help="Empty: the recipe's own.", errors=errors),
                number("learning_rate", "Learning rate", plan.learning_rate, help="Empty: the recipe's own.", errors=errors),
                number("batch_size", "Batch size", plan.batch_size, help="Empty: the recipe's own.", errors=errors),
                number("seed", "Seed", plan.seed, errors=errors),
                text(
                    "group_by",
                    "Keep together in the split",
                    plan.group_by,
                    help="A column, an attribute, or a pattern such as {group}_{number}.",
                    errors=errors,
                ),
                cls="fields",
            ),
        ),
    )


def confirmation(plan: Plan, versions: Sequence[Any]) -> Markup:
    """What will be done, to be confirmed."""
    new = plan.version == "new"
    hours = float(plan.hours) if plan.hours else 0.0
    rows: list[tuple[str, object]] = [
        ("Dataset", plan.dataset),
        (
            "Dataset version",
            f"{plan.version_name or next_version(versions)}, published when training starts" if new else plan.version,
        ),
        ("Training : validation", f"{plan.ratio} : {1 - plan.train_share:.5g}" if new else "as the version has it"),
        ("Incremental version", "/".join(plan.base.split("/")[3::2]) if plan.base else "none"),
        ("Expected hardware", plan.target),
        ("Max inference duration", f"{plan.max_ms or 500} ms"),
        ("Max training time", f"{spoken(3600 * hours)} ({hours:.4g} h)" if plan.hours else "the recipe's own length"),
        ("Instance flavor", plan.flavor or "the default"),
        ("Model", plan.model),
        ("Endpoint", "nothing is deployed" if plan.no_deploy else plan.endpoint),
        ("Least accuracy", plan.accuracy),
        ("Recipe", plan.recipe or "chosen by measuring"),
    ]
    return h(
        "div",
        steps_bar(2),
        card(
            "Is this right?",
            facts(rows),
            h(
                "p",
                "The data are checked and split, the model is trained, exported, scored and, if it passes its tests, served. "
                "You can close the page: it goes on.",
                cls="muted",
            ),
        ),
        h("div", button("Back", "back"), button("Start training", "start", kind="primary", id="start"), cls="actions"),
        id="confirm",
        tabindex=-1,
    )


def steps_bar(at: int) -> Markup:
    """Where one is: 1 or 2."""
    words = ("Say what you need", "Confirm")
    items = [
        h("li", h("b", number_), text_, aria_current="step" if number_ == at else None) for number_, text_ in enumerate(words, 1)
    ]
    return h("ol", items, cls="steps-bar", aria_label="Steps")


def _flavor_words(one: Any) -> str:
    parts = [one.name, f"{one.cpu_cores:g} cores", size(one.memory_bytes)]
    if one.gpu_count:
        parts.append(f"{one.gpu_count} GPU")
    if one.node_count > 1:
        parts.append(f"{count(one.node_count)} nodes")
    return " · ".join(parts)
