"""What stands between a bundle that a follower is to serve and a model that answers: fetch, verify, load, golden requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modelyard.core.errors import ModelyardError
from modelyard.serving.domain.desired_state import DesiredModel, DesiredVersion
from modelyard.serving.domain.endpoint import Condition, DeploymentState, Endpoint
from modelyard.serving.domain.following import FollowedState, Progress
from modelyard.serving.domain.traffic import Routing
from modelyard.serving.follower_ports import BundleCache, PassportChecks
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import ServedModel, ServedModelLoader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Staging:
    """The road of a version into memory, and what is known of each version meanwhile: `progress`, by (endpoint, version)."""

    cache: BundleCache
    passports: PassportChecks
    loader: ServedModelLoader
    registry: Registry
    progress: dict[tuple[str, str], Progress] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def load(self, model: DesiredModel, version: DesiredVersion, keys: tuple[bytes, ...]) -> ServedModel:
        """A version in memory that has answered its golden requests. Blocks, for as long as the download takes.

        Raises as BundleCache.fetch, PassportChecks.check and ServedModelLoader.load.
        """
        bundle = self.fetch(model, version)
        self.note(model, version, FollowedState.LOADING, downloaded=version.size_bytes)
        self.passports.check(version, bundle, keys)
        return self.loader.load(bundle, model=model.model, version=version.version)

    def fetch(self, model: DesiredModel, version: DesiredVersion, tick: Callable[[], object] = lambda: None) -> Path:
        """A version's bundle on this machine's disk; `tick` is called now and then meanwhile. Raises as BundleCache.fetch."""
        if self.cache.held(version.sha256) is not None:
            return self.cache.fetch(version, lambda _: None)
        self.note(model, version, FollowedState.DOWNLOADING)

        def progress(count: int) -> None:
            self.note(model, version, FollowedState.DOWNLOADING, downloaded=count)
            tick()

        return self.cache.fetch(version, progress)

    def note(
        self, model: DesiredModel, version: DesiredVersion, state: FollowedState, message: str = "", downloaded: int | None = None
    ) -> None:
        """Takes down how far a version is."""
        key = (model.endpoint, version.version)
        had = self.progress.get(key)
        kept = had.downloaded_bytes if had is not None and had.sha256 == version.sha256 else 0
        made = Progress(version.sha256, version.attempt, state, message, kept if downloaded is None else downloaded)
        self.progress = {**self.progress, key: made}

    def forget(self, wanted: set[tuple[str, str]]) -> None:
        """Drops what is known of versions that nobody wants any more."""
        self.progress = {key: known for key, known in self.progress.items() if key in wanted}

    @contextmanager
    def turn(self, model: str = "") -> Iterator[None]:
        """One at a time: the thread that follows, and callers who load and unload. `model` is not looked at."""
        with self._turn:
            yield


def since_of(version: DesiredVersion) -> datetime:
    """What puts versions in order: when it was deployed at the centre."""
    return EPOCH + timedelta(microseconds=version.release)


def ready_entry(model: DesiredModel, version: DesiredVersion, loaded: ServedModel) -> Entry:
    """What the registry holds of a version that answers."""
    return Entry(model.model, version.version, since_of(version), Condition(DeploymentState.READY), loaded)


def unready_entry(model: DesiredModel, version: DesiredVersion, state: DeploymentState, message: str = "") -> Entry:
    """What the registry holds of a version that does not."""
    return Entry(model.model, version.version, since_of(version), Condition(state, message))


def routing_endpoint(model: DesiredModel, number: int) -> Endpoint:
    """Shares and labels as the router takes them; `number` says which are newer."""
    slots = tuple(version for version, count in model.slots for _ in range(count))
    return Endpoint(
        name=model.endpoint,
        display_name="",
        create_time=EPOCH,
        update_time=EPOCH,
        etag="",
        routing=Routing(slots, dict(model.labels)),
        sticky_header=model.sticky_header,
        revision=number,
    )


def said(error: Exception) -> str:
    """Why something failed, for people elsewhere: no paths of what is no error of ours."""
    if isinstance(error, ModelyardError):
        return f"{error.reason}: {error.message}"[:500]
    return f"it failed unexpectedly ({type(error).__name__}); the follower's log has the rest"


def without_passport(version: DesiredVersion) -> DesiredVersion:
    """The same without the passport's bytes: to compare, and to log."""
    return replace(version, passport=b"")
