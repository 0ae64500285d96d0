"""Serves one bundle and nothing else: no database, no other service. For the edge, and for a look at an export."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from modelyard.core.artifacts import file_sha256
from modelyard.core.rpc.server import RpcServer
from modelyard.formats.passport import missing, verify
from modelyard.formats.passport_keys import trusted_keys
from modelyard.serving.data_plane import bundle_loader, inference_mount, inference_threads
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import check_model_name
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.rpc.inference_servicer import InferenceServicer
from modelyard.serving.settings import ServingSettings

VERSION = "V001"


def single_model(bundle: Path, name: str, settings: ServingSettings, passport: Path | None = None) -> Registry:
    """A registry with this one model as version V001, loaded and proven. Raises InvalidArgument, FailedPrecondition."""
    check_model_name(name)
    if passport is not None or settings.passport_trusted_keys is not None:
        check_passport(bundle, passport, settings.trusted_keys_place())
    loaded = bundle_loader(settings).load(bundle)
    version = loaded.card.source.model_version.rpartition("/versions/")[2] or VERSION
    registry = Registry()
    registry.put(Entry(name, version, datetime.now(UTC), Condition(DeploymentState.READY), loaded))
    registry.set_complete()
    return registry


def check_passport(bundle: Path, passport: Path | None, trusted: Path) -> None:
    """Whether a passport lets this bundle be served. Without a passport and without keys nobody asks: whoever starts this server
    has chosen the file. Raises FailedPrecondition PASSPORT_MISSING and the others of formats.passport.verify.
    """
    with bundle.open("rb") as file:
        sha256 = file_sha256(file)
    if passport is None:
        raise missing(sha256, "keys are trusted here (MODELYARD_PASSPORT_TRUSTED_KEYS), so give --passport FILE")
    verify(passport.read_bytes(), sha256, trusted_keys(trusted))


async def serve_bundle(
    bundle: Path, name: str, settings: ServingSettings, on_ready: Callable[[int], None], passport: Path | None = None
) -> None:
    """Serves until SIGINT or SIGTERM. `on_ready` gets the port."""
    registry = await asyncio.to_thread(single_model, bundle, name, settings, passport)
    threads = inference_threads(settings)
    server = RpcServer([inference_mount(InferenceServicer(registry, threads, settings.max_batch_size))], settings)
    port = await server.start()
    await server.ready()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
    on_ready(port)
    await asked.wait()
    await server.stop(settings.drain_s)
    threads.close()
