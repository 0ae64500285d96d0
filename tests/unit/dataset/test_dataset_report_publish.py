"""Quality reports and publications of imported content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import Cancelled, FailedPrecondition
from modelyard.dataset.domain.records import (
    Finding,
    ImportResult,
    ImportSpec,
    ReportResult,
    ReportSpec,
    SplitPolicy,
    VersionResult,
    VersionSpec,
)
from modelyard.dataset.domain.table_values import outliers
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_job, publish_job, report_job
from modelyard.formats import dataset as files
from modelyard.formats.pictures import encode_png
from tests.support.datasets import file_store
from tests.unit.dataset.test_dataset_import import Files, picture, zipped

COSTLESS = {
    "MISSING_VALUES",
    "OUTLIERS",
    "CONFLICTING_LABELS",
    "CONSTANT_COLUMN",
    "IDENTIFIER_COLUMN",
    "LEAKING_COLUMN",
    "MIXED_TYPES",
}
"""Kinds of tables, which say what to do and not yet what it costs."""


class Bench:
    """Imports, reports and publishes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.store: ArtifactStore = file_store(folder / "artifacts")
        self._folder = folder
        self._count = 0

    def folder(self) -> Path:
        self._count += 1
        made = self._folder / str(self._count)
        made.mkdir()
        return made

    def imported(self, data: bytes | Files, name: str = "t.csv", **spec: str) -> ImportResult:
        raw = data if isinstance(data, bytes) else zipped(data)
        source = ImportSpec("d", self.store.put_bytes(raw), name, **spec)
        result = import_job.run(source, self.store, self.folder(), Work())
        assert from_document(to_document(result), ImportResult) == result
        return result

    def report(self, imported: ImportResult, **spec: object) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        made = ReportSpec("d", "i", imported, **spec)  # type: ignore[arg-type]
        self.made = report_job.run(made, self.store, self.folder(), Work())
        assert from_document(to_document(self.made), ReportResult) == self.made
        for finding in self.made.findings:
            assert finding.cost or finding.kind in COSTLESS
            assert finding.action
            if finding.example_ids:
                assert len(finding.example_ids) == len(finding.examples)
            assert len(finding.scores) in (0, len(finding.examples))
            found.setdefault(finding.kind, []).append(finding)
        return found

    def publish(self, imported: ImportResult, split: SplitPolicy | None = None, **more: object) -> VersionResult:
        spec = VersionSpec("d", "i", imported, split or SplitPolicy(), **more)  # type: ignore[arg-type]
        return publish_job.run(spec, self.store, self.folder(), Work())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def digits(count: int = 300) -> dict[str, bytes]:
    """Real scans of digits, as PNG files of 32 x 32 pixels."""
    data = load_digits()
    images = np.kron((data.images[:count] * 15).astype(np.uint8), np.ones((4, 4), np.uint8))
    return {f"{label}/{i}.png": encode_png(image) for i, (label, image) in enumerate(zip(data.target, images, strict=False))}


def test_a_clean_set_of_pictures_has_no_findings_but_info(bench: Bench) -> None:
    found = bench.report(bench.imported(digits(), "d.zip"))
    assert {finding.severity for each in found.values() for finding in each} <= {"info"}


def test_picture_findings(bench: Bench) -> None:
    pictures: dict[str, bytes] = digits()
    pictures["0/copy.png"] = pictures["0/0.png"]
    pictures["9/wrong.png"] = pictures["1/1.png"]
    pictures["tiny/one.png"] = picture(1)
    pictures["3/black.png"] = encode_png(np.zeros((32, 32), np.uint8))
    pictures["3/broken.png"] = b""
    found = bench.report(bench.imported(pictures, "d.zip"))
    assert found["CONFLICTING_LABELS"][0].severity == "error"
    assert set(found["CONFLICTING_LABELS"][0].examples) == {"1/1.png", "9/wrong.png"}
    assert found["EXACT_DUPLICATES"][0].example_count == 2
    assert found["SMALL_CLASS"][0].example_count == 1
    assert "tiny" in found["SMALL_CLASS"][0].message
    assert found["LOW_INFORMATION"][0].examples == ("3/black.png",)
    assert found["UNREADABLE_INPUT"][0].examples == ("3/broken.png",)
    assert "CLASS_IMBALANCE" in found


def test_duplicates_across_given_usages_are_a_warning(bench: Bench) -> None:
    shared = picture(7)
    names = [f"{usage}/{label}/{i}.png" for usage in ("train", "test") for label in "ab" for i in range(5)]
    files_ = {name: picture(100 + number) for number, name in enumerate(names)}
    found = bench.report(bench.imported({**files_, "train/a/x.png": shared, "test/a/x.png": shared}, "d.zip"))
    assert "warning" in {finding.severity for finding in found["EXACT_DUPLICATES"]}


def table_csv() -> bytes:
    rng = np.random.default_rng(0)
    lines = ["size,colour,gap,kind"]
    for i in range(200):
        size = 1e6 if i == 50 else round(rng.normal() + i % 2, 6)
        lines.append(f"{size},{'red' if rng.random() < 0.5 else 'blue'},{'' if i % 3 else i % 7},{'ab'[i % 2]}")
    lines += [lines[1], lines[2].rsplit(",", 1)[0] + ",a"]
    return "\n".join(lines).encode()


def test_table_findings(bench: Bench) -> None:
    found = bench.report(bench.imported(table_csv()))
    assert [finding.column for finding in found["MISSING_VALUES"]] == ["gap"]
    assert found["MISSING_VALUES"][0].severity == "warning"
    assert found["OUTLIERS"][0].column == "size"
    assert found["OUTLIERS"][0].examples == ("row 51",)
    assert found["EXACT_DUPLICATES"][0].examples == ("row 201",)
    assert found["CONFLICTING_LABELS"][0].examples == ("row 2", "row 202")


def test_outliers_need_a_middle() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=100), [50.0, np.nan]])
    assert outliers(values).tolist() == [100]
    assert outliers(np.array([0.0] * 90 + [5.0] * 10)).tolist() == []
    assert outliers(np.array([1.0, 2.0, 900.0])).tolist() == []


def test_a_version_of_pictures_can_be_read_and_repeated(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    version, again = bench.publish(imported), bench.publish(imported)
    assert version == again
    other = bench.publish(imported, SplitPolicy(seed=1))
    assert other.descriptor.digest != version.descriptor.digest
    reader = files.open_dataset(bench.store, version.descriptor_blob)
    counts = {usage: len(reader.indices(usage)) for usage in files.USAGES}
    assert sum(counts.values()) == 300
    assert abs(counts["train"] - 240) <= 1
    for usage in files.USAGES:
        labels = reader.labels(usage)
        assert reader.descriptor.counts[usage].classes == tuple(np.bincount(labels, minlength=10))
        assert [path.split("/")[0] for path in reader.paths(usage)] == [reader.descriptor.classes[label] for label in labels]
    assert "thumbnail" not in files.load_manifest(bench.store, version.descriptor).column_names


def test_near_duplicates_stay_on_one_side(bench: Bench) -> None:
    pictures: dict[str, bytes] = digits(200)
    brighter = [np.minimum(np.asarray(_pixels(data)) + 1, 255).astype(np.uint8) for data in list(pictures.values())[:40]]
    labels = [name.split("/")[0] for name in list(pictures)[:40]]
    pictures |= {
        f"{label}/bright{i}.png": encode_png(image) for i, (label, image) in enumerate(zip(labels, brighter, strict=True))
    }
    version = bench.publish(bench.imported(pictures, "d.zip"), SplitPolicy("0.6"))
    reader = files.open_dataset(bench.store, version.descriptor_blob)
    side = {path: usage for usage in files.USAGES for path in reader.paths(usage)}
    for i, (label, name) in enumerate(zip(labels, list(pictures)[:40], strict=True)):
        assert side[name] == side[f"{label}/bright{i}.png"]


def _pixels(data: bytes) -> np.ndarray:
    from modelyard.formats.pictures import decode

    return decode(data, height=32, width=32, channels=1)[:, :, 0].astype(int)


def test_a_class_of_one_example_stays_in_train_and_is_said(bench: Bench) -> None:
    version = bench.publish(bench.imported({**digits(100), "tiny/one.png": picture(1)}, "d.zip"))
    index = version.descriptor.classes.index("tiny")
    assert version.descriptor.counts["train"].classes[index] == 1
    assert any('"tiny"' in note for note in version.notes)


LEAKY = b"x,answer,kind\n" + b"".join(
    b"%d,%s,%s\n" % (i * 7 % 23 + i % 2, (b"no", b"yes")[i % 2], (b"a", b"b")[i % 2]) for i in range(120)
)


def roles(version: VersionResult) -> dict[str, tuple[str, str]]:
    return {column.name: (column.role, column.set_aside_reason) for column in version.descriptor.columns}


def test_columns_of_a_version(bench: Bench) -> None:
    imported = bench.imported(LEAKY)
    version = bench.publish(imported)
    assert roles(version)["answer"] == ("set_aside", "LEAKS_TARGET")
    assert any("answer" in note for note in version.notes)
    assert files.open_dataset(bench.store, version.descriptor_blob).table("train").column_names == ["x", "kind"]
    kept = bench.publish(imported, keep_leaking_columns=True)
    assert roles(kept)["answer"] == ("feature", "")
    excluded = bench.publish(imported, keep_leaking_columns=True, excluded_columns=("x",))
    assert roles(excluded)["x"] == ("set_aside", "EXCLUDED_BY_USER")
    assert len({each.descriptor.digest for each in (version, kept, excluded)}) == 3


def test_a_version_without_a_feature_is_refused(bench: Bench) -> None:
    imported = bench.imported(LEAKY)
    before = {blob.uri for blob in bench.store.list()}
    with pytest.raises(FailedPrecondition) as caught:
        bench.publish(imported, excluded_columns=("x",))
    assert caught.value.reason == "NO_FEATURES"
    assert {blob.uri for blob in bench.store.list()} == before


def test_regression_is_split_evenly_over_the_target(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    rows = b"x,y\n" + b"".join(b"%f,%f\n" % (rng.normal(), rng.lognormal()) for _ in range(500))
    version = bench.publish(bench.imported(rows))
    reader = files.open_dataset(bench.store, version.descriptor_blob)
    medians = [float(np.median(reader.targets(usage))) for usage in files.USAGES]
    assert max(medians) / min(medians) < 1.25
    assert reader.descriptor.counts["train"] == files.UsageCount(400, ())


def test_jobs_stop_when_cancelled(bench: Bench) -> None:
    imported = bench.imported(digits(50), "d.zip")
    with pytest.raises(Cancelled):
        report_job.run(ReportSpec("d", "i", imported), bench.store, bench.folder(), Work(should_stop=lambda: True))
