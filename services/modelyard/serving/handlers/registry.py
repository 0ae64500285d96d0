"""What is in memory: models by the name and version that callers use. Read by every prediction, changed by deployments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from modelyard.core.errors import NotFound, Unavailable
from modelyard.serving.domain.endpoint import Condition, DeploymentState, Endpoint, default_of
from modelyard.serving.domain.names import canonical_version
from modelyard.serving.domain.shadow import Comparison, Shadow
from modelyard.serving.domain.traffic import CHAMPION, Routing, hash_seed
from modelyard.serving.ports import ServedModel

RETRY_S: Final = 2.0
"""When to ask again for a model that is loading."""
CLOSING_S: Final = 0.02
"""How long a model that nobody is sent to any more waits for those who are on their way to it."""


@dataclass(frozen=True)
class Entry:
    """A version of a model as it stands in this process. `loaded` is None until it can answer; `since` puts versions in order.

    `condition` is how its loading went; how it fares since then is `health`.
    """

    model: str
    version: str
    since: datetime
    condition: Condition
    loaded: ServedModel | None = None

    @property
    def health(self) -> Condition:
        """READY, LOADING, FAILED, or UNHEALTHY with how its process ended."""
        return self.condition if self.loaded is None else self.loaded.condition

    @property
    def is_ready(self) -> bool:
        """Whether it answers now."""
        return self.loaded is not None and self.loaded.condition.state is DeploymentState.READY


@dataclass(frozen=True)
class Table:
    """Who answers for one model: made anew at each change, never changed.

    `entries`: by version, oldest first. `names`: by version and label. `slots`: who has each percent of the callers that name no
    version; empty where no shares are set: `order` says who comes first. `sole`: the one that has all of them. `seed`: of the
    hash that spreads callers. `endpoint` is None at the edge, where there is none.
    """

    entries: Mapping[str, Entry]
    names: Mapping[str, Entry]
    slots: tuple[Entry | None, ...]
    shares: tuple[tuple[Entry, int], ...]
    order: tuple[Entry, ...]
    sole: Entry | None
    seed: int
    shadow: Entry | None
    shadow_percent: int
    comparison: Comparison | None
    endpoint: Endpoint | None

    def named(self, version: str) -> Entry | None:
        """A version ("V003", "3") or label."""
        return self.names.get(version) or self.names.get(canonical_version(version))

    def default(self) -> Entry | None:
        """Who answers most of those who name no version; one that is not ready where none is."""
        routing = self.endpoint.routing if self.endpoint else Routing()
        ready = default_of(routing, [entry.version for entry in self.entries.values() if entry.is_ready])
        return self.entries[ready] if ready else next((entry for entry in self.order if entry.loaded is not None), None)


class Registry:
    """The versions of every model. Readers take no lock: a change replaces a model's table as a whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._complete = False
        self.tables: dict[str, Table] = {}
        """By model; replaced, never changed."""

    @property
    def complete(self) -> bool:
        """Whether everything that is written down has been loaded, or tried, since the start."""
        return self._complete

    def set_complete(self) -> None:
        """From now on the server is ready."""
        self._complete = True

    def put(self, entry: Entry, endpoint: Endpoint | None = None) -> None:
        """Adds or replaces a version; with `endpoint` its shares and labels change in the same step. Closes what it replaces."""
        with self._lock:
            table = self.tables.get(entry.model)
            entries = {**table.entries, entry.version: entry} if table else {entry.version: entry}
            self._replace(entry.model, entries, _newer(endpoint, table))
        old = table.entries.get(entry.version) if table else None
        if old is not None and old.loaded is not entry.loaded:
            _close([old])

    def assign(self, model: str, endpoint: Endpoint) -> None:
        """Shares and labels become those of the endpoint, in one step; older ones than those in memory are left out."""
        with self._lock:
            table = self.tables.get(model)
            if table is None or table.endpoint != _newer(endpoint, table):
                self._replace(model, table.entries if table else {}, _newer(endpoint, table))

    def remove(self, model: str, version: str, since: datetime | None = None, endpoint: Endpoint | None = None) -> None:
        """Takes a version away; predictions that have begun end as they would have. Fine when it is gone already.

        With `since` only the one that answers since then, not one that took its place.
        """
        with self._lock:
            table = self.tables.get(model)
            entry = table.entries.get(version) if table else None
            if table is None or entry is None or since not in (None, entry.since):
                return
            entries = {name: other for name, other in table.entries.items() if other is not entry}
            self._replace(model, entries, _newer(endpoint, table))
        _close([entry])

    def drop(self, model: str) -> None:
        """Takes a model away with all its versions."""
        with self._lock:
            table = self.tables.get(model)
            self.tables = {name: other for name, other in self.tables.items() if name != model}
        _close(table.entries.values() if table else ())

    def close(self) -> None:
        """Takes everything away: the server ends."""
        for model in list(self.tables):
            self.drop(model)

    def entry(self, model: str, version: str) -> Entry | None:
        """A version by its own name ("V001"), or None."""
        table = self.tables.get(model)
        return table.entries.get(version) if table else None

    def entries(self) -> list[Entry]:
        """Every version of every model, by model, oldest first."""
        tables = self.tables
        return [entry for model in sorted(tables) for entry in tables[model].entries.values()]

    def versions(self, model: str) -> list[Entry]:
        """The versions of a model, oldest first."""
        table = self.tables.get(model)
        return list(table.entries.values()) if table else []

    def find(self, model: str, version: str) -> tuple[Entry, ServedModel]:
        """The version a caller means ("V001", "1", "champion", or "" for the one that answers most), with its model.

        Raises NotFound MODEL_NOT_FOUND or VERSION_NOT_FOUND, Unavailable SERVER_STARTING, MODEL_LOADING or MODEL_FAILED.
        """
        entry = self._lookup(model, version)
        if entry is not None and entry.loaded is not None:
            return entry, entry.loaded
        raise self.reason(model, version, entry)

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a prediction by this name and version would be answered."""
        entry = self._lookup(model, version)
        return entry is not None and entry.is_ready

    def reason(self, model: str, version: str, entry: Entry | None) -> NotFound | Unavailable:
        """Why there is no answer; `entry` is the version that was meant, if there is one."""
        versions = self.versions(model)
        if not versions and not self._complete:
            message = f"model {model[:200]!r} is not known yet: the server is still loading. Try again in a moment."
            return Unavailable("SERVER_STARTING", message, field="model_name", retry_after_s=RETRY_S, model=model[:200])
        if not versions:
            message = f"model {model[:200]!r} does not exist here; RepositoryIndex lists those that do"
            return NotFound("MODEL_NOT_FOUND", message, field="model_name", model=model[:200])
        found = entry or (versions[-1] if not version else None)
        if found is None:
            known = ", ".join(self.tables[model].names)
            message = f"model {model!r} has no version {version[:200]!r}; it has {known}"
            return NotFound("VERSION_NOT_FOUND", message, field="model_version", model=model, version=version[:200])
        return _not_ready(found)

    def meant(self, model: str, version: str) -> Entry | None:
        """The version a caller means, whether it answers or not; None when it is not known."""
        table = self.tables.get(model)
        if table is None:
            return None
        return table.named(version) if version else table.default() or next(iter(table.order), None)

    def _lookup(self, model: str, version: str) -> Entry | None:
        table = self.tables.get(model)
        if table is None:
            return None
        return table.named(version) if version else table.default()

    def _replace(self, model: str, entries: Mapping[str, Entry], endpoint: Endpoint | None) -> None:
        self.tables = {**self.tables, model: table_of(model, entries, endpoint, self.tables.get(model))}


def table_of(model: str, entries: Mapping[str, Entry], endpoint: Endpoint | None, before: Table | None = None) -> Table:
    """The table of a model with these versions. What was compared goes on from the table before, while the shadow is the same."""
    routing = endpoint.routing if endpoint else Routing()
    ordered = {entry.version: entry for entry in sorted(entries.values(), key=lambda entry: (entry.since, entry.version))}
    labels = {label: ordered[version] for label, version in routing.labels.items() if version in ordered}
    champion = labels.get(CHAMPION)
    newest_first = [entry for entry in reversed(ordered.values()) if entry is not champion]
    order = (*([champion] if champion else []), *newest_first)
    shadow = endpoint.shadow if endpoint else None
    return Table(
        entries=ordered,
        names={**labels, **ordered},
        slots=tuple(ordered.get(version) for version in routing.slots),
        shares=tuple((ordered[version], percent) for version, percent in routing.shares.items() if version in ordered),
        order=order,
        sole=_sole([ordered.get(version) for version in routing.shares] or order[:1]),
        seed=hash_seed(model),
        shadow=ordered.get(shadow.version) if shadow else None,
        shadow_percent=shadow.percent if shadow else 0,
        comparison=_comparison(shadow, before),
        endpoint=endpoint,
    )


def _sole(answering: Sequence[Entry | None]) -> Entry | None:
    return answering[0] if len(answering) == 1 else None


def _comparison(shadow: Shadow | None, before: Table | None) -> Comparison | None:
    if shadow is None:
        return None
    earlier = before.endpoint.shadow if before and before.endpoint else None
    same = before is not None and earlier is not None and (earlier.version, earlier.time) == (shadow.version, shadow.time)
    return before.comparison if before and same else Comparison(datetime.now(UTC))


def _newer(endpoint: Endpoint | None, table: Table | None) -> Endpoint | None:
    """What another thread has read earlier must not take back what was written since."""
    known = table.endpoint if table else None
    if endpoint is None or known is None or known.create_time != endpoint.create_time:
        return endpoint or known
    return endpoint if endpoint.revision >= known.revision else known


def _close(entries: Iterable[Entry]) -> None:
    """Ends the models of entries that nobody is sent to any more."""
    models = [entry.loaded for entry in entries if entry.loaded is not None]
    if models:
        time.sleep(CLOSING_S)
    for model in models:
        model.close()


def _not_ready(entry: Entry) -> Unavailable:
    if entry.condition.state == DeploymentState.LOADING:
        message = f"version {entry.version} of model {entry.model!r} is being loaded; try again in a moment"
        return Unavailable("MODEL_LOADING", message, retry_after_s=RETRY_S, model=entry.model, version=entry.version)
    if entry.condition.state == DeploymentState.UNLOADED:
        message = f"version {entry.version} of model {entry.model!r} is not in memory: {entry.condition.message}"
        return Unavailable("MODEL_UNLOADED", message, model=entry.model, version=entry.version)
    message = f"version {entry.version} of model {entry.model!r} could not be loaded: {entry.condition.message}"
    return Unavailable("MODEL_FAILED", message, model=entry.model, version=entry.version)
