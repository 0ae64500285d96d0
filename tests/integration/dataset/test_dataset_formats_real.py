"""The real data sets beside the repository come in with the right format, task, classes and counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import ExportSpec, ImportResult, SplitPolicy
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import export_job
from modelyard.formats import dataset as files
from tests.integration.dataset.test_dataset_real import data_folder, zipped
from tests.unit.dataset.test_dataset_report_publish import Bench

pytestmark = pytest.mark.data

VERSION = "projects/p/datasets/d/versions/V001"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def imported(bench: Bench, name: str, tmp_path: Path, **spec: str) -> ImportResult:
    path = data_folder(name)
    if path.is_file():
        return bench.imported(path.read_bytes(), path.name, **spec)
    return bench.imported(zipped(path, tmp_path / "source.zip"), "source.zip", **spec)


def same_again(bench: Bench, result: ImportResult, *formats: str, **spec: str) -> None:
    """Exported in each format and imported again, the version has the digest it had."""
    version = bench.publish(result)
    for format_ in formats:
        made = export_job.run(ExportSpec("d", VERSION, version.descriptor_blob, format_), bench.store, bench.folder(), Work())
        again = bench.imported(bench.store.read_bytes(made.archive), made.file_name, **spec)
        assert again.summary.digest == version.descriptor.digest, format_


def test_bccd_and_its_two_boxes_without_area(bench: Bench, tmp_path: Path) -> None:
    result = imported(bench, "bccd", tmp_path)
    assert (result.format, result.content.task) == ("voc", files.OBJECT_DETECTION)
    assert dict(zip(result.summary.classes, result.summary.class_counts, strict=True)) == {
        "Platelets": 361,
        "RBC": 4155,
        "WBC": 372,
    }
    assert (result.summary.example_count, result.summary.examples_with_usage) == (364, 364)
    boxes = next(finding for finding in result.findings if finding.kind == "DEGENERATE_BOX")
    assert [text.split(": ")[0] for text in boxes.examples] == [
        "BCCD/Annotations/BloodImage_00338.xml",
        "BCCD/Annotations/BloodImage_00343.xml",
    ]
    version = bench.publish(result)
    assert [version.descriptor.counts[usage].examples for usage in files.USAGES] == [205, 87, 72]
    with files.open_dataset(bench.store, version.descriptor_blob) as reader:
        assert sum(len(reader.annotations(usage).marks().labels) for usage in files.USAGES) == 4888
    same_again(bench, result, "coco", "voc", "cvat", "labelme", "manifest")


@pytest.mark.slow
def test_camvid(bench: Bench, tmp_path: Path) -> None:
    result = imported(bench, "camvid", tmp_path)
    assert (result.format, result.content.task) == ("masks", files.SEMANTIC_SEGMENTATION)
    assert result.summary.classes[:3] == ("Sky", "Building", "Pole")
    assert (len(result.summary.classes), result.summary.example_count, result.summary.rejected_count) == (11, 701, 0)
    version = bench.publish(result)
    assert [version.descriptor.counts[usage].examples for usage in files.USAGES] == [367, 101, 233]
    with files.open_dataset(bench.store, version.descriptor_blob) as reader:
        mask = reader.annotations("train").mask(0)
    assert mask.shape == (360, 480)
    assert set(np.unique(mask)) <= {*range(11), 255}


def test_fsdd(bench: Bench, tmp_path: Path) -> None:
    result = imported(bench, "fsdd", tmp_path, name_pattern="{label}_{speaker}_{number}")
    assert (result.format, result.content.task) == ("audio_folders", files.AUDIO_CLASSIFICATION)
    assert result.summary.class_counts == (300,) * 10
    manifest = files.read_parquet(bench.store.path(result.content.manifest))
    assert set(manifest["rate"].to_pylist()) == {8000}
    assert '"speaker": "jackson"' in " ".join(manifest["attributes"].to_pylist())
    version = bench.publish(result, SplitPolicy(group_by="speaker"))
    drawn = files.load_manifest(bench.store, version.descriptor)
    sides: dict[str, set[str]] = {}
    for attributes, usage in zip(drawn["attributes"].to_pylist(), drawn["usage"].to_pylist(), strict=True):
        sides.setdefault(json.loads(attributes)["speaker"], set()).add(usage)
    assert len(sides) == 6
    assert all(len(usages) == 1 for usages in sides.values())
    assert version.descriptor.counts["train"].classes == (200,) * 10
    guessed = imported(bench, "fsdd", tmp_path)
    assert guessed.summary.digest == result.summary.digest
    assert any("what names start with" in note for note in guessed.summary.assumptions)


def test_skab(bench: Bench, tmp_path: Path) -> None:
    result = imported(bench, "skab", tmp_path)
    assert (result.format, result.content.task) == ("sensor_csv", files.ANOMALY_DETECTION)
    assert (result.summary.example_count, result.summary.classes) == (35, ("anomaly", "changepoint"))
    assert (len(result.content.channels), result.content.time_column, result.content.time_is_date) == (8, "datetime", True)
    same_again(bench, result, "sensor_csv")


@pytest.mark.parametrize(
    ("name", "counts", "channels", "steps"),
    [
        ("GunPoint", (100, 100), 1, 150),
        ("ArrowHead", (81, 65, 65), 1, 251),
        ("ItalyPowerDemand", (547, 549), 1, 24),
        ("BasicMotions", (20, 20, 20, 20), 6, 100),
    ],
)
def test_timeseries(bench: Bench, tmp_path: Path, name: str, counts: tuple[int, ...], channels: int, steps: int) -> None:
    result = imported(bench, f"timeseries/{name}", tmp_path)
    assert (result.format, result.content.task) == ("ts", files.SERIES_CLASSIFICATION)
    assert (result.summary.class_counts, len(result.content.channels)) == (counts, channels)
    assert result.summary.examples_with_usage == sum(counts)
    with files.open_dataset(bench.store, bench.publish(result).descriptor_blob) as reader:
        assert reader.annotations("test").stacked().shape[1:] == (steps, channels)
    same_again(bench, result, "ts")


def test_several_problems_at_once_are_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="arrowhead") as caught:
        imported(bench, "timeseries", tmp_path)
    assert caught.value.reason == "SEVERAL_PROBLEMS"


@pytest.mark.parametrize(
    ("name", "label"), [("titanic", "survived"), ("california_housing", "median_house_value"), ("mpg", "mpg")]
)
def test_tables(bench: Bench, tmp_path: Path, name: str, label: str) -> None:
    result = imported(bench, f"tabular/{name}.csv", tmp_path, label_column=label)
    same_again(bench, result, "csv", "tsv", "parquet", label_column=label)


@pytest.mark.slow
def test_flowers_and_fashion_mnist(bench: Bench, tmp_path: Path) -> None:
    flowers = imported(bench, "flowers128", tmp_path)
    assert (flowers.format, flowers.summary.class_counts) == ("image_folders", (764, 1052, 784, 733, 984))
    same_again(bench, flowers, "image_folders")
    clothes = imported(bench, "fashion_mnist", tmp_path)
    assert (clothes.format, clothes.summary.class_counts) == ("idx", (7000,) * 10)
    same_again(bench, clothes, "idx")
