"""Serves one bundle and nothing else: no database, no other service. For the edge, and for a look at an export."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from modelyard.core.rpc.server import RpcServer
from modelyard.serving.data_plane import inference_mount, inference_threads, onnx_loader
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import check_model_name
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.rpc.inference_servicer import InferenceServicer
from modelyard.serving.settings import ServingSettings

VERSION = "V001"


def single_model(bundle: Path, name: str, settings: ServingSettings) -> Registry:
    """A registry with this one model as version V001, loaded and proven. Raises InvalidArgument, FailedPrecondition."""
    check_model_name(name)
    loaded = onnx_loader(settings).load(bundle)
    version = loaded.card.source.model_version.rpartition("/versions/")[2] or VERSION
    registry = Registry()
    registry.put(Entry(name, version, datetime.now(UTC), Condition(DeploymentState.READY), loaded))
    registry.set_complete()
    return registry


async def serve_bundle(bundle: Path, name: str, settings: ServingSettings, on_ready: Callable[[int], None]) -> None:
    """Serves until SIGINT or SIGTERM. `on_ready` gets the port."""
    registry = await asyncio.to_thread(single_model, bundle, name, settings)
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
