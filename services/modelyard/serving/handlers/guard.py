"""Watches over versions: takes a change of traffic back that makes things worse, and writes down who falls ill and recovers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from modelyard.core.clock import now
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.serving.domain.endpoint import DeploymentState, Endpoint
from modelyard.serving.domain.rollback import Counts, RollbackPolicy, between, counts_of, failing, slow, together
from modelyard.serving.domain.traffic import gained
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Entry, Table
from modelyard.serving.handlers.traffic import roll_back

log = structlog.get_logger()

SNAPSHOTS: Final = 10
"""Snapshots that are kept of a version over the window of its policy: what it did before a change is known to a tenth."""
LASTING_S: Final = 5.0
"""A version must be slow for as long after it was seen to be, on as many requests again: a burst takes nothing back."""

Which = tuple[str, str, object]
"""Model, version and since when."""


@dataclass
class Past:
    """What a version had done at some moments of the window, oldest first, and when it was last looked at."""

    moments: deque[tuple[float, Counts]] = field(default_factory=deque)
    last: Counts = field(default_factory=Counts)

    def note(self, at: float, counts: Counts, window_s: float) -> None:
        """Remembers a snapshot; drops those of which the next is old enough too."""
        self.last = counts
        if not self.moments or at - self.moments[-1][0] >= window_s / SNAPSHOTS:
            self.moments.append((at, counts))
        while len(self.moments) > 1 and at - self.moments[1][0] >= window_s:
            self.moments.popleft()

    def lately(self) -> Counts:
        """What it did from the start of the window to the last look."""
        return between(self.moments[0][1], self.last) if self.moments else Counts()


@dataclass(frozen=True)
class Round:
    """From when a version's latency is judged: where it and those that answered before stood. `suspect`: it was slow before."""

    since: float
    its: Counts
    theirs: Counts
    suspect: bool = False


@dataclass
class Watch:
    """A change of traffic that is watched: what those did that answered before, and where those that gained stood."""

    change: int
    until: float
    before: Counts
    start: dict[str, Counts]
    answered: tuple[str, ...]
    rounds: dict[str, Round]


class Guard:
    """Looks at all versions now and then; one thread calls it. Times are seconds of one monotonic clock."""

    def __init__(self, deployer: Deployer, clock: Callable[[], float] = time.monotonic) -> None:
        self._deployer = deployer
        self._clock = clock
        self._past: dict[Which, Past] = {}
        self._watches: dict[str, Watch] = {}
        self._changes: dict[str, tuple[object, int]] = {}
        self._healthy: dict[Which, bool] = {}

    def look(self) -> None:
        """Once over everything. What one endpoint raises keeps no other from its turn."""
        tables = self._deployer.registry.tables
        for model, table in tables.items():
            try:
                self._look_at(model, table)
            except Exception:  # the database may be away: looked at again next time
                log.exception("versions cannot be watched", model=model)
        self._forget(tables)

    def _look_at(self, model: str, table: Table) -> None:
        if table.endpoint is None:
            return
        self._note_health(table)
        self._begin(model, table, table.endpoint)
        watch = self._watches.get(model)
        if watch is not None:
            self._judge(model, table, table.endpoint, watch)
        for entry in table.entries.values():
            if entry.loaded is not None:
                past = self._past.setdefault(_which(entry), Past())
                past.note(self._clock(), counts_of(entry.loaded.statistics), table.endpoint.policy.window_s)

    def _note_health(self, table: Table) -> None:
        """Writes down who fell ill or recovered since the last look; who is seen for the first time may have been ill before."""
        for entry in table.entries.values():
            health = entry.health
            if entry.loaded is None or health.state not in (DeploymentState.READY, DeploymentState.UNHEALTHY):
                continue
            healthy = health.state is DeploymentState.READY
            if self._healthy.get(_which(entry)) is not healthy and table.endpoint is not None:
                name = f"{table.endpoint.name}/deployments/{entry.version}"
                if self._deployer.store.note_health(name, healthy, health.message):
                    log.warning("a version is healthy again" if healthy else "a version is unhealthy", deployment=name)
                self._healthy[_which(entry)] = healthy

    def _begin(self, model: str, table: Table, endpoint: Endpoint) -> None:
        """Begins to watch a change that is seen for the first time, for what is left of its window."""
        seen = (endpoint.create_time, endpoint.change)
        if self._changes.get(model) == seen:
            return
        self._changes[model] = seen
        self._watches.pop(model, None)
        left_s = endpoint.policy.window_s - _age_s(endpoint)
        if not endpoint.watched or endpoint.previous is None or left_s <= 0:
            return
        rising = gained(endpoint.previous, endpoint.routing.filled(_newest(table)))
        start = {version: self._last(table, version) for version in rising}
        answered = tuple(version for version in endpoint.previous.shares if version not in rising)
        before = together(self._lately(table, version) for version in endpoint.previous.shares)
        theirs, now = together(self._last(table, version) for version in answered), self._clock()
        rounds = {version: Round(now, its, theirs) for version, its in start.items()}
        self._watches[model] = Watch(endpoint.change, now + left_s, before, start, answered, rounds)

    def _judge(self, model: str, table: Table, endpoint: Endpoint, watch: Watch) -> None:
        if endpoint.policy.disabled or self._clock() > watch.until:
            del self._watches[model]
            return
        for version in watch.start:
            entry = table.entries.get(version)
            why = self._why(table, entry, endpoint, watch) if entry is not None else ""
            if why:
                self._roll_back(endpoint, watch.change, f"{version}: {why}")
                del self._watches[model]
                return

    def _why(self, table: Table, entry: Entry, endpoint: Endpoint, watch: Watch) -> str:
        """What speaks against a version that gained traffic: that it fell ill, what failed, or that it is slow and stays so."""
        if entry.loaded is None:
            return ""
        health = entry.health
        if health.state is DeploymentState.UNHEALTHY:
            return f"it became unhealthy ({health.message})" if health.message else "it became unhealthy"
        now = counts_of(entry.loaded.statistics)
        why = failing(endpoint.policy, watch.before, between(watch.start[entry.version], now))
        return why or self._slow(table, entry.version, now, endpoint.policy, watch)

    def _slow(self, table: Table, version: str, now: Counts, policy: RollbackPolicy, watch: Watch) -> str:
        """Slow in two rounds, of which the second lasts: a burst, or the first requests after a load, are no reason."""
        last, theirs = watch.rounds[version], together(self._now(table, other) for other in watch.answered)
        its = between(last.its, now)
        if its.successes < policy.min_requests or (last.suspect and self._clock() - last.since < LASTING_S):
            return ""
        why = slow(policy, watch.before, between(last.theirs, theirs), its)
        watch.rounds[version] = Round(self._clock(), now, theirs, suspect=bool(why))
        return why if last.suspect else ""

    def _roll_back(self, endpoint: Endpoint, change: int, why: str) -> None:
        try:
            roll_back(self._deployer, endpoint.name, why, only_change=change, by_itself=True)
        except (FailedPrecondition, NotFound) as error:  # any other may be over soon: it is tried again at the next look
            log.error("a change of traffic cannot be taken back", endpoint=endpoint.name, why=why, error=error.message)
            return
        log.warning("a change of traffic was taken back", endpoint=endpoint.name, why=why)

    def _last(self, table: Table, version: str) -> Counts:
        entry = table.entries.get(version)
        past = self._past.get(_which(entry)) if entry is not None else None
        return past.last if past is not None else Counts()

    def _now(self, table: Table, version: str) -> Counts:
        entry = table.entries.get(version)
        return counts_of(entry.loaded.statistics) if entry is not None and entry.loaded is not None else Counts()

    def _lately(self, table: Table, version: str) -> Counts:
        entry = table.entries.get(version)
        past = self._past.get(_which(entry)) if entry is not None else None
        return past.lately() if past is not None else Counts()

    def _forget(self, tables: dict[str, Table]) -> None:
        """What is not there any more."""
        known = {_which(entry) for table in tables.values() for entry in table.entries.values()}
        self._past = {which: past for which, past in self._past.items() if which in known}
        self._healthy = {which: healthy for which, healthy in self._healthy.items() if which in known}
        for model in [model for model in self._changes if model not in tables]:
            del self._changes[model]
            self._watches.pop(model, None)


def _age_s(endpoint: Endpoint) -> float:
    return max(0.0, (now() - endpoint.change_time).total_seconds()) if endpoint.change_time else 0.0


def _which(entry: Entry) -> Which:
    return entry.model, entry.version, entry.since


def _newest(table: Table) -> str:
    return list(table.entries)[-1] if table.entries else ""
