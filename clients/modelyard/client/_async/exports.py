"""Exports and latency profiles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import EMPTY
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.exporter.v1 import exporter_pb2, exporter_service_pb2
from modelyard.trainer.v1 import trainer_pb2


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
        request_id: str = "",
    ) -> exporter_pb2.Export:
        """Starts an export. format: "onnx". precision: "fp32". target: "cpu" or "cpu-1core"."""
        export = exporter_pb2.Export(
            model_version=self.names.model_version(model_version),
            format=enum_number(exporter_pb2.Format, format, "export.format"),
            precision=enum_number(exporter_pb2.Precision, precision, "export.precision"),
            target=target,
        )
        request = exporter_service_pb2.CreateExportRequest(
            parent=self.names.parent, export=export, request_id=request_id or new_request_id()
        )
        return await self._call("CreateExport", request, exporter_pb2.Export)

    async def get_export(self, export: str) -> exporter_pb2.Export:
        request = exporter_service_pb2.GetExportRequest(name=self.names.export(export))
        return await self._call("GetExport", request, exporter_pb2.Export)

    def list_exports(self, *, page_size: int = 0) -> AsyncIterator[exporter_pb2.Export]:
        """All exports of the project, newest first."""
        request = exporter_service_pb2.ListExportsRequest(parent=self.names.parent, page_size=page_size)
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
