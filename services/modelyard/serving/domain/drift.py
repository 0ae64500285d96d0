"""How far what a model sees and answers is from what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way a tensor goes."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class Level(StrEnum):
    """What a score means."""

    TOO_FEW = "TOO_FEW"
    NONE = "NONE"
    SOME = "SOME"
    STRONG = "STRONG"


@dataclass(frozen=True)
class DriftScore:
    """One tensor, or one property of a picture (`image.brightness`). `score` is the population stability index."""

    feature: str
    direction: Direction
    score: float
    examples: int
    level: Level
    note: str = ""
