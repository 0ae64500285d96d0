"""Datasets, their imports, quality reports, versions and examples."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from google.protobuf.field_mask_pb2 import FieldMask

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._local_folder import local_folder
from modelyard.client._messages import EMPTY, import_message, split_policy
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2
from modelyard.type.v1 import blob_pb2, learning_pb2


class AsyncDatasets(AsyncResource):
    """Calls of modelyard.dataset.v1.DatasetService. Names may be short: `flowers`, `flowers/V002`."""

    service = "dataset"

    async def create_dataset(
        self,
        dataset_id: str,
        *,
        display_name: str = "",
        description: str = "",
        request_id: str = "",
    ) -> dataset_pb2.Dataset:
        """Creates an empty dataset. AlreadyExists when the id is taken."""
        request = dataset_service_pb2.CreateDatasetRequest(
            parent=self.names.parent,
            dataset_id=dataset_id,
            dataset=dataset_pb2.Dataset(display_name=display_name, description=description),
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateDataset", request, dataset_pb2.Dataset)

    async def get_dataset(self, dataset: str) -> dataset_pb2.Dataset:
        request = dataset_service_pb2.GetDatasetRequest(name=self.names.dataset(dataset))
        return await self._call("GetDataset", request, dataset_pb2.Dataset)

    def list_datasets(self, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.Dataset]:
        """All datasets of the project, newest first."""
        request = dataset_service_pb2.ListDatasetsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListDatasets", request, dataset_service_pb2.ListDatasetsResponse, "datasets")

    async def update_dataset(self, dataset: dataset_pb2.Dataset, update_mask: Sequence[str] = ()) -> dataset_pb2.Dataset:
        """Changes display_name or description. Aborted when a set etag does not match."""
        request = dataset_service_pb2.UpdateDatasetRequest(dataset=dataset, update_mask=FieldMask(paths=update_mask))
        return await self._call("UpdateDataset", request, dataset_pb2.Dataset)

    async def delete_dataset(self, dataset: str, *, etag: str = "") -> None:
        """Deletes a dataset with its imports, reports and versions. FailedPrecondition while one of them runs."""
        request = dataset_service_pb2.DeleteDatasetRequest(name=self.names.dataset(dataset), etag=etag)
        await self._call("DeleteDataset", request, EMPTY)

    def local_folder(self, path: str | Path) -> dataset_pb2.LocalFolder | None:
        """A folder as a source that is not sent: the server of the same user on the same machine (`modelyard up`) reads it where
        it lies. None where the server is another, or the path no folder; then `client.artifacts.upload` it.

        `create_import` raises FailedPrecondition NOT_THE_SAME_FOLDER where the server turns out to see other files.
        """
        return local_folder(Path(path), self._transport.addresses.of(self.service))

    async def create_import(
        self,
        dataset: str,
        source: blob_pb2.Blob | dataset_pb2.LocalFolder,
        *,
        file_name: str = "",
        format: dataset_pb2.SourceFormat.ValueType | str = "",
        task: learning_pb2.Task.ValueType | str = "",
        label_column: str = "",
        usage_column: str = "",
        time_column: str = "",
        name_pattern: str = "",
        classes: Sequence[str] = (),
        unlabelled: bool = False,
        request_id: str = "",
    ) -> dataset_pb2.Import:
        """Starts reading a source (see `client.artifacts.upload`, `local_folder`) into a dataset; the parameters are those of
        Import."""
        request = dataset_service_pb2.CreateImportRequest(
            parent=self.names.dataset(dataset),
            dataset_import=import_message(
                source, file_name, format, task, label_column, usage_column, time_column, name_pattern, classes, unlabelled
            ),
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateImport", request, dataset_pb2.Import)

    async def get_import(self, dataset_import: str) -> dataset_pb2.Import:
        request = dataset_service_pb2.GetImportRequest(name=self.names.dataset_import(dataset_import))
        return await self._call("GetImport", request, dataset_pb2.Import)

    def list_imports(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.Import]:
        request = dataset_service_pb2.ListImportsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListImports", request, dataset_service_pb2.ListImportsResponse, "imports")

    def watch_import(
        self, dataset_import: str, *, after_sequence: int = 0
    ) -> AsyncIterator[dataset_service_pb2.WatchImportResponse]:
        """The import now and at every change until it ends."""
        request = dataset_service_pb2.WatchImportRequest(
            name=self.names.dataset_import(dataset_import), after_sequence=after_sequence
        )
        return self._watch("WatchImport", request, dataset_service_pb2.WatchImportResponse, "dataset_import")

    async def wait_import(
        self, dataset_import: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> dataset_pb2.Import:
        """Waits for the end; `on_change` gets every WatchImportResponse. JobFailed, WaitTimeout."""
        name = self.names.dataset_import(dataset_import)
        request = dataset_service_pb2.WatchImportRequest(name=name)
        answer = dataset_service_pb2.WatchImportResponse
        return await self._wait(
            "WatchImport", request, answer, "dataset_import", lambda: self.get_import(name), timeout_s, on_change
        )

    async def cancel_import(self, dataset_import: str) -> dataset_pb2.Import:
        """Cancels a running import; nothing of it stays."""
        request = dataset_service_pb2.CancelImportRequest(name=self.names.dataset_import(dataset_import))
        return await self._call("CancelImport", request, dataset_pb2.Import)

    async def create_quality_report(
        self,
        dataset: str,
        *,
        dataset_version: str = "",
        depth: dataset_pb2.QualityReport.Depth.ValueType | str = "",
        base_version: str = "",
        request_id: str = "",
    ) -> dataset_pb2.QualityReport:
        """Starts a check of the dataset's present content, or of a version of it (`V001`, `flowers/V001`).

        depth: "full" (the default) or "quick", which reads no example again. base_version: a version of it to compare with
        instead; the findings are of kind DRIFT then.
        """
        named = [one if "/" in one or not one else f"{dataset}/{one}" for one in (dataset_version, base_version)]
        version, base = (self.names.dataset_version(one) if one else "" for one in named)
        request = dataset_service_pb2.CreateQualityReportRequest(
            parent=self.names.dataset(dataset),
            quality_report=dataset_pb2.QualityReport(
                dataset_version=version,
                depth=enum_number(dataset_pb2.QualityReport.Depth, depth, "quality_report.depth"),
                base_version=base,
            ),
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateQualityReport", request, dataset_pb2.QualityReport)

    async def get_quality_report(self, quality_report: str) -> dataset_pb2.QualityReport:
        request = dataset_service_pb2.GetQualityReportRequest(name=self.names.quality_report(quality_report))
        return await self._call("GetQualityReport", request, dataset_pb2.QualityReport)

    def list_quality_reports(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.QualityReport]:
        request = dataset_service_pb2.ListQualityReportsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListQualityReports", request, dataset_service_pb2.ListQualityReportsResponse, "quality_reports")

    def watch_quality_report(
        self, quality_report: str, *, after_sequence: int = 0
    ) -> AsyncIterator[dataset_service_pb2.WatchQualityReportResponse]:
        request = dataset_service_pb2.WatchQualityReportRequest(
            name=self.names.quality_report(quality_report), after_sequence=after_sequence
        )
        return self._watch("WatchQualityReport", request, dataset_service_pb2.WatchQualityReportResponse, "quality_report")

    async def wait_quality_report(
        self, quality_report: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> dataset_pb2.QualityReport:
        """Waits for the end; `on_change` gets every WatchQualityReportResponse. JobFailed, WaitTimeout."""
        name = self.names.quality_report(quality_report)
        request = dataset_service_pb2.WatchQualityReportRequest(name=name)
        answer = dataset_service_pb2.WatchQualityReportResponse
        return await self._wait(
            "WatchQualityReport", request, answer, "quality_report", lambda: self.get_quality_report(name), timeout_s, on_change
        )

    async def cancel_quality_report(self, quality_report: str) -> dataset_pb2.QualityReport:
        request = dataset_service_pb2.CancelQualityReportRequest(name=self.names.quality_report(quality_report))
        return await self._call("CancelQualityReport", request, dataset_pb2.QualityReport)

    async def create_dataset_version(
        self,
        dataset: str,
        *,
        dataset_version_id: str = "",
        split: dataset_pb2.SplitPolicy | None = None,
        train_ratio: str = "",
        split_source: dataset_pb2.SplitPolicy.Source.ValueType | str = "",
        seed: int = 0,
        group_by: str = "",
        time_by: str = "",
        test_where: Sequence[str] = (),
        validation_where: Sequence[str] = (),
        excluded_columns: Sequence[str] = (),
        keep_leaking_columns: bool = False,
        base_version: str = "",
        edits: Sequence[dataset_pb2.Edit] = (),
        test_policy: dataset_pb2.DatasetVersion.TestPolicy.ValueType | str = "",
        description: str = "",
        request_id: str = "",
    ) -> dataset_pb2.DatasetVersion:
        """Starts to split and freeze the dataset's present content, or `base_version` (`V001`, `flowers/V001`) with `edits`.

        train_ratio: decimal text with one to five decimals, above 0 and below 1; empty is "0.8".
        It, `split_source` ("auto", "ratio", "given"), `seed`, `group_by`, `time_by`, `test_where` and `validation_where`
        (conditions such as "index < 5") are used when no `split` is given.
        test_policy: "freeze" freezes its test examples for all later versions, "replace" draws and freezes others.
        """
        base = ""
        if base_version:
            base = self.names.dataset_version(base_version if "/" in base_version else f"{dataset}/{base_version}")
        version = dataset_pb2.DatasetVersion(
            split=split or split_policy(train_ratio, split_source, seed, group_by, time_by, test_where, validation_where),
            excluded_columns=excluded_columns,
            keep_leaking_columns=keep_leaking_columns,
            base_version=base,
            edits=edits,
            test_policy=enum_number(dataset_pb2.DatasetVersion.TestPolicy, test_policy, "dataset_version.test_policy"),
            description=description,
        )
        request = dataset_service_pb2.CreateDatasetVersionRequest(
            parent=self.names.dataset(dataset),
            dataset_version=version,
            dataset_version_id=dataset_version_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateDatasetVersion", request, dataset_pb2.DatasetVersion)

    async def get_dataset_version(self, dataset_version: str) -> dataset_pb2.DatasetVersion:
        """`flowers/V002`; `flowers` or `flowers/latest` is the newest that succeeded."""
        request = dataset_service_pb2.GetDatasetVersionRequest(name=self.names.dataset_version(dataset_version))
        return await self._call("GetDatasetVersion", request, dataset_pb2.DatasetVersion)

    def list_dataset_versions(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.DatasetVersion]:
        request = dataset_service_pb2.ListDatasetVersionsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListDatasetVersions", request, dataset_service_pb2.ListDatasetVersionsResponse, "dataset_versions")

    def watch_dataset_version(
        self, dataset_version: str, *, after_sequence: int = 0
    ) -> AsyncIterator[dataset_service_pb2.WatchDatasetVersionResponse]:
        request = dataset_service_pb2.WatchDatasetVersionRequest(
            name=self.names.dataset_version(dataset_version), after_sequence=after_sequence
        )
        return self._watch("WatchDatasetVersion", request, dataset_service_pb2.WatchDatasetVersionResponse, "dataset_version")

    async def wait_dataset_version(
        self, dataset_version: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> dataset_pb2.DatasetVersion:
        """Waits for the end of the publication; `on_change` gets every WatchDatasetVersionResponse. JobFailed, WaitTimeout."""
        name = self.names.dataset_version(dataset_version)
        request = dataset_service_pb2.WatchDatasetVersionRequest(name=name)
        answer = dataset_service_pb2.WatchDatasetVersionResponse
        return await self._wait(
            "WatchDatasetVersion",
            request,
            answer,
            "dataset_version",
            lambda: self.get_dataset_version(name),
            timeout_s,
            on_change,
        )

    async def cancel_dataset_version(self, dataset_version: str) -> dataset_pb2.DatasetVersion:
        """Cancels a running publication; nothing of it stays."""
        request = dataset_service_pb2.CancelDatasetVersionRequest(name=self.names.dataset_version(dataset_version))
        return await self._call("CancelDatasetVersion", request, dataset_pb2.DatasetVersion)

    async def update_dataset_version(
        self, dataset_version: str, description: str, *, etag: str = ""
    ) -> dataset_pb2.DatasetVersion:
        """Changes a version's notes. Aborted when a set etag does not match."""
        name = self.names.dataset_version(dataset_version)
        version = dataset_pb2.DatasetVersion(name=name, description=description, etag=etag)
        request = dataset_service_pb2.UpdateDatasetVersionRequest(
            dataset_version=version, update_mask=FieldMask(paths=["description"])
        )
        return await self._call("UpdateDatasetVersion", request, dataset_pb2.DatasetVersion)

    async def delete_dataset_version(self, dataset_version: str) -> None:
        """FailedPrecondition IN_USE while a model, or a running training or evaluation, stands on it; TAGGED while a tag names
        it."""
        request = dataset_service_pb2.DeleteDatasetVersionRequest(name=self.names.dataset_version(dataset_version))
        await self._call("DeleteDatasetVersion", request, EMPTY)

    async def get_tag(self, tag: str) -> dataset_pb2.Tag:
        """`flowers/golden`"""
        request = dataset_service_pb2.GetTagRequest(name=self.names.dataset_tag(tag))
        return await self._call("GetTag", request, dataset_pb2.Tag)

    def list_tags(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.Tag]:
        request = dataset_service_pb2.ListTagsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListTags", request, dataset_service_pb2.ListTagsResponse, "tags")

    async def set_tag(self, tag: str, dataset_version: str, *, etag: str = "") -> dataset_pb2.Tag:
        """Makes `flowers/golden` name a version (`V002`, `flowers/V002`), whatever it named before. With an etag only what it
        was read as."""
        name = self.names.dataset_tag(tag)
        dataset = name.rpartition("/tags/")[0]
        version = dataset_version if "/" in dataset_version else f"{dataset}/versions/{dataset_version}"
        wanted = dataset_pb2.Tag(name=name, dataset_version=self.names.dataset_version(version), etag=etag)
        request = dataset_service_pb2.UpdateTagRequest(tag=wanted, allow_missing=not etag)
        return await self._call("UpdateTag", request, dataset_pb2.Tag)

    async def delete_tag(self, tag: str, *, etag: str = "") -> None:
        request = dataset_service_pb2.DeleteTagRequest(name=self.names.dataset_tag(tag), etag=etag)
        await self._call("DeleteTag", request, EMPTY)

    async def create_dataset_use(
        self,
        dataset_version: str,
        user: str,
        *,
        model: str = "",
        usages: Sequence[learning_pb2.Usage.ValueType | str] = (),
    ) -> dataset_pb2.DatasetUse:
        """Records what stands on a version: a training job or an evaluation, by its full name. The services do it by
        themselves."""
        numbers = [enum_number(learning_pb2.Usage, usage, "dataset_use.usages") for usage in usages]
        use = dataset_pb2.DatasetUse(user=user, model=model, usages=numbers)
        request = dataset_service_pb2.CreateDatasetUseRequest(
            parent=self.names.dataset_version(dataset_version), dataset_use=use, request_id=new_request_id()
        )
        return await self._call("CreateDatasetUse", request, dataset_pb2.DatasetUse)

    def list_dataset_uses(self, dataset_version: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.DatasetUse]:
        """Trainings and evaluations that stand, or stood, on a version, newest first."""
        request = dataset_service_pb2.ListDatasetUsesRequest(
            parent=self.names.dataset_version(dataset_version), page_size=page_size
        )
        return self._items("ListDatasetUses", request, dataset_service_pb2.ListDatasetUsesResponse, "dataset_uses")

    async def delete_dataset_use(self, dataset_use: str) -> None:
        request = dataset_service_pb2.DeleteDatasetUseRequest(name=self.names.dataset_use(dataset_use))
        await self._call("DeleteDatasetUse", request, EMPTY)

    async def create_folds(
        self, dataset_version: str, k: int, *, repeats: int = 1, seed: int = 0, group_by: str = ""
    ) -> dataset_pb2.Folds:
        """Shares the train and validation examples of a version out to k folds, `repeats` times; see Folds. The same again is
        the same."""
        request = dataset_service_pb2.CreateFoldsRequest(
            parent=self.names.dataset_version(dataset_version),
            folds=dataset_pb2.Folds(k=k, repeats=repeats, seed=seed, group_by=group_by),
            request_id=new_request_id(),
        )
        return await self._call("CreateFolds", request, dataset_pb2.Folds)

    async def get_folds(self, folds: str) -> dataset_pb2.Folds:
        request = dataset_service_pb2.GetFoldsRequest(name=self.names.folds(folds))
        return await self._call("GetFolds", request, dataset_pb2.Folds)

    def list_examples(
        self, dataset_version: str, *, usage: learning_pb2.Usage.ValueType | str = "", page_size: int = 0
    ) -> AsyncIterator[dataset_pb2.Example]:
        """The examples of a version in the order of their ids; only of one usage ("train", "validation", "test") when given."""
        request = dataset_service_pb2.ListExamplesRequest(
            parent=self.names.dataset_version(dataset_version),
            usage=enum_number(learning_pb2.Usage, usage, "usage"),
            page_size=page_size,
        )
        return self._items("ListExamples", request, dataset_service_pb2.ListExamplesResponse, "examples")

    async def diff_dataset_versions(self, dataset_version: str, base_version: str = "") -> dataset_pb2.DatasetVersionDiff:
        """How a version (`flowers/V002`) differs from another; by default from the one it was made from, or the one before."""
        request = dataset_service_pb2.DiffDatasetVersionsRequest(
            name=self.names.dataset_version(dataset_version),
            base_version=self.names.dataset_version(base_version) if base_version else "",
        )
        return await self._call("DiffDatasetVersions", request, dataset_pb2.DatasetVersionDiff)

    def list_example_changes(
        self, dataset_version: str, base_version: str = "", *, page_size: int = 0
    ) -> AsyncIterator[dataset_pb2.ExampleChange]:
        """What became of each example between two versions (see diff_dataset_versions), in the order of their ids."""
        request = dataset_service_pb2.ListExampleChangesRequest(
            parent=self.names.dataset_version(dataset_version),
            base_version=self.names.dataset_version(base_version) if base_version else "",
            page_size=page_size,
        )
        return self._items("ListExampleChanges", request, dataset_service_pb2.ListExampleChangesResponse, "example_changes")

    async def create_dataset_export(
        self,
        dataset_version: str,
        format: dataset_pb2.SourceFormat.ValueType | str,
        *,
        lossy: bool = False,
        request_id: str = "",
    ) -> dataset_pb2.DatasetExport:
        """Starts writing a version (`flowers/V002`, `flowers`) as files of a format; the result's `archive` is a zip."""
        version = self.names.dataset_version(dataset_version)
        number = enum_number(dataset_pb2.SourceFormat, format, "dataset_export.format")
        request = dataset_service_pb2.CreateDatasetExportRequest(
            parent=version.rpartition("/versions/")[0],
            dataset_export=dataset_pb2.DatasetExport(dataset_version=version, format=number, lossy=lossy),
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateDatasetExport", request, dataset_pb2.DatasetExport)

    async def get_dataset_export(self, dataset_export: str) -> dataset_pb2.DatasetExport:
        request = dataset_service_pb2.GetDatasetExportRequest(name=self.names.dataset_export(dataset_export))
        return await self._call("GetDatasetExport", request, dataset_pb2.DatasetExport)

    def list_dataset_exports(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.DatasetExport]:
        request = dataset_service_pb2.ListDatasetExportsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListDatasetExports", request, dataset_service_pb2.ListDatasetExportsResponse, "dataset_exports")

    def watch_dataset_export(
        self, dataset_export: str, *, after_sequence: int = 0
    ) -> AsyncIterator[dataset_service_pb2.WatchDatasetExportResponse]:
        """The export now and at every change until it ends."""
        request = dataset_service_pb2.WatchDatasetExportRequest(
            name=self.names.dataset_export(dataset_export), after_sequence=after_sequence
        )
        return self._watch("WatchDatasetExport", request, dataset_service_pb2.WatchDatasetExportResponse, "dataset_export")

    async def wait_dataset_export(
        self, dataset_export: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> dataset_pb2.DatasetExport:
        """Waits for the end; `on_change` gets every WatchDatasetExportResponse. JobFailed, WaitTimeout."""
        name = self.names.dataset_export(dataset_export)
        request = dataset_service_pb2.WatchDatasetExportRequest(name=name)
        answer = dataset_service_pb2.WatchDatasetExportResponse
        return await self._wait(
            "WatchDatasetExport", request, answer, "dataset_export", lambda: self.get_dataset_export(name), timeout_s, on_change
        )

    async def cancel_dataset_export(self, dataset_export: str) -> dataset_pb2.DatasetExport:
        """Cancels a running export; nothing of it stays."""
        request = dataset_service_pb2.CancelDatasetExportRequest(name=self.names.dataset_export(dataset_export))
        return await self._call("CancelDatasetExport", request, dataset_pb2.DatasetExport)
