"""Reports of every kind of data through the import and the report's job: what is found, with ids; leaks of versions; drift."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.adapters.examples_parquet import ParquetExamples
from modelyard.dataset.domain.column_edits import CAP, IMPUTE
from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.records import FREEZE_TEST, Edit, Finding, ImportResult, ReportSpec, SplitPolicy, VersionResult
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import report_job
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import samples, write_wav
from tests.support.marked import picture, zipped
from tests.unit.dataset.test_dataset_report_publish import Bench

DATA = Path(os.environ.get("MODELYARD_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def report(bench: Bench, imported: ImportResult, **more: object) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    spec = ReportSpec("d", "i", imported, **more)  # type: ignore[arg-type]
    for finding in report_job.run(spec, bench.store, bench.folder(), Work()).findings:
        found.setdefault(finding.kind, []).append(finding)
    return found


def of_version(bench: Bench, imported: ImportResult, version: VersionResult) -> dict[str, list[Finding]]:
    return report(bench, imported, version="V001", descriptor=version.descriptor)


def table(rows: int = 300, shift: float = 0.0, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    lines = ["patient,day,age,town,kind"]
    for n in range(rows):
        age = "" if n % 5 == 0 else f"{rng.normal(40 + shift, 6):.2f}"
        lines.append(
            f"p{n // 6},2026-{1 + n * 11 // rows:02}-{1 + n % 28:02},{age},{rng.choice(['Ulm', 'Bonn', 'ulm '])},{'ab'[n % 2]}"
        )
    return "\n".join(lines).encode()


def test_a_table_is_checked_and_its_version_for_leaks(bench: Bench) -> None:
    imported = bench.imported(table())
    found = report(bench, imported)
    assert found["SPELLING_VARIANTS"][0].column == "town"
    assert found["MISSING_VALUES"][0].fix == Edit(IMPUTE, column="age", reason="MISSING_VALUES")
    assert "GROUP_ON_BOTH_SIDES" not in found  # nothing is split yet
    random = of_version(bench, imported, bench.publish(imported))
    assert '"patient"' in random["GROUP_ON_BOTH_SIDES"][0].message
    assert '--time-by "day"' in random["FUTURE_IN_TRAIN"][0].action
    grouped = of_version(bench, imported, bench.publish(imported, SplitPolicy(group_by="patient")))
    assert "GROUP_ON_BOTH_SIDES" not in grouped
    by_time = of_version(bench, imported, bench.publish(imported, SplitPolicy(time_by="day")))
    assert "FUTURE_IN_TRAIN" not in by_time


def test_columns_are_edited_and_the_version_before_keeps_its_table(bench: Bench) -> None:
    imported = bench.imported(table())
    first = bench.publish(imported)
    assert first.descriptor.table is not None
    before = bench.store.path(first.descriptor.table).read_bytes()
    edits = (Edit(IMPUTE, column="age"), Edit(CAP, column="age", lower=35.0, upper=45.0), Edit(IMPUTE, column="town", fill="?"))
    second = bench.publish(imported, base="V001", base_descriptor=first.descriptor, edits=edits)
    assert second.edited[0] == 60
    assert second.edited[1] > 30
    assert second.edited[2] == 0
    assert second.descriptor.table not in (None, first.descriptor.table)
    assert bench.store.path(first.descriptor.table).read_bytes() == before
    reader, old = (files.open_dataset(bench.store, each.descriptor_blob) for each in (second, first))
    ages = np.concatenate([np.asarray(reader.table(usage, columns=["age"])["age"].to_numpy()) for usage in files.USAGES])
    assert (ages.min(), ages.max(), np.isnan(ages).any()) == (35.0, 45.0, False)
    trained = np.asarray(old.table("train", columns=["age"])["age"].drop_null().to_numpy())
    assert f"{np.median(trained):g}, the median of train" in next(note for note in second.notes if "missing" in note)
    age = next(column for column in second.descriptor.columns if column.name == "age")
    assert age.missing_count == 0
    assert [reader.example_ids(usage) for usage in files.USAGES] == [old.example_ids(usage) for usage in files.USAGES]
    assert first.descriptor.digest != second.descriptor.digest
    counts = ParquetExamples(bench.store).change_counts(first.descriptor, second.descriptor)
    assert counts.relabelled + counts.unchanged == 300
    assert counts.relabelled > 90
    again = bench.publish(imported, base="V001", base_descriptor=first.descriptor, edits=edits)
    assert again.descriptor.digest == second.descriptor.digest


def test_a_frozen_test_set_is_left_alone_by_edits_of_columns(bench: Bench) -> None:
    imported = bench.imported(table())
    name = "projects/p/datasets/d/versions/V00"
    first = bench.publish(imported, test_policy=FREEZE_TEST, version=f"{name}1")
    more = {"base": f"{name}1", "base_descriptor": first.descriptor, "frozen": first.frozen, "version": f"{name}2"}
    second = bench.publish(imported, edits=(Edit(IMPUTE, column="age"), Edit(CAP, column="age", upper=40.0)), **more)
    old, new = (files.open_dataset(bench.store, each.descriptor_blob) for each in (first, second))
    assert new.example_ids("test") == old.example_ids("test")
    assert new.table("test", columns=["age"]).equals(old.table("test", columns=["age"]))
    trained = np.asarray(new.table("train", columns=["age"])["age"].to_numpy())
    assert (np.isnan(trained).any(), trained.max()) == (False, 40.0)
    assert any("rows of the frozen test set stay" in note for note in second.notes)
    third = bench.publish(imported, **{**more, "base": f"{name}2", "base_descriptor": second.descriptor, "version": f"{name}3"})
    assert files.open_dataset(bench.store, third.descriptor_blob).example_ids("test") == old.example_ids("test")


def test_a_column_that_is_not_there_is_refused(bench: Bench) -> None:
    imported = bench.imported(table())
    with pytest.raises(InvalidArgument, match="patient, day, age, town, kind") as caught:
        bench.publish(imported, edits=(Edit(IMPUTE, column="wage"),))
    assert caught.value.reason == "UNKNOWN_COLUMN"
    pictures = bench.imported(
        zipped({f"{label}/{n}.png": picture(n + 9 * (label == "b")) for label in "ab" for n in range(4)}), "p.zip"
    )
    with pytest.raises(InvalidArgument) as other:
        bench.publish(pictures, edits=(Edit(IMPUTE, column="age"),))
    assert other.value.reason == "NOT_A_TABLE"


def drifted(bench: Bench, imported: ImportResult, base: VersionResult, version: VersionResult) -> list[Finding]:
    spec = ReportSpec(
        "d",
        "i",
        imported,
        "datasets/d/versions/V002",
        version.descriptor,
        base="datasets/d/versions/V001",
        base_descriptor=base.descriptor,
    )
    done = report_job.run(spec, bench.store, bench.folder(), Work())
    assert {finding.kind for finding in done.findings} <= {"DRIFT"}
    assert done.notes
    return list(done.findings)


def test_drift_of_a_table(bench: Bench) -> None:
    imported = bench.imported(table())
    base, same = bench.publish(imported), bench.publish(bench.imported(table(seed=1)))
    other = bench.publish(bench.imported(table(shift=9.0, seed=2)))
    assert drifted(bench, imported, base, same) == []
    found = drifted(bench, imported, base, other)
    assert [finding.column for finding in found] == ["age"]
    assert "V002 and V001" in found[0].message


def test_new_examples_are_compared_on_their_own(bench: Bench) -> None:
    rows = table(rows=600).decode().splitlines()
    more = table(rows=60, shift=15.0, seed=5).decode().splitlines()[1:]
    old = bench.publish(bench.imported("\n".join(rows).encode()))
    imported = bench.imported("\n".join([*rows, *more]).encode())
    found = drifted(bench, imported, old, bench.publish(imported))
    assert any("examples that V002 has anew" in finding.message and finding.column == "age" for finding in found)


def word(rng: np.random.Generator, pitch: float, vowel: float) -> bytes:
    t = np.arange(3200) / 8000
    tone = np.sin(2 * np.pi * pitch * t) + 0.6 * np.sin(2 * np.pi * vowel * t * rng.uniform(0.95, 1.05))
    values = tone * np.sin(np.pi * t / t[-1]) ** 2 * rng.uniform(0.2, 0.4) + rng.normal(0, 0.001, len(t))
    return write_wav((values * 20000).astype(np.int16), 8000)


def sounds() -> dict[str, bytes | str]:
    rng = np.random.default_rng(0)
    vowels = {"oh": 500.0, "ee": 2300.0}
    return {
        f"{label}_s{speaker}_{n}.wav": word(rng, 100 + 37 * speaker, vowel)
        for label, vowel in vowels.items()
        for speaker in range(6)
        for n in range(8)
    }


def test_sounds_are_checked_and_speakers_found_on_both_sides(bench: Bench) -> None:
    every = sounds()
    every["oh_s0_50.wav"] = write_wav(np.zeros(3000, np.int16), 8000)
    imported = bench.imported(zipped(every), "s.zip")
    assert report(bench, imported)["SILENT_AUDIO"][0].examples == ("oh_s0_50.wav",)
    random = of_version(bench, imported, bench.publish(imported))
    assert ['"part_2"' in finding.message for finding in random["GROUP_ON_BOTH_SIDES"]] == [True]
    assert '--group-by "part_2"' in random["GROUP_ON_BOTH_SIDES"][0].action
    apart = of_version(bench, imported, bench.publish(imported, SplitPolicy(group_by="part_2")))
    assert "GROUP_ON_BOTH_SIDES" not in apart


def test_near_copies_of_sounds_stay_on_one_side(bench: Bench) -> None:
    every = sounds()
    copied = list(every)[::4]
    for name in copied:
        original = every[name]
        assert isinstance(original, bytes)
        values, rate = samples(original)
        quieter = np.concatenate([np.zeros(700, np.int16), (values[:, 0] * 12_000).astype(np.int16)])
        every[f"{name.removesuffix('.wav')}50.wav"] = write_wav(quieter, rate)
    version = bench.publish(bench.imported(zipped(every), "s.zip"), SplitPolicy("0.6"))
    manifest = files.load_manifest(bench.store, version.descriptor)
    side = dict(zip(manifest["path"].to_pylist(), manifest["usage"].to_pylist(), strict=True))
    assert set(side.values()) == set(files.USAGES)
    for name in copied:
        assert side[name] == side[f"{name.removesuffix('.wav')}50.wav"], name


def test_recordings_are_checked(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    recordings: dict[str, bytes | str] = {}
    for number in range(8):
        values = rng.normal(size=120).round(4)
        times = np.arange(120) + (np.arange(120) > 60) * (500 if number == 3 else 0)
        recordings[f"r{number}.csv"] = "time,flow\n" + "".join(f"{at},{value}\n" for at, value in zip(times, values, strict=True))
    found = report(bench, bench.imported(zipped(recordings), "r.zip", format="sensor_csv"))
    assert found["TIME_GAPS"][0].examples == ("r3.csv",)
    assert len(found["TIME_GAPS"][0].example_ids) == 1


def boxes(extra: list[list[float]]) -> bytes:
    images = [{"id": n, "file_name": f"{n}.png", "width": 24, "height": 18} for n in range(6)]
    marks = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 12, 9]} for n in range(5)]
    marks += [{"id": 10 + n, "image_id": 0, "category_id": 1, "bbox": box} for n, box in enumerate(extra)]
    document = {"images": images, "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "annotations": marks}
    return zipped({**{f"{n}.png": picture(n) for n in range(6)}, "a.json": json.dumps(document)})


def test_boxes_are_checked_once_and_with_ids(bench: Bench) -> None:
    imported = bench.imported(boxes([[3, 3, 0, 5], [1, 2, 12, 9.2], [20, 3, 30, 5]]), "b.zip")
    assert {finding.kind for finding in imported.findings} == {"DEGENERATE_BOX", "BOX_OUTSIDE"}
    found = report(bench, imported)
    for kind in ("DEGENERATE_BOX", "BOX_OUTSIDE", "DOUBLED_BOX"):
        assert [finding.examples for finding in found[kind]] == [("0.png",)]
        assert len(found[kind][0].example_ids) == 1
    assert found["NO_OBJECTS"][0].examples == ("5.png",)
    assert '"dog"' in found["UNUSED_CLASS"][0].message
    version = bench.publish(imported, edits=(Edit(DROP, found["DEGENERATE_BOX"][0].example_ids),))
    assert "DEGENERATE_BOX" not in of_version(bench, imported, version)


def folder_zip(folder: Path) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return out.getvalue()


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason="the data set fsdd is not there")
def test_fsdd_by_speaker_holds_no_speaker_on_both_sides(bench: Bench) -> None:
    imported = bench.imported(folder_zip(DATA / "fsdd"), "fsdd.zip", name_pattern="{label}_{speaker}_{number}")
    version = bench.publish(imported, SplitPolicy(group_by="speaker"))
    manifest = files.load_manifest(bench.store, version.descriptor)
    sides: dict[str, set[str]] = {}
    for text, usage in zip(manifest["attributes"].to_pylist(), manifest["usage"].to_pylist(), strict=True):
        sides.setdefault(json.loads(text)["speaker"], set()).add(usage)
    assert len(sides) == 6
    assert all(len(usages) == 1 for usages in sides.values())
    assert set().union(*sides.values()) == set(files.USAGES)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "tabular" / "titanic.csv").is_file(), reason="the data set titanic is not there")
def test_titanic_names_alive_as_leaking(bench: Bench) -> None:
    imported = bench.imported((DATA / "tabular" / "titanic.csv").read_bytes(), "titanic.csv", label_column="survived")
    leaks = report(bench, replace(imported))["LEAKING_COLUMN"]
    assert [(finding.column, finding.severity) for finding in leaks] == [("alive", "error")]


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason="the data set bccd is not there")
def test_bccd_names_its_two_degenerate_boxes(bench: Bench) -> None:
    finding = report(bench, bench.imported(folder_zip(DATA / "bccd"), "bccd.zip"), depth="quick")["DEGENERATE_BOX"][0]
    assert [path.rpartition("/")[2] for path in finding.examples] == ["BloodImage_00338.jpg", "BloodImage_00343.jpg"]
    assert "RBC [504, 337, 504, 337]" in finding.message
