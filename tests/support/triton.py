"""tritonclient, over gRPC and HTTP. It stands beside our own contracts in one process: those have a pool of their own."""

from __future__ import annotations

import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2 as triton_messages
from tritonclient.utils import InferenceServerException

__all__ = ["InferenceServerException", "triton", "triton_http", "triton_messages"]
