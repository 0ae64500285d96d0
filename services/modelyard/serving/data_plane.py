"""What answers predictions, put together: the part of serving that needs neither a database nor another service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from modelyard.core.http.calls import HttpHandler, UnaryHandler
from modelyard.core.rpc.server import Mount
from modelyard.serving.handlers.predict import MOST_BYTES, Predictions
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.repository import Repository
from modelyard.serving.handlers.second_look import SecondLook
from modelyard.serving.handlers.shadow import mirror
from modelyard.serving.rpc.inference_calls import InferenceCalls
from modelyard.serving.rpc.inference_servicer import SERVICE, InferenceServicer
from modelyard.serving.rpc.metrics import COLLECTOR
from modelyard.serving.rpc.rest import Rest
from modelyard.serving.rpc.signature import Signatures


@dataclass(frozen=True)
class DataPlane:
    """The Open Inference Protocol: over gRPC behind grpc.aio, over gRPC in the front end, over HTTP."""

    mount: Mount
    natives: Mapping[str, UnaryHandler]
    http: HttpHandler


def data_plane(
    registry: Registry,
    repository: Repository,
    max_batch: int,
    most_bytes: int = MOST_BYTES,
    second_look: SecondLook | None = None,
) -> DataPlane:
    """Answers for what is registered.

    `max_batch`: most examples of one request; `most_bytes`: inputs of all requests on their way together.
    """
    COLLECTOR.watch(registry)
    calls = InferenceCalls(registry, Signatures(max_batch), Predictions(mirror, most_bytes), second_look)
    servicer = InferenceServicer(calls, repository, max_batch)
    mount = Mount(SERVICE, partial(add_GRPCInferenceServiceServicer_to_server, servicer), oip.DESCRIPTOR.pool)
    return DataPlane(mount, servicer.natives(), Rest(calls, repository, max_batch))
