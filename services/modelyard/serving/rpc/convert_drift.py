"""Drift scores as the contract has them, there and back."""

from __future__ import annotations

from typing import Final

from modelyard.serving.domain.drift import Direction, DriftScore, Level
from modelyard.serving.v1 import serving_pb2

_DIRECTIONS: Final = {way: serving_pb2.Drift.Direction.Value(f"DIRECTION_{way.value}") for way in Direction}
_LEVELS: Final = {level: serving_pb2.Drift.Level.Value(f"LEVEL_{level.value}") for level in Level}


def drift_message(score: DriftScore) -> serving_pb2.Drift:
    """A score for the contract."""
    return serving_pb2.Drift(
        feature=score.feature,
        direction=_DIRECTIONS[score.direction],
        score=score.score,
        examples=score.examples,
        level=_LEVELS[score.level],
        note=score.note,
    )
