"""GRPCInferenceService: the Open Inference Protocol, version 2, with Triton's extensions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from modelyard.core.errors import Unimplemented
from modelyard.core.http.calls import UnaryHandler
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.repository import Repository, check_load_parameters
from modelyard.serving.rpc import model_info
from modelyard.serving.rpc.infer_stream import answered_in_order
from modelyard.serving.rpc.inference_calls import InferenceCalls

M = TypeVar("M", bound=Message)
SERVICE: Final = "inference.GRPCInferenceService"


class InferenceServicer(GRPCInferenceServiceServicer):
    """Predictions, health and metadata.

    What is `async` looks at memory, or awaits a look at the database; what is not runs in a thread of the rpc shell.
    """

    def __init__(self, calls: InferenceCalls, repository: Repository, max_batch: int) -> None:
        self._calls = calls
        self._registry: Registry = calls.registry
        self._repository = repository
        self._max_batch = max_batch

    def natives(self) -> Mapping[str, UnaryHandler]:
        """The methods that the front end answers itself, by path."""
        return {f"/{SERVICE}/ModelInfer": self._calls.model_infer}

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> oip.ServerLiveResponse:
        """True, or there would be no answer."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> oip.ServerReadyResponse:
        """True when all that is deployed was loaded or tried."""
        return oip.ServerReadyResponse(ready=self._registry.complete)

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        """False for what is not there, loading, failed or unhealthy."""
        return oip.ModelReadyResponse(ready=await self._calls.is_ready(request.name, request.version))

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Any) -> oip.ServerMetadataResponse:
        """Who the server is."""
        return ParseDict(model_info.server_metadata(), oip.ServerMetadataResponse())

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Any) -> oip.ModelMetadataResponse:
        """Versions, inputs and outputs."""
        entry, model = await self._calls.find(request.name, request.version)
        return ParseDict(model_info.model_metadata(self._registry, entry, model), oip.ModelMetadataResponse())

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Any) -> oip.ModelConfigResponse:
        """What callers that batch need to know."""
        entry, model = await self._calls.find(request.name, request.version)
        config = model_info.model_config(entry, model, self._max_batch)
        return ParseDict({"config": config}, oip.ModelConfigResponse())

    async def ModelStatistics(self, request: oip.ModelStatisticsRequest, context: Any) -> oip.ModelStatisticsResponse:
        """Of one version, of all of a model, or of all models."""
        found = model_info.statistics_of(self._registry, request.name, request.version)
        return oip.ModelStatisticsResponse(model_stats=[ParseDict(each, oip.ModelStatistics()) for each in found])

    async def RepositoryIndex(self, request: oip.RepositoryIndexRequest, context: Any) -> oip.RepositoryIndexResponse:
        """Every version of every model with its state."""
        models = model_info.repository_index(self._registry.entries(), only_ready=request.ready)
        return ParseDict({"models": models}, oip.RepositoryIndexResponse())

    def RepositoryModelLoad(self, request: oip.RepositoryModelLoadRequest, context: Any) -> oip.RepositoryModelLoadResponse:
        """Only what is deployed."""
        check_load_parameters(request.parameters)
        self._repository.load(request.model_name)
        return oip.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: oip.RepositoryModelUnloadRequest, context: Any) -> oip.RepositoryModelUnloadResponse:
        """`unload_dependents` changes nothing: no model depends on another."""
        self._repository.unload(request.model_name)
        return oip.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        """One prediction, where the front end does not answer it itself."""
        caller = _Awaited(context)
        take_back = self._calls.infer(request, caller, time.perf_counter_ns())
        try:
            return oip.ModelInferResponse.FromString(await caller.future)
        except asyncio.CancelledError:
            take_back()
            raise

    async def ModelStreamInfer(
        self, requests: AsyncIterator[oip.ModelInferRequest], context: Any
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        """Predictions over one stream, several at once, answered in the order asked."""

        def ask(request: oip.ModelInferRequest) -> tuple[asyncio.Future[bytes], Callable[[], None]]:
            caller = _Awaited(context)
            return caller.future, self._calls.infer(request, caller, time.perf_counter_ns())

        async for response in answered_in_order(requests, ask):
            yield response

    async def SystemSharedMemoryStatus(
        self, request: oip.SystemSharedMemoryStatusRequest, context: Any
    ) -> oip.SystemSharedMemoryStatusResponse:
        """None: clients ask when they start."""
        return oip.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(
        self, request: oip.SystemSharedMemoryRegisterRequest, context: Any
    ) -> oip.SystemSharedMemoryRegisterResponse:
        """Not offered."""
        raise no_shared_memory()

    async def SystemSharedMemoryUnregister(
        self, request: oip.SystemSharedMemoryUnregisterRequest, context: Any
    ) -> oip.SystemSharedMemoryUnregisterResponse:
        """Nothing is registered: clients do this when they start."""
        return oip.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: oip.CudaSharedMemoryStatusRequest, context: Any
    ) -> oip.CudaSharedMemoryStatusResponse:
        """None: clients ask when they start."""
        return oip.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: oip.CudaSharedMemoryRegisterRequest, context: Any
    ) -> oip.CudaSharedMemoryRegisterResponse:
        """Not offered."""
        raise no_shared_memory()

    async def CudaSharedMemoryUnregister(
        self, request: oip.CudaSharedMemoryUnregisterRequest, context: Any
    ) -> oip.CudaSharedMemoryUnregisterResponse:
        """Nothing is registered: clients do this when they start."""
        return oip.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: oip.TraceSettingRequest, context: Any) -> oip.TraceSettingResponse:
        """What is traced; perf_analyzer asks when it starts."""
        if request.settings:
            raise no_settings("tracing")
        return ParseDict({"settings": {key: {"value": [value]} for key, value in TRACING.items()}}, oip.TraceSettingResponse())

    async def LogSettings(self, request: oip.LogSettingsRequest, context: Any) -> oip.LogSettingsResponse:
        """What is logged."""
        if request.settings:
            raise no_settings("logging")
        return oip.LogSettingsResponse()


TRACING: Final = {"trace_level": "OFF"}
"""What is traced over this protocol: nothing."""


def no_shared_memory() -> Unimplemented:
    """Why regions cannot be registered."""
    message = "shared memory is not offered: a caller would name memory of the server's machine; send tensors in the request"
    return Unimplemented("SHARED_MEMORY_NOT_OFFERED", message)


def no_settings(what: str) -> Unimplemented:
    """Why settings cannot be changed."""
    message = f"{what} cannot be changed over this protocol; the server's own settings say it (MODELYARD_* when it starts)"
    return Unimplemented("SETTINGS_NOT_OFFERED", message)


class _Awaited:
    """A Caller behind grpc.aio: the answer becomes a future."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def deadline(self) -> float | None:
        remaining = self._context.time_remaining()
        return None if remaining is None else time.monotonic() + remaining

    def metadata(self, key: str) -> str:
        return next((str(value) for name, value in reversed(self._context.invocation_metadata() or ()) if name == key), "")

    def answer(self, message: bytes) -> None:
        if not self.future.done():
            self.future.set_result(message)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
