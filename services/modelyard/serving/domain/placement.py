"""Where an endpoint's versions live when they live in pods: how many, on which nodes, and how those that there are fare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from modelyard.core.errors import InvalidArgument

TARGETS: Final = ("cpu", "gpu", "edge")
"""Kinds of nodes; settings say what each means."""
MOST_REPLICAS: Final = 1000
LEAST_IDLE_S: Final = 10.0
MOST_IDLE_S: Final = 7 * 86_400.0
MOST_TEXT: Final = 500
_QUANTITY: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


@dataclass(frozen=True)
class Placement:
    """The pods of an endpoint on one target.

    `min_replicas` 0 is allowed only with `idle_s`: after so many seconds without a request they go, and the next request brings
    them back. `cpu`, `memory`: what a pod asks for, as Kubernetes writes it; empty: as the target says. `gpus`: of a pod there.
    """

    target: str
    min_replicas: int = 1
    max_replicas: int = 1
    cpu: str = ""
    memory: str = ""
    gpus: int = 0
    idle_s: float = 0.0

    @property
    def sleeps(self) -> bool:
        """Whether it may have no pod at all."""
        return self.idle_s > 0


USUAL: Final = Placement("cpu")
"""Where nothing is said: one pod on a processor."""


class PodState(StrEnum):
    """Where a pod is in its life."""

    PENDING = "PENDING"
    """It waits for a node, an image, or its process."""
    RUNNING = "RUNNING"
    """Its process runs; what it holds `versions` says."""
    READY = "READY"
    """Every version that it should hold passed its golden requests."""
    ENDING = "ENDING"
    """It ends what has begun, and takes nothing new."""


class Holding(StrEnum):
    """How a version fares in a pod."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Held:
    """A version in a pod. `message`: why it failed."""

    state: Holding
    message: str = ""


@dataclass(frozen=True)
class Pod:
    """A pod of an endpoint. `address`: host:port, empty while it has none. `message`: why it waits or restarts, for people."""

    name: str
    target: str
    state: PodState
    address: str = ""
    node: str = ""
    message: str = ""
    restarts: int = 0
    versions: Mapping[str, Held] = field(default_factory=dict)

    def answers(self, version: str) -> bool:
        """Whether requests for a version may go there."""
        held = self.versions.get(version)
        return held is not None and held.state is Holding.READY and self.state is not PodState.ENDING and bool(self.address)

    def holding(self, versions: Mapping[str, Held]) -> Pod:
        """The same pod with what it says of its versions."""
        return replace(self, versions=versions)


@dataclass(frozen=True)
class Outlook:
    """How far a version is: `live` once it may be given traffic; `failed`: it never will be, and why; `summary` for people."""

    live: bool
    failed: str = ""
    summary: str = ""


def outlook(placements: Sequence[Placement], pods: Sequence[Pod], version: str) -> Outlook:
    """Whether a version can be given traffic.

    On every target at least as many pods as it should have must answer for it, and every pod that answers for another version
    must too: the switch takes no pod away from callers. A version that failed in one pod is given up.
    """
    failed = [pod for pod in pods if _state(pod, version) is Holding.FAILED]
    if failed:
        held = failed[0].versions[version]
        return Outlook(False, held.message or "it could not be loaded", f"{failed[0].name}: {held.message}")
    parts, live = [], True
    for placement in placements:
        mine = [pod for pod in pods if pod.target == placement.target and pod.state is not PodState.ENDING]
        ready = sum(pod.answers(version) for pod in mine)
        wanted = max(1, placement.min_replicas)
        behind = sum(not pod.answers(version) for pod in mine if pod.state is PodState.READY)
        live = live and ready >= wanted and not behind
        parts.append(f"{placement.target}: {ready} of {max(wanted, ready + behind)} pods answer")
    waiting = [f"{pod.name}: {pod.message}" for pod in pods if pod.message and not pod.answers(version)]
    return Outlook(live, summary="; ".join([*parts, *waiting[:3]])[:MOST_TEXT])


def check_placements(placements: Iterable[Placement], field_: str = "endpoint.placements") -> tuple[Placement, ...]:
    """The placements. Raises InvalidArgument BAD_PLACEMENT, naming the field and what would be right."""
    found: dict[str, Placement] = {}
    for number, placement in enumerate(placements):
        if placement.target in found:
            raise _bad(f"{field_}[{number}].target", placement.target, "named twice; one placement a target")
        found[placement.target] = _checked(placement, f"{field_}[{number}]")
    return tuple(found.values())


def _checked(placement: Placement, where: str) -> Placement:
    if placement.target not in TARGETS:
        raise _bad(f"{where}.target", placement.target, f"it must be one of {', '.join(TARGETS)}")
    low, high, idle = placement.min_replicas, placement.max_replicas, placement.idle_s
    if not 0 <= low <= MOST_REPLICAS or (low == 0 and not idle):
        raise _bad(f"{where}.min_replicas", low, f"it must be 1 to {MOST_REPLICAS}; 0 only together with scale_to_zero_after")
    if not max(1, low) <= high <= MOST_REPLICAS:
        raise _bad(f"{where}.max_replicas", high, f"it must be {max(1, low)} (the least) to {MOST_REPLICAS}")
    if idle and not LEAST_IDLE_S <= idle <= MOST_IDLE_S:
        raise _bad(f"{where}.scale_to_zero_after", f"{idle:g} s", f"it must be {LEAST_IDLE_S:g} s to 7 days; unset: never")
    if idle and low:
        raise _bad(f"{where}.scale_to_zero_after", f"{idle:g} s", f"it goes with min_replicas 0, which is {low}")
    for name in ("cpu", "memory"):
        value = getattr(placement, name)
        if value and not _QUANTITY.fullmatch(value):
            raise _bad(f"{where}.{name}", value, "it must be a quantity as Kubernetes writes it: 500m, 2, 512Mi, 4Gi")
    if not 0 <= placement.gpus <= 64 or (placement.gpus and placement.target != "gpu"):
        raise _bad(f"{where}.gpus", placement.gpus, "it must be 0 to 64, and goes with the target gpu")
    return placement


def _state(pod: Pod, version: str) -> Holding | None:
    held = pod.versions.get(version)
    return held.state if held is not None and pod.state is not PodState.ENDING else None


def _bad(field_: str, value: object, right: str) -> InvalidArgument:
    return InvalidArgument("BAD_PLACEMENT", f"{field_} is {str(value)[:80]!r}: {right}", field=field_, value=str(value)[:80])
