"""What the answers of a round come to: the consensus of each task, how far people agree, and where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from modelyard.dataset.domain.agreement import Figure, class_figures, mean_with_interval
from modelyard.dataset.domain.answers import Answer, Facts
from modelyard.dataset.domain.consensus import (
    DAWID_SKENE,
    MAJORITY,
    Consensus,
    agreement,
    by_reliability,
    consensus,
    weighs_people,
)
from modelyard.dataset.domain.label_schema import CLASS, LabelSchema

MOST_PAIRS = 100_000
"""Pairs of answers that the mean overlap is worked out from; of more, the first."""


@dataclass(frozen=True)
class Said:
    """The answers to one task by annotator, and what a reviewer decided (None: nothing)."""

    name: str
    facts: Facts
    answers: Mapping[str, Answer]
    final: Answer | None = None


@dataclass(frozen=True)
class Confusion:
    """Share of each said class (column) for each true class (row) of one person, as Dawid and Skene's model sees it."""

    annotator: str
    classes: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class RoundResult:
    """`consensus` in the order of the tasks (None: no answer). agreements: each person's mean agreement with the consensus over
    tasks of two or more answers, and how many these were."""

    method: str
    consensus: Sequence[Consensus | None]
    figures: tuple[Figure, ...]
    agreements: Mapping[str, tuple[float, int]]
    disagreements: tuple[str, ...]
    compared: int
    confusions: tuple[Confusion, ...] = ()
    notes: tuple[str, ...] = field(default=())


def round_result(said: Sequence[Said], schema: LabelSchema, *, method: str = "", least: float = 0.0) -> RoundResult:
    """`method` "": Dawid and Skene's where classes are answered by people enough, else majority. `least`: the least confidence
    of a consensus. A reviewer's word stands whatever people said."""
    answers = [each.answers for each in said]
    confusions: tuple[Confusion, ...] = ()
    if weighs_people(method, schema, answers):
        used = DAWID_SKENE
        found, estimate, people = by_reliability(answers, schema, least)
        names = schema.class_names
        confusions = tuple(
            Confusion(person, names, tuple(np.round(estimate.confusions[place], 6).ravel().tolist()))
            for place, person in enumerate(people)
        )
    else:
        used = MAJORITY
        found = [consensus(each.answers, schema, each.facts, least) if each.answers else None for each in said]
    several = [place for place, each in enumerate(said) if len(each.answers) > 1]
    sums: dict[str, list[float]] = {}
    for place in several:
        made = found[place]
        for person, share in (made.agreements if made is not None else {}).items():
            sums.setdefault(person, []).append(share)
    for place, each in enumerate(said):
        if each.final is not None:
            found[place] = Consensus(each.final, 1.0, True)
    open_ = tuple(said[place].name for place, made in enumerate(found) if made is not None and not made.settled)
    return RoundResult(
        method=used,
        consensus=found,
        figures=tuple(_figures([said[place] for place in several], schema)),
        agreements={person: (float(np.mean(shares)), len(shares)) for person, shares in sorted(sums.items())},
        disagreements=open_,
        compared=len(several),
        confusions=confusions,
        notes=_notes(several, said),
    )


def _figures(said: Sequence[Said], schema: LabelSchema) -> list[Figure]:
    if not said:
        return []
    if CLASS in schema.shapes:
        people = sorted({name for each in said for name in each.answers})
        of_person, of_class = ({name: place for place, name in enumerate(known)} for known in (people, schema.class_names))
        votes = np.asarray(
            [
                (place, of_person[name], of_class[answer.label])
                for place, each in enumerate(said)
                for name, answer in each.answers.items()
                if answer.label in of_class
            ],
            np.int64,
        ).reshape(-1, 3)
        return class_figures(votes[:, 0], votes[:, 1], votes[:, 2], people, len(schema.classes))
    means = []
    pairs = 0
    for each in said:
        found = [agreement(one, other, schema, each.facts) for one, other in combinations(each.answers.values(), 2)]
        means.append(float(np.mean(found)))
        pairs += len(found)
        if pairs >= MOST_PAIRS:
            break
    return [Figure("mean_iou", *mean_with_interval(np.asarray(means)), len(means))]


def _notes(several: Sequence[int], said: Sequence[Said]) -> tuple[str, ...]:
    if not several:
        return ("No task has two answers, so nothing can be said about agreement: let a share of the tasks be answered twice.",)
    if len(several) < 30:
        return (f"Only {len(several)} tasks have two answers or more; the intervals are wide.",)
    return ()
