"""The answers of an annotation round put into content: what a base version has, and what people said of it and of new
examples."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.core.words import several
from modelyard.dataset.domain import near
from modelyard.dataset.domain.answers import Answer, Facts, from_json
from modelyard.dataset.domain.consensus import pixels_of
from modelyard.dataset.domain.label_schema import LabelSchema
from modelyard.dataset.domain.records import LISTED_EXAMPLES, AnnotationRecord, AnnotationSource, Finding, VersionSpec
from modelyard.dataset.domain.round_result import RoundResult, Said, round_result
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.edited import table_of, with_targets
from modelyard.dataset.worker.stored import Stored, read_near, read_usages, thumbnails_of
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation, attributes_json, content_hash, mark_row, mask_hash

_LABELLED = (
    files.IMAGE_CLASSIFICATION,
    files.AUDIO_CLASSIFICATION,
    files.SERIES_CLASSIFICATION,
    files.TABULAR_CLASSIFICATION,
)
"""Tasks whose examples have one class each, in the column `label`."""


@dataclass(frozen=True)
class Labelled:
    """Content of which every example is labelled, what was decided (in sentences), and of a publication of a round the record of
    it and what stayed open. `table`: the columns, where a round's answers changed a table."""

    stored: Stored
    content: files.DatasetDescriptor
    notes: tuple[str, ...] = ()
    record: AnnotationRecord | None = None
    findings: tuple[Finding, ...] = ()
    table: pa.Table | None = None


def annotate(spec: VersionSpec, store: ArtifactStore, folder: Path, work: Work) -> Labelled:
    """Works out the consensus and writes it into the rows. Raises FailedPrecondition NOTHING_AGREED, KEYPOINTS_DIFFER,
    Cancelled."""
    source = spec.annotation
    if source is None:
        raise AssertionError("a publication of a round has its answers")
    base, pool = spec.base_descriptor, source.content
    work.stage("read", 0, 1, "files", 0.0, 0.1)
    lines = list(_lines(store, source.answers))
    said = [Said(line["id"], Facts(*line["facts"]), _answers(line), _final(line)) for line in lines]
    work.stage("consensus", 0, len(said), "tasks", 0.1, 0.5)
    result = round_result(said, source.schema, method=source.method, least=source.least)
    agreed = {
        each.name: made.answer for each, made in zip(said, result.consensus, strict=True) if made is not None and made.settled
    }
    if not agreed:
        message = f"people agree on none of the {len(said)} tasks; review them, or let others answer too"
        raise FailedPrecondition("NOTHING_AGREED", message, round=source.round)
    work.stage("apply", 0, len(agreed), "examples", 0.5, 0.7)
    rows = _rows(base, pool, store, agreed)
    content = _with_classes(rows.content, source.schema, agreed)
    manifest, packs, same_identity = _written(rows.manifest, content, agreed, folder, store)
    table = None
    if content.kind == files.TABLE:
        manifest, table = with_targets(rows.table, content, manifest, manifest["label"].combine_chunks())
        content = _with_target_column(content)
    if rows.new.any() or not same_identity:
        content = replace(content, identity=None)
    content = replace(content, packs=(*content.packs, *packs))
    groups = near.equal_groups(manifest["sha256"].to_pylist())
    usages = read_usages(manifest)
    if base is not None:
        usages[rows.new] = -1
    near_groups, thumbnails = _near(groups, manifest, pool, store)
    if spec.base_near is not None:
        near_groups = _joined(near_groups, read_near(store, spec.base_near)[rows.identity[~rows.new]])
    record = _record(source, said, result, len(agreed), int(rows.new.sum()) if base is not None else 0)
    left = _left_open(pool, store, set(manifest["example_id"].to_pylist()))
    stored = Stored(manifest, groups, near_groups, usages, thumbnails, rows.identity)
    return Labelled(stored, content, _notes(record, left), record, _findings(lines, result, left), table)


def without_unlabelled(stored: Stored, content: files.DatasetDescriptor) -> Labelled:
    """The examples that have a label or an annotation, and a note of those left out. Raises FailedPrecondition NO_LABELS."""
    column = _label_column(content)
    if column is None or not stored.manifest[column].null_count:
        return Labelled(stored, content)
    kept = np.flatnonzero(np.asarray(stored.manifest[column].is_valid().to_numpy(), dtype=np.bool_))
    missing = stored.manifest.num_rows - len(kept)
    if not len(kept):
        message = (
            f"none of the {missing} examples has a label yet, so there is nothing to learn from. Open an annotation round "
            "(modelyard annotate create), let people answer, and publish it (modelyard annotate publish)"
        )
        raise FailedPrecondition("NO_LABELS", message, examples=missing)
    note = f"Left out: {several(missing, 'example')} without a label; annotate them to have them in the next version."
    return Labelled(stored.taken(kept), _with_target_column(replace(content, identity=None)), (note,))


def _label_column(content: files.DatasetDescriptor) -> str | None:
    """The column that is empty where nothing was said of an example; None where every example has a label."""
    if content.task in (files.TABULAR_REGRESSION, files.FORECASTING):
        return None  # the number is in the table, what comes next in the series themselves
    return "label" if content.task in _LABELLED else "annotation"


def _lines(store: ArtifactStore, blob: Blob) -> Iterator[dict[str, Any]]:
    with store.path(blob).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _answers(line: Mapping[str, Any]) -> dict[str, Answer]:
    return {name: from_json(said) for name, said in line["answers"].items()}


def _final(line: Mapping[str, Any]) -> Answer | None:
    return from_json(line["final"]) if line["final"] is not None else None


@dataclass(frozen=True)
class _Rows:
    """Rows of the next version before anything is written into them: which of them the base does not have, bool [N], and where
    those that it has are in its identity, int64 [N]. `table`: the columns that rows of a table are in."""

    content: files.DatasetDescriptor
    manifest: pa.Table
    new: npt.NDArray[np.bool_]
    identity: npt.NDArray[np.int64]
    table: pa.Table


def _rows(
    base: files.DatasetDescriptor | None, pool: files.DatasetDescriptor, store: ArtifactStore, agreed: Mapping[str, Answer]
) -> _Rows:
    schema = files.manifest_schema(pool.kind, pool.task)
    offered = files.load_manifest(store, pool, schema.names).cast(schema)
    ids = offered["example_id"].to_pylist()
    if base is None:
        column = _label_column(pool)
        labelled = offered[column].is_valid().to_pylist() if column else [True] * len(ids)
        rows = [place for place, id_ in enumerate(ids) if labelled[place] or id_ in agreed]
        manifest = offered.take(pa.array(rows, pa.int64()))
        return _Rows(pool, manifest, np.ones(len(rows), np.bool_), np.arange(len(rows)), _columns(pool, store))
    if base.task != pool.task:
        message = f"the base version is for {base.task}, the round's examples for {pool.task}; name another base_version"
        raise FailedPrecondition("OTHER_TASK", message, base=base.task, round=pool.task)
    before = files.load_manifest(store, base, schema.names).cast(schema)
    known = set(before["example_id"].to_pylist())
    rows = [place for place, id_ in enumerate(ids) if id_ in agreed and id_ not in known]
    joining = offered.take(pa.array(rows, pa.int64()))
    content, table = base, _columns(base, store)
    if rows and base.kind == files.TABLE:
        before, joining, table = _joined_rows(before, table, joining, _columns(pool, store))
        content = replace(base, columns=_joined_columns(base, pool))
    elif rows and base.packs[: len(pool.packs)] != pool.packs:
        content = replace(base, packs=(*base.packs, *pool.packs))
        for name in ("pack", "mask_pack"):
            joining = _shifted(joining, name, len(base.packs))
    new = np.concatenate([np.zeros(before.num_rows, np.bool_), np.ones(len(rows), np.bool_)])
    identity = files.identity_rows(store, base, before.num_rows)
    identity = np.concatenate([identity, np.full(len(rows), -1, np.int64)])
    return _Rows(content, pa.concat_tables([before, joining]).combine_chunks(), new, identity, table)


def _columns(content: files.DatasetDescriptor, store: ArtifactStore) -> pa.Table:
    """The columns of a table; none of other content."""
    return table_of(store, content) if content.kind == files.TABLE else pa.table({})


def _joined_rows(before: pa.Table, table: pa.Table, joining: pa.Table, offered: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The rows of a base version and those that join it, and one table of both. Raises FailedPrecondition OTHER_COLUMNS."""
    if table.column_names != offered.column_names:
        other = sorted(set(table.column_names) ^ set(offered.column_names)) or ["their order"]
        message = f"the base version's columns are not those of the round's rows (they differ in {', '.join(other[:20])}); "
        message += "publish the round with another base_version, or import the rows with the same columns"
        raise FailedPrecondition("OTHER_COLUMNS", message, columns=", ".join(other[:20]))
    rows = offered.take(joining["row"])
    try:
        rows = rows.cast(table.schema)
    except pa.ArrowInvalid as error:
        message = f"the round's rows have columns of other types than the base version's: {error}; name another base_version"
        raise FailedPrecondition("OTHER_COLUMNS", message) from error
    start = before.num_rows
    return _numbered(before, 0), _numbered(joining, start), pa.concat_tables([table.take(before["row"]), rows]).combine_chunks()


def _joined_columns(base: files.DatasetDescriptor, pool: files.DatasetDescriptor) -> tuple[files.Column, ...]:
    """The base version's columns, with the categories that only rows that join it have."""
    offered = {column.name: column for column in pool.columns}
    joined = []
    for column in base.columns:
        other = offered[column.name]
        new = [name for name in other.categories if name not in column.categories]
        known = bool(column.categories) and bool(other.categories)
        joined.append(
            replace(
                column,
                categories=(*column.categories, *new) if known else column.categories,
                distinct_count=max(column.distinct_count + len(new) if known else column.distinct_count, other.distinct_count),
                missing_count=max(column.missing_count, other.missing_count),
            )
        )
    return tuple(joined)


def _numbered(manifest: pa.Table, start: int) -> pa.Table:
    place = manifest.column_names.index("row")
    numbers = pa.array(np.arange(start, start + manifest.num_rows, dtype=np.int64))
    return manifest.set_column(place, manifest.schema.field(place), numbers)


def _with_target_column(content: files.DatasetDescriptor) -> files.DatasetDescriptor:
    """What is said of a table's target, now that every row has a class."""
    columns = tuple(
        replace(each, missing_count=0, distinct_count=len(content.classes), categories=tuple(sorted(content.classes)))
        if each.name == content.target
        else each
        for each in content.columns
    )
    return replace(content, columns=columns)


def _shifted(table: pa.Table, name: str, by: int) -> pa.Table:
    import pyarrow.compute as pc

    if name not in table.column_names:
        return table
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pc.add(table[name], pa.scalar(by, pa.int32())))


def _with_classes(content: files.DatasetDescriptor, schema: LabelSchema, agreed: Mapping[str, Answer]) -> files.DatasetDescriptor:
    """With the classes of the schema that are new; of tasks with one class an example only those that an example has."""
    if content.keypoints and schema.keypoints and content.keypoints != schema.keypoints:
        message = f"the content's keypoints are {', '.join(content.keypoints)}, the label schema's {', '.join(schema.keypoints)}"
        raise FailedPrecondition("KEYPOINTS_DIFFER", message)
    used = {name for answer in agreed.values() for name in answer.classes}
    new = [
        each
        for each in schema.classes
        if each.name not in content.classes and (content.task not in _LABELLED or each.name in used)
    ]
    palette = (*content.palette, *(each.colour for each in new)) if content.palette or not content.classes else ()
    keypoints = content.keypoints or schema.keypoints if content.task == files.KEYPOINT_DETECTION else content.keypoints
    return replace(content, classes=(*content.classes, *(each.name for each in new)), palette=palette, keypoints=keypoints)


def _written(
    manifest: pa.Table, content: files.DatasetDescriptor, agreed: Mapping[str, Answer], folder: Path, store: ArtifactStore
) -> tuple[pa.Table, tuple[Blob, ...], bool]:
    """The rows with what was agreed on, the packs of new masks, and whether nothing of the rows' identity changed."""
    ids = manifest["example_id"].to_pylist()
    places = [(place, agreed[id_]) for place, id_ in enumerate(ids) if id_ in agreed]
    index = {name: number for number, name in enumerate(content.classes)}
    changes: dict[str, dict[int, Any]] = {}
    packs: tuple[Blob, ...] = ()
    if content.task in _LABELLED:
        changes["label"] = {place: answer.label for place, answer in places}
    elif content.task == files.SEMANTIC_SEGMENTATION:
        changes, packs = _masks(manifest, content, places, index, folder, store)
    else:
        said = {place: _annotation(answer, content.task) for place, answer in places}
        changes["annotation"] = {place: content_hash(each) for place, each in said.items()}
        if content.task in files.MARKED_TASKS:
            changes["marks"] = {place: [mark_row(mark, index) for mark in each.marks] for place, each in said.items()}
        elif content.task == files.IMAGE_MULTILABEL:
            changes["labels"] = {place: sorted(index[name] for name in each.labels) for place, each in said.items()}
        else:
            changes["intervals"] = {
                place: [{"start": i.start, "end": i.end, "label": index[i.label]} for i in each.intervals]
                for place, each in said.items()
            }
    if "attributes" in manifest.column_names:
        known = manifest["attributes"].to_pylist()
        changes["attributes"] = {
            place: attributes_json({**json.loads(known[place] or "{}"), **answer.attributes})
            for place, answer in places
            if answer.attributes
        }
    changes = {name: values for name, values in changes.items() if values}
    for name, values in changes.items():
        column = manifest[name].to_pylist()
        for place, value in values.items():
            column[place] = value
        at = manifest.column_names.index(name)
        field = manifest.schema.field(name)
        manifest = manifest.set_column(at, field, pa.array(column, field.type))
    return manifest, packs, set(changes) <= set(files.SAID)


def _annotation(answer: Answer, task: str) -> Annotation:
    """What a version keeps of an answer."""
    marks = answer.marks
    if task == files.OBJECT_DETECTION:  # an outline drawn around an object gives its box
        marks = tuple(replace(mark, polygons=(), mask=b"", keypoints=()) for mark in marks)
    return Annotation(marks, answer.classes if task == files.IMAGE_MULTILABEL else (), answer.intervals)


def _masks(
    manifest: pa.Table,
    content: files.DatasetDescriptor,
    places: Sequence[tuple[int, Answer]],
    index: Mapping[str, int],
    folder: Path,
    store: ArtifactStore,
) -> tuple[dict[str, dict[int, Any]], tuple[Blob, ...]]:
    """Masks of class indices, painted in the order of the objects; what nobody marked is ignored (255)."""
    widths, heights = (manifest[name].to_pylist() for name in ("width", "height"))
    (folder / "masks").mkdir(exist_ok=True)
    writer = files.PackWriter(folder / "masks")
    names = ("annotation", "mask_pack", "mask_offset", "mask_length")
    changes: dict[str, dict[int, Any]] = {name: {} for name in names}
    for place, answer in places:
        facts = Facts(widths[place], heights[place])
        classes = np.full((facts.height, facts.width), 255, np.uint8)
        for mark in answer.marks:
            classes[pixels_of(mark, facts) > 0] = index[mark.label]
        out = io.BytesIO()
        Image.fromarray(classes).save(out, "PNG")
        span = writer.append(out.getvalue())
        said = content_hash(Annotation(mask_sha256=mask_hash(classes)))
        for name, value in zip(names, (said, len(content.packs) + span.pack, span.offset, span.length), strict=True):
            changes[name][place] = value
    return changes, writer.put_all(store)


def _near(
    groups: npt.NDArray[np.int64], manifest: pa.Table, pool: files.DatasetDescriptor, store: ArtifactStore
) -> tuple[npt.NDArray[np.int64], near.Thumbnails]:
    """Groups of near duplicates, as far as the round's content has thumbnails of the examples; and these, where it has all."""
    path = store.path(pool.manifest)
    none = np.empty((0, near.THUMBNAIL, near.THUMBNAIL), np.uint8)
    if pool.kind != files.IMAGE or "thumbnail" not in files.read_schema(path).names:
        return groups, none
    offered = files.read_parquet(path, ["example_id", "thumbnail"])
    place_of = {id_: place for place, id_ in enumerate(offered["example_id"].to_pylist())}
    found = [(row, place_of[id_]) for row, id_ in enumerate(manifest["example_id"].to_pylist()) if id_ in place_of]
    rows, places = (np.asarray([pair[side] for pair in found], np.int64) for side in (0, 1))
    thumbnails = thumbnails_of(offered)[places]
    left, right = near.near_pairs(thumbnails)
    return near.merge_groups(groups, rows[left], rows[right]), thumbnails if len(rows) == manifest.num_rows else none


def _joined(groups: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Groups joined by what is known of the first examples: int64 [N], [n]."""
    first = np.unique(known, return_index=True, return_inverse=True)
    return near.merge_groups(groups, first[1][first[2]].astype(np.int64), np.arange(len(known), dtype=np.int64))


def _record(source: AnnotationSource, said: Sequence[Said], result: RoundResult, agreed: int, added: int) -> AnnotationRecord:
    return AnnotationRecord(
        round=source.round,
        label_schema=source.label_schema,
        method=result.method,
        annotators=tuple(sorted({name for each in said for name in each.answers})),
        answer_count=sum(len(each.answers) for each in said),
        example_count=agreed,
        added_count=added,
        disagreement_count=len(result.disagreements),
        figures=result.figures,
    )


def _left_open(pool: files.DatasetDescriptor, store: ArtifactStore, known: set[str]) -> list[tuple[str, str]]:
    """Id and path of the examples of the round's content that the version does not have because nothing is said of them."""
    column = _label_column(pool)
    if column is None:
        return []
    table = files.load_manifest(store, pool, ["example_id", "path", column])
    rows = zip(*(table[name].to_pylist() for name in ("example_id", "path", column)), strict=True)
    return [(id_, path) for id_, path, said in rows if said is None and id_ not in known]


def _notes(record: AnnotationRecord, left: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    people = several(len(record.annotators), "person", "people")
    given = f"{several(record.example_count, 'example')} ({several(record.answer_count, 'answer')})"
    notes = [f"Annotated in {record.round} by {people}: {given}."]
    notes += [
        f"{figure.name.replace('_', ' ')} {figure.value:.3f} ({figure.lower:.3f} to {figure.upper:.3f}, {figure.tasks} tasks)."
        for figure in record.figures
        if not figure.annotators
    ]
    if record.disagreement_count:
        notes.append(f"Left as before, without a consensus: {several(record.disagreement_count, 'task')}.")
    if left:
        notes.append(
            f"Left out: {several(len(left), 'example')} without a label; annotate them to have them in the next version."
        )
    return tuple(notes)


def _findings(lines: Sequence[Mapping[str, Any]], result: RoundResult, left: Sequence[tuple[str, str]]) -> tuple[Finding, ...]:
    findings = []
    if result.disagreements:
        paths = {line["id"]: line["path"] for line in lines}
        ids = result.disagreements[:LISTED_EXAMPLES]
        findings.append(
            Finding(
                "ANNOTATORS_DISAGREE",
                "warning",
                f"People do not agree on {several(len(result.disagreements), 'example')}.",
                tuple(paths[id_] for id_ in ids),
                len(result.disagreements),
                cost="What people cannot tell apart, a model learns as noise, and no score is better than their agreement.",
                action="Review them (modelyard annotate review), or make the guidelines clearer and let others answer.",
                example_ids=tuple(ids),
            )
        )
    if left:
        findings.append(
            Finding(
                "UNLABELLED",
                "info",
                f"Without a label, and so in no version: {several(len(left), 'example')} of the content.",
                tuple(path for _, path in left[:LISTED_EXAMPLES]),
                len(left),
                cost="They teach nothing until somebody says what they show.",
                action="Annotate those that teach most next: modelyard annotate propose.",
                example_ids=tuple(id_ for id_, _ in left[:LISTED_EXAMPLES]),
            )
        )
    return tuple(findings)
