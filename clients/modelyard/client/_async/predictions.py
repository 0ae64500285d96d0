"""Predictions over the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference import grpc_service_pb2 as oip
from modelyard.client._async.resource import AsyncResource
from modelyard.client._channels import INFERENCE_SERVICE
from modelyard.client.errors import InvalidArgument, Violation
from modelyard.client.names import last_part
from modelyard.client.tensors import Prediction, array_tensor, column_tensors, picture_tensor, prediction, request_of

Picture = str | Path | bytes


class AsyncPredictions(AsyncResource):
    """Calls of inference.GRPCInferenceService."""

    service = "serving"

    async def predict(
        self,
        endpoint: str,
        *,
        image: Picture | Sequence[Picture] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        tensors: Mapping[str, Any] | None = None,
        version: str = "",
        timeout_s: float | None = None,
    ) -> Prediction:
        """One prediction for pictures, rows of a table, or tensors: exactly one of the three.

        image: a JPEG or PNG file (for a model of sounds WAV or FLAC) by path or as its bytes, or several. rows: a mapping from
        column to value each, None where it is
        missing. tensors: numpy arrays by input name. version: "V002"; empty is the endpoint's choice.
        """
        if sum(given is not None for given in (image, rows, tensors)) != 1:
            message = "give exactly one of image, rows and tensors"
            raise InvalidArgument(message, reason="ONE_INPUT", violations=(Violation("image", message),))
        model = self.model_name(endpoint)
        if image is not None:
            pictures = [image] if isinstance(image, str | Path | bytes) else list(image)
            inputs = [await self._transport.in_thread(lambda: picture_tensor("image", pictures))]
        elif rows is not None:
            metadata = await self.metadata(endpoint, version=version)
            inputs = column_tensors([(column.name, column.datatype) for column in metadata.inputs], rows)
        else:
            inputs = [array_tensor(name, array) for name, array in (tensors or {}).items()]
        return prediction(await self.infer(request_of(model, version, inputs), timeout_s))

    async def infer(self, request: oip.ModelInferRequest, timeout_s: float | None = None) -> oip.ModelInferResponse:
        """ModelInfer as it is."""
        return await self._call_api(INFERENCE_SERVICE, "ModelInfer", request, oip.ModelInferResponse, timeout_s)

    async def metadata(self, endpoint: str, *, version: str = "") -> oip.ModelMetadataResponse:
        """Versions, inputs and outputs of an endpoint's model."""
        request = oip.ModelMetadataRequest(name=self.model_name(endpoint), version=version)
        return await self._call_api(INFERENCE_SERVICE, "ModelMetadata", request, oip.ModelMetadataResponse, None)

    async def classes(self, endpoint: str, *, version: str = "") -> list[str]:
        """Names of the classes of an endpoint's model, in the order of their index; empty for one without classes."""
        request = oip.ModelConfigRequest(name=self.model_name(endpoint), version=version)
        answer = await self._call_api(INFERENCE_SERVICE, "ModelConfig", request, oip.ModelConfigResponse, None)
        text = answer.config.parameters["classes"].string_value if "classes" in answer.config.parameters else ""
        return [str(name) for name in json.loads(text)] if text else []

    async def ready(self, endpoint: str, *, version: str = "") -> bool:
        """Whether the endpoint can answer."""
        request = oip.ModelReadyRequest(name=self.model_name(endpoint), version=version)
        return (await self._call_api(INFERENCE_SERVICE, "ModelReady", request, oip.ModelReadyResponse, None)).ready

    def model_name(self, endpoint: str) -> str:
        """The endpoint's model name in the protocol: its id, in another project than "default" `{project}.{endpoint}`."""
        name = self.names.endpoint(endpoint)
        project = name.split("/")[1]
        return last_part(name) if project == "default" else f"{project}.{last_part(name)}"
