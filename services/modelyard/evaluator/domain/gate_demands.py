"""What a user may demand of an artifact before it is deployed, and which demands cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import FieldViolation, InvalidArgument

MAX_LATENCY_MS: Final = (1.0, 20_000.0)
MAX_LOSS: Final = 0.01
"""The margin where none is given: one point of accuracy, one percent of the root mean square error."""
CLASS_METRICS: Final = ("precision", "recall", "f1")
_SHOWN_CLASSES: Final = 20


@dataclass(frozen=True)
class Floor:
    """The least a metric must reach; for a metric where less is better, the most."""

    metric: str
    value: float


@dataclass(frozen=True)
class ClassFloor:
    """The least that one of CLASS_METRICS must reach for one class, 0 to 1."""

    label: str
    metric: str
    value: float


@dataclass(frozen=True)
class Demands:
    """What the user asks for. A limit of 0 is no limit.

    `max_loss` is the margin against parent and incumbent (0: MAX_LOSS); times in milliseconds, sizes in bytes.
    """

    floors: tuple[Floor, ...] = ()
    max_latency_ms: float = 0.0
    class_floors: tuple[ClassFloor, ...] = ()
    max_loss: float = 0.0
    max_size_bytes: int = 0
    max_memory_bytes: int = 0

    @property
    def margin(self) -> float:
        """The loss that is allowed against another artifact."""
        return self.max_loss or MAX_LOSS


def check_demands(demands: Demands, known: Sequence[str], classes: Sequence[str] = ()) -> None:
    """Raises InvalidArgument naming every demand that cannot be; its reason is that of the first.

    UNKNOWN_METRIC and BAD_FLOOR for floors (`known` are the task's metrics), UNKNOWN_CLASS for class floors (`classes` are those
    of the evaluation, none for regression), BAD_MAX_LATENCY, BAD_MAX_LOSS, BAD_MAX_SIZE, BAD_MAX_MEMORY.
    """
    wrong = [*_wrong_floors(demands, known), *_wrong_class_floors(demands, classes), *_wrong_limits(demands)]
    if wrong:
        reasons, violations = zip(*wrong, strict=True)
        message = "; ".join(violation.description for violation in violations)
        named = ", ".join(floor.metric for floor in demands.floors)[:200]
        raise InvalidArgument(
            reasons[0], message, violations=tuple(violations), floors=named, known=", ".join(known), classes=_listed(classes)
        )


Wrong = tuple[str, FieldViolation]


def _wrong(reason: str, field: str, what: str) -> Wrong:
    return reason, FieldViolation(field, f"{field} is {what}")


def _wrong_floors(demands: Demands, known: Sequence[str]) -> Iterator[Wrong]:
    for index, floor in enumerate(demands.floors):
        field = f"floors[{index}]"
        if floor.metric not in known:
            what = f"{floor.metric!r:.80}; it must be one of {', '.join(known)}"
            yield _wrong("UNKNOWN_METRIC", f"{field}.metric", what)
        elif not math.isfinite(floor.value):
            yield _wrong("BAD_FLOOR", f"{field}.value", f"{floor.value}; it must be a finite number")


def _wrong_class_floors(demands: Demands, classes: Sequence[str]) -> Iterator[Wrong]:
    for index, floor in enumerate(demands.class_floors):
        field = f"class_floors[{index}]"
        if floor.label not in classes:
            right = f"it must be one of {_listed(classes)}" if classes else "a regression has no classes"
            yield _wrong("UNKNOWN_CLASS", f"{field}.label", f"{floor.label!r:.80}; {right}")
        if floor.metric not in CLASS_METRICS:
            yield _wrong("UNKNOWN_METRIC", f"{field}.metric", f"{floor.metric!r:.80}; it must be {', '.join(CLASS_METRICS)}")
        if not 0 <= floor.value <= 1:
            yield _wrong("BAD_FLOOR", f"{field}.value", f"{floor.value}; it must be 0 to 1")


def _wrong_limits(demands: Demands) -> Iterator[Wrong]:
    low, high = MAX_LATENCY_MS
    if demands.max_latency_ms and not low <= demands.max_latency_ms <= high:
        what = f"{demands.max_latency_ms:g}; it must be {low:g} to {high:g}, or 0 for no limit"
        yield _wrong("BAD_MAX_LATENCY", "max_latency_ms", what)
    if not 0 <= demands.max_loss <= 1:
        yield _wrong("BAD_MAX_LOSS", "max_loss", f"{demands.max_loss:g}; it must be 0 to 1, where 0 means {MAX_LOSS:g}")
    if demands.max_size_bytes < 0:
        yield _wrong("BAD_MAX_SIZE", "max_size_bytes", f"{demands.max_size_bytes}; it must be 0 (no limit) or more")
    if demands.max_memory_bytes < 0:
        yield _wrong("BAD_MAX_MEMORY", "max_memory_bytes", f"{demands.max_memory_bytes}; it must be 0 (no limit) or more")


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:_SHOWN_CLASSES])
    return f"{shown} and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else shown
