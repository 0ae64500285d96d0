"""Single examples worth looking at, and what a usage's answers look like one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.metrics import log_losses
from modelyard.evaluator.domain.scores import ExampleScore
from modelyard.statistics.confident_learning import label_suspects
from modelyard.statistics.intervals import Floats, Ints

MOST_WORST: Final = 50
MOST_SUSPECTS: Final = 100


@dataclass(frozen=True)
class Classified:
    """Answers of a classifier on one usage: ids [N], true class indices [N], probabilities [N, K], the names of the K classes.

    Of the classes the model can answer the first `known`; of the rest its probability is 0. float32: it is the largest thing an
    evaluation holds.
    """

    usage: str
    example_ids: Sequence[str]
    labels: Ints
    probabilities: NDArray[np.float32]
    classes: Sequence[str]
    known: int


@dataclass(frozen=True)
class Estimated:
    """Answers of a regression on one usage: ids, true values and predictions [N]."""

    usage: str
    example_ids: Sequence[str]
    targets: Floats
    predictions: Floats


def worst_classified(answers: Classified) -> tuple[ExampleScore, ...]:
    """The examples with the largest loss, at most MOST_WORST, the worst first."""
    losses = log_losses(answers.labels, answers.probabilities)
    return tuple(_classified(answers, row, float(losses[row])) for row in _largest(losses))


def worst_estimated(answers: Estimated) -> tuple[ExampleScore, ...]:
    """The examples with the largest absolute error, at most MOST_WORST, the worst first."""
    errors = np.abs(answers.predictions - answers.targets)
    return tuple(
        ExampleScore(
            answers.example_ids[row],
            answers.usage,
            f"{answers.targets[row]:.10g}",
            f"{answers.predictions[row]:.10g}",
            0.0,
            float(errors[row]),
        )
        for row in _largest(errors)
    )


def suspects(unseen: Sequence[Classified], learned: Sequence[Classified]) -> tuple[ExampleScore, ...]:
    """Examples whose label is probably wrong, at most MOST_SUSPECTS; see domain.suspects.

    `unseen` are usages that the model did not learn from: their suspects come first, judged together. Those of the `learned`
    ones follow, judged by thresholds of their own: in them the model is surer of everything.
    """
    found = [example for group in (unseen, learned) if group for example in _suspects(group)]
    return tuple(found[:MOST_SUSPECTS])


def _suspects(group: Sequence[Classified]) -> list[ExampleScore]:
    labels = np.concatenate([part.labels for part in group])
    probabilities = np.concatenate([part.probabilities for part in group])
    found = label_suspects(labels, probabilities, group[0].known)
    losses, starts = log_losses(labels, probabilities), np.cumsum([0, *(len(part.labels) for part in group)])
    out = []
    for position, said in list(zip(found.positions, found.classes, strict=True))[:MOST_SUSPECTS]:
        number = int(np.searchsorted(starts, position, "right")) - 1
        out.append(_classified(group[number], int(position - starts[number]), float(losses[position]), int(said)))
    return out


def _classified(answers: Classified, row: int, loss: float, said: int | None = None) -> ExampleScore:
    predicted = int(answers.probabilities[row].argmax()) if said is None else said
    return ExampleScore(
        answers.example_ids[row],
        answers.usage,
        answers.classes[int(answers.labels[row])],
        answers.classes[predicted],
        float(answers.probabilities[row, predicted]),
        loss,
    )


def _largest(losses: Floats) -> list[int]:
    """Rows of the largest losses; of equal ones the first."""
    return [int(row) for row in np.argsort(-losses, kind="stable")[:MOST_WORST]]
