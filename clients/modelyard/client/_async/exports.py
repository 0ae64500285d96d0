"""Exports, imported models, targets and latency profiles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import EMPTY, duration
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.exporter.v1 import exporter_pb2, exporter_service_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import blob_pb2, learning_pb2


class AsyncExports(AsyncResource):
    """Artifacts made from model versions. Names may be short: the export's id."""

    service = "exporter"

    async def create_export(
        self,
        model_version: str,
        *,
        format: exporter_pb2.Format.ValueType | str = "",
        precision: exporter_pb2.Precision.ValueType | str = "",
        target: str = "",
        quantization: exporter_pb2.Quantization.ValueType | str = "",
        pruning: exporter_pb2.Pruning | None = None,
        limits: exporter_pb2.CompressionLimits | None = None,
        max_training_s: float | None = None,
        instance_flavor: str = "",
        request_id: str = "",
    ) -> exporter_pb2.Export:
        """Starts an export. format: "onnx", "litert", "savedmodel", "openvino", "edge", "torch-export". precision: "fp32",
        "fp16", "int8", "dynamic_int8". target: "cpu", "mcu"... (see `client.targets`); what is left empty follows from it.
        quantization: "post_training" or "aware_training". limits: the exporter chooses within them, cheapest first."""
        export = exporter_pb2.Export(
            model_version=self.names.model_version(model_version),
            format=enum_number(exporter_pb2.Format, format, "export.format"),
            precision=enum_number(exporter_pb2.Precision, precision, "export.precision"),
            quantization=enum_number(exporter_pb2.Quantization, quantization, "export.quantization"),
            target=target,
            pruning=pruning,
            limits=limits,
            max_training_time=duration(max_training_s) if max_training_s is not None else None,
            instance_flavor=instance_flavor,
        )
        request = exporter_service_pb2.CreateExportRequest(
            parent=self.names.parent, export=export, request_id=request_id or new_request_id()
        )
        return await self._call("CreateExport", request, exporter_pb2.Export)

    async def import_model(
        self,
        blob: blob_pb2.Blob,
        *,
        file_name: str,
        task: learning_pb2.Task.ValueType | str,
        dataset_version: str,
        classes: Sequence[str] = (),
        pixel_scale: float = 0.0,
        pixel_offset: float = 0.0,
        licence: str = "",
        target: str = "",
        request_id: str = "",
    ) -> exporter_pb2.Export:
        """Starts taking in a model file (.onnx, .tflite, .pt2) uploaded with `artifacts.upload(path, service="exporter")`.

        classes: in the order of its outputs. pixel_scale, pixel_offset: what pixels 0 to 255 are multiplied with, then added.
        """
        model = exporter_pb2.ImportedModel(
            blob=blob,
            file_name=file_name,
            task=enum_number(learning_pb2.Task, task, "imported_model.task"),
            classes=classes,
            dataset_version=self.names.dataset_version(dataset_version),
            pixel_scale=pixel_scale,
            pixel_offset=pixel_offset,
            licence=licence,
        )
        request = exporter_service_pb2.ImportModelRequest(
            parent=self.names.parent, imported_model=model, target=target, request_id=request_id or new_request_id()
        )
        return await self._call("ImportModel", request, exporter_pb2.Export)

    async def get_export(self, export: str) -> exporter_pb2.Export:
        request = exporter_service_pb2.GetExportRequest(name=self.names.export(export))
        return await self._call("GetExport", request, exporter_pb2.Export)

    def list_exports(self, *, model_version: str = "", page_size: int = 0) -> AsyncIterator[exporter_pb2.Export]:
        """The exports of the project, newest first; all of them, or those of a model version."""
        request = exporter_service_pb2.ListExportsRequest(
            parent=self.names.parent,
            page_size=page_size,
            model_version=self.names.model_version(model_version) if model_version else "",
        )
        return self._items("ListExports", request, exporter_service_pb2.ListExportsResponse, "exports")

    def watch_export(self, export: str, *, after_sequence: int = 0) -> AsyncIterator[exporter_service_pb2.WatchExportResponse]:
        request = exporter_service_pb2.WatchExportRequest(name=self.names.export(export), after_sequence=after_sequence)
        return self._watch("WatchExport", request, exporter_service_pb2.WatchExportResponse, "export")

    async def wait_export(
        self, export: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> exporter_pb2.Export:
        """Waits for the end; `on_change` gets every WatchExportResponse. JobFailed, WaitTimeout."""
        name = self.names.export(export)
        request = exporter_service_pb2.WatchExportRequest(name=name)
        answer = exporter_service_pb2.WatchExportResponse
        return await self._wait("WatchExport", request, answer, "export", lambda: self.get_export(name), timeout_s, on_change)

    async def cancel_export(self, export: str) -> exporter_pb2.Export:
        """Cancels a running export; nothing of it stays."""
        request = exporter_service_pb2.CancelExportRequest(name=self.names.export(export))
        return await self._call("CancelExport", request, exporter_pb2.Export)

    async def delete_export(self, export: str) -> None:
        """Deletes an export that ended, with its artifact; deployments keep their own copy."""
        request = exporter_service_pb2.DeleteExportRequest(name=self.names.export(export))
        await self._call("DeleteExport", request, EMPTY)


class AsyncTargets(AsyncResource):
    """Hardware that models are made for. Names may be short: the target's id."""

    service = "exporter"

    async def create_target(
        self, target_id: str, target: exporter_pb2.Target | None = None, *, request_id: str = ""
    ) -> exporter_pb2.Target:
        """Adds a target of the project's own. AlreadyExists when the id is taken."""
        request = exporter_service_pb2.CreateTargetRequest(
            parent=self.names.parent, target_id=target_id, target=target, request_id=request_id or new_request_id()
        )
        return await self._call("CreateTarget", request, exporter_pb2.Target)

    async def get_target(self, target: str) -> exporter_pb2.Target:
        request = exporter_service_pb2.GetTargetRequest(name=self.names.target(target))
        return await self._call("GetTarget", request, exporter_pb2.Target)

    def list_targets(self, *, page_size: int = 0) -> AsyncIterator[exporter_pb2.Target]:
        """All targets: those that come with the product first, then the project's own."""
        request = exporter_service_pb2.ListTargetsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListTargets", request, exporter_service_pb2.ListTargetsResponse, "targets")

    async def delete_target(self, target: str) -> None:
        """Deletes a target of the project's own."""
        request = exporter_service_pb2.DeleteTargetRequest(name=self.names.target(target))
        await self._call("DeleteTarget", request, EMPTY)


class AsyncProfiles(AsyncResource):
    """Measured latencies of untrained candidates."""

    service = "exporter"

    async def create_latency_profile(
        self, dataset_version: str, recipes: Sequence[trainer_pb2.Recipe], *, target: str = "", request_id: str = ""
    ) -> exporter_pb2.LatencyProfile:
        """Starts measuring recipes (see `client.training.suggest_recipes`) on a target."""
        profile = exporter_pb2.LatencyProfile(
            dataset_version=self.names.dataset_version(dataset_version), recipes=recipes, target=target
        )
        request = exporter_service_pb2.CreateLatencyProfileRequest(
            parent=self.names.parent, latency_profile=profile, request_id=request_id or new_request_id()
        )
        return await self._call("CreateLatencyProfile", request, exporter_pb2.LatencyProfile)

    async def get_latency_profile(self, latency_profile: str) -> exporter_pb2.LatencyProfile:
        request = exporter_service_pb2.GetLatencyProfileRequest(name=self.names.latency_profile(latency_profile))
        return await self._call("GetLatencyProfile", request, exporter_pb2.LatencyProfile)

    def list_latency_profiles(self, *, page_size: int = 0) -> AsyncIterator[exporter_pb2.LatencyProfile]:
        """All profiles of the project, newest first."""
        request = exporter_service_pb2.ListLatencyProfilesRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListLatencyProfiles", request, exporter_service_pb2.ListLatencyProfilesResponse, "latency_profiles")

    def watch_latency_profile(
        self, latency_profile: str, *, after_sequence: int = 0
    ) -> AsyncIterator[exporter_service_pb2.WatchLatencyProfileResponse]:
        request = exporter_service_pb2.WatchLatencyProfileRequest(
            name=self.names.latency_profile(latency_profile), after_sequence=after_sequence
        )
        return self._watch("WatchLatencyProfile", request, exporter_service_pb2.WatchLatencyProfileResponse, "latency_profile")

    async def wait_latency_profile(
        self, latency_profile: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> exporter_pb2.LatencyProfile:
        """Waits for the end; `on_change` gets every WatchLatencyProfileResponse. JobFailed, WaitTimeout."""
        name = self.names.latency_profile(latency_profile)
        request = exporter_service_pb2.WatchLatencyProfileRequest(name=name)
        answer = exporter_service_pb2.WatchLatencyProfileResponse
        return await self._wait(
            "WatchLatencyProfile",
            request,
            answer,
            "latency_profile",
            lambda: self.get_latency_profile(name),
            timeout_s,
            on_change,
        )

    async def cancel_latency_profile(self, latency_profile: str) -> exporter_pb2.LatencyProfile:
        request = exporter_service_pb2.CancelLatencyProfileRequest(name=self.names.latency_profile(latency_profile))
        return await self._call("CancelLatencyProfile", request, exporter_pb2.LatencyProfile)
