"""A publication: splits an import's content and freezes it as a dataset version. Packs and table are the import's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.domain import group_split, tables
from modelyard.dataset.domain import split as splitting
from modelyard.dataset.domain.records import SplitPolicy, VersionResult, VersionSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.belonging import groups_of, times_of
from modelyard.dataset.worker.content import all_or_none
from modelyard.dataset.worker.edited import edit
from modelyard.dataset.worker.stored import Stored, load
from modelyard.formats import dataset as files


def run(spec: VersionSpec, store: ArtifactStore, folder: Path, work: Work) -> VersionResult:
    """Publishes. Raises FailedPrecondition NO_FEATURES, NO_GIVEN_USAGE or NO_TRAIN_EXAMPLES, InvalidArgument, Cancelled."""
    based = spec.base_descriptor
    content = based or spec.imported.content
    columns, column_notes = choose_columns(content.columns, spec.excluded_columns, spec.keep_leaking_columns)
    ratio = splitting.parse_ratio(content.ratio if based and content.ratio else spec.split.train_ratio)
    seed = content.seed if based else spec.split.seed
    edited = edit(load(store, content, work, compare=based is None), content, spec.edits)
    stored, content = edited.stored, edited.content
    strata, small_notes = _strata(store, content, stored)
    if based:
        drawn = splitting.Split(
            stored.usages.astype(np.int8), (f"Made from {spec.base}; its usages were kept but for the edits.",)
        )
    else:
        drawn = _split(spec.split, store, content, stored, strata, ratio)
    if not (drawn.usage == splitting.TRAIN).any():
        message = "no example is left to train on; edits moved or left out all of them"
        raise FailedPrecondition("NO_TRAIN_EXAMPLES", message, field="dataset_version.edits")
    manifest = _manifest(stored.manifest, drawn.usage, content)
    work.stage("store", 0, 2, "files", 0.8, 1.0)
    unfinished = replace(
        content,
        columns=columns,
        counts=_counts(drawn.usage, strata, content.classes),
        digest=files.digest(
            manifest,
            task=content.task,
            classes=content.classes,
            columns=columns,
            target=content.target,
            names=files.digest_names(content),
        ),
        seed=seed,
        ratio=str(ratio),
    )
    path = files.write_parquet(manifest, folder / "manifest")
    described = folder / "descriptor"
    with all_or_none(store) as put:
        descriptor = replace(unfinished, manifest=put(path))
        described.write_bytes(files.to_json(descriptor))
        descriptor_blob = put(described)
    notes = (*column_notes, *edited.notes, *small_notes, *drawn.notes)
    return VersionResult(descriptor, descriptor_blob, notes, edited.counts)


def _split(
    policy: SplitPolicy,
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    strata: npt.NDArray[np.int64],
    ratio: Decimal,
) -> splitting.Split:
    if policy.time_by:
        return group_split.split_by_time(times_of(policy.time_by, store, content, stored.manifest), ratio, field=policy.time_by)
    if policy.group_by:
        groups = groups_of(policy.group_by, store, content, stored.manifest)
        return group_split.split_by_groups(strata, groups, stored.near_groups, ratio, seed=policy.seed, field=policy.group_by)
    return splitting.split(strata, stored.near_groups, stored.usages, ratio, seed=policy.seed, source=policy.source)


def choose_columns(
    columns: Sequence[files.Column], excluded: Sequence[str], keep_leaking: bool
) -> tuple[tuple[files.Column, ...], tuple[str, ...]]:
    """The columns with their roles in this version, and what was decided. Raises FailedPrecondition NO_FEATURES."""
    chosen = tuple(_role(column, excluded, keep_leaking) for column in columns)
    aside = [column for column in chosen if column.role == files.SET_ASIDE]
    if columns and not any(column.role == files.FEATURE for column in chosen):
        named = ", ".join(f"{column.name} ({column.set_aside_reason})" for column in aside)
        message = f"no column is left to predict from; set aside: {named}"
        raise FailedPrecondition("NO_FEATURES", message, field="excluded_columns", columns=named)
    kept = [column.name for column in chosen if column.role == files.FEATURE and column.set_aside_reason]
    notes = [f'Column "{column.name}" was set aside: {column.set_aside_reason}.' for column in aside]
    notes += [f'Column "{name}" leaks the target and was kept, as asked.' for name in kept]
    return tuple(replace(c, set_aside_reason="") if c.role == files.FEATURE else c for c in chosen), tuple(notes)


def _role(column: files.Column, excluded: Sequence[str], keep_leaking: bool) -> files.Column:
    if column.name in excluded and column.role in (files.FEATURE, files.SET_ASIDE):
        return replace(column, role=files.SET_ASIDE, set_aside_reason="EXCLUDED_BY_USER")
    if keep_leaking and column.set_aside_reason == "LEAKS_TARGET":
        return replace(column, role=files.FEATURE)
    return column


def _strata(store: ArtifactStore, content: files.DatasetDescriptor, stored: Stored) -> tuple[npt.NDArray[np.int64], list[str]]:
    """What the split is stratified by: the class, or bins of the number to predict."""
    if "marks" in stored.manifest.column_names or (stored.manifest["label"].null_count and content.kind != files.TABLE):
        return strata_of_annotations(stored.manifest, len(content.classes)), []
    if content.classes:
        index = {name: i for i, name in enumerate(content.classes)}
        strata = np.asarray([index[label] for label in stored.manifest["label"].to_pylist()], dtype=np.int64)
        single = np.flatnonzero(np.bincount(strata, minlength=len(content.classes)) == 1)
        names = ", ".join(f'"{content.classes[i]}"' for i in single[:20])
        return strata, [f"Classes of one example stay in train and are not measured: {names}."] if len(single) else []
    if content.table is None:
        raise AssertionError("a regression set has a table")
    table = files.read_parquet(store.path(content.table), [content.target])
    return splitting.strata_of(tables.feature_arrays(table, [content.target])[content.target]), []


def strata_of_annotations(manifest: pa.Table, classes: int) -> npt.NDArray[np.int64]:
    """A stratum for each example of several classes: the rarest class that it shows, `classes` where it shows none. int64 [N].

    Masks are not looked into: their examples are one stratum.
    """
    column = next((name for name in ("marks", "labels", "intervals") if name in manifest.column_names), "")
    if not column:
        return np.zeros(manifest.num_rows, np.int64)
    lists = manifest[column].combine_chunks()
    flat = lists.flatten()
    labels = np.asarray((flat if column == "labels" else flat.field("label")).to_numpy(zero_copy_only=False), dtype=np.int64)
    of = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    shown = np.unique(np.stack([of, labels]), axis=1)
    counts = np.bincount(shown[1], minlength=classes)
    out = np.full(manifest.num_rows, classes, np.int64)
    for label in np.argsort(-counts, kind="stable"):  # the rarest is written last and stays
        out[shown[0][shown[1] == label]] = label
    return out


def _manifest(imported: pa.Table, usage: npt.NDArray[np.int8], content: files.DatasetDescriptor) -> pa.Table:
    names = pa.array(files.USAGES).take(pa.array(usage.astype(np.int32)))
    schema = files.manifest_schema(content.kind, content.task)
    columns = [names if name == "usage" else imported[name] for name in schema.names]
    return pa.table(columns, schema=schema)


def _counts(usage: npt.NDArray[np.int8], strata: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, files.UsageCount]:
    counts = {}
    for number, name in enumerate(files.USAGES):
        chosen = strata[usage == number]
        by_class = tuple(np.bincount(chosen, minlength=len(classes)).tolist()[: len(classes)]) if classes else ()
        counts[name] = files.UsageCount(len(chosen), by_class)
    return counts
