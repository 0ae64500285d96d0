"""Messages from keyword parameters, for the sync and the asyncio client alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from modelyard.client.enums import enum_number
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import blob_pb2, learning_pb2

EMPTY: Final = Empty

Floors = Mapping[str, float] | Sequence[learning_pb2.Floor]


def import_message(
    source: blob_pb2.Blob | dataset_pb2.LocalFolder,
    file_name: str,
    format: int | str,
    task: int | str,
    label_column: str,
    usage_column: str,
    time_column: str = "",
    name_pattern: str = "",
    classes: Sequence[str] = (),
    unlabelled: bool = False,
) -> dataset_pb2.Import:
    return dataset_pb2.Import(
        source=source if isinstance(source, blob_pb2.Blob) else None,
        local_folder=source if isinstance(source, dataset_pb2.LocalFolder) else None,
        file_name=file_name,
        format=enum_number(dataset_pb2.SourceFormat, format, "dataset_import.format"),
        task=enum_number(learning_pb2.Task, task, "dataset_import.task"),
        label_column=label_column,
        usage_column=usage_column,
        time_column=time_column,
        name_pattern=name_pattern,
        classes=classes,
        unlabelled=unlabelled,
    )


def split_policy(
    train_ratio: str,
    source: int | str,
    seed: int,
    group_by: str = "",
    time_by: str = "",
    test_where: Sequence[str] = (),
    validation_where: Sequence[str] = (),
) -> dataset_pb2.SplitPolicy:
    return dataset_pb2.SplitPolicy(
        train_ratio=train_ratio,
        source=enum_number(dataset_pb2.SplitPolicy.Source, source, "split.source"),
        seed=seed,
        group_by=group_by,
        time_by=time_by,
        test_where=test_where,
        validation_where=validation_where,
    )


def floor_messages(floors: Floors) -> list[learning_pb2.Floor]:
    """Floors as a mapping from metric to bound, or as they are."""
    if isinstance(floors, Mapping):
        return [learning_pb2.Floor(metric=metric, value=value) for metric, value in floors.items()]
    return list(floors)


def duration(seconds: float) -> Duration:
    """A Duration of so many seconds."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))
