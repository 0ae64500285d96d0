"""What is in memory: models by the name and version that callers use. Read by every prediction, changed by deployments."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelyard.core.errors import NotFound, Unavailable
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import canonical_version
from modelyard.serving.ports import LoadedModel

RETRY_S = 2.0
"""When to ask again for a model that is loading."""


@dataclass(frozen=True)
class Entry:
    """A version of a model as it stands in this process. `loaded` is None unless it is READY; `since` puts versions in order."""

    model: str
    version: str
    since: datetime
    condition: Condition
    loaded: LoadedModel | None = None


class Registry:
    """The versions of every model. Readers take no lock: a change replaces the index as a whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._defaults: dict[str, Entry] = {}
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether everything that is written down has been loaded, or tried, since the start."""
        return self._complete

    def set_complete(self) -> None:
        """From now on the server is ready."""
        self._complete = True

    def put(self, entry: Entry) -> None:
        """Adds or replaces a version."""
        with self._lock:
            self._replace({**self._entries, (entry.model, entry.version): entry})

    def remove(self, model: str, version: str, since: datetime | None = None) -> None:
        """Takes a version away; predictions that have begun end as they would have. Fine when it is gone already.

        With `since` only the one that answers since then, not one that took its place.
        """
        with self._lock:
            entry = self._entries.get((model, version))
            if entry is not None and since in (None, entry.since):
                self._replace({key: other for key, other in self._entries.items() if other is not entry})

    def entry(self, model: str, version: str) -> Entry | None:
        """A version by its own name ("V001"), or None."""
        return self._entries.get((model, version))

    def entries(self) -> list[Entry]:
        """Every version of every model, by model, oldest first."""
        return sorted(self._entries.values(), key=lambda entry: (entry.model, entry.since, entry.version))

    def versions(self, model: str) -> list[Entry]:
        """The versions of a model, oldest first."""
        return [entry for entry in self.entries() if entry.model == model]

    def find(self, model: str, version: str) -> tuple[Entry, LoadedModel]:
        """The version a caller means ("V001", "1", or "" for the newest that is READY), with its model.

        Raises NotFound MODEL_NOT_FOUND or VERSION_NOT_FOUND, Unavailable MODEL_LOADING or MODEL_FAILED.
        """
        entry = self._lookup(model, version)
        if entry is not None and entry.loaded is not None:
            return entry, entry.loaded
        raise self._reason(model, version, entry)

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a prediction by this name and version would be answered."""
        entry = self._lookup(model, version)
        return entry is not None and entry.loaded is not None

    def _lookup(self, model: str, version: str) -> Entry | None:
        if not version:
            return self._defaults.get(model)
        return self._entries.get((model, version)) or self._entries.get((model, canonical_version(version)))

    def _replace(self, entries: dict[tuple[str, str], Entry]) -> None:
        self._entries = entries
        self._defaults = newest_ready(entries.values())

    def _reason(self, model: str, version: str, entry: Entry | None) -> NotFound | Unavailable:
        versions = self.versions(model)
        if not versions and not self._complete:
            message = f"model {model[:200]!r} is not known yet: the server is still loading. Try again in a moment."
            return Unavailable("SERVER_STARTING", message, field="model_name", retry_after_s=RETRY_S, model=model[:200])
        if not versions:
            message = f"model {model[:200]!r} does not exist here; RepositoryIndex lists those that do"
            return NotFound("MODEL_NOT_FOUND", message, field="model_name", model=model[:200])
        found = entry or (versions[-1] if not version else None)
        if found is None:
            known = ", ".join(entry.version for entry in versions)
            message = f"model {model!r} has no version {version[:200]!r}; it has {known}"
            return NotFound("VERSION_NOT_FOUND", message, field="model_version", model=model, version=version[:200])
        return _not_ready(found)


def _not_ready(entry: Entry) -> Unavailable:
    if entry.condition.state == DeploymentState.LOADING:
        message = f"version {entry.version} of model {entry.model!r} is being loaded; try again in a moment"
        return Unavailable("MODEL_LOADING", message, retry_after_s=RETRY_S, model=entry.model, version=entry.version)
    message = f"version {entry.version} of model {entry.model!r} could not be loaded: {entry.condition.message}"
    return Unavailable("MODEL_FAILED", message, model=entry.model, version=entry.version)


def newest_ready(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By model, the entry that answers when the caller names no version."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        current = newest.get(entry.model)
        if entry.loaded is not None and (current is None or (current.since, current.version) < (entry.since, entry.version)):
            newest[entry.model] = entry
    return newest
