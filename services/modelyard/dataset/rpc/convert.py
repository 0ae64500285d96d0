"""Contract messages to the service's values and back."""

from __future__ import annotations

from typing import Final

from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document
from modelyard.core.jobs.convert import blob_from, blob_message, status_message, timestamp
from modelyard.core.jobs.job import Job
from modelyard.core.resources import Resource
from modelyard.dataset.domain import column_edits, edits, records, split
from modelyard.dataset.domain.dataset import Dataset, Tag
from modelyard.dataset.handlers.diffs import VersionDiff
from modelyard.dataset.handlers.documents import export_result, import_result, report_result, version_result
from modelyard.dataset.handlers.folds import FoldsRecord
from modelyard.dataset.handlers.uses import EVALUATION_PURPOSE, TRAINING
from modelyard.dataset.handlers.version_facts import VersionFacts
from modelyard.dataset.handlers.versions import NewVersion
from modelyard.dataset.ports import ExampleChange, ExampleRow, Use
from modelyard.dataset.rpc.annotation_convert import record_message
from modelyard.dataset.rpc.enums import name_of
from modelyard.dataset.v1 import dataset_pb2 as pb
from modelyard.dataset.v1 import dataset_service_pb2 as service_pb
from modelyard.formats import dataset as files
from modelyard.type.v1 import learning_pb2

_TASKS: Final = {
    files.IMAGE_CLASSIFICATION: learning_pb2.TASK_IMAGE_CLASSIFICATION,
    files.TABULAR_CLASSIFICATION: learning_pb2.TASK_TABULAR_CLASSIFICATION,
    files.TABULAR_REGRESSION: learning_pb2.TASK_TABULAR_REGRESSION,
    files.IMAGE_MULTILABEL: learning_pb2.TASK_IMAGE_MULTILABEL,
    files.OBJECT_DETECTION: learning_pb2.TASK_OBJECT_DETECTION,
    files.SEMANTIC_SEGMENTATION: learning_pb2.TASK_SEMANTIC_SEGMENTATION,
    files.INSTANCE_SEGMENTATION: learning_pb2.TASK_INSTANCE_SEGMENTATION,
    files.KEYPOINT_DETECTION: learning_pb2.TASK_KEYPOINT_DETECTION,
    files.AUDIO_CLASSIFICATION: learning_pb2.TASK_AUDIO_CLASSIFICATION,
    files.SERIES_CLASSIFICATION: learning_pb2.TASK_SERIES_CLASSIFICATION,
    files.ANOMALY_DETECTION: learning_pb2.TASK_ANOMALY_DETECTION,
    files.FORECASTING: learning_pb2.TASK_FORECASTING,
}
_USAGES: Final = {
    files.TRAIN: learning_pb2.USAGE_TRAIN,
    files.VALIDATION: learning_pb2.USAGE_VALIDATION,
    files.TEST: learning_pb2.USAGE_TEST,
}
_FORMATS: Final = {
    records.IMAGE_FOLDERS: pb.SOURCE_FORMAT_IMAGE_FOLDERS,
    records.CSV: pb.SOURCE_FORMAT_CSV,
    records.PARQUET: pb.SOURCE_FORMAT_PARQUET,
    records.IDX: pb.SOURCE_FORMAT_IDX,
    records.TSV: pb.SOURCE_FORMAT_TSV,
    records.JSON_LINES: pb.SOURCE_FORMAT_JSON_LINES,
    records.COCO: pb.SOURCE_FORMAT_COCO,
    records.VOC: pb.SOURCE_FORMAT_VOC,
    records.YOLO: pb.SOURCE_FORMAT_YOLO,
    records.CVAT: pb.SOURCE_FORMAT_CVAT,
    records.LABELME: pb.SOURCE_FORMAT_LABELME,
    records.MASKS: pb.SOURCE_FORMAT_MASKS,
    records.COLOUR_MASKS: pb.SOURCE_FORMAT_COLOUR_MASKS,
    records.AUDIO_FOLDERS: pb.SOURCE_FORMAT_AUDIO_FOLDERS,
    records.TS: pb.SOURCE_FORMAT_TS,
    records.SENSOR_CSV: pb.SOURCE_FORMAT_SENSOR_CSV,
    records.MANIFEST: pb.SOURCE_FORMAT_MANIFEST,
}
_SPLITS: Final = {
    split.AUTO: pb.SplitPolicy.SOURCE_AUTO,
    split.RATIO: pb.SplitPolicy.SOURCE_RATIO,
    split.GIVEN: pb.SplitPolicy.SOURCE_GIVEN,
}
_TYPES: Final = {files.NUMERIC: pb.Column.TYPE_NUMERIC, files.CATEGORICAL: pb.Column.TYPE_CATEGORICAL}
_ROLES: Final = {
    files.FEATURE: pb.Column.ROLE_FEATURE,
    files.TARGET: pb.Column.ROLE_TARGET,
    files.USAGE: pb.Column.ROLE_USAGE,
    files.SET_ASIDE: pb.Column.ROLE_SET_ASIDE,
}
_ACTIONS: Final = {
    edits.DROP: pb.Edit.ACTION_DROP,
    edits.RELABEL: pb.Edit.ACTION_RELABEL,
    edits.MOVE: pb.Edit.ACTION_MOVE,
    edits.SET_VALUE: pb.Edit.ACTION_SET_VALUE,
    edits.RECLASS: pb.Edit.ACTION_RECLASS,
    column_edits.CAP: pb.Edit.ACTION_CAP,
    column_edits.IMPUTE: pb.Edit.ACTION_IMPUTE,
}
_TEST_POLICIES: Final = {
    records.FREEZE_TEST: pb.DatasetVersion.TEST_POLICY_FREEZE,
    records.REPLACE_TEST: pb.DatasetVersion.TEST_POLICY_REPLACE,
}
_DEPTHS: Final = {records.QUICK: pb.QualityReport.DEPTH_QUICK, records.FULL: pb.QualityReport.DEPTH_FULL}
_SEVERITIES: Final = {
    "info": pb.Finding.SEVERITY_INFO,
    "warning": pb.Finding.SEVERITY_WARNING,
    "error": pb.Finding.SEVERITY_ERROR,
}
_PURPOSES: Final = {
    TRAINING: pb.DatasetUse.PURPOSE_TRAINING,
    EVALUATION_PURPOSE: pb.DatasetUse.PURPOSE_EVALUATION,
}


# Requests


def import_spec(request: service_pb.CreateImportRequest) -> records.ImportSpec:
    """What a request asks for."""
    wanted = request.dataset_import
    return records.ImportSpec(
        dataset=request.parent,
        source=blob_from(wanted.source),
        file_name=wanted.file_name,
        format=name_of(_FORMATS, wanted.format, "dataset_import.format"),
        task=name_of(_TASKS, wanted.task, "dataset_import.task"),
        label_column=wanted.label_column,
        usage_column=wanted.usage_column,
        time_column=wanted.time_column,
        name_pattern=wanted.name_pattern,
        classes=tuple(wanted.classes),
        unlabelled=wanted.unlabelled,
        local_folder=_local_folder(wanted.local_folder) if wanted.HasField("local_folder") else None,
    )


def _local_folder(wanted: pb.LocalFolder) -> records.LocalFolder:
    return records.LocalFolder(wanted.path, wanted.boot_id, wanted.device, wanted.inode)


def new_version(request: service_pb.CreateDatasetVersionRequest) -> NewVersion:
    """What a request asks for."""
    wanted = request.dataset_version
    return NewVersion(
        parent=request.parent,
        version_id=request.dataset_version_id,
        split=split_policy(wanted.split, "dataset_version.split"),
        excluded_columns=tuple(wanted.excluded_columns),
        keep_leaking_columns=wanted.keep_leaking_columns,
        base=wanted.base_version,
        edits=tuple(_edit(edit, number) for number, edit in enumerate(wanted.edits)),
        test_policy=name_of(_TEST_POLICIES, wanted.test_policy, "dataset_version.test_policy"),
        description=wanted.description,
    )


def split_policy(message: pb.SplitPolicy, path: str) -> records.SplitPolicy:
    """How examples are shared out."""
    source = name_of(_SPLITS, message.source, f"{path}.source") or split.AUTO
    return records.SplitPolicy(
        message.train_ratio or "0.8",
        source,
        message.seed,
        message.group_by,
        message.time_by,
        tuple(message.test_where),
        tuple(message.validation_where),
    )


def _edit(message: pb.Edit, number: int) -> records.Edit:
    path = f"dataset_version.edits[{number}]"
    return records.Edit(
        action=name_of(_ACTIONS, message.action, f"{path}.action"),
        examples=tuple(message.example_ids),
        of_class=message.of_class,
        label=message.label,
        usage=name_of(_USAGES, message.usage, f"{path}.usage"),
        new_class=message.new_class,
        reason=message.reason,
        value=message.value,
        labels=tuple(message.labels),
        column=message.column,
        lower=message.lower if message.HasField("lower") else None,
        upper=message.upper if message.HasField("upper") else None,
        fill=message.fill,
    )


def report_depth(value: pb.QualityReport.Depth.ValueType) -> str:
    """The domain's word for a depth; full when unset. Raises InvalidArgument UNKNOWN_ENUM_VALUE."""
    return name_of(_DEPTHS, value, "quality_report.depth") or records.FULL


def export_format(value: pb.SourceFormat.ValueType) -> str:
    """The domain's word for a format; empty when unset. Raises InvalidArgument UNKNOWN_ENUM_VALUE."""
    return name_of(_FORMATS, value, "dataset_export.format")


def usage_name(usage: learning_pb2.Usage.ValueType) -> str:
    """ "train", "validation" or "test"; empty when unset. Raises InvalidArgument UNKNOWN_ENUM_VALUE."""
    return name_of(_USAGES, usage, "usage")


# Answers


def dataset_message(resource: Resource) -> pb.Dataset:
    """A dataset."""
    kept = from_document(resource.document, Dataset)
    return pb.Dataset(
        name=resource.name,
        display_name=kept.display_name,
        description=kept.description,
        task=_TASKS.get(kept.task, learning_pb2.TASK_UNSPECIFIED),
        current_import=kept.current_import,
        latest_version=kept.latest_version,
        create_time=timestamp(resource.create_time),
        update_time=timestamp(resource.update_time),
        etag=resource.etag,
    )


def import_message(job: Job) -> pb.Import:
    """An import; once it has a result, with what was used instead of what was asked."""
    spec = from_document(job.spec, records.ImportSpec)
    message = pb.Import(
        name=job.name,
        source=blob_message(spec.source),
        file_name=spec.file_name,
        format=_FORMATS.get(spec.format, pb.SOURCE_FORMAT_UNSPECIFIED),
        task=_TASKS.get(spec.task, learning_pb2.TASK_UNSPECIFIED),
        label_column=spec.label_column,
        usage_column=spec.usage_column,
        time_column=spec.time_column,
        name_pattern=spec.name_pattern,
        classes=spec.classes,
        instance_flavor=job.instance_flavor,
        unlabelled=spec.unlabelled,
        status=status_message(job),
    )
    if (folder := spec.local_folder) is not None:
        message.local_folder.CopyFrom(
            pb.LocalFolder(path=folder.path, boot_id=folder.boot_id, device=folder.device, inode=folder.inode)
        )
    result = import_result(job)
    if result is not None:
        message.format = _FORMATS[result.format]
        message.task = _TASKS[result.content.task]
        message.label_column = result.content.target or spec.label_column
        message.usage_column = next((column.name for column in result.content.columns if column.role == files.USAGE), "")
        message.time_column = result.content.time_column
        message.summary.CopyFrom(_summary(result.summary))
        message.findings.extend(_finding(finding) for finding in result.findings)
    return message


def report_message(job: Job) -> pb.QualityReport:
    """A quality report."""
    result = report_result(job)
    message = pb.QualityReport(
        name=job.name,
        dataset_import=str(job.spec["import_name"]),
        dataset_version=str(job.spec.get("version", "")),
        base_version=str(job.spec.get("base", "")),
        depth=_DEPTHS[str(job.spec.get("depth", records.FULL))],
        status=status_message(job),
    )
    if result is not None:
        message.findings.extend(_finding(finding) for finding in result.findings)
        message.notes.extend(result.notes)
        message.example_count = result.example_count
        if result.page is not None:
            message.page.CopyFrom(blob_message(result.page) or message.page)
    return message


def version_message(job: Job, facts: VersionFacts) -> pb.DatasetVersion:
    """A dataset version. Where its test set is frozen, the descriptor is that of whoever trains."""
    spec = from_document(job.spec, records.VersionSpec)
    message = pb.DatasetVersion(
        name=job.name,
        description=facts.description,
        etag=facts.etag,
        tags=facts.tags,
        test_evaluation_count=facts.evaluations,
        test_policy=_TEST_POLICIES.get(spec.test_policy, pb.DatasetVersion.TEST_POLICY_UNSPECIFIED),
        split=pb.SplitPolicy(
            train_ratio=spec.split.train_ratio,
            source=_SPLITS[spec.split.source],
            seed=spec.split.seed,
            group_by=spec.split.group_by,
            time_by=spec.split.time_by,
            test_where=spec.split.test_where,
            validation_where=spec.split.validation_where,
        ),
        base_version=spec.base,
        edits=[edit_message(edit, with_examples=False) for edit in spec.edits],
        excluded_columns=spec.excluded_columns,
        keep_leaking_columns=spec.keep_leaking_columns,
        instance_flavor=job.instance_flavor,
        status=status_message(job),
        task=_TASKS[spec.imported.content.task],
        dataset_import=spec.import_name,
        classes=spec.imported.content.classes,
    )
    result = version_result(job)
    if result is not None:
        message.digest = result.descriptor.digest
        message.counts.extend(_counts(result.descriptor))
        message.columns.extend(_column(column) for column in result.descriptor.columns)
        message.descriptor_blob.CopyFrom(blob_message(result.for_training[1]) or message.descriptor_blob)
        message.stored_bytes = result.stored_bytes
        if result.frozen is not None:
            frozen = result.frozen
            message.frozen_test.dataset_version, message.frozen_test.digest = frozen.version, frozen.digest
            message.frozen_test.example_count = frozen.examples
        message.notes.extend(result.notes)
        message.classes[:] = result.descriptor.classes
        message.edited_counts.extend(result.edited)
        message.findings.extend(_finding(finding) for finding in result.findings)
        if result.annotation is not None:
            message.annotation.CopyFrom(record_message(result.annotation))
    return message


def tag_message(resource: Resource) -> pb.Tag:
    """A tag."""
    version = from_document(resource.document, Tag).dataset_version
    return pb.Tag(name=resource.name, dataset_version=version, update_time=timestamp(resource.update_time), etag=resource.etag)


def use_from(request: service_pb.CreateDatasetUseRequest) -> Use:
    """What a request asks for. Its purpose follows from its user."""
    wanted = request.dataset_use
    usages = tuple(name_of(_USAGES, usage, "dataset_use.usages") for usage in wanted.usages)
    return Use(wanted.user, "", tuple(usage for usage in usages if usage), wanted.model)


def use_message(resource: Resource, descriptor: Blob) -> pb.DatasetUse:
    """A use, and the descriptor for it."""
    use = from_document(resource.document, Use)
    return pb.DatasetUse(
        name=resource.name,
        user=use.user,
        purpose=_PURPOSES[use.purpose],
        usages=[_USAGES[usage] for usage in use.usages],
        descriptor_blob=blob_message(descriptor),
        create_time=timestamp(resource.create_time),
        model=use.model,
    )


def folds_message(resource: Resource) -> pb.Folds:
    """Folds of a version."""
    kept = from_document(resource.document, FoldsRecord)
    return pb.Folds(
        name=resource.name,
        dataset_version=kept.dataset_version,
        k=kept.k,
        repeats=kept.repeats,
        seed=kept.seed,
        group_by=kept.group_by,
        assignment_blob=blob_message(kept.assignment),
        descriptor_blobs=[message for blob in kept.descriptors if (message := blob_message(blob))],
        example_count=kept.examples,
        notes=kept.notes,
    )


def edit_message(edit: records.Edit, *, with_examples: bool) -> pb.Edit:
    """An edit; without the ids of its examples where there may be very many."""
    return pb.Edit(
        action=_ACTIONS[edit.action],
        example_ids=edit.examples if with_examples else (),
        of_class=edit.of_class,
        label=edit.label,
        usage=_USAGES.get(edit.usage, learning_pb2.USAGE_UNSPECIFIED),
        new_class=edit.new_class,
        reason=edit.reason,
        value=edit.value,
        labels=edit.labels if with_examples else (),
        column=edit.column,
        lower=edit.lower,
        upper=edit.upper,
        fill=edit.fill,
    )


def diff_message(diff: VersionDiff) -> pb.DatasetVersionDiff:
    """A comparison of two versions."""
    counts = diff.counts
    return pb.DatasetVersionDiff(
        base_version=diff.base,
        dataset_version=diff.version,
        added_count=counts.added,
        removed_count=counts.removed,
        relabelled_count=counts.relabelled,
        moved_count=counts.moved,
        unchanged_count=counts.unchanged,
        added_classes=diff.added_classes,
        removed_classes=diff.removed_classes,
        column_changes=diff.column_changes,
    )


def change_message(change: ExampleChange) -> pb.ExampleChange:
    """What became of an example."""
    before, after = change.before, change.after
    if before is None or after is None:
        kind = pb.ExampleChange.KIND_ADDED if before is None else pb.ExampleChange.KIND_REMOVED
    elif before.usage == after.usage:
        kind = pb.ExampleChange.KIND_RELABELLED
    else:
        kind = pb.ExampleChange.KIND_RELABELLED_AND_MOVED if change.relabelled else pb.ExampleChange.KIND_MOVED
    shown = after or before
    return pb.ExampleChange(
        kind=kind,
        example=example_message(shown) if shown else None,
        base_label=before.label if before else "",
        base_usage=_USAGES[before.usage] if before else learning_pb2.USAGE_UNSPECIFIED,
    )


def export_message(job: Job) -> pb.DatasetExport:
    """An export."""
    spec = from_document(job.spec, records.ExportSpec)
    message = pb.DatasetExport(
        name=job.name,
        dataset_version=spec.version,
        format=_FORMATS[spec.format],
        lossy=spec.lossy,
        status=status_message(job),
    )
    result = export_result(job)
    if result is not None:
        message.archive.CopyFrom(blob_message(result.archive) or message.archive)
        message.file_name = result.file_name
        message.example_count = result.example_count
        message.notes.extend(result.notes)
    return message


def example_message(row: ExampleRow) -> pb.Example:
    """An example."""
    usage = _USAGES[row.usage] if row.usage else learning_pb2.USAGE_UNSPECIFIED  # imported, and not split yet
    return pb.Example(example_id=row.example_id, usage=usage, label=row.label, path=row.path, sha256=row.sha256)


def _summary(summary: records.ImportSummary) -> pb.ImportSummary:
    return pb.ImportSummary(
        example_count=summary.example_count,
        rejected=[pb.RejectedInput(path=each.path, reason=each.reason, message=each.message) for each in summary.rejected],
        rejected_count=summary.rejected_count,
        classes=summary.classes,
        class_counts=summary.class_counts,
        columns=[_column(column) for column in summary.columns],
        assumptions=summary.assumptions,
        digest=summary.digest,
        examples_with_usage=summary.examples_with_usage,
    )


def _column(column: files.Column) -> pb.Column:
    return pb.Column(
        name=column.name,
        type=_TYPES[column.type],
        role=_ROLES[column.role],
        set_aside_reason=column.set_aside_reason,
        missing_count=column.missing_count,
        distinct_count=column.distinct_count,
    )


def _finding(finding: records.Finding) -> pb.Finding:
    return pb.Finding(
        kind=finding.kind,
        severity=_SEVERITIES[finding.severity],
        message=finding.message,
        examples=finding.examples,
        example_count=finding.example_count,
        column=finding.column,
        action=finding.action,
        fix=edit_message(finding.fix, with_examples=True) if finding.fix else None,
        cost=finding.cost,
        example_ids=finding.example_ids,
        scores=finding.scores,
        fix_scores=finding.fix_scores,
    )


def _counts(descriptor: files.DatasetDescriptor) -> list[pb.UsageCount]:
    return [
        pb.UsageCount(usage=_USAGES[usage], example_count=count.examples, class_counts=count.classes)
        for usage, count in sorted(descriptor.counts.items(), key=lambda each: files.USAGES.index(each[0]))
    ]
