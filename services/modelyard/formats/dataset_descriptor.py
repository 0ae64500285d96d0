"""What there is to say of a dataset version but its bytes: tasks, columns, and the descriptor that names its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelyard.core.artifacts import Blob
from modelyard.core.errors import DataLoss

if TYPE_CHECKING:
    from cattrs import Converter

FORMAT = "modelyard.dataset/1"
"""Value of `format` in descriptors that this code writes, and the only one it reads."""

IMAGE_CLASSIFICATION = "image_classification"
TABULAR_CLASSIFICATION = "tabular_classification"
TABULAR_REGRESSION = "tabular_regression"
IMAGE_MULTILABEL = "image_multilabel"
OBJECT_DETECTION = "object_detection"
SEMANTIC_SEGMENTATION = "semantic_segmentation"
INSTANCE_SEGMENTATION = "instance_segmentation"
KEYPOINT_DETECTION = "keypoint_detection"
AUDIO_CLASSIFICATION = "audio_classification"
SERIES_CLASSIFICATION = "series_classification"
ANOMALY_DETECTION = "anomaly_detection"
FORECASTING = "forecasting"
TASKS = (
    IMAGE_CLASSIFICATION,
    TABULAR_CLASSIFICATION,
    TABULAR_REGRESSION,
    IMAGE_MULTILABEL,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    INSTANCE_SEGMENTATION,
    KEYPOINT_DETECTION,
    AUDIO_CLASSIFICATION,
    SERIES_CLASSIFICATION,
    ANOMALY_DETECTION,
    FORECASTING,
)
MARKED_TASKS = (OBJECT_DETECTION, INSTANCE_SEGMENTATION, KEYPOINT_DETECTION)
"""Tasks whose examples are pictures with marked objects."""

IMAGE = "image"
TABLE = "table"
AUDIO = "audio"
SERIES = "series"

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
USAGES = (TRAIN, VALIDATION, TEST)

NUMERIC = "numeric"
CATEGORICAL = "categorical"

FEATURE = "feature"
TARGET = "target"
USAGE = "usage"
SET_ASIDE = "set_aside"

_LATER = ("identity", "folds", "repeat", "fold")
"""Fields that descriptors have only where they say something."""

NO_BLOB = Blob("", "", 0)
"""Stands for a file that is not stored yet."""


@dataclass(frozen=True)
class Column:
    """A column of a table: how it is read, what it is for, and what is known of its values over the whole dataset."""

    name: str
    type: str  # numeric (float64 in the table) or categorical (string in the table)
    role: str  # feature, target, usage or set_aside
    set_aside_reason: str = ""  # LEAKS_TARGET, CONSTANT, IDENTIFIER, ALL_MISSING or EXCLUDED_BY_USER
    missing_count: int = 0
    distinct_count: int = 0  # without the missing ones
    categories: tuple[str, ...] = ()  # of a categorical column, sorted; empty when there are more than 1000


@dataclass(frozen=True)
class UsageCount:
    """How many examples a usage holds, in all and by class (in the order of the classes; empty for regression)."""

    examples: int
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class DatasetDescriptor:
    """Everything there is to say of a dataset version but its bytes, which it names."""

    task: str
    kind: str  # image, table, audio or series
    manifest: Blob
    digest: str
    classes: tuple[str, ...] = ()  # in the order of their index; empty for regression
    columns: tuple[Column, ...] = ()
    target: str = ""  # name of the target column; empty for pictures
    packs: tuple[Blob, ...] = ()
    table: Blob | None = None
    counts: Mapping[str, UsageCount] = field(default_factory=dict)  # by usage
    seed: int = 0
    ratio: str = ""  # as given: decimal text
    keypoints: tuple[str, ...] = ()  # names of an object's keypoints, in their order
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of keypoints (by index) that a line joins
    palette: tuple[str, ...] = ()  # colour of each class, "#rrggbb"; empty where the source has none
    channels: tuple[str, ...] = ()  # of a series, in the order of its columns
    time_column: str = ""  # of a series: name of the times; empty where they are not known
    time_is_date: bool = False  # the times are seconds since 1970 that the source wrote as dates
    identity: Blob | None = None  # the manifest's columns that no edit changes, where they lie in a file of their own
    folds: Blob | None = None  # the fold of each example in which it is validated on; see FOLD
    repeat: int = 0
    fold: int = 0
    format: str = FORMAT

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns a model reads, in the order of the source."""
        return tuple(column for column in self.columns if column.role == FEATURE)

    @property
    def answered(self) -> tuple[str, ...]:
        """What a model's answers are of, by name: key points where those are looked for, else classes."""
        return self.keypoints if self.task == KEYPOINT_DETECTION else self.classes

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob this version stands on."""
        others = [blob for blob in (self.table, self.identity, self.folds) if blob]
        return (self.manifest, *self.packs, *others)


def to_json(descriptor: DatasetDescriptor) -> bytes:
    """The descriptor as canonical JSON: equal descriptors give equal bytes."""
    document = _converter().unstructure(descriptor)
    unused = [name for name in _LATER if not document[name]]  # a descriptor without them is what earlier releases wrote and read
    for name in unused:
        del document[name]
    return json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1).encode()


def from_json(data: bytes) -> DatasetDescriptor:
    """Reads a descriptor; raises DataLoss DESCRIPTOR_UNREADABLE when it is not one or is of another format."""
    try:
        descriptor = _converter().structure(json.loads(data), DatasetDescriptor)
    except Exception as error:  # cattrs and json raise many kinds; all mean the same here
        raise DataLoss("DESCRIPTOR_UNREADABLE", f"the dataset descriptor cannot be read: {error!r}") from error
    if descriptor.format != FORMAT:
        message = f"the dataset descriptor has format {descriptor.format!r}; this version reads {FORMAT!r}"
        raise DataLoss("DESCRIPTOR_UNREADABLE", message, format=descriptor.format)
    return descriptor


def _converter() -> Converter:
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)
