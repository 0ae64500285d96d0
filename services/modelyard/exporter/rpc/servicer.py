"""ExporterService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2

from modelyard.core import names
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint
from modelyard.exporter.handlers import exports, profiles
from modelyard.exporter.ports import DatasetVersions, Jobs, ModelVersions
from modelyard.exporter.rpc import convert
from modelyard.exporter.v1 import exporter_pb2 as pb
from modelyard.exporter.v1 import exporter_service_pb2 as messages
from modelyard.exporter.v1.exporter_service_pb2_grpc import ExporterServiceServicer


class ExporterServicer(ExporterServiceServicer):
    """Exports and latency profiles."""

    def __init__(self, jobs: Jobs, models: ModelVersions, versions: DatasetVersions) -> None:
        self._jobs = jobs
        self._models = models
        self._versions = versions

    def CreateExport(self, request: messages.CreateExportRequest, context: Any) -> pb.Export:
        """Starts an export; returns at once."""
        job = exports.create_export(
            self._jobs,
            self._models,
            self._versions,
            parent=request.parent,
            model_version=request.export.model_version,
            format=convert.format_name(request.export.format),
            precision=convert.precision_name(request.export.precision),
            target=request.export.target,
            request=Request(request.request_id, "CreateExport", fingerprint(request)),
        )
        return convert.export_message(job)

    def GetExport(self, request: messages.GetExportRequest, context: Any) -> pb.Export:
        """Reads an export."""
        names.EXPORT.parse(request.name)
        return convert.export_message(self._jobs.get(request.name))

    def ListExports(self, request: messages.ListExportsRequest, context: Any) -> messages.ListExportsResponse:
        """Lists the exports of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(exports.KIND, request.parent, request.page_size, request.page_token)
        found = [convert.export_message(job) for job in page.items]
        return messages.ListExportsResponse(exports=found, next_page_token=page.next_page_token)

    async def WatchExport(
        self, request: messages.WatchExportRequest, context: Any
    ) -> AsyncIterator[messages.WatchExportResponse]:
        """Sends the export now and at every change until it ends."""
        names.EXPORT.parse(request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            yield messages.WatchExportResponse(sequence=change.sequence, export=convert.export_message(change.job))

    def CancelExport(self, request: messages.CancelExportRequest, context: Any) -> pb.Export:
        """Cancels a running export."""
        names.EXPORT.parse(request.name)
        return convert.export_message(self._jobs.cancel(request.name))

    def DeleteExport(self, request: messages.DeleteExportRequest, context: Any) -> empty_pb2.Empty:
        """Deletes an export that ended; the collector takes its artifact."""
        names.EXPORT.parse(request.name)
        self._jobs.delete(request.name)
        return empty_pb2.Empty()

    def CreateLatencyProfile(self, request: messages.CreateLatencyProfileRequest, context: Any) -> pb.LatencyProfile:
        """Starts measuring candidate recipes; returns at once."""
        wanted = request.latency_profile
        job = profiles.create_profile(
            self._jobs,
            self._versions,
            parent=request.parent,
            dataset_version=wanted.dataset_version,
            candidates=tuple(convert.candidate_from(recipe) for recipe in wanted.recipes),
            target=wanted.target,
            request=Request(request.request_id, "CreateLatencyProfile", fingerprint(request)),
        )
        return convert.profile_message(job)

    def GetLatencyProfile(self, request: messages.GetLatencyProfileRequest, context: Any) -> pb.LatencyProfile:
        """Reads a profile."""
        names.LATENCY_PROFILE.parse(request.name)
        return convert.profile_message(self._jobs.get(request.name))

    def ListLatencyProfiles(
        self, request: messages.ListLatencyProfilesRequest, context: Any
    ) -> messages.ListLatencyProfilesResponse:
        """Lists the profiles of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(profiles.KIND, request.parent, request.page_size, request.page_token)
        found = [convert.profile_message(job) for job in page.items]
        return messages.ListLatencyProfilesResponse(latency_profiles=found, next_page_token=page.next_page_token)

    async def WatchLatencyProfile(
        self, request: messages.WatchLatencyProfileRequest, context: Any
    ) -> AsyncIterator[messages.WatchLatencyProfileResponse]:
        """Sends the profile now and at every change until it ends."""
        names.LATENCY_PROFILE.parse(request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            profile = convert.profile_message(change.job)
            yield messages.WatchLatencyProfileResponse(sequence=change.sequence, latency_profile=profile)

    def CancelLatencyProfile(self, request: messages.CancelLatencyProfileRequest, context: Any) -> pb.LatencyProfile:
        """Cancels a running profile."""
        names.LATENCY_PROFILE.parse(request.name)
        return convert.profile_message(self._jobs.cancel(request.name))
