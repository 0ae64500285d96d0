"""Serves bundles and nothing else: no database, no other service. For the edge, for a look at an export, and for benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from modelyard.core.artifacts import file_sha256
from modelyard.core.errors import InvalidArgument
from modelyard.core.rpc import tracing
from modelyard.core.rpc.server import RpcServer
from modelyard.formats.bundle import open_bundle
from modelyard.formats.passport import missing, verify
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.data_plane import data_plane
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import check_model_name
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.handlers.repository import RegisteredModels
from modelyard.serving.ports import ServedModel, ServedModelLoader
from modelyard.serving.served_models import model_loader
from modelyard.serving.settings import ServingSettings

VERSION = "V001"


@dataclass(frozen=True)
class Offered:
    """A bundle under the name that callers use, with its passport where there is one."""

    bundle: Path
    name: str
    passport: Path | None = None


@dataclass(frozen=True)
class Bundles:
    """The bundles of a server, in memory."""

    offered: Sequence[Offered]
    settings: ServingSettings
    loader: ServedModelLoader
    registry: Registry = field(default_factory=Registry)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def load_all(self) -> Registry:
        """Loads and proves every bundle. Raises InvalidArgument, FailedPrecondition; then nothing stays in memory."""
        check_names(self.offered)
        try:
            for each in self.offered:
                self._check(each)
                version = _version(each.bundle)
                loaded = self.loader.load(each.bundle, model=each.name, version=version)
                self.registry.put(Entry(each.name, version, datetime.now(UTC), Condition(DeploymentState.READY), loaded))
        except BaseException:
            self.registry.close()
            raise
        self.registry.set_complete()
        return self.registry

    def repository(self) -> RegisteredModels:
        """For callers that unload a model and load it again: from the same file, which is checked anew."""
        return RegisteredModels(self.registry, self._again, self._hold)

    def _again(self, entry: Entry) -> ServedModel:
        each = next(each for each in self.offered if each.name == entry.model)
        self._check(each)
        return self.loader.load(each.bundle, model=entry.model, version=entry.version)

    def _check(self, each: Offered) -> None:
        if each.passport is not None or self.settings.passport_trusted_keys is not None:
            check_passport(each.bundle, each.passport, self.settings.trusted_keys_place())

    @contextmanager
    def _hold(self, model: str) -> Iterator[None]:
        with self._turn:
            yield


def check_names(offered: Sequence[Offered]) -> None:
    """Raises InvalidArgument BAD_MODEL_NAME, NAME_TWICE."""
    taken: set[str] = set()
    for each in offered:
        check_model_name(each.name)
        if each.name in taken:
            message = f"two bundles have the name {each.name!r}; give each its own with --name, in the order of --bundle"
            raise InvalidArgument("NAME_TWICE", message, field="name", name=each.name)
        taken.add(each.name)


def check_passport(bundle: Path, passport: Path | None, trusted: Path) -> None:
    """Whether a passport lets this bundle be served. Without a passport and without keys nobody asks: whoever starts this server
    has chosen the file. Raises FailedPrecondition PASSPORT_MISSING and the others of formats.passport.verify.
    """
    with bundle.open("rb") as file:
        sha256 = file_sha256(file)
    if passport is None:
        raise missing(sha256, "keys are trusted here (MODELYARD_PASSPORT_TRUSTED_KEYS), so give --passport FILE")
    verify(passport.read_bytes(), sha256, trusted_keys(trusted))


async def serve_bundles(offered: Sequence[Offered], settings: ServingSettings, on_ready: Callable[[int], None]) -> None:
    """Serves until SIGINT or SIGTERM. `on_ready` gets the port."""
    tracing.start(settings.tracing_endpoint, "serving", settings.tracing_share)
    loader = model_loader(settings)
    try:
        bundles = Bundles(offered, settings, loader)
        registry = await asyncio.to_thread(bundles.load_all)
        try:
            await _serve(bundles, settings, on_ready)
        finally:
            await asyncio.to_thread(registry.close)
    finally:
        await asyncio.to_thread(loader.close)


async def _serve(bundles: Bundles, settings: ServingSettings, on_ready: Callable[[int], None]) -> None:
    plane = data_plane(bundles.registry, bundles.repository(), settings.max_batch_size, 4 * settings.max_message_bytes)
    server = RpcServer([plane.mount], settings, tracing.traced_natives(plane.natives), tracing.traced_http(plane.http))
    port = await server.start()
    await server.ready()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
    on_ready(port)
    await asked.wait()
    await server.stop(settings.drain_s)


def _version(bundle: Path) -> str:
    return open_bundle(bundle).card.source.model_version.rpartition("/versions/")[2] or VERSION
