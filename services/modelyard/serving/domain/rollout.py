"""Roll-outs: a version comes to devices in stages, and stops or goes back where too many fail. Rules only; times are given.

Each device decides for itself whether it keeps a version (domain/trial.py). A roll-out counts, and decides who is next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.serving.domain.desired_state import Trial
from modelyard.serving.domain.device import Assignment
from modelyard.serving.domain.following import FollowedState

MAX_STAGES: Final = 20
MAX_WAIT_S: Final = 7 * 86_400.0
MAX_TIMEOUT_S: Final = 30 * 86_400.0
TIMEOUT_S: Final = 3600.0


class RolloutState(StrEnum):
    """Where a roll-out is."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"


ENDED: Final = frozenset({RolloutState.SUCCEEDED, RolloutState.CANCELLED, RolloutState.REVERTED})


class OnFailure(StrEnum):
    """What happens when too many devices fail."""

    PAUSE = "PAUSE"
    REVERT = "REVERT"


class Progress(StrEnum):
    """How far a device is."""

    PENDING = "PENDING"
    OFFERED = "OFFERED"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    UNREACHABLE = "UNREACHABLE"
    TAKEN_BACK = "TAKEN_BACK"
    GONE = "GONE"


HAS_IT: Final = frozenset({Progress.OFFERED, Progress.CONFIRMED, Progress.UNREACHABLE})
"""Devices that are to serve the new version."""
OPEN: Final = frozenset({Progress.OFFERED, Progress.UNREACHABLE})
"""Devices that may still say how it went."""


@dataclass(frozen=True)
class RolloutDevice:
    """A device of a roll-out. `previous`: what it was to serve before; `offered_s`: when it was told, in seconds since 1970."""

    device: str
    progress: Progress = Progress.PENDING
    message: str = ""
    previous: Assignment | None = None
    offered_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is to be done: `stages` rise to 100; times in seconds."""

    stages: tuple[int, ...] = (100,)
    wait_s: float = 0.0
    max_failures: int = 0
    on_failure: OnFailure = OnFailure.PAUSE
    device_timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Rollout:
    """A roll-out. `assignment` is what its devices get; `devices` in the order in which they get it.

    `forgiven`: failures that a person has looked at (resumed). `good_since_s`: when the present stage was done; 0: it is not.
    `settled`: it has ended, and the devices' assignments say so.
    """

    name: str
    deployment: str
    assignment: Assignment
    plan: Plan
    devices: tuple[RolloutDevice, ...]
    selector: Mapping[str, object]
    state: RolloutState = RolloutState.RUNNING
    message: str = ""
    stage: int = -1
    forgiven: int = 0
    good_since_s: float = 0.0
    settled: bool = False
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def failures(self) -> int:
        """Devices that failed and were not forgiven."""
        return sum(each.progress is Progress.FAILED for each in self.devices) - self.forgiven

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED


@dataclass(frozen=True)
class Seen:
    """What is known of a device: whether it is there, who gave it what it is to serve, and what it says of the version."""

    there: bool = True
    ours: bool = True
    said: FollowedState | None = None
    message: str = ""


def chosen(rollout: str, devices: Iterable[str], percent: int = 0) -> list[str]:
    """The devices of a roll-out, in its own order: the same for the same roll-out and devices, another for another roll-out."""
    ordered = sorted(devices, key=lambda device: hashlib.sha256(f"{rollout}\n{device}".encode()).digest())
    return ordered[: share_of(len(ordered), percent)] if percent else ordered


def share_of(count: int, percent: int) -> int:
    """A percentage of so many, rounded up: 10 % of 3 is 1."""
    return -(-count * percent // 100)


def check_plan(plan: Plan) -> Plan:
    """Raises InvalidArgument BAD_STAGES, BAD_WAIT, BAD_MAX_FAILURES, BAD_DEVICE_TIMEOUT."""
    stages = plan.stages
    rising = all(before < after for before, after in pairwise(stages))
    if not stages or len(stages) > MAX_STAGES or not rising or not stages[0] >= 1 or stages[-1] != 100:
        right = f"1 to {MAX_STAGES} rising percentages, the last of them 100 (10, 50, 100); empty means all at once"
        raise _bad("BAD_STAGES", "rollout.stages", list(stages), right)
    if not 0 <= plan.wait_s <= MAX_WAIT_S:
        raise _bad("BAD_WAIT", "rollout.wait", plan.wait_s, "0 s to 7 days")
    if plan.max_failures < 0:
        raise _bad("BAD_MAX_FAILURES", "rollout.max_failures", plan.max_failures, "0 or more")
    if not 1 <= plan.device_timeout_s <= MAX_TIMEOUT_S:
        raise _bad("BAD_DEVICE_TIMEOUT", "rollout.device_timeout", plan.device_timeout_s, "1 s to 30 days")
    return plan


def check_percent(percent: int) -> int:
    """Percent of the selected devices; 0: all. Raises InvalidArgument BAD_PERCENT."""
    if not 0 <= percent <= 100:
        raise _bad("BAD_PERCENT", "rollout.selector.percent", percent, "1 to 100, or 0 for all")
    return percent


def step(rollout: Rollout, seen: Mapping[str, Seen], now_s: float) -> Rollout:
    """What becomes of a roll-out, given what is known of its devices. The same again changes nothing.

    A device that `seen` does not name was not looked at (it was offered the version since): nothing becomes of it yet.
    """
    if rollout.ended:
        return rollout
    heard = replace(rollout, devices=tuple(_heard(each, seen.get(each.device), rollout, now_s) for each in rollout.devices))
    if heard.state is RolloutState.REVERTING:
        return _taken_back(heard, RolloutState.REVERTED)
    if heard.state is RolloutState.RUNNING and heard.failures > heard.plan.max_failures:
        return _too_many(heard)
    return _onward(heard, now_s) if heard.state is RolloutState.RUNNING else heard


def paused(rollout: Rollout, message: str = "a caller paused it") -> Rollout:
    """Raises FailedPrecondition ROLLOUT_ENDED."""
    _check_going(rollout, "paused")
    return replace(rollout, state=RolloutState.PAUSED, message=message)


def resumed(rollout: Rollout) -> Rollout:
    """Goes on; the failures so far are forgiven. Raises FailedPrecondition ROLLOUT_ENDED."""
    _check_going(rollout, "resumed")
    if rollout.state is not RolloutState.PAUSED:
        return rollout
    return replace(rollout, state=RolloutState.RUNNING, message="", forgiven=rollout.forgiven + rollout.failures)


def cancelled(rollout: Rollout) -> Rollout:
    """Devices that confirmed keep the version, the others keep what they had. Raises FailedPrecondition ROLLOUT_ENDED."""
    _check_going(rollout, "cancelled")
    devices = tuple(replace(each, progress=Progress.TAKEN_BACK) if each.progress in OPEN else each for each in rollout.devices)
    return replace(rollout, state=RolloutState.CANCELLED, message="a caller cancelled it", devices=devices)


def reverted(rollout: Rollout, reason: str) -> Rollout:
    """Every device is told to go back. Also after the roll-out has succeeded or was cancelled.

    Raises FailedPrecondition ROLLOUT_ENDED when it went back already.
    """
    if rollout.state in (RolloutState.REVERTED, RolloutState.REVERTING):
        raise _ended(rollout, "reverted")
    message = reason or "a caller took it back"
    return _taken_back(replace(rollout, message=message, settled=False), RolloutState.REVERTED)


def wanted(rollout: Rollout, device: RolloutDevice) -> tuple[bool, Assignment | None]:
    """Whether the roll-out has a say in what a device is to serve, and what that is; None: nothing."""
    if device.progress in HAS_IT:
        return True, rollout.assignment
    if device.progress in (Progress.FAILED, Progress.TAKEN_BACK):
        # It may have served a newer release by now; and what it goes back to has proved itself, so it is not watched again.
        before = device.previous
        return True, replace(before, downgrade_allowed=True, trial=None) if before is not None else None
    return False, None


def wanted_of(rollout: Rollout, device: str) -> tuple[bool, Assignment | None]:
    """`wanted` for the device with this name."""
    found = next((each for each in rollout.devices if each.device == device), None)
    return wanted(rollout, found) if found is not None else (False, None)


def _heard(each: RolloutDevice, seen: Seen | None, rollout: Rollout, now_s: float) -> RolloutDevice:
    if each.progress not in OPEN or seen is None:
        return each
    if not seen.there or not seen.ours:
        return replace(each, progress=Progress.GONE, message="it was deleted or revoked, or was given another version")
    if seen.said is FollowedState.CONFIRMED:
        return replace(each, progress=Progress.CONFIRMED, message="")
    if seen.said in (FollowedState.FAILED, FollowedState.REVERTED):
        return replace(each, progress=Progress.FAILED, message=seen.message)
    if each.progress is Progress.OFFERED and now_s - each.offered_s >= rollout.plan.device_timeout_s:
        message = f"it said nothing final within {rollout.plan.device_timeout_s:.0f} s"
        return replace(each, progress=Progress.UNREACHABLE, message=message)
    return each


def _too_many(rollout: Rollout) -> Rollout:
    first = next(each for each in reversed(rollout.devices) if each.progress is Progress.FAILED)
    message = f"{rollout.failures} devices failed, {rollout.plan.max_failures} may; {first.device}: {first.message}"[:500]
    if rollout.plan.on_failure is OnFailure.REVERT:
        return replace(rollout, state=RolloutState.REVERTING, message=message)
    return replace(rollout, state=RolloutState.PAUSED, message=message)


def _onward(rollout: Rollout, now_s: float) -> Rollout:
    if rollout.stage < 0:
        return _offered(rollout, 0, now_s)
    if any(each.progress is Progress.OFFERED for each in rollout.devices):
        return rollout
    if rollout.stage + 1 >= len(rollout.plan.stages):
        return _finished(rollout)
    if not rollout.good_since_s:
        rollout = replace(rollout, good_since_s=now_s)
    if now_s - rollout.good_since_s >= rollout.plan.wait_s:
        return _offered(rollout, rollout.stage + 1, now_s)
    return rollout


def _finished(rollout: Rollout) -> Rollout:
    """It says how many did not confirm. One whose devices are all gone changed nothing: it counts as cancelled."""
    counts = {each: sum(device.progress is each for device in rollout.devices) for each in Progress}
    if counts[Progress.GONE] == len(rollout.devices):
        message = "all its devices were deleted, revoked or given another version"
        return replace(rollout, state=RolloutState.CANCELLED, message=message)
    open_ends = [
        f"{counts[each]} {each.lower()}" for each in (Progress.FAILED, Progress.UNREACHABLE, Progress.GONE) if counts[each]
    ]
    confirmed = f"{counts[Progress.CONFIRMED]} of {len(rollout.devices)} devices confirmed; "
    return replace(rollout, state=RolloutState.SUCCEEDED, message=confirmed + ", ".join(open_ends) if open_ends else "")


def _offered(rollout: Rollout, stage: int, now_s: float) -> Rollout:
    count = share_of(len(rollout.devices), rollout.plan.stages[stage])
    devices = tuple(
        replace(each, progress=Progress.OFFERED, offered_s=now_s) if at < count and each.progress is Progress.PENDING else each
        for at, each in enumerate(rollout.devices)
    )
    return replace(rollout, stage=stage, good_since_s=0.0, devices=devices)


def _taken_back(rollout: Rollout, state: RolloutState) -> Rollout:
    devices = tuple(replace(each, progress=Progress.TAKEN_BACK) if each.progress in HAS_IT else each for each in rollout.devices)
    return replace(rollout, state=state, devices=devices)


def _check_going(rollout: Rollout, what: str) -> None:
    if rollout.ended or rollout.state is RolloutState.REVERTING:
        raise _ended(rollout, what)


def _ended(rollout: Rollout, what: str) -> FailedPrecondition:
    message = f"{rollout.name} is {rollout.state}; it cannot be {what} any more"
    return FailedPrecondition("ROLLOUT_ENDED", message, rollout=rollout.name, state=rollout.state)


def _bad(reason: str, field: str, value: object, right: str) -> InvalidArgument:
    return InvalidArgument(reason, f"{field} is {value!r:.120}; it must be {right}", field=field, value=repr(value)[:120])


def default_trial(trial: Trial | None) -> Trial:
    """How devices watch over a version where the roll-out does not say."""
    return trial or Trial()


def with_previous(devices: Sequence[str], previous: Mapping[str, Assignment]) -> tuple[RolloutDevice, ...]:
    """The devices of a new roll-out, with what each is to serve so far."""
    return tuple(RolloutDevice(device, previous=previous.get(device)) for device in devices)
