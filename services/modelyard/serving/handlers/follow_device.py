"""A device brings its memory in line with its desired state: one version of each model, tried beside the one that answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from modelyard.core.errors import DataLoss, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from modelyard.serving.domain import trial as rules
from modelyard.serving.domain.desired_state import DesiredModel, DesiredState, DesiredVersion, Trial
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.domain.following import FollowedState
from modelyard.serving.domain.traffic import CHAMPION
from modelyard.serving.domain.trial import Counted, ModelMemory, Step
from modelyard.serving.handlers.registry import Entry
from modelyard.serving.handlers.repository import RegisteredModels
from modelyard.serving.handlers.staging import Staging, ready_entry, routing_endpoint, said
from modelyard.serving.ports import ServedModel

Tell = Callable[[DesiredVersion, Exception], None]
MOST_CORRUPT: Final = 3
"""Times that other bytes may come than were asked for before a version is given up."""


class DeviceMemory(Protocol):
    """What a device remembers, on its disk."""

    def models(self) -> dict[str, ModelMemory]:
        """By endpoint."""

    def write(self, memory: ModelMemory) -> None:
        """Takes down what is known of a model: on the disk when this returns, as a whole or not at all."""

    def forget(self, endpoint: str) -> None:
        """A model that is not wanted any more."""


@dataclass
class OnTrial:
    """A version that answers and is watched, since `began` (monotonic)."""

    version: DesiredVersion
    model: DesiredModel
    loaded: ServedModel
    watch: Trial
    began: float


@dataclass
class DeviceFollower:
    """`replay`: asks a model that answers its golden requests again. `tell`: told why a version could not be taken.

    Everything here runs in one thread.
    """

    staging: Staging
    memory: DeviceMemory
    replay: Callable[[ServedModel, Path], None]
    tell: Tell
    clock: Callable[[], float] = time.monotonic
    keys: tuple[bytes, ...] = ()
    _trials: dict[str, OnTrial] = field(default_factory=dict)
    _loaded: dict[str, tuple[str, ServedModel]] = field(default_factory=dict)
    _wanted: set[str] = field(default_factory=set)
    _corrupt: dict[str, int] = field(default_factory=dict)
    _revision: int = 0

    def begin(self, state: DesiredState) -> bool:
        """At the start of the device, without the centre: what was confirmed answers again. Gives whether all of it does."""
        self.keys = state.passport_keys
        memories, whole = self.memory.models(), True
        for model in state.models:
            memory = memories.get(model.endpoint)
            whole = (memory is None or self._serve_confirmed(model, memory)) and whole
        return whole

    def apply(self, state: DesiredState, going: Callable[[], bool] = lambda: True) -> bool:
        """One round towards what is wanted. Gives whether nothing is left to do but to watch."""
        self.keys = state.passport_keys
        self._wanted = {version.sha256 for model in state.models for version in model.versions}
        done = True
        for model in state.models:
            if going():
                done = self._follow(model) and done
        self._drop_unwanted(state)
        return done

    def look(self) -> bool:
        """Watches over what is on trial; gives whether something was decided."""
        decided = False
        for endpoint, tried in list(self._trials.items()):
            why = rules.objection(tried.watch, _counted(tried.loaded))
            if why:
                self._revert(tried, why)
            elif self.clock() - tried.began >= tried.watch.window_s:
                self._end(tried)
            else:
                continue
            decided = True
            self._trials.pop(endpoint, None)
        return decided

    def answers(self, state: DesiredState) -> bool:
        """Whether every model of a state has a version that answers."""
        return all(self.staging.registry.is_ready(model.model, "") for model in state.models if model.versions)

    def repository(self) -> RegisteredModels:
        """For callers of the inference protocol that unload a model and load it again."""
        return RegisteredModels(self.staging.registry, self._again, self.staging.turn)

    def _follow(self, model: DesiredModel) -> bool:
        memory = self.memory.models().get(model.endpoint) or ModelMemory(model.endpoint, model.model)
        on = self._trials.get(model.endpoint)
        if on is not None and model.versions and rules.same(on.version, model.versions[-1]):
            self._trials[model.endpoint] = replace(on, model=model, watch=model.trial or on.watch)
            return True
        step, wanted = rules.next_step(memory, model), rules.wanted_version(model)
        if memory.trial is not None and (wanted is None or not rules.same(memory.trial, wanted)):
            memory = self._abandon(memory)
        if wanted is None or step is Step.NOTHING:
            return True
        if step is Step.SERVE:
            return self._serve(model, memory, wanted)
        whole = memory.confirmed is None or self._serve_confirmed(model, memory)
        if step is Step.GIVE_UP:
            self._give_up(model, memory, wanted)
        elif step is Step.TOO_OLD:
            message = (
                f"{wanted.version} is older than the version that was confirmed here; a roll-out that goes back says so "
                "(downgrade_allowed)"
            )
            self.staging.note(model, wanted, FollowedState.FAILED, f"DOWNGRADE_REFUSED: {message}")
        else:
            return self._try(model, memory, wanted) and whole
        return whole

    def _serve(self, model: DesiredModel, memory: ModelMemory, wanted: DesiredVersion) -> bool:
        """What is wanted is confirmed already, perhaps in another attempt."""
        if memory.confirmed != wanted:
            memory = rules.confirmed(memory, wanted)
            self.memory.write(memory)
        return self._serve_confirmed(model, memory)

    def _serve_confirmed(self, model: DesiredModel, memory: ModelMemory) -> bool:
        """Loads what was confirmed where it is not in memory; where it cannot be, what was before it."""
        version = memory.confirmed
        if version is None:
            return True
        held = self._loaded.get(model.endpoint)
        if held is not None and held[0] == version.sha256:
            if model.endpoint not in self._trials:
                self.staging.note(model, version, FollowedState.CONFIRMED, downloaded=version.size_bytes)
            return True
        try:
            loaded = self.staging.load(model, version, self.keys)
        except Exception as error:
            self.tell(version, error)
            self.staging.note(model, version, FollowedState.FAILED, said(error))
            if memory.previous is None or self.staging.cache.held(memory.previous.sha256) is None or _passing(error):
                return False
            after = rules.fell_back(memory)
            return self._stand_in(model, after)
        self._answers(model, version, loaded)
        self.staging.note(model, version, FollowedState.CONFIRMED, downloaded=version.size_bytes)
        return True

    def _stand_in(self, model: DesiredModel, memory: ModelMemory) -> bool:
        """The version before answers, without anything being written down: the confirmed one is tried again at the next start."""
        version = memory.confirmed
        assert version is not None
        held = self._loaded.get(model.endpoint)
        if held is None or held[0] != version.sha256:
            try:
                self._answers(model, version, self.staging.load(model, version, self.keys))
            except Exception as error:
                self.tell(version, error)
        return False

    def _try(self, model: DesiredModel, memory: ModelMemory, wanted: DesiredVersion) -> bool:
        """Fetches a version, notes that it is tried, loads it beside what answers, switches."""
        try:
            self.staging.fetch(model, wanted, self.look)
        except Exception as error:
            return self._not_fetched(model, memory, wanted, error)
        memory = rules.begun(memory, wanted)
        self.memory.write(memory)
        try:
            loaded = self.staging.load(model, wanted, self.keys)
        except Exception as error:
            self.tell(wanted, error)
            self._refuse(model, memory, wanted, FollowedState.FAILED, said(error))
            return True
        if model.trial is None or model.trial.window_s <= 0:
            self._confirm(model, memory, wanted, loaded)
            return True
        self._trials[model.endpoint] = OnTrial(wanted, model, loaded, model.trial, self.clock())
        self._answers(model, wanted, loaded, keep=memory.confirmed)
        self.staging.note(model, wanted, FollowedState.TRIAL, downloaded=wanted.size_bytes)
        return True

    def _not_fetched(self, model: DesiredModel, memory: ModelMemory, wanted: DesiredVersion, error: Exception) -> bool:
        self.tell(wanted, error)
        if isinstance(error, DataLoss):
            self._corrupt[wanted.sha256] = self._corrupt.get(wanted.sha256, 0) + 1
            if self._corrupt[wanted.sha256] >= MOST_CORRUPT:
                self._refuse(model, memory, wanted, FollowedState.FAILED, said(error))
                return True
        if isinstance(error, ResourceExhausted):
            self._refuse(model, memory, wanted, FollowedState.FAILED, said(error))
            return True
        self.staging.note(model, wanted, FollowedState.DOWNLOADING, said(error))
        return False

    def _give_up(self, model: DesiredModel, memory: ModelMemory, wanted: DesiredVersion) -> None:
        refusal = memory.refusal(wanted)
        if refusal is None:
            message = f"the device ended {memory.starts} times while it loaded or tried this version"
            self._refuse(model, memory, wanted, FollowedState.REVERTED, message)
        else:
            self.staging.note(model, wanted, refusal.state, refusal.message, downloaded=wanted.size_bytes)

    def _end(self, tried: OnTrial) -> None:
        """The time is up: its golden requests once more, then it stays."""
        path = self.staging.cache.held(tried.version.sha256)
        try:
            if path is not None:
                self.replay(tried.loaded, path)
        except Exception as error:
            self._revert(tried, f"its golden requests, asked again at the end of the trial: {said(error)}")
            return
        self._confirm(tried.model, self.memory.models()[tried.model.endpoint], tried.version, tried.loaded)

    def _confirm(self, model: DesiredModel, memory: ModelMemory, version: DesiredVersion, loaded: ServedModel) -> None:
        self.memory.write(rules.confirmed(memory, version))
        self._answers(model, version, loaded)
        self.staging.note(model, version, FollowedState.CONFIRMED, downloaded=version.size_bytes)
        self._keep()

    def _revert(self, tried: OnTrial, why: str) -> None:
        """Goes back: first on the disk, then in memory."""
        memory = self.memory.models()[tried.model.endpoint]
        self._trials.pop(tried.model.endpoint, None)
        self._refuse(tried.model, memory, tried.version, FollowedState.REVERTED, why)

    def _refuse(
        self, model: DesiredModel, memory: ModelMemory, version: DesiredVersion, state: FollowedState, message: str
    ) -> None:
        after = rules.refused(memory, version, state, message)
        self.memory.write(after)
        self._back_to_confirmed(model, after, version)
        self.staging.note(model, version, state, message, downloaded=version.size_bytes)
        self._keep()

    def _abandon(self, memory: ModelMemory) -> ModelMemory:
        """What is tried is not wanted any more."""
        after, tried = rules.abandoned(memory), memory.trial
        self.memory.write(after)
        on = self._trials.pop(memory.endpoint, None)
        if on is not None and tried is not None:
            self._back_to_confirmed(on.model, after, tried)
        return after

    def _back_to_confirmed(self, model: DesiredModel, memory: ModelMemory, tried: DesiredVersion) -> None:
        """What was confirmed answers again, and what was tried leaves memory."""
        version, registry = memory.confirmed, self.staging.registry
        if version is None:
            self._loaded.pop(model.endpoint, None)
            registry.remove(model.model, tried.version)
            return
        entry = registry.entry(model.model, version.version)
        held = self._loaded.get(model.endpoint)
        if held is not None and held[0] == version.sha256 and entry is not None and entry.loaded is held[1]:
            self._answers(model, version, held[1])
        else:  # both have the same name: the one that was tried had taken its place
            self._loaded.pop(model.endpoint, None)
            self._serve_confirmed(model, memory)

    def _answers(
        self, model: DesiredModel, version: DesiredVersion, loaded: ServedModel, keep: DesiredVersion | None = None
    ) -> None:
        """From now on this version answers, in one step; others of the model leave memory, but the one to `keep`."""
        registry = self.staging.registry
        labelled = DesiredModel(
            model.endpoint, model.model, labels={CHAMPION: version.version}, sticky_header=model.sticky_header
        )
        self._revision += 1
        endpoint = routing_endpoint(labelled, self._revision)
        entry = registry.entry(model.model, version.version)
        if entry is not None and entry.loaded is loaded:
            registry.assign(model.model, endpoint)
        else:
            registry.put(ready_entry(model, version, loaded), endpoint)
        if keep is None or model.endpoint not in self._trials:
            self._loaded[model.endpoint] = (version.sha256, loaded)
        stays = {version.version} | ({keep.version} if keep is not None else set())
        for other in registry.versions(model.model):
            if other.version not in stays:
                registry.remove(model.model, other.version)

    def _drop_unwanted(self, state: DesiredState) -> None:
        wanted = {model.endpoint: model for model in state.models if model.versions}
        memories = self.memory.models()
        for endpoint in set(memories) - set(wanted):
            self._trials.pop(endpoint, None)
            self._loaded.pop(endpoint, None)
            self.staging.registry.drop(memories[endpoint].model)
            self.memory.forget(endpoint)
        self.staging.forget(
            {(each.endpoint, version.version) for each in wanted.values() for version in each.versions}
            | {
                (memory.endpoint, held.version)
                for memory in memories.values()
                for held in (memory.confirmed, memory.trial)
                if held is not None and memory.endpoint in wanted
            }
        )
        self._keep()

    def _keep(self) -> None:
        memories = self.memory.models().values()
        self.staging.cache.keep(self._wanted.union(*(memory.needed for memory in memories)))

    def _again(self, entry: Entry) -> ServedModel:
        for memory in self.memory.models().values():
            for version in (memory.confirmed, memory.trial):
                if version is not None and (memory.model, version.version) == (entry.model, entry.version):
                    return self.staging.load(DesiredModel(memory.endpoint, memory.model), version, self.keys)
        raise NotFound("VERSION_NOT_FOUND", f"version {entry.version} of {entry.model} is not to be served here any more")


def _counted(model: ServedModel) -> Counted:
    counts = model.statistics
    healthy = model.condition.state is not DeploymentState.UNHEALTHY
    return Counted(counts.successes, counts.failures, counts.crashes, healthy)


def _passing(error: Exception) -> bool:
    """Whether it may go better in a moment, without anything being wrong with the bytes."""
    return isinstance(error, Unavailable | NotFound | PermissionDenied | ResourceExhausted | Unauthenticated)
