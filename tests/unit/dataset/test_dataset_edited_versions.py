"""Versions made from versions, and what is compared between them, over a real artifact store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.adapters.examples_parquet import ParquetExamples
from modelyard.dataset.domain.edits import DROP, MOVE, RELABEL
from modelyard.dataset.domain.records import Edit, ImportResult, SplitPolicy, VersionResult
from modelyard.dataset.ports import Selection
from modelyard.formats import dataset as files
from tests.unit.dataset.test_dataset_report_publish import Bench, digits


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def rows(bench: Bench, version: VersionResult) -> dict[str, tuple[str, str]]:
    found, _ = ParquetExamples(bench.store).rows(version.descriptor, Selection(), 0, 1000)
    return {row.example_id: (row.label, row.usage) for row in found}


def based(bench: Bench, imported: ImportResult, base: VersionResult, *edits: Edit) -> VersionResult:
    return bench.publish(imported, base="V001", base_descriptor=base.descriptor, edits=edits)


def test_a_version_with_edits_keeps_all_else_and_stores_a_manifest_only(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = bench.publish(imported)
    before = rows(bench, first)
    test = [id_ for id_, (_, usage) in before.items() if usage == "test"]
    train = [id_ for id_, (label, usage) in before.items() if usage == "train" and label != "3"]
    stored = set(bench.store.list())
    second = based(
        bench,
        imported,
        first,
        Edit(DROP, (test[0],)),
        Edit(RELABEL, (train[0],), label="3"),
        Edit(MOVE, (train[1],), usage="test"),
    )
    expected = dict(before)
    del expected[test[0]]
    expected[train[0]] = ("3", "train")
    expected[train[1]] = (before[train[1]][0], "test")
    assert rows(bench, second) == expected
    assert second.edited == (1, 1, 1)
    assert second.descriptor.packs == first.descriptor.packs
    assert second.descriptor.digest != first.descriptor.digest
    assert second.descriptor.counts["test"].examples == first.descriptor.counts["test"].examples
    new = [blob for blob in bench.store.list() if blob not in stored]
    assert len(new) == 2  # manifest and descriptor


def test_undoing_an_edit_gives_the_digest_from_before(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = bench.publish(imported)
    id_, (label, _) = next(iter(rows(bench, first).items()))
    other = "1" if label != "1" else "2"
    there = based(bench, imported, first, Edit(RELABEL, (id_,), label=other))
    back = based(bench, imported, there, Edit(RELABEL, (id_,), label=label))
    assert there.descriptor.digest != first.descriptor.digest == back.descriptor.digest


def test_what_changed_is_counted_and_listed(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    first = bench.publish(imported)
    before = rows(bench, first)
    ids = [id_ for id_, (label, usage) in before.items() if usage == "train" and label != "0"][:4]
    second = based(
        bench,
        imported,
        first,
        Edit(DROP, (ids[0],)),
        Edit(RELABEL, (ids[1], ids[2]), label="0"),
        Edit(MOVE, (ids[2], ids[3]), usage="test"),
    )
    examples = ParquetExamples(bench.store)
    counts = examples.change_counts(first.descriptor, second.descriptor)
    assert (counts.added, counts.removed, counts.relabelled, counts.moved) == (0, 1, 2, 2)
    assert counts.unchanged == len(before) - 4
    back = examples.change_counts(second.descriptor, first.descriptor)
    assert (back.added, back.removed, back.relabelled, back.moved) == (1, 0, 2, 2)
    page, more = examples.changes(first.descriptor, second.descriptor, 0, 3)
    rest, end = examples.changes(first.descriptor, second.descriptor, 3, 3)
    assert more
    assert not end
    listed = {(change.before or change.after).example_id: change for change in [*page, *rest]}  # type: ignore[union-attr]
    assert sorted(listed) == sorted(ids)
    assert listed[ids[0]].after is None
    assert [listed[id_].relabelled for id_ in ids[1:]] == [True, True, False]
    moved = listed[ids[3]]
    assert moved.before is not None
    assert moved.after is not None
    assert (moved.before.usage, moved.after.usage) == ("train", "test")


def test_a_finding_brings_the_edit_that_mends_it(bench: Bench) -> None:
    pictures = digits(60)
    names = list(pictures)
    pictures["0/again.png"] = pictures[names[0]]
    wrong = next(name for name in names if name.startswith("1/"))
    pictures["2/wrong.png"] = pictures[wrong]
    imported = bench.imported(pictures, "d.zip")
    found = bench.report(imported)
    edits = [found[kind][0].fix for kind in ("CONFLICTING_LABELS",)]
    conflicting = edits[0]
    assert conflicting is not None
    assert len(conflicting.examples) == 2
    version = bench.publish(imported, edits=(conflicting,))
    mended = bench.report(replace(imported, content=replace(imported.content)))
    assert "CONFLICTING_LABELS" in mended  # the import itself stays as it was
    listed = rows(bench, version)
    assert len(listed) == len(pictures) - 2
    exact = found["EXACT_DUPLICATES"][0].fix
    assert exact is not None
    assert len(rows(bench, bench.publish(imported, edits=(exact,)))) == len(pictures) - 2
    assert set(exact.examples) < set(rows(bench, bench.publish(imported)))


def test_all_to_the_test_leaves_nothing_to_train_on(bench: Bench) -> None:
    imported = bench.imported(digits(40), "d.zip")
    first = bench.publish(imported)
    train = tuple(id_ for id_, (_, usage) in rows(bench, first).items() if usage == "train")
    with pytest.raises(FailedPrecondition) as caught:
        based(bench, imported, first, Edit(MOVE, train, usage="test"))
    assert caught.value.reason == "NO_TRAIN_EXAMPLES"


def table(count: int = 120) -> bytes:
    lines = ["device,day,x,y"]
    lines += [f"d{i % 8},2026-03-{1 + i // 6:02d},{i * 7 % 13},{'ab'[i % 2]}" for i in range(count)]
    return "\n".join(lines).encode()


def usage_by(bench: Bench, version: VersionResult, column: str) -> dict[str, set[str]]:
    manifest = files.load_manifest(bench.store, version.descriptor)
    assert version.descriptor.table is not None
    values = files.read_parquet(bench.store.path(version.descriptor.table), [column])[column].take(manifest["row"]).to_pylist()
    found: dict[str, set[str]] = {}
    for value, usage in zip(values, manifest["usage"].to_pylist(), strict=True):
        found.setdefault(value, set()).add(usage)
    return found


def test_a_table_is_split_by_device_and_by_day(bench: Bench) -> None:
    imported = bench.imported(table(), label_column="y")
    by_device = usage_by(bench, bench.publish(imported, SplitPolicy("0.5", group_by="device")), "device")
    assert all(len(usages) == 1 for usages in by_device.values())
    assert set.union(*by_device.values()) == {"train", "validation", "test"}
    by_day = usage_by(bench, bench.publish(imported, SplitPolicy("0.5", time_by="day")), "day")
    order = ["train", "validation", "test"]
    ranks = [order.index(next(iter(by_day[day]))) for day in sorted(by_day)]
    assert all(len(usages) == 1 for usages in by_day.values())
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}


def test_pictures_are_split_by_a_part_of_their_name(bench: Bench) -> None:
    pictures = {f"{name.split('/')[0]}/cam{i % 5}_{i}.png": data for i, (name, data) in enumerate(digits(100).items())}
    imported = bench.imported(pictures, "d.zip")
    version = bench.publish(imported, SplitPolicy("0.6", group_by="{group}_{number}"))
    found, _ = ParquetExamples(bench.store).rows(version.descriptor, Selection(), 0, 1000)
    sides: dict[str, set[str]] = {}
    for row in found:
        sides.setdefault(row.path.split("/")[1].split("_")[0], set()).add(row.usage)
    assert len(sides) == 5
    assert all(len(usages) == 1 for usages in sides.values())


@pytest.mark.parametrize(
    ("policy", "reason", "words"),
    [
        (SplitPolicy(group_by="colour"), "UNKNOWN_COLUMN", "the columns are device, day, x, y"),
        (SplitPolicy(time_by="device"), "BAD_TIME", "where 'd0' stands"),
        (SplitPolicy(time_by="when"), "UNKNOWN_COLUMN", "when"),
    ],
)
def test_a_wrong_group_or_time_is_named(bench: Bench, policy: SplitPolicy, reason: str, words: str) -> None:
    imported = bench.imported(table(), label_column="y")
    with pytest.raises(InvalidArgument, match=words) as caught:
        bench.publish(imported, policy)
    assert caught.value.reason == reason
