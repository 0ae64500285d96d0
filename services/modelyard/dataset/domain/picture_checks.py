"""Findings that only pictures give: blurred, dark, bright, empty, of odd size or shape, grey among colour, unlike all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.neighbours import Neighbours, apart, far_out
from modelyard.dataset.domain.picture_facts import FACTS
from modelyard.dataset.domain.records import Finding

FLAT: Final = 2.0
"""A thumbnail whose grey levels deviate by less than this (of 255) shows nearly one colour."""

ODD_SIZE: Final = 16.0
"""A picture is of odd size when its area differs from the median by more than this factor..."""

ODD_SHAPE: Final = 4.0
"""...and of odd shape when its width to height does by more than this factor."""

DARK: Final = 0.25
"""A picture is dark when 99 of 100 of its pixels are darker than this (0 to 1)..."""

BRIGHT: Final = 0.92
"""...bright when 95 of 100 are brighter than this, and says little when its histogram holds less than LEAST_BITS bits."""

LEAST_BITS: Final = 1.5

BLURRED: Final = 0.75
"""A picture is blurred when this share of its variation stays when it is blurred again, and..."""

BLURRED_BEYOND: Final = 4.0
"""...that is so many robust standard deviations more than the median of its dataset."""

GREY: Final = 0.012
"""Mean spread between the colours of a pixel (0 to 1) up to which a picture counts as grey."""

MOST_GREY: Final = 0.2
"""Grey pictures are a finding when they are at most this share of a dataset of colour pictures."""

FAR_OUT: Final = 4.0
"""A picture is an outlier when it is so many robust deviations (of logarithms) farther from its neighbours than usual."""

_USUAL: Final = 0.1
_WARNING: Final = 0.01

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Kind:
    message: str  # after the number of pictures
    cost: str
    action: str


_KINDS: Final = {
    "LOW_INFORMATION": _Kind(
        "show nearly one colour",
        "They are failed captures, as a rule: the model is taught that nothing in particular is of their class.",
        "Look at them, and leave them out.",
    ),
    "DARK": _Kind(
        "are so dark that little can be seen",
        "The model learns noise where there is nothing to see, and darkness itself as a sign of their classes.",
        "Leave them out, or take them again; keep them if the model will be asked about pictures as dark.",
    ),
    "BRIGHT": _Kind(
        "are so bright that little can be seen",
        "What is washed out cannot be learned, and brightness itself becomes a sign of their classes.",
        "Leave them out, or take them again; keep them if the model will be asked about pictures as bright.",
    ),
    "BLURRY": _Kind(
        "are far more blurred than the others",
        "Fine detail is missing in them: the model learns to do without it, and blur itself as a sign of their classes.",
        "Leave them out, or take them again; keep them if the model will be asked about pictures as blurred.",
    ),
    "GREY_AMONG_COLOUR": _Kind(
        "are grey among pictures in colour",
        "The model can tell where they came from instead of what they show, and colour helps it less.",
        "Look whether they come from another source; leave them out, or train on grey pictures altogether.",
    ),
    "ODD_SIZE": _Kind(
        "have a size far from that of the others",
        "All pictures are resized to one size: what is small is blown up and blurred, what is large loses its detail.",
        "Scale or cut them beforehand, or leave them out.",
    ),
    "ODD_SHAPE": _Kind(
        "are far narrower or wider than the others",
        "All pictures are resized to one shape: what they show is squeezed until it looks like something else.",
        "Cut them to the shape of the others beforehand, or leave them out.",
    ),
}


def size_findings(widths: Ints, heights: Ints, names: Names) -> list[Finding]:
    """Pictures whose size or shape is far from the others'. widths, heights int64 [N], in pixels."""
    area = np.log(widths.astype(np.float64) * heights)
    aspect = np.log(widths / heights)
    found = []
    for kind, values, limit in (("ODD_SIZE", area, ODD_SIZE), ("ODD_SHAPE", aspect, ODD_SHAPE)):
        away = np.abs(values - np.median(values)) / np.log(limit)
        found += _finding(kind, np.flatnonzero(away > 1), 1 - 0.5 / np.maximum(away, 0.5), names)
    return found


def thumbnail_findings(thumbnails: npt.NDArray[np.uint8], names: Names) -> list[Finding]:
    """Pictures that show nearly one colour. thumbnails uint8 [N, S, S], grey."""
    spread = thumbnails.reshape(len(thumbnails), -1).std(axis=1, dtype=np.float32)
    return _finding("LOW_INFORMATION", np.flatnonzero(spread < FLAT), 1 - spread / (2 * FLAT), names)


def fact_findings(facts: Floats, thumbnails: npt.NDArray[np.uint8], names: Names) -> list[Finding]:
    """Pictures that are empty, dark, bright, blurred, or grey among colour. facts float32 [N, len(FACTS)]; see picture_facts.

    A picture that shows nearly one colour is named for that alone. What many pictures of a dataset are (dark ones by night) is
    how that dataset is: kinds that more than a tenth have are told as good to know, without a score for each."""
    dark, bright, _, blur, entropy, colour = (facts[:, number] for number in range(len(FACTS)))
    spread = thumbnails.reshape(len(thumbnails), -1).std(axis=1, dtype=np.float32)
    empty = (spread < FLAT) | (entropy < 0.2)
    low = empty | (entropy < LEAST_BITS)
    found = _finding("LOW_INFORMATION", np.flatnonzero(empty), 1 - entropy / 16, names)
    full = ~empty
    found += _finding("DARK", np.flatnonzero(full & (dark < DARK)), 1 - dark / (2 * DARK), names)
    ratio = (bright - BRIGHT) / (1 - BRIGHT)
    found += _finding("BRIGHT", np.flatnonzero(full & (bright > BRIGHT)), 0.5 + ratio / 2, names)
    blurred = full & _blurred(blur)
    found += _finding("BLURRY", np.flatnonzero(blurred), blur, names)
    grey = (colour <= GREY) & ~low
    if 0 < grey.sum() <= MOST_GREY * len(grey):
        found += _finding("GREY_AMONG_COLOUR", np.flatnonzero(grey), None, names)
    return found


def outlier_findings(neighbours: Neighbours, names: Names) -> list[Finding]:
    """Pictures unlike all others in an embedding."""
    away, _ = far_out(neighbours)
    members = np.flatnonzero(away > FAR_OUT)
    if not len(members):
        return []
    message = f"{_pictures(len(members))} unlike all others: farther from the nearest ones than is usual here."
    cost = "If they do not belong to the task, the model wastes itself on them; if they do, they are too few to be learned."
    action = "Look at them: leave out what does not belong, and add more of what does."
    return [
        about(
            "OUTLIERS",
            _severity(len(members), len(away)),
            message,
            members,
            names,
            cost=cost,
            action=action,
            scores=1 - 0.5 * FAR_OUT / away[members],
            drop=members,
        )
    ]


def group_findings(neighbours: Neighbours, labels: Ints, names: Names) -> list[Finding]:
    """Small groups of pictures that are like each other and unlike all others. labels int64 [N]: the class of each, -1: none; a
    class that is such a group as a whole is how the dataset is."""
    strange = apart(neighbours)
    for label in np.unique(labels[strange & (labels >= 0)]).tolist():
        own = labels == label
        if 2 * (strange & own).sum() >= own.sum():
            strange &= ~own
    members = np.flatnonzero(strange)
    if not len(members):
        return []
    message = f"{_pictures(len(members))} like each other and unlike all others: a group of their own, in no class of its own."
    cost = "If they came in by mistake (another source, another subject), the model learns them as part of classes they are not."
    action = "Look at them: leave out what does not belong; what does belong wants more examples, or a class."
    severity = _severity(len(members), len(strange))
    return [about("STRANGE_GROUP", severity, message, members, names, cost=cost, action=action, drop=members)]


def _blurred(blur: Floats) -> Flags:
    """Beyond both limits; NaN (small pictures) is not judged."""
    known = blur[~np.isnan(blur)]
    if not len(known):
        return np.zeros(len(blur), np.bool_)
    median = float(np.median(known))
    spread = max(1.4826 * float(np.median(np.abs(known - median))), 0.01)
    return np.asarray(np.nan_to_num(blur, nan=0.0) > max(BLURRED, median + BLURRED_BEYOND * spread))


def _finding(kind: str, rows: Ints, scores_of_all: npt.NDArray[np.floating] | None, names: Names) -> list[Finding]:
    if not len(rows):
        return []
    said, count = _KINDS[kind], len(names.paths)
    usual = len(rows) > _USUAL * count and count > 10
    message = f"{_pictures(len(rows), said.message)}{f' ({len(rows) / count:.0%} of all)' if usual else ''}."
    severity = "info" if usual else _severity(len(rows), count)
    scores = None if scores_of_all is None else np.clip(scores_of_all[rows].astype(np.float64), 0, 1)
    return [about(kind, severity, message, rows, names, cost=said.cost, action=said.action, scores=scores, drop=rows)]


def _pictures(count: int, what: str = "are") -> str:
    return f"{count} pictures {what}" if count != 1 else f"1 picture {_one(what)}"


def _one(what: str) -> str:
    verb, _, rest = what.partition(" ")
    return " ".join(filter(None, ({"are": "is", "have": "has", "show": "shows"}.get(verb, verb), rest)))


def _severity(count: int, of: int) -> str:
    return "warning" if count >= _WARNING * of and count > 1 else "info"
