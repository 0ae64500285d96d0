"""A pod brings its memory in line with the desired state of its endpoint: all versions, with its shares and labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelyard.core.errors import NotFound
from modelyard.serving.domain.desired_state import DesiredModel, DesiredState, DesiredVersion
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.handlers.registry import Entry
from modelyard.serving.handlers.repository import RegisteredModels
from modelyard.serving.handlers.staging import Staging, ready_entry, routing_endpoint, said, since_of, unready_entry
from modelyard.serving.ports import ServedModel

Report = Callable[[DesiredVersion, Exception], None]


@dataclass
class EndpointFollower:
    """`retry_s`: after how long a version that could not be loaded is tried again. `report`: told why one could not."""

    staging: Staging
    report: Report
    retry_s: float = 30.0
    _state: DesiredState | None = None
    _sha256: dict[tuple[str, str], str] = field(default_factory=dict)
    _failed: dict[str, float] = field(default_factory=dict)

    def apply(self, state: DesiredState, going: Callable[[], bool] = lambda: True) -> bool:
        """Loads what is wanted and not there, then routes as wanted, then drops what is not wanted. Gives whether all is ready.

        While a version that is wanted cannot be loaded, what answered before stays to stand in for it.
        """
        self._state = state
        registry = self.staging.registry
        self.staging.forget({(model.endpoint, version.version) for model in state.models for version in model.versions})
        whole = True
        for model in state.models:
            for version in reversed(model.versions):  # the newest first: it most likely has the traffic
                whole = going() and self._ensure(state, model, version) and whole
            registry.assign(model.model, routing_endpoint(model, state.number))
            self._drop(model)
        for name in set(registry.tables) - {model.model for model in state.models}:
            registry.drop(name)
        if whole:
            wanted = {version.sha256 for model in state.models for version in model.versions}
            self.staging.cache.keep(wanted)
            registry.set_complete()
        return whole

    def repository(self) -> RegisteredModels:
        """For callers of the inference protocol that unload a model and load it again."""
        return RegisteredModels(self.staging.registry, self._again, self.staging.turn)

    def _ensure(self, state: DesiredState, model: DesiredModel, version: DesiredVersion) -> bool:
        registry, key = self.staging.registry, (model.model, version.version)
        entry = registry.entry(*key)
        same = entry is not None and self._sha256.get(key) == version.sha256
        if same and entry is not None and (entry.loaded is not None or entry.condition.state is DeploymentState.UNLOADED):
            self._renew(model, version, entry)
            return True
        if self._failed.get(version.sha256, 0.0) > time.monotonic():
            return False
        if entry is None or entry.loaded is None:
            registry.put(unready_entry(model, version, DeploymentState.LOADING))
        try:
            with self.staging.turn():
                loaded = self.staging.load(model, version, state.passport_keys)
                registry.put(ready_entry(model, version, loaded), None)
        except Exception as error:  # one that cannot be loaded must not keep the others from it
            self._fail(model, version, error)
            return False
        self._sha256[key] = version.sha256
        self._failed.pop(version.sha256, None)
        self.staging.note(model, version, FollowedState.CONFIRMED, downloaded=version.size_bytes)
        return True

    def _renew(self, model: DesiredModel, version: DesiredVersion, entry: Entry) -> None:
        """The same bytes, deployed again at another time: only their place in the order changes."""
        if entry.since != since_of(version) and entry.loaded is not None:
            self.staging.registry.put(ready_entry(model, version, entry.loaded))
        self.staging.note(model, version, FollowedState.CONFIRMED, downloaded=version.size_bytes)

    def _fail(self, model: DesiredModel, version: DesiredVersion, error: Exception) -> None:
        self.report(version, error)
        self._failed[version.sha256] = time.monotonic() + self.retry_s
        self.staging.note(model, version, FollowedState.FAILED, said(error))
        entry = self.staging.registry.entry(model.model, version.version)
        if entry is None or entry.loaded is None:
            self.staging.registry.put(unready_entry(model, version, DeploymentState.FAILED, said(error)))

    def _drop(self, model: DesiredModel) -> None:
        registry, wanted = self.staging.registry, {version.version for version in model.versions}
        ready = all(entry.loaded is not None for entry in registry.versions(model.model) if entry.version in wanted)
        for entry in registry.versions(model.model):
            if entry.version not in wanted and ready:
                registry.remove(model.model, entry.version)
                self._sha256.pop((model.model, entry.version), None)

    def _again(self, entry: Entry) -> ServedModel:
        state = self._state
        for model in state.models if state is not None else ():
            for version in model.versions:
                if (model.model, version.version) == (entry.model, entry.version) and state is not None:
                    return self.staging.load(model, version, state.passport_keys)
        raise NotFound("VERSION_NOT_FOUND", f"version {entry.version} of {entry.model} is not to be served here any more")
