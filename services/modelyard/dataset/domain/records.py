"""What jobs of the dataset service are given and what they give: plain records, stored as JSON in the job's row."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelyard.core.artifacts import Blob
from modelyard.dataset.domain.agreement import Figure
from modelyard.dataset.domain.label_schema import LabelSchema
from modelyard.formats.dataset import Column, DatasetDescriptor

IMAGE_FOLDERS = "image_folders"
CSV = "csv"
PARQUET = "parquet"
IDX = "idx"
TSV = "tsv"
JSON_LINES = "json_lines"
COCO = "coco"
VOC = "voc"
YOLO = "yolo"
CVAT = "cvat"
LABELME = "labelme"
MASKS = "masks"
COLOUR_MASKS = "colour_masks"
AUDIO_FOLDERS = "audio_folders"
TS = "ts"
SENSOR_CSV = "sensor_csv"
MANIFEST = "manifest"
TABLE_FORMATS = (CSV, TSV, JSON_LINES, PARQUET)
ANNOTATED_FORMATS = (COCO, VOC, YOLO, CVAT, LABELME, MASKS, COLOUR_MASKS, MANIFEST)
FORMATS = (IMAGE_FOLDERS, IDX, *TABLE_FORMATS, *ANNOTATED_FORMATS, AUDIO_FOLDERS, TS, SENSOR_CSV)

QUICK, FULL = "quick", "full"
"""How closely a report looks: at what is known of the content, or at every example."""

LISTED_REJECTED = 1000
"""How many rejected inputs an import lists; it counts all of them."""

LISTED_EXAMPLES = 100
"""How many examples a finding lists; it counts all of them."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on the machine of the service, and how to know that it is the one meant: the machine's start, device and inode."""

    path: str
    boot_id: str
    device: int
    inode: int


@dataclass(frozen=True)
class ImportSpec:
    """What to import, as the request said."""

    dataset: str
    source: Blob
    file_name: str = ""
    format: str = ""  # one of FORMATS; empty: detect
    task: str = ""  # one of formats.dataset.TASKS; empty: detect
    label_column: str = ""
    usage_column: str = ""
    time_column: str = ""  # of series
    name_pattern: str = ""  # what the names of sounds say: "{label}_{speaker}_{number}"
    classes: tuple[str, ...] = ()  # names of the values of masks or IDX labels, in their order
    unlabelled: bool = False  # people are to label them
    local_folder: LocalFolder | None = None  # instead of a source: read where it lies


@dataclass(frozen=True)
class RejectedInput:
    """A file or row that was left out, with the reason (UPPER_SNAKE_CASE) and the reason in a sentence."""

    path: str
    reason: str
    message: str


@dataclass(frozen=True)
class ImportSummary:
    """What an import found."""

    example_count: int
    rejected: tuple[RejectedInput, ...]
    rejected_count: int
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    columns: tuple[Column, ...]
    assumptions: tuple[str, ...]
    digest: str
    examples_with_usage: int


@dataclass(frozen=True)
class Edit:
    """A change to examples: drop, relabel (to `label`, or each to its own of `labels`), move (to `usage`), set the value to
    predict, or give marked objects of a class another one (reclass); of the `examples` by id, or of all of a class."""

    action: str
    examples: tuple[str, ...] = ()
    of_class: str = ""
    label: str = ""
    usage: str = ""
    new_class: bool = False
    reason: str = ""
    value: float = 0.0
    labels: tuple[str, ...] = ()
    column: str = ""  # cap and impute: the column of a table
    lower: float | None = None  # cap
    upper: float | None = None
    fill: str = ""  # impute; empty: the median or the most frequent value of train


@dataclass(frozen=True)
class Finding:
    """A finding of a quality report. `cost` says in a sentence what it costs to leave it, `action` what to do, `fix` does it.

    examples: paths or rows, the worst first, at most LISTED_EXAMPLES; example_ids and scores (0 to 1, higher is worse) are in
    their order, or empty. fix_scores: the same of all of fix.examples."""

    kind: str
    severity: str  # info, warning or error
    message: str
    examples: tuple[str, ...] = ()
    example_count: int = 0
    column: str = ""
    action: str = ""
    fix: Edit | None = None
    cost: str = ""
    example_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    fix_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """The content that an import left: `content` describes it as a dataset version does, but no example has been drawn for a
    usage yet, and its manifest has a column more (`thumbnail`, see domain.near)."""

    summary: ImportSummary
    content: DatasetDescriptor
    format: str
    findings: tuple[Finding, ...] = ()  # what only the import can see: unreadable inputs, mixed types


@dataclass(frozen=True)
class ReportSpec:
    """What to check: the result of the dataset's present import; or, where there is a `version`, what its descriptor says. With a
    `base`, another version, what to compare with it."""

    dataset: str
    import_name: str
    imported: ImportResult
    version: str = ""
    descriptor: DatasetDescriptor | None = None
    depth: str = FULL
    base: str = ""
    base_descriptor: DatasetDescriptor | None = None

    @property
    def content(self) -> DatasetDescriptor:
        """What is checked."""
        return self.descriptor or self.imported.content


@dataclass(frozen=True)
class ReportResult:
    """What was found, the most severe first; what was looked at, in sentences; and the same as a page (HTML) for people."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    page: Blob | None = None
    example_count: int = 0


@dataclass(frozen=True)
class SplitPolicy:
    """How examples are shared out; see modelyard.dataset.v1.SplitPolicy."""

    train_ratio: str = "0.8"
    source: str = "auto"  # auto, ratio or given
    seed: int = 0
    group_by: str = ""
    time_by: str = ""
    test_where: tuple[str, ...] = ()
    validation_where: tuple[str, ...] = ()


KEEP_TEST, FREEZE_TEST, REPLACE_TEST = "", "freeze", "replace"
"""What becomes of the test examples; see modelyard.dataset.v1.DatasetVersion.TestPolicy."""


@dataclass(frozen=True)
class FrozenTest:
    """A test set that no training may read: the version that froze it, and a Parquet file of its contents (domain.frozen)."""

    version: str
    examples: int
    digest: str
    contents: Blob


@dataclass(frozen=True)
class AnnotationSource:
    """The answers that a version is made from: `answers` is a file of one JSON object a line (worker/annotated.py), `content`
    what their examples are read from. `least`: the least confidence of a consensus, 0 for the method's own."""

    round: str
    label_schema: str
    schema: LabelSchema
    answers: Blob
    content: DatasetDescriptor
    method: str = ""
    least: float = 0.0
    published_by: str = ""
    answer_count: int = 0


@dataclass(frozen=True)
class AnnotationRecord:
    """The round that a version was published from: who answered, how far they agreed, what came of it."""

    round: str
    label_schema: str
    method: str
    annotators: tuple[str, ...] = ()
    answer_count: int = 0
    example_count: int = 0
    added_count: int = 0
    disagreement_count: int = 0
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class VersionSpec:
    """What to publish: the result of the dataset's present import, split by a policy; or, where there is a `base`, that version
    with the usages it has. `edits` are made first. `frozen`: the test set in force; `test_policy` may freeze one, or another one.
    `base_near`: who is a near duplicate of whom in the base (see VersionResult.near)."""

    dataset: str
    import_name: str
    imported: ImportResult
    split: SplitPolicy
    excluded_columns: tuple[str, ...] = ()
    keep_leaking_columns: bool = False
    base: str = ""
    base_descriptor: DatasetDescriptor | None = None
    edits: tuple[Edit, ...] = ()
    version: str = ""  # its own name
    test_policy: str = KEEP_TEST
    frozen: FrozenTest | None = None
    base_near: Blob | None = None
    annotation: AnnotationSource | None = None


@dataclass(frozen=True)
class VersionResult:
    """A published version: its descriptor (named by `descriptor_blob`) and what was decided on the way, in sentences.

    With a `frozen` test set there is a second descriptor, for whoever trains: its manifest and packs hold no test example.
    `near`: a Parquet file with a column `group`, int64, of the rows of the manifest's identity: equal for near duplicates.
    """

    descriptor: DatasetDescriptor
    descriptor_blob: Blob
    notes: tuple[str, ...] = ()
    edited: tuple[int, ...] = ()  # examples that each edit changed
    training: DatasetDescriptor | None = None
    training_blob: Blob | None = None
    frozen: FrozenTest | None = None
    near: Blob | None = None
    stored_bytes: int = field(default=0, compare=False)  # that were not in the store before
    annotation: AnnotationRecord | None = None
    findings: tuple[Finding, ...] = ()  # what stayed open

    @property
    def for_training(self) -> tuple[DatasetDescriptor, Blob]:
        """What whoever trains may read."""
        if self.training is not None and self.training_blob is not None:
            return self.training, self.training_blob
        return self.descriptor, self.descriptor_blob


@dataclass(frozen=True)
class ExportSpec:
    """What to write: a published version, in a format (one of FORMATS)."""

    dataset: str
    version: str
    descriptor_blob: Blob
    format: str
    lossy: bool = False


@dataclass(frozen=True)
class ExportResult:
    """What was written: a zip, how many examples are in it, and what was decided or left out, in sentences."""

    archive: Blob
    file_name: str
    example_count: int
    notes: tuple[str, ...] = ()
