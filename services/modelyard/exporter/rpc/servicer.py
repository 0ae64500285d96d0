"""ExporterService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import empty_pb2

from modelyard.core import names
from modelyard.core.jobs.convert import blob_from
from modelyard.core.requests import Request
from modelyard.core.resources import naming
from modelyard.core.rpc.requests import fingerprint
from modelyard.exporter.handlers import exports, profiles, targets
from modelyard.exporter.handlers.exports import Ports
from modelyard.exporter.handlers.targets import KnownTargets
from modelyard.exporter.ports import Resources
from modelyard.exporter.rpc import convert
from modelyard.exporter.v1 import exporter_pb2 as pb
from modelyard.exporter.v1 import exporter_service_pb2 as messages
from modelyard.exporter.v1.exporter_service_pb2_grpc import ExporterServiceServicer


class ExporterServicer(ExporterServiceServicer):
    """Exports, targets and latency profiles."""

    def __init__(self, ports: Ports, targets: KnownTargets, resources: Resources) -> None:
        self._ports = ports
        self._jobs = ports.jobs
        self._targets = targets
        self._resources = resources

    def CreateExport(self, request: messages.CreateExportRequest, context: Any) -> pb.Export:
        """Starts an export; returns at once."""
        job = exports.create_export(
            self._ports,
            request.parent,
            convert.wish_from(request.export),
            Request(request.request_id, "CreateExport", fingerprint(request), request.export.instance_flavor),
        )
        return convert.export_message(job)

    def GetExport(self, request: messages.GetExportRequest, context: Any) -> pb.Export:
        """Reads an export."""
        names.EXPORT.parse(request.name)
        return convert.export_message(self._jobs.get(request.name))

    def ListExports(self, request: messages.ListExportsRequest, context: Any) -> messages.ListExportsResponse:
        """Lists the exports of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        if request.model_version:
            names.MODEL_VERSION.parse(request.model_version, "model_version")
        of = naming("model_version", [request.model_version] if request.model_version else [], "model_version")
        page = self._jobs.list(exports.KIND, request.parent, request.page_size, request.page_token, naming=of)
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

    def ImportModel(self, request: messages.ImportModelRequest, context: Any) -> pb.Export:
        """Takes in a model file from elsewhere; returns at once."""
        wanted = request.imported_model
        job = exports.import_model(
            self._ports,
            request.parent,
            file=blob_from(wanted.blob),
            imported=convert.imported_from(wanted),
            task=convert.task_name(wanted.task),
            dataset_version=wanted.dataset_version,
            target=request.target,
            request=Request(request.request_id, "ImportModel", fingerprint(request)),
        )
        return convert.export_message(job)

    def CreateTarget(self, request: messages.CreateTargetRequest, context: Any) -> pb.Target:
        """Adds a target of the project's own."""
        asked = convert.target_from(request.target_id, request.target)
        made = targets.create_target(
            self._targets,
            self._resources,
            request.parent,
            asked,
            Request(request.request_id, "CreateTarget", fingerprint(request)),
        )
        return convert.target_message(request.parent, targets.target_of(made))

    def GetTarget(self, request: messages.GetTargetRequest, context: Any) -> pb.Target:
        """Reads a target."""
        found = targets.get_target(self._targets, self._resources, request.name)
        return convert.target_message(names.parent_of(request.name), found)

    def ListTargets(self, request: messages.ListTargetsRequest, context: Any) -> messages.ListTargetsResponse:
        """Lists the targets: the named ones first, then the project's own."""
        found, token = targets.list_targets(self._targets, self._resources, request.parent, request.page_size, request.page_token)
        listed = [convert.target_message(request.parent, target) for target in found]
        return messages.ListTargetsResponse(targets=listed, next_page_token=token)

    def DeleteTarget(self, request: messages.DeleteTargetRequest, context: Any) -> empty_pb2.Empty:
        """Deletes a target of the project's own."""
        targets.delete_target(self._targets, self._resources, request.name)
        return empty_pb2.Empty()

    def CreateLatencyProfile(self, request: messages.CreateLatencyProfileRequest, context: Any) -> pb.LatencyProfile:
        """Starts measuring candidate recipes; returns at once."""
        wanted = request.latency_profile
        job = profiles.create_profile(
            self._jobs,
            self._ports.versions,
            self._targets,
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
