"""modelyard.dataset.v1.DatasetService: convert, call, convert."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf import empty_pb2

from modelyard.core.documents import from_document
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint, mask_paths
from modelyard.dataset.domain.dataset import Dataset
from modelyard.dataset.domain.folds import FoldPlan
from modelyard.dataset.handlers import (
    datasets,
    deletion,
    diffs,
    examples,
    exports,
    folds,
    imports,
    quality_reports,
    tags,
    uses,
    version_facts,
    versions,
)
from modelyard.dataset.ports import Examples, Folding, Jobs, LocalFolders, Resources, Selection, Sources, Use, Users
from modelyard.dataset.rpc import convert
from modelyard.dataset.rpc.convert_views import look_of, view_message
from modelyard.dataset.v1 import dataset_pb2 as pb
from modelyard.dataset.v1 import dataset_service_pb2 as messages
from modelyard.dataset.v1 import dataset_service_pb2_grpc as rpc

_FIELDS = {"display_name", "description"}


class DatasetServicer(rpc.DatasetServiceServicer):
    """The servicer over its handlers."""

    def __init__(
        self,
        jobs: Jobs,
        resources: Resources,
        sources: Sources,
        kept: Examples,
        folding: Folding,
        users: Users,
        folders: LocalFolders,
        forget: Callable[[str], None] = lambda dataset: None,
        import_is_near: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        """`forget` deletes what else there is of a dataset that is deleted; `import_is_near`: see JobEngine."""
        self._jobs = jobs
        self._resources = resources
        self._sources = sources
        self._examples = kept
        self._folding = folding
        self._users = users
        self._folders = folders
        self._forget = forget
        self._import_is_near = import_is_near

    def CreateDataset(self, request: messages.CreateDatasetRequest, context: Any) -> pb.Dataset:
        wanted = Dataset(display_name=request.dataset.display_name, description=request.dataset.description)
        made = datasets.create_dataset(self._resources, request.parent, request.dataset_id, wanted, _request(request))
        self._import_is_near(sys.maxsize)  # of whatever size: what reads many pictures begins as well
        return convert.dataset_message(made)

    def GetDataset(self, request: messages.GetDatasetRequest, context: Any) -> pb.Dataset:
        return convert.dataset_message(datasets.get_dataset(self._resources, request.name))

    def ListDatasets(self, request: messages.ListDatasetsRequest, context: Any) -> messages.ListDatasetsResponse:
        page = datasets.list_datasets(self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.dataset_message(item) for item in page.items]
        return messages.ListDatasetsResponse(datasets=found, next_page_token=page.next_page_token)

    def UpdateDataset(self, request: messages.UpdateDatasetRequest, context: Any) -> pb.Dataset:
        wanted = request.dataset
        paths = mask_paths(request.update_mask, _FIELDS)
        named = bool(request.update_mask.paths)
        values = {path: getattr(wanted, path) for path in paths if named or getattr(wanted, path)}
        return convert.dataset_message(datasets.update_dataset(self._resources, wanted.name, values, wanted.etag))

    def DeleteDataset(self, request: messages.DeleteDatasetRequest, context: Any) -> empty_pb2.Empty:
        deletion.delete_dataset(self._jobs, self._resources, self._users, request.name, request.etag)
        self._forget(request.name)
        return empty_pb2.Empty()

    def CreateImport(self, request: messages.CreateImportRequest, context: Any) -> pb.Import:
        spec = convert.import_spec(request)
        job = imports.create_import(
            self._jobs,
            self._resources,
            self._sources,
            self._folders,
            request.parent,
            spec,
            _request(request, request.dataset_import.instance_flavor),
        )
        return convert.import_message(job)

    def GetImport(self, request: messages.GetImportRequest, context: Any) -> pb.Import:
        return convert.import_message(imports.get_import(self._jobs, request.name))

    def ListImports(self, request: messages.ListImportsRequest, context: Any) -> messages.ListImportsResponse:
        page = imports.list_imports(self._jobs, self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.import_message(job) for job in page.items]
        return messages.ListImportsResponse(imports=found, next_page_token=page.next_page_token)

    async def WatchImport(
        self, request: messages.WatchImportRequest, context: Any
    ) -> AsyncIterator[messages.WatchImportResponse]:
        await asyncio.to_thread(imports.get_import, self._jobs, request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            message = convert.import_message(change.job)
            yield messages.WatchImportResponse(sequence=change.sequence, dataset_import=message)

    def CancelImport(self, request: messages.CancelImportRequest, context: Any) -> pb.Import:
        return convert.import_message(imports.cancel_import(self._jobs, request.name))

    def CreateQualityReport(self, request: messages.CreateQualityReportRequest, context: Any) -> pb.QualityReport:
        wanted = request.quality_report
        job = quality_reports.create_quality_report(
            self._jobs,
            self._resources,
            request.parent,
            _request(request),
            version=wanted.dataset_version,
            depth=convert.report_depth(wanted.depth),
            base=wanted.base_version,
        )
        return convert.report_message(job)

    def GetQualityReport(self, request: messages.GetQualityReportRequest, context: Any) -> pb.QualityReport:
        return convert.report_message(quality_reports.get_quality_report(self._jobs, request.name))

    def ListQualityReports(
        self, request: messages.ListQualityReportsRequest, context: Any
    ) -> messages.ListQualityReportsResponse:
        page = quality_reports.list_quality_reports(
            self._jobs, self._resources, request.parent, request.page_size, request.page_token
        )
        found = [convert.report_message(job) for job in page.items]
        return messages.ListQualityReportsResponse(quality_reports=found, next_page_token=page.next_page_token)

    async def WatchQualityReport(
        self, request: messages.WatchQualityReportRequest, context: Any
    ) -> AsyncIterator[messages.WatchQualityReportResponse]:
        await asyncio.to_thread(quality_reports.get_quality_report, self._jobs, request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            message = convert.report_message(change.job)
            yield messages.WatchQualityReportResponse(sequence=change.sequence, quality_report=message)

    def CancelQualityReport(self, request: messages.CancelQualityReportRequest, context: Any) -> pb.QualityReport:
        return convert.report_message(quality_reports.cancel_quality_report(self._jobs, request.name))

    def CreateDatasetVersion(self, request: messages.CreateDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        new = convert.new_version(request)
        flavor = request.dataset_version.instance_flavor
        return self._version(versions.create_version(self._jobs, self._resources, new, _request(request, flavor)))

    def GetDatasetVersion(self, request: messages.GetDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        return self._version(versions.get_version(self._jobs, self._resources, request.name))

    def ListDatasetVersions(
        self, request: messages.ListDatasetVersionsRequest, context: Any
    ) -> messages.ListDatasetVersionsResponse:
        page = versions.list_versions(self._jobs, self._resources, request.parent, request.page_size, request.page_token)
        facts = version_facts.facts_below(self._resources, request.parent, page.items)
        found = [convert.version_message(job, facts[job.name]) for job in page.items]
        return messages.ListDatasetVersionsResponse(dataset_versions=found, next_page_token=page.next_page_token)

    async def WatchDatasetVersion(
        self, request: messages.WatchDatasetVersionRequest, context: Any
    ) -> AsyncIterator[messages.WatchDatasetVersionResponse]:
        name = (await asyncio.to_thread(versions.get_version, self._jobs, self._resources, request.name)).name
        async for change in self._jobs.watch(name, request.after_sequence):
            message = await asyncio.to_thread(self._version, change.job)
            yield messages.WatchDatasetVersionResponse(sequence=change.sequence, dataset_version=message)

    def CancelDatasetVersion(self, request: messages.CancelDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        return self._version(versions.cancel_version(self._jobs, self._resources, request.name))

    def UpdateDatasetVersion(self, request: messages.UpdateDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        wanted = request.dataset_version
        mask_paths(request.update_mask, {"description"})
        described = versions.describe_version(self._jobs, self._resources, wanted.name, wanted.description, wanted.etag)
        return self._version(described)

    def DeleteDatasetVersion(self, request: messages.DeleteDatasetVersionRequest, context: Any) -> empty_pb2.Empty:
        deletion.delete_version(self._jobs, self._resources, self._users, request.name)
        return empty_pb2.Empty()

    def _version(self, job: Job) -> pb.DatasetVersion:
        return convert.version_message(job, version_facts.facts_of(self._resources, job))

    def GetTag(self, request: messages.GetTagRequest, context: Any) -> pb.Tag:
        return convert.tag_message(tags.get_tag(self._resources, request.name))

    def ListTags(self, request: messages.ListTagsRequest, context: Any) -> messages.ListTagsResponse:
        page = tags.list_tags(self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.tag_message(item) for item in page.items]
        return messages.ListTagsResponse(tags=found, next_page_token=page.next_page_token)

    def UpdateTag(self, request: messages.UpdateTagRequest, context: Any) -> pb.Tag:
        wanted, missing = request.tag, request.allow_missing
        moved = tags.update_tag(
            self._jobs, self._resources, wanted.name, wanted.dataset_version, wanted.etag, allow_missing=missing
        )
        return convert.tag_message(moved)

    def DeleteTag(self, request: messages.DeleteTagRequest, context: Any) -> empty_pb2.Empty:
        tags.delete_tag(self._resources, request.name, request.etag)
        return empty_pb2.Empty()

    def CreateDatasetUse(self, request: messages.CreateDatasetUseRequest, context: Any) -> pb.DatasetUse:
        wanted = convert.use_from(request)
        made, descriptor = uses.create_use(self._jobs, self._resources, self._examples, request.parent, wanted)
        return convert.use_message(made, descriptor)

    def ListDatasetUses(self, request: messages.ListDatasetUsesRequest, context: Any) -> messages.ListDatasetUsesResponse:
        version, page = uses.list_uses(self._jobs, self._resources, request.parent, request.page_size, request.page_token)
        found = [(item, uses.descriptor_for(from_document(item.document, Use), version)) for item in page.items]
        listed = [convert.use_message(item, descriptor) for item, descriptor in found]
        return messages.ListDatasetUsesResponse(dataset_uses=listed, next_page_token=page.next_page_token)

    def DeleteDatasetUse(self, request: messages.DeleteDatasetUseRequest, context: Any) -> empty_pb2.Empty:
        uses.delete_use(self._resources, request.name)
        return empty_pb2.Empty()

    def CreateFolds(self, request: messages.CreateFoldsRequest, context: Any) -> pb.Folds:
        wanted = request.folds
        plan = FoldPlan(wanted.k, wanted.repeats, wanted.seed)
        made = folds.create_folds(self._jobs, self._resources, self._folding, request.parent, plan, wanted.group_by)
        return convert.folds_message(made)

    def GetFolds(self, request: messages.GetFoldsRequest, context: Any) -> pb.Folds:
        return convert.folds_message(folds.get_folds(self._resources, request.name))

    def ListExamples(self, request: messages.ListExamplesRequest, context: Any) -> messages.ListExamplesResponse:
        chosen = Selection(convert.usage_name(request.usage), request.label, tuple(request.example_ids))
        place = (request.parent, chosen, request.page_size, request.page_token, request.skip)
        rows, token, total = examples.list_examples(self._jobs, self._resources, self._examples, *place)
        found = [convert.example_message(row) for row in rows]
        return messages.ListExamplesResponse(examples=found, next_page_token=token, total_size=total)

    def ViewExamples(self, request: messages.ViewExamplesRequest, context: Any) -> messages.ViewExamplesResponse:
        look = look_of(request)
        looks, descriptor = examples.view_examples(
            self._jobs, self._resources, self._examples, request.parent, request.example_ids, look
        )
        return view_message(looks, descriptor)

    def DiffDatasetVersions(self, request: messages.DiffDatasetVersionsRequest, context: Any) -> pb.DatasetVersionDiff:
        diff = diffs.diff_versions(self._jobs, self._resources, self._examples, request.name, request.base_version)
        return convert.diff_message(diff)

    def ListExampleChanges(
        self, request: messages.ListExampleChangesRequest, context: Any
    ) -> messages.ListExampleChangesResponse:
        rows, token = diffs.list_changes(
            self._jobs,
            self._resources,
            self._examples,
            request.parent,
            request.base_version,
            request.page_size,
            request.page_token,
        )
        found = [convert.change_message(row) for row in rows]
        return messages.ListExampleChangesResponse(example_changes=found, next_page_token=token)

    def CreateDatasetExport(self, request: messages.CreateDatasetExportRequest, context: Any) -> pb.DatasetExport:
        wanted = request.dataset_export
        format_ = convert.export_format(wanted.format)
        job = exports.create_export(
            self._jobs, self._resources, request.parent, wanted.dataset_version, format_, wanted.lossy, _request(request)
        )
        return convert.export_message(job)

    def GetDatasetExport(self, request: messages.GetDatasetExportRequest, context: Any) -> pb.DatasetExport:
        return convert.export_message(exports.get_export(self._jobs, request.name))

    def ListDatasetExports(
        self, request: messages.ListDatasetExportsRequest, context: Any
    ) -> messages.ListDatasetExportsResponse:
        page = exports.list_exports(self._jobs, self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.export_message(job) for job in page.items]
        return messages.ListDatasetExportsResponse(dataset_exports=found, next_page_token=page.next_page_token)

    async def WatchDatasetExport(
        self, request: messages.WatchDatasetExportRequest, context: Any
    ) -> AsyncIterator[messages.WatchDatasetExportResponse]:
        await asyncio.to_thread(exports.get_export, self._jobs, request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            message = convert.export_message(change.job)
            yield messages.WatchDatasetExportResponse(sequence=change.sequence, dataset_export=message)

    def CancelDatasetExport(self, request: messages.CancelDatasetExportRequest, context: Any) -> pb.DatasetExport:
        return convert.export_message(exports.cancel_export(self._jobs, request.name))


def _request(request: Any, instance_flavor: str = "") -> Request:
    method = type(request).__name__.removesuffix("Request")
    return Request(request.request_id, method, fingerprint(request), instance_flavor)
