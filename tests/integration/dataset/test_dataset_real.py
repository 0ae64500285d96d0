"""Imports, reports and versions of the real data sets beside the repository (skipped where they are not)."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelyard.dataset.domain.tables import TableContent, build
from modelyard.dataset.worker.read_table import read_csv
from modelyard.formats import dataset as files
from tests.support.real_servers import absent
from tests.unit.dataset.test_dataset_report_publish import Bench

pytestmark = pytest.mark.data

TARGETS = {
    "breast_cancer": "target",
    "california_housing": "median_house_value",
    "diamonds": "price",
    "iris": "target",
    "islr_default": "default",
    "keel_german": "target",
    "keel_segment": "target",
    "mpg": "mpg",
    "penguins": "species",
    "tips": "tip",
    "titanic": "survived",
    "wine": "target",
}


def data_folder(name: str) -> Path:
    root = Path(os.environ.get("MODELYARD_DATA") or Path(__file__).parents[3].parent / "shared" / "data")
    if not (root / name).exists():
        absent(f"no real data: {name} is not in MODELYARD_DATA nor in ../shared/data beside the repository")
    return root / name


def table(name: str) -> TableContent:
    path = data_folder("tabular") / f"{name}.csv"
    return build(read_csv(path, name=path.name), task="", label_column=TARGETS[name], usage_column="")


def zipped(folder: Path, to: Path) -> bytes:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            archive.write(path, path.relative_to(folder))
    return to.read_bytes()


def test_titanic_names_the_leak_and_only_it() -> None:
    content = table("titanic")
    assert {column.name: column.set_aside_reason for column in content.columns if column.set_aside_reason} == {
        "alive": "LEAKS_TARGET"
    }
    assert [finding.column for finding in content.findings if finding.kind == "LEAKING_COLUMN"] == ["alive"]


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"titanic", "keel_segment"}))
def test_good_features_are_no_leaks(name: str) -> None:
    content = table(name)
    assert [column.name for column in content.columns if column.role == files.SET_ASIDE] == []
    assert content.rejected_count == 0


def test_tasks() -> None:
    assert table("california_housing").task == files.TABULAR_REGRESSION
    assert table("wine").task == files.TABULAR_CLASSIFICATION


def test_the_constant_column_of_segment() -> None:
    assert {column.name: column.set_aside_reason for column in table("keel_segment").columns}["f2"] == "CONSTANT"


def test_flowers(tmp_path: Path) -> None:
    """4,317 photographs; four pictures lie in two classes each."""
    bench = Bench(tmp_path)
    imported = bench.imported(zipped(data_folder("flowers128"), tmp_path / "f.zip"), "f.zip")
    assert imported.summary.class_counts == (764, 1052, 784, 733, 984)
    conflicts = bench.report(imported)["CONFLICTING_LABELS"][0]
    assert conflicts.example_count == 8
    version = bench.publish(imported)
    reader = files.open_dataset(bench.store, version.descriptor_blob)
    sha256 = np.asarray(files.load_manifest(bench.store, version.descriptor)["sha256"].to_pylist())
    content = {usage: set(sha256[reader.indices(usage)]) for usage in files.USAGES}
    assert not content["train"] & (content["validation"] | content["test"])
    assert abs(len(reader.indices("train")) - 0.8 * 4317) <= 5


@pytest.mark.slow
def test_fashion_mnist_is_imported_within_a_minute(tmp_path: Path) -> None:
    """70,000 pictures from gzipped IDX files; the time is this process's own, because the machine may be shared."""
    bench = Bench(tmp_path)
    data = zipped(data_folder("fashion_mnist"), tmp_path / "m.zip")
    start = time.process_time()
    imported = bench.imported(data, "m.zip")
    assert time.process_time() - start < 60
    assert imported.summary.class_counts == (7000,) * 10
    assert imported.summary.examples_with_usage == 70_000
    start = time.process_time()
    bench.report(imported)
    assert time.process_time() - start < 60
    version = bench.publish(imported)
    assert [version.descriptor.counts[usage].examples for usage in files.USAGES] == [48_000, 12_000, 10_000]
