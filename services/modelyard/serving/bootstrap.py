"""Where serving's ports meet their adapters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from inference.grpc_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from modelyard.core.platform import Platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.runtime.latency import usable_cores
from modelyard.serving.adapters.background import Background
from modelyard.serving.adapters.endpoint_store import SqlEndpointStore
from modelyard.serving.adapters.inference_threads import InferenceThreads
from modelyard.serving.adapters.onnx_loader import OnnxLoader
from modelyard.serving.adapters.services import ClientExports, ClientGates
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import Exports, Gates, ModelLoader
from modelyard.serving.rpc.inference_servicer import InferenceServicer
from modelyard.serving.rpc.servicer import ServingServicer
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1.serving_service_pb2_grpc import add_ServingServiceServicer_to_server


def build(
    platform: Platform,
    *,
    settings: ServingSettings | None = None,
    exports: Exports | None = None,
    gates: Gates | None = None,
    loader: ModelLoader | None = None,
) -> Service:
    """The serving service. What is given replaces what would be made."""
    settings = settings or serving_settings(platform)
    registry, threads, client = Registry(), inference_threads(settings), cache(platform.client)
    deployer = Deployer(
        store=SqlEndpointStore(platform.engine, platform.resources),
        exports=exports or ClientExports(client, platform.artifacts),
        gates=gates or ClientGates(client),
        loader=loader or onnx_loader(settings),
        registry=registry,
    )
    background = Background(deployer, settings.reconcile_s, settings.retry_failed_s)

    def stop() -> None:
        background.stop()
        threads.close()

    mounts = [
        Mount(
            "modelyard.serving.v1.ServingService",
            partial(_mount, add_ServingServiceServicer_to_server, ServingServicer(deployer)),
        ),
        inference_mount(InferenceServicer(registry, threads, settings.max_batch_size)),
    ]
    return Service("serving", mounts, start=background.start, stop=stop)


def serving_settings(platform: Platform) -> ServingSettings:
    """The platform's settings with serving's own, which come from the environment where the platform was opened without them."""
    if isinstance(platform.settings, ServingSettings):
        return platform.settings
    return ServingSettings(**platform.settings.model_dump())


def onnx_loader(settings: ServingSettings) -> OnnxLoader:
    """The loader of bundles, with threads after the cgroup."""
    return OnnxLoader(settings.intra_op_threads or usable_cores(), settings.inline_ms)


def inference_threads(settings: ServingSettings) -> InferenceThreads:
    """The threads that models compute in, as many as there are cores."""
    return InferenceThreads(settings.inference_threads or usable_cores(), settings.inference_queue)


def inference_mount(servicer: InferenceServicer) -> Mount:
    """The Open Inference Protocol."""
    return Mount("inference.GRPCInferenceService", partial(_mount, add_GRPCInferenceServiceServicer_to_server, servicer))


def _mount(add: Callable[[Any, Any], None], servicer: object, server: Any) -> None:
    add(servicer, server)
