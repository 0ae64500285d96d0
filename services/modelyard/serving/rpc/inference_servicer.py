"""GRPCInferenceService: the Open Inference Protocol, version 2."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from prometheus_client import Counter

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from modelyard.formats.bundle import TensorSpec
from modelyard.serving.domain.deadline import check_deadline
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import InferenceThreads, LoadedModel
from modelyard.serving.rpc.tensors import read_inputs, response, wanted_outputs

EXAMPLES = Counter("modelyard_examples_total", "Examples that predictions were made for.", ["model", "version"])
PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
EXTENSIONS: Final = ("model_configuration", "model_repository_index")
_STATES: Final = {
    DeploymentState.READY: "READY",
    DeploymentState.LOADING: "LOADING",
    DeploymentState.FAILED: "UNAVAILABLE",
    DeploymentState.UNHEALTHY: "UNAVAILABLE",
}


@dataclass(frozen=True)
class InferenceServicer(GRPCInferenceServiceServicer):
    """Predictions, health and metadata. Everything but the models' computing happens on the event loop."""

    registry: Registry
    threads: InferenceThreads
    max_batch: int

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> oip.ServerLiveResponse:
        """True, or there would be no answer."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> oip.ServerReadyResponse:
        """True when all that is deployed was loaded or tried."""
        return oip.ServerReadyResponse(ready=self.registry.complete)

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        """False for what is not there, loading or failed."""
        return oip.ModelReadyResponse(ready=self.registry.is_ready(request.name, request.version))

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Any) -> oip.ServerMetadataResponse:
        """Who the server is."""
        return oip.ServerMetadataResponse(name="modelyard", version=_version(), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Any) -> oip.ModelMetadataResponse:
        """Versions, inputs and outputs."""
        entry, loaded = self.registry.find(request.name, request.version)
        return oip.ModelMetadataResponse(
            name=entry.model,
            versions=[other.version for other in self.registry.versions(entry.model) if other.loaded],
            platform=PLATFORM,
            inputs=_metadata(loaded.card.inputs),
            outputs=_metadata(loaded.card.served_outputs),
        )

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Any) -> oip.ModelConfigResponse:
        """What callers that batch need to know."""
        entry, loaded = self.registry.find(request.name, request.version)
        return oip.ModelConfigResponse(config=_config(entry, loaded, self.max_batch))

    async def RepositoryIndex(self, request: oip.RepositoryIndexRequest, context: Any) -> oip.RepositoryIndexResponse:
        """Every version of every model with its state."""
        entries = [entry for entry in self.registry.entries() if entry.loaded or not request.ready]
        return oip.RepositoryIndexResponse(models=[_index(entry) for entry in entries])

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        """One prediction: small ones where the request was read, the others in a thread."""
        entry, loaded = self.registry.find(request.model_name, request.model_version)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        if _is_small(request, loaded):
            check_deadline(deadline, time.monotonic())
            return self._answer(request, entry, loaded)
        return await self.threads.run(lambda: self._answer(request, entry, loaded), deadline)

    def _answer(self, request: oip.ModelInferRequest, entry: Entry, loaded: LoadedModel) -> oip.ModelInferResponse:
        wanted = wanted_outputs(request, loaded.card.served_outputs)
        answers = loaded.run(read_inputs(request, loaded.card, self.max_batch))
        EXAMPLES.labels(entry.model, entry.version).inc(len(answers[wanted[0].name]))
        return response(request, entry.version, wanted, answers)


def _is_small(request: oip.ModelInferRequest, loaded: LoadedModel) -> bool:
    """Whether to answer on the event loop: a small batch for a quick model, and no picture file, which must be decoded first."""
    if not request.inputs:
        return True
    first = request.inputs[0]
    if not first.shape or first.shape[0] > loaded.inline_examples:
        return False
    return loaded.card.picture is None or first.datatype != "BYTES"


def _metadata(specs: Sequence[TensorSpec]) -> list[oip.ModelMetadataResponse.TensorMetadata]:
    return [oip.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]


def _config(entry: Entry, loaded: LoadedModel, max_batch: int) -> oip.ModelConfig:
    """All bundles take batches, so dims leave out the first dimension."""
    config = oip.ModelConfig(name=entry.model, platform=PLATFORM, backend=BACKEND, max_batch_size=max_batch)
    for spec in loaded.card.inputs:
        config.input.add(name=spec.name, data_type=_data_type(spec.datatype), dims=spec.shape[1:])
    for spec in loaded.card.served_outputs:
        config.output.add(name=spec.name, data_type=_data_type(spec.datatype), dims=spec.shape[1:])
    return config


def _data_type(datatype: str) -> oip.DataType.ValueType:
    name = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return oip.DataType.Value(name)


def _index(entry: Entry) -> oip.RepositoryIndexResponse.ModelIndex:
    state, reason = _STATES[entry.condition.state], entry.condition.message
    return oip.RepositoryIndexResponse.ModelIndex(name=entry.model, version=entry.version, state=state, reason=reason)


@cache
def _version() -> str:
    try:
        return version("modelyard")
    except PackageNotFoundError:
        return "unknown"
