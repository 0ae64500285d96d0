"""Edits of what is to be predicted: classes and values of rows, classes of boxes and other marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.edits import RECLASS, RELABEL, SET_VALUE
from modelyard.dataset.domain.records import Edit, ExportSpec, ImportResult, VersionResult
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import export_job
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Mark
from tests.support.marked import Marked
from tests.unit.dataset.test_dataset_edited_versions import based, rows
from tests.unit.dataset.test_dataset_report_publish import Bench

NAME = "projects/p/datasets/d/versions/V002"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def again(bench: Bench, version: VersionResult, format_: str, **spec: str) -> ImportResult:
    """The version written as files and imported again."""
    made = export_job.run(ExportSpec("d", NAME, version.descriptor_blob, format_), bench.store, bench.folder(), Work())
    return bench.imported(bench.store.read_bytes(made.archive), made.file_name, **spec)


def table(target: str) -> bytes:
    values = {"class": lambda i: "ab"[i % 2], "number": lambda i: f"{i % 9}.5{i}"}[target]
    return "\n".join(["x,y", *(f"{i}.5,{values(i)}" for i in range(80))]).encode()


def test_a_row_gets_another_class(bench: Bench) -> None:
    imported = bench.imported(table("class"), label_column="y")
    first = bench.publish(imported)
    ids = list(rows(bench, first))
    second = based(
        bench, imported, first, Edit(RELABEL, (ids[0],), label="c", new_class=True), Edit(RELABEL, of_class="b", label="a")
    )
    assert second.descriptor.classes == ("a", "c")
    assert {label for label, _ in rows(bench, second).values()} == {"a", "c"}
    reader = files.open_dataset(bench.store, second.descriptor_blob)
    for usage in files.USAGES:
        names = [second.descriptor.classes[label] for label in reader.labels(usage)]
        assert reader.table(usage)["y"].to_pylist() == names
        assert (
            reader.table(usage)["x"].to_pylist()
            == files.open_dataset(bench.store, first.descriptor_blob).table(usage)["x"].to_pylist()
        )
    assert again(bench, second, "csv", label_column="y").summary.digest == second.descriptor.digest
    back = based(bench, imported, first, Edit(RELABEL, (ids[0],), label=rows(bench, first)[ids[0]][0]))
    assert back.descriptor.digest == first.descriptor.digest
    assert back.descriptor.table == first.descriptor.table


def test_a_row_gets_another_value(bench: Bench) -> None:
    imported = bench.imported(table("number"), label_column="y")
    first = bench.publish(imported)
    before = rows(bench, first)
    chosen = next(id_ for id_, (_, usage) in before.items() if usage == "validation")
    second = based(bench, imported, first, Edit(SET_VALUE, (chosen,), value=-7.25))
    after = rows(bench, second)
    assert {id_ for id_ in after if after[id_] != before[id_]} == {chosen}
    assert after[chosen] == ("-7.25", "validation")
    reader = files.open_dataset(bench.store, second.descriptor_blob)
    assert -7.25 in reader.labels("validation")
    assert second.edited == (1,)
    assert again(bench, second, "parquet", label_column="y").summary.digest == second.descriptor.digest != first.descriptor.digest


def boxes(count: int = 12) -> Marked:
    names = ("cat", "dog", "cow")
    marks = [tuple(Mark(names[(i + j) % 3], (1.0 + j, 2.0, 6.0 + j, 9.0)) for j in range(1 + i % 2)) for i in range(count)]
    usages = tuple(["train", "validation", "test"][0 if i < 8 else 1 + i % 2] for i in range(count))
    return Marked(names, tuple(marks), usages)


def marked_classes(bench: Bench, version: VersionResult) -> list[str]:
    reader = files.open_dataset(bench.store, version.descriptor_blob)
    return sorted(
        version.descriptor.classes[label] for usage in files.USAGES for label in reader.annotations(usage).marks().labels.tolist()
    )


@pytest.mark.parametrize(
    ("edit", "classes"),
    [
        (Edit(RECLASS, of_class="cat", label="lion", new_class=True), ("lion", "dog", "cow")),
        (Edit(RECLASS, of_class="cat", label="cow"), ("dog", "cow")),
        (Edit(RECLASS, of_class="cow", label="cat"), ("cat", "dog")),
    ],
)
def test_a_class_of_boxes_is_renamed_or_merged(bench: Bench, edit: Edit, classes: tuple[str, ...]) -> None:
    imported = bench.imported(boxes().coco(), "c.zip")
    first = bench.publish(imported)
    second = based(bench, imported, first, edit)
    assert second.descriptor.classes == classes
    expected = sorted(edit.label if name == edit.of_class else name for name in marked_classes(bench, first))
    assert marked_classes(bench, second) == expected
    assert second.edited[0] == sum(edit.of_class in {mark.label for mark in marks} for marks in boxes().pictures)
    assert again(bench, second, "coco").summary.digest == second.descriptor.digest
    assert second.descriptor.packs == first.descriptor.packs


def test_boxes_of_one_picture_get_another_class_and_the_class_stays(bench: Bench) -> None:
    imported = bench.imported(boxes().coco(), "c.zip")
    first = bench.publish(imported)
    reader = files.open_dataset(bench.store, first.descriptor_blob)
    id_ = reader.example_ids("train")[0]
    before = [mark.label for mark in reader.annotations("train").mark_list(0)]
    second = based(bench, imported, first, Edit(RECLASS, (id_,), of_class=before[0], label="emu", new_class=True))
    assert second.descriptor.classes == ("cat", "dog", "cow", "emu")
    now = files.open_dataset(bench.store, second.descriptor_blob)
    assert [mark.label for mark in now.annotations("train").mark_list(0)].count("emu") == before.count(before[0])
    assert marked_classes(bench, second).count("emu") == before.count(before[0])


@pytest.mark.parametrize(
    ("source", "edit", "reason"),
    [
        ("class", Edit(SET_VALUE, of_class="a", value=1.0), "CANNOT_SET_VALUE"),
        ("class", Edit(RECLASS, of_class="a", label="b"), "CANNOT_RECLASS"),
        ("number", Edit(RELABEL, of_class="a", label="b"), "CANNOT_RELABEL"),
        ("boxes", Edit(RELABEL, of_class="cat", label="dog"), "CANNOT_RELABEL"),
        ("boxes", Edit(RECLASS, of_class="bird", label="dog"), "UNKNOWN_CLASS"),
        ("boxes", Edit(RECLASS, of_class="cat", label="bird"), "UNKNOWN_CLASS"),
    ],
)
def test_an_edit_that_does_not_fit_the_data_is_refused(bench: Bench, source: str, edit: Edit, reason: str) -> None:
    data = boxes().coco() if source == "boxes" else table(source)
    imported = bench.imported(data, "c.zip" if source == "boxes" else "t.csv")
    with pytest.raises(InvalidArgument) as caught:
        based(bench, imported, bench.publish(imported), edit)
    assert caught.value.reason == reason
