"""What a device remembers of a model, and how it decides about a version that is to take the place of another. No I/O, no clock.

At any moment a device has a version that it confirmed, or none yet; a new one is on trial beside it until confirmed or refused.
What is written down is always one whole ModelMemory, so that a power cut leaves the one before or the one after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from modelyard.serving.domain.desired_state import DesiredModel, DesiredVersion, Trial
from modelyard.serving.domain.following import FollowedState

MOST_STARTS: Final = 3
"""Times that the device may end while it loads or tries a version: power cuts happen, but a version can bring it down too."""
MOST_REFUSED: Final = 50


@dataclass(frozen=True)
class Refusal:
    """A version that was given up: it is not tried again in the same attempt. `state`: FAILED or REVERTED."""

    sha256: str
    attempt: str
    version: str
    state: FollowedState
    message: str


@dataclass(frozen=True)
class ModelMemory:
    """`confirmed` answers; `previous` was so before, and its bytes are kept; `trial` is being tried, begun `starts` times.

    `release`: of what was confirmed last: an older one is taken only when the centre's signed word allows it.
    """

    endpoint: str
    model: str
    confirmed: DesiredVersion | None = None
    previous: DesiredVersion | None = None
    trial: DesiredVersion | None = None
    starts: int = 0
    refused: tuple[Refusal, ...] = ()
    release: int = 0

    def refusal(self, version: DesiredVersion) -> Refusal | None:
        """Why a version was given up in this same attempt; None: it was not."""
        same = (each for each in self.refused if (each.sha256, each.attempt) == (version.sha256, version.attempt))
        return next(same, None)

    @property
    def needed(self) -> set[str]:
        """The sha256 of what serves, and of what going back needs."""
        return {each.sha256 for each in (self.confirmed, self.previous, self.trial) if each is not None}


class Step(StrEnum):
    """What to do about what is wanted."""

    SERVE = "SERVE"
    """It is confirmed: it has only to be in memory."""
    TRY = "TRY"
    """Fetch, verify, load it beside what answers, then switch."""
    GIVE_UP = "GIVE_UP"
    """It was given up before, or is now: what is confirmed goes on."""
    TOO_OLD = "TOO_OLD"
    """It is older than what was confirmed, and nobody signed that it may be."""
    NOTHING = "NOTHING"
    """No version is wanted."""


def next_step(memory: ModelMemory, desired: DesiredModel) -> Step:
    """What to do about what is wanted now."""
    wanted = wanted_version(desired)
    if wanted is None:
        return Step.NOTHING
    if memory.confirmed is not None and memory.confirmed.sha256 == wanted.sha256:
        return Step.SERVE
    if memory.refusal(wanted) is not None:
        return Step.GIVE_UP
    if wanted.release < memory.release and not desired.downgrade_allowed:
        return Step.TOO_OLD
    if same(memory.trial, wanted) and memory.starts >= MOST_STARTS:
        return Step.GIVE_UP
    return Step.TRY


def wanted_version(desired: DesiredModel) -> DesiredVersion | None:
    """The version that a device is to serve: it serves one of each model, the newest where several are named."""
    return desired.versions[-1] if desired.versions else None


def same(held: DesiredVersion | None, other: DesiredVersion) -> bool:
    """Whether these are the same bytes in the same attempt."""
    return held is not None and (held.sha256, held.attempt) == (other.sha256, other.attempt)


def begun(memory: ModelMemory, version: DesiredVersion) -> ModelMemory:
    """Its bytes are here: from now on, whatever happens to the device happens while it tries this version."""
    starts = memory.starts + 1 if same(memory.trial, version) else 1
    return replace(memory, trial=version, starts=starts)


def confirmed(memory: ModelMemory, version: DesiredVersion) -> ModelMemory:
    """It stays."""
    before = memory.confirmed if memory.confirmed and memory.confirmed.sha256 != version.sha256 else memory.previous
    return replace(memory, confirmed=version, previous=before, trial=None, starts=0, release=version.release)


def refused(memory: ModelMemory, version: DesiredVersion, state: FollowedState, message: str) -> ModelMemory:
    """It is given up, in this attempt: what was confirmed answers."""
    refusal = Refusal(version.sha256, version.attempt, version.version, state, message[:500])
    others = tuple(each for each in memory.refused if (each.sha256, each.attempt) != (version.sha256, version.attempt))
    return replace(memory, trial=None, starts=0, refused=(*others, refusal)[-MOST_REFUSED:])


def abandoned(memory: ModelMemory) -> ModelMemory:
    """What is tried is not wanted any more."""
    return replace(memory, trial=None, starts=0)


def fell_back(memory: ModelMemory) -> ModelMemory:
    """What was confirmed cannot be loaded any more; what was before can, and answers until something is confirmed again."""
    assert memory.previous is not None
    return replace(memory, confirmed=memory.previous, previous=None)


@dataclass(frozen=True)
class Counted:
    """What a version on trial has done since it began to answer."""

    successes: int = 0
    failures: int = 0
    crashes: int = 0
    healthy: bool = True


def objection(trial: Trial, counted: Counted) -> str:
    """Why a version on trial must go; empty: nothing speaks against it so far."""
    if not counted.healthy:
        return "its process ended by itself again and again"
    if counted.crashes > trial.max_crashes:
        return f"its process ended by itself {counted.crashes} times; {trial.max_crashes} may"
    requests = counted.successes + counted.failures
    if requests >= trial.min_requests and counted.failures > trial.max_error_rate * requests:
        return f"{counted.failures} of {requests} requests failed; {100 * trial.max_error_rate:g} % may"
    return ""
