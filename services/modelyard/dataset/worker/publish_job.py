"""A publication: splits an import's content and freezes it as a dataset version. Packs and table are the import's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.domain import frozen, group_split, tables
from modelyard.dataset.domain import split as splitting
from modelyard.dataset.domain.belonging import Column, groups_of, said_of, strata_of, times_of
from modelyard.dataset.domain.conditions import condition_notes, meeting, parse_conditions
from modelyard.dataset.domain.new_usages import place_new
from modelyard.dataset.domain.records import (
    FREEZE_TEST,
    REPLACE_TEST,
    SplitPolicy,
    VersionResult,
    VersionSpec,
)
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import annotated, frozen_test
from modelyard.dataset.worker.content import Puts, all_or_none
from modelyard.dataset.worker.edited import edit
from modelyard.dataset.worker.edited_columns import edit_columns
from modelyard.dataset.worker.report_sounds import near_sounds
from modelyard.dataset.worker.stored import Stored, load
from modelyard.dataset.worker.version_files import Wanted, place
from modelyard.formats import dataset as files


def run(spec: VersionSpec, store: ArtifactStore, folder: Path, work: Work) -> VersionResult:
    """Publishes. Raises FailedPrecondition NO_FEATURES, NO_GIVEN_USAGE, NO_TRAIN_EXAMPLES, FROZEN_TEST, InvalidArgument,
    Cancelled."""
    based = spec.base_descriptor
    content = based or spec.imported.content
    ratio = splitting.parse_ratio(content.ratio if based and content.ratio else spec.split.train_ratio)
    seed = content.seed if based else spec.split.seed
    said = _labelled(spec, content, store, folder, work)
    loaded, content = said.stored, said.content
    in_force = frozen_test.in_force(spec, store)
    edited = edit(store, loaded, content, spec.edits, in_force.held(loaded) if in_force else None)
    stored, content, bound = edited.stored, edited.content, None
    table = edited.table if edited.table is not None else said.table
    together = _together(spec, store, content, stored)
    if in_force:
        bound = in_force.bind(stored, together)
        stored, bound = frozen_test.kept(stored, bound)
    strata, small_notes = _strata(store, table, content, stored)
    if based and (stored.usages == splitting.NONE).any():
        drawn = place_new(strata, stored.near_groups, stored.usages, ratio, seed=seed, with_test=bound is None)
    elif based:
        drawn = splitting.Split(
            stored.usages.astype(np.int8), (f"Made from {spec.base}; its usages were kept but for the edits.",)
        )
    else:
        drawn = _split(spec.split, store, content, stored, strata, ratio, bound.test if bound is not None else None)
    if bound is not None:
        drawn = splitting.Split(np.where(bound.test, splitting.TEST, drawn.usage).astype(np.int8), drawn.notes)
    elif spec.test_policy in (FREEZE_TEST, REPLACE_TEST):
        stored, strata, drawn, bound = _freeze(spec, store, content, stored, strata, drawn)
    if not (drawn.usage == splitting.TRAIN).any():
        message = "no example is left to train on; edits moved or left out all of them, or all are like frozen test examples"
        raise FailedPrecondition("NO_TRAIN_EXAMPLES", message, field="dataset_version.edits")
    held = bound.test if bound is not None and in_force else None
    changed = edit_columns(store, content, stored.manifest, table, spec.edits, drawn.usage.astype(np.int64), held)
    stored = replace(stored, manifest=changed.manifest)
    columns, column_notes = choose_columns(changed.columns, spec.excluded_columns, spec.keep_leaking_columns)
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
    with all_or_none(store) as put:
        wanted = Wanted(manifest, stored, unfinished, changed.table, spec.base_near, separate=bound is not None)
        placed = place(wanted, store, put, folder, work)
        frozen = spec.frozen if in_force else None
        if bound is not None and frozen is None:
            frozen = frozen_test.store_new(spec, store, stored, drawn.usage, put, folder)
        descriptor_blob = _put_descriptor(placed.descriptor, put, folder / "descriptor")
        training = _without_test(placed.training) if placed.training else None
        training_blob = _put_descriptor(training, put, folder / "training") if training else None
        new_bytes = put.new_bytes
    notes = (
        *said.notes,
        *column_notes,
        *edited.notes,
        *changed.notes,
        *small_notes,
        *drawn.notes,
        *(bound.notes() if bound is not None else ()),
    )
    return VersionResult(
        placed.descriptor,
        descriptor_blob,
        notes,
        tuple(changed.counts.get(number, count) for number, count in enumerate(edited.counts)),
        training=training,
        training_blob=training_blob,
        frozen=frozen,
        near=placed.near,
        stored_bytes=new_bytes,
        annotation=said.record,
        findings=said.findings,
    )


def _put_descriptor(descriptor: files.DatasetDescriptor, put: Puts, path: Path) -> Blob:
    path.write_bytes(files.to_json(descriptor))
    return put(path)


def _without_test(training: files.DatasetDescriptor) -> files.DatasetDescriptor:
    """Says how many test examples there are, and not of which classes."""
    counts = {name: count if name != files.TEST else files.UsageCount(0) for name, count in training.counts.items()}
    return replace(training, counts=counts)


def _together(spec: VersionSpec, store: ArtifactStore, content: files.DatasetDescriptor, stored: Stored) -> npt.NDArray[np.int64]:
    """Equal for examples that are near duplicates, or belong together by the split's policy: int64 [N]."""
    if not spec.split.group_by:
        return stored.near_groups
    groups = groups_of(spec.split.group_by, _column_of(store, content), content, stored.manifest)
    return group_split.joined_groups(groups, stored.near_groups)


def _freeze(
    spec: VersionSpec,
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    drawn: splitting.Split,
) -> tuple[Stored, npt.NDArray[np.int64] | npt.NDArray[np.bool_], splitting.Split, frozen.Bound]:
    """Makes the test examples of a split a frozen test set; what is like one of them elsewhere is left out."""
    usages = drawn.usage.astype(np.int64)
    if not (usages == splitting.TEST).any():
        message = "there is no test example to freeze; the split gave none"
        raise FailedPrecondition("NO_TEST_EXAMPLES", message, field="dataset_version.test_policy")
    bound = frozen.freeze(_together(spec, store, content, stored), usages)
    rows = np.flatnonzero(~bound.left_out)
    stored, bound = frozen_test.kept(replace(stored, usages=usages), bound)
    return stored, strata[rows], splitting.Split(drawn.usage[rows], drawn.notes), bound


def _labelled(
    spec: VersionSpec, content: files.DatasetDescriptor, store: ArtifactStore, folder: Path, work: Work
) -> annotated.Labelled:
    """The content's labelled examples: as they are stored, or as the answers of an annotation round have them."""
    if spec.annotation is not None:
        return annotated.annotate(spec, store, folder, work)
    loaded = load(store, content, work, compare=spec.base_descriptor is None, near_blob=spec.base_near)
    if content.kind == files.AUDIO and spec.base_descriptor is None:
        near = near_sounds(store, content, loaded.manifest, loaded.groups, work, (0.6, 0.75))
        loaded = replace(loaded, near_groups=near)
    return annotated.without_unlabelled(loaded, content)


def _split(
    policy: SplitPolicy,
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    ratio: Decimal,
    test: npt.NDArray[np.bool_] | None,
) -> splitting.Split:
    """Shares out all examples but those of a frozen test set (`test`, bool [N])."""
    if policy.test_where or policy.validation_where:
        return _split_by_conditions(policy, store, content, stored, strata, ratio, test)
    if test is None:
        return _draw(policy, store, content, stored, strata, ratio, with_test=True)
    free = np.flatnonzero(~test)
    usage = np.full(len(test), splitting.TEST, np.int8)
    if not len(free):
        return splitting.Split(usage, ())
    drawn = _draw(policy, store, content, stored.taken(free), strata[free], ratio, with_test=False)
    usage[free] = drawn.usage
    return splitting.Split(usage, drawn.notes)


def _split_by_conditions(
    policy: SplitPolicy,
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    ratio: Decimal,
    frozen_test: npt.NDArray[np.bool_] | None,
) -> splitting.Split:
    """Test and validation as the policy's conditions say, the rest as its other fields do."""
    if policy.test_where and frozen_test is not None:
        message = "split.test_where is set, and the dataset's test set is frozen; publish with test_policy REPLACE, or without it"
        raise FailedPrecondition("TEST_SET_FROZEN", message, field="dataset_version.split.test_where")
    count = stored.manifest.num_rows

    def met(texts: Sequence[str], field: str) -> npt.NDArray[np.bool_]:
        conditions = parse_conditions(texts, field)
        return meeting(conditions, lambda each: said_of(each, _column_of(store, content), content, stored.manifest), count)

    test = met(policy.test_where, "split.test_where") if frozen_test is None else frozen_test
    validation = met(policy.validation_where, "split.validation_where") & ~test
    usage = np.where(test, splitting.TEST, np.where(validation, splitting.VALIDATION, splitting.TRAIN)).astype(np.int8)
    notes = condition_notes(policy.test_where, policy.validation_where, usage, stored.near_groups)
    free = np.flatnonzero(~test & ~validation)
    if not len(free):
        message = "split.test_where and split.validation_where take all examples; none is left to train on"
        raise FailedPrecondition("NO_TRAIN_EXAMPLES", message, field="dataset_version.split.test_where")
    if policy.validation_where and (policy.test_where or frozen_test is not None):
        return splitting.Split(usage, notes)
    rest = replace(policy, source=splitting.RATIO)
    drawn = _draw(rest, store, content, stored.taken(free), strata[free], ratio, with_test=not policy.test_where)
    if policy.validation_where:  # what the draw would validate on is trained on, but for the test
        usage[free] = np.where(drawn.usage == splitting.TEST, splitting.TEST, splitting.TRAIN)
    else:
        usage[free] = drawn.usage
    return splitting.Split(usage, (*notes, *drawn.notes))


def _draw(
    policy: SplitPolicy,
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    stored: Stored,
    strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    ratio: Decimal,
    *,
    with_test: bool,
) -> splitting.Split:
    if policy.time_by:
        times = times_of(policy.time_by, _column_of(store, content), content, stored.manifest)
        return group_split.split_by_time(times, ratio, field=policy.time_by, with_test=with_test)
    if policy.group_by:
        groups = groups_of(policy.group_by, _column_of(store, content), content, stored.manifest)
        near = stored.near_groups
        return group_split.split_by_groups(
            strata, groups, near, ratio, seed=policy.seed, field=policy.group_by, with_test=with_test
        )
    near, given = stored.near_groups, stored.usages
    return splitting.split(strata, near, given, ratio, seed=policy.seed, source=policy.source, with_test=with_test)


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


def _column_of(store: ArtifactStore, content: files.DatasetDescriptor) -> Column:
    """Reads columns of the content's table."""

    def column(name: str) -> pa.ChunkedArray:
        if content.table is None:
            raise AssertionError("only a table has columns")
        return files.read_parquet(store.path(content.table), [name])[name]

    return column


def _strata(
    store: ArtifactStore, changed: pa.Table | None, content: files.DatasetDescriptor, stored: Stored
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.bool_], list[str]]:
    """What the split is stratified by: the class, the classes shown (bool [N, classes]), or bins of the number to predict."""
    return strata_of(stored.manifest, content, lambda: _targets(store, changed, content, stored.manifest))


def _targets(
    store: ArtifactStore, changed: pa.Table | None, content: files.DatasetDescriptor, manifest: pa.Table
) -> npt.NDArray[np.float64]:
    if content.table is None:
        raise AssertionError("a regression set has a table")
    table = changed if changed is not None else files.read_parquet(store.path(content.table), [content.target])
    return tables.feature_arrays(table.select([content.target]).take(manifest["row"]), [content.target])[content.target]


def _manifest(imported: pa.Table, usage: npt.NDArray[np.int8], content: files.DatasetDescriptor) -> pa.Table:
    names = pa.array(files.USAGES).take(pa.array(usage.astype(np.int32)))
    schema = files.manifest_schema(content.kind, content.task)
    columns = [names if name == "usage" else imported[name] for name in schema.names]
    return pa.table(columns, schema=schema)


def _counts(
    usage: npt.NDArray[np.int8], strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_], classes: Sequence[str]
) -> dict[str, files.UsageCount]:
    counts = {}
    for number, name in enumerate(files.USAGES):
        chosen = strata[usage == number]
        if chosen.ndim == 2:
            counts[name] = files.UsageCount(len(chosen), tuple(chosen.sum(axis=0).tolist()))
            continue
        by_class = tuple(np.bincount(chosen, minlength=len(classes)).tolist()[: len(classes)]) if classes else ()
        counts[name] = files.UsageCount(len(chosen), by_class)
    return counts
