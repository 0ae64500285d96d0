"""What answers predictions, put together: the part of serving that needs neither a database nor another service."""

from __future__ import annotations

from functools import partial

from inference.grpc_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from modelyard.core.rpc.server import Mount
from modelyard.runtime.latency import usable_cores
from modelyard.serving.adapters.bundle_loader import BundleLoader
from modelyard.serving.adapters.inference_threads import InferenceThreads
from modelyard.serving.rpc.inference_servicer import InferenceServicer
from modelyard.serving.settings import ServingSettings


def bundle_loader(settings: ServingSettings) -> BundleLoader:
    """The loader of bundles, with threads after the cgroup. Calls at once: the inference threads', and the event loop's own."""
    return BundleLoader(settings.intra_op_threads or usable_cores(), settings.inline_ms, _threads(settings) + 1)


def inference_threads(settings: ServingSettings) -> InferenceThreads:
    """The threads that models compute in, as many as there are cores."""
    return InferenceThreads(_threads(settings), settings.inference_queue)


def _threads(settings: ServingSettings) -> int:
    return settings.inference_threads or usable_cores()


def inference_mount(servicer: InferenceServicer) -> Mount:
    """The Open Inference Protocol."""
    return Mount("inference.GRPCInferenceService", partial(add_GRPCInferenceServiceServicer_to_server, servicer))
