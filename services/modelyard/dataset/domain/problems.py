"""What an import came upon in annotations and went on with: gathered by kind, each with where it was, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelyard.dataset.domain.records import LISTED_EXAMPLES, Finding

ACTIONS = {
    "DEGENERATE_BOX": ("warning", "It was kept. Draw it again or remove it: it teaches nothing and can break a training."),
    "TURNED_BOX": ("warning", "Its corners were put in order. Correct the source."),
    "BAD_BOX": ("error", "The object was left out. Correct the source."),
    "BOX_OUTSIDE": ("warning", "It was kept. Cut it at the picture's edge, or look whether the picture was resized."),
    "BAD_POLYGON": ("warning", "The outline was left out. Draw it again."),
    "BAD_MASK": ("error", "The mask was left out. Export it again."),
    "UNKNOWN_CATEGORY": ("error", "The objects were left out. Add the class to the source's list of classes."),
    "UNKNOWN_PICTURE": ("warning", "What is said of it was left out. Add the picture or remove its entries."),
    "DOUBLED_ID": ("warning", "Nothing was lost: ids are not kept. Number the source anew."),
    "DOUBLED_FILE": ("warning", "What is said of it was put together; what is said twice is kept once. Correct the source."),
    "DOUBLED_CATEGORY": ("warning", "Categories of one name were taken as one. Correct the source."),
    "UNSUPPORTED_SHAPE": ("warning", "The shape was left out. Draw it as a polygon or a box."),
    "BAD_LINE": ("error", "The line was left out. Correct it."),
    "BAD_ATTRIBUTE": ("info", "The attribute was left out."),
    "UNKNOWN_MASK_VALUE": ("warning", "These pixels are ignored. Name the value or colour in the list of classes."),
    "SIZE_MISMATCH": ("warning", "The picture's own size was taken. Look whether it was resized after it was annotated."),
    "NAME_MISMATCH": ("info", "The picture of the annotation file's own name was taken."),
    "BAD_TIME": ("warning", "Times that cannot be read or fall back were kept as missing or as they are."),
    "BAD_INTERVAL": ("warning", "The range was left out. Correct it."),
    "INTERVAL_OUTSIDE": ("warning", "It was cut at the recording's end. Look whether ranges and recordings go by one clock."),
    "MIXED_TYPES": ("warning", "The values are read as missing. Correct them at the source."),
}
"""Severity and action by kind of finding."""

_TEACHES_WRONG = "The model is taught something that is not so, and is marked wrong where it sees the truth."
_LOST = "What was left out is missing in training and in every score: the model learns that nothing is there, where something is."
_UNSURE = "Nobody can say which of two readings was meant; if the wrong one was taken, the model learns it."
_MISSING = "The model does without these values, in training as in service."
COSTS = {
    "DEGENERATE_BOX": "A box without an area matches nothing: it counts as a miss in every score, and can make a loss infinite.",
    "TURNED_BOX": "None in this dataset; other programs that read the same source may fail or drop the object.",
    "BAD_BOX": _LOST,
    "BOX_OUTSIDE": "The part outside shows nothing: the model is taught to draw boxes too large, and its overlap scores suffer.",
    "BAD_POLYGON": "The object is learned by its box alone; its outline is missing in training and in the scores of masks.",
    "BAD_MASK": _LOST,
    "UNKNOWN_CATEGORY": _LOST,
    "UNKNOWN_PICTURE": "The work that went into these annotations is not used.",
    "DOUBLED_ID": "None in this dataset; other programs that read the same source may lose one of the two.",
    "DOUBLED_FILE": _UNSURE,
    "DOUBLED_CATEGORY": _UNSURE,
    "UNSUPPORTED_SHAPE": _LOST,
    "BAD_LINE": _LOST,
    "BAD_ATTRIBUTE": "Splits and slices by this attribute leave the example out.",
    "UNKNOWN_MASK_VALUE": "These pixels teach nothing and are not scored.",
    "SIZE_MISMATCH": _TEACHES_WRONG,
    "NAME_MISMATCH": _UNSURE,
    "BAD_TIME": "A split by time, and windows over time, put these steps in the wrong place or leave them out.",
    "BAD_INTERVAL": _LOST,
    "INTERVAL_OUTSIDE": "If ranges and recordings go by two clocks, every range is in the wrong place.",
    "MIXED_TYPES": _MISSING,
}
"""What it costs to leave it, by kind of finding."""


@dataclass
class _Kind:
    examples: list[str] = field(default_factory=list)
    count: int = 0
    first: str = ""


class Problems:
    """Gathers problems; memory does not grow with their number."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def note(self, kind: str, where: str, message: str) -> None:
        """Notes one: the file (and line or id) it is in, and a sentence with field, value and what is right."""
        known = self._kinds.setdefault(kind, _Kind())
        known.count += 1
        known.first = known.first or message
        if len(known.examples) < LISTED_EXAMPLES:
            known.examples.append(message if where in message else f"{where}: {message}")

    def join(self, other: Problems) -> None:
        """Takes over what another one gathered."""
        for kind, found in other._kinds.items():
            known = self._kinds.setdefault(kind, _Kind())
            known.count += found.count
            known.first = known.first or found.first
            known.examples += found.examples[: LISTED_EXAMPLES - len(known.examples)]

    def findings(self) -> tuple[Finding, ...]:
        """A finding for each kind."""
        return tuple(_finding(kind, found) for kind, found in sorted(self._kinds.items()))


def _finding(kind: str, found: _Kind) -> Finding:
    severity, action = ACTIONS[kind]
    message = found.first if found.count == 1 else f"{found.count} times, the first: {found.first}"
    return Finding(kind, severity, message, tuple(found.examples), found.count, action=action, cost=COSTS[kind])
