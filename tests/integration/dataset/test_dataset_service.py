"""The dataset service on a real server with real worker processes, through the client."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from modelyard.client import Client
from modelyard.client import errors as client_errors
from modelyard.core.artifacts import Blob
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.platform import Platform, open_platform
from modelyard.dataset.bootstrap import build
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import dataset_pb2 as pb
from modelyard.formats.dataset import open_dataset
from modelyard.formats.pictures import encode_png
from modelyard.type.v1 import blob_pb2, job_pb2
from tests.support.hosted import hosted

WAIT_S = 200


@dataclass
class Dataset:
    """A running service, its client, and its insides."""

    client: Client
    platform: Platform
    folder: Path

    def upload(self, data: bytes, name: str) -> blob_pb2.Blob:
        path = self.folder / name
        path.write_bytes(data)
        return self.client.artifacts.upload(path)

    def filled(self, name: str, data: bytes, file_name: str) -> pb.Import:
        self.client.datasets.create_dataset(name)
        source = self.upload(data, file_name)
        started = self.client.datasets.create_import(name, source, file_name=file_name)
        return self.client.datasets.wait_import(started.name, WAIT_S)

    def uris(self) -> set[str]:
        return {blob.uri for blob in self.platform.artifacts.list()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    folder = tmp_path_factory.mktemp("dataset")
    limits = JobLimits(retry_wait_s=0.1, cancel_grace_s=20)
    platform = open_platform(DatasetSettings(data_dir=folder / "data"), "dataset", limits)
    with hosted(platform, [build(platform)]) as address, Client(address) as client:
        yield Dataset(client, platform, folder)


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def pictures(count: int) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"{i % 3}/{i}.png": encode_png(rng.integers(0, 256, (20, 20), dtype=np.uint8)) for i in range(count)}


def table(rows: int = 60) -> bytes:
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal() + i % 2:.4f},{'ab'[i % 2]}" for i in range(rows)]
    return "\n".join(["x,y", *lines]).encode()


def test_pictures_from_upload_to_version(dataset: Dataset) -> None:
    imported = dataset.filled("shapes", zipped({**pictures(90), "1/broken.png": b""}), "shapes.zip")
    assert imported.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert imported.format == pb.SOURCE_FORMAT_IMAGE_FOLDERS
    assert (imported.summary.example_count, imported.summary.rejected_count) == (90, 1)
    report = dataset.client.datasets.create_quality_report("shapes")
    findings = dataset.client.datasets.wait_quality_report(report.name, WAIT_S).findings
    assert [finding.kind for finding in findings] == ["UNREADABLE_INPUT"]
    started = dataset.client.datasets.create_dataset_version("shapes", train_ratio="0.7", seed=3)
    version = dataset.client.datasets.wait_dataset_version(started.name, WAIT_S)
    assert version.name.endswith("/V001")
    assert sorted(count.example_count for count in version.counts) == [13, 14, 63]
    descriptor = Blob(version.descriptor_blob.uri, version.descriptor_blob.sha256, version.descriptor_blob.size_bytes)
    with open_dataset(dataset.platform.artifacts, descriptor) as reader:
        assert reader.pictures("train", 20, 20, 1).shape == (63, 20, 20, 1)
        assert reader.descriptor.digest == version.digest
    examples = list(dataset.client.datasets.list_examples("shapes/V001"))
    assert [each.example_id for each in examples] == sorted(each.example_id for each in examples)
    assert len(examples) == 90
    shown = dataset.client.datasets.get_dataset("shapes")
    assert (shown.current_import, shown.latest_version) == (imported.name, version.name)
    assert dataset.client.datasets.get_dataset_version("shapes").name == version.name


def test_a_version_from_a_version_and_how_they_differ(dataset: Dataset) -> None:
    datasets = dataset.client.datasets
    dataset.filled("edited", zipped(pictures(60)), "edited.zip")
    first = datasets.wait_dataset_version(datasets.create_dataset_version("edited").name, WAIT_S)
    examples = list(datasets.list_examples("edited/V001", usage="train"))
    gone, other = examples[0], next(each for each in examples if each.label == "1")
    edits = [
        pb.Edit(action=pb.Edit.ACTION_DROP, example_ids=[gone.example_id], reason="blurred"),
        pb.Edit(action=pb.Edit.ACTION_RELABEL, example_ids=[other.example_id], label="2"),
    ]
    started = datasets.create_dataset_version("edited", base_version="V001", edits=edits)
    second = datasets.wait_dataset_version(started.name, WAIT_S)
    assert second.base_version == first.name
    assert list(second.edited_counts) == [1, 1]
    assert [edit.reason for edit in second.edits] == ["blurred", ""]
    diff = datasets.diff_dataset_versions("edited/V002")
    assert (diff.base_version, diff.dataset_version) == (first.name, second.name)
    assert (diff.added_count, diff.removed_count, diff.relabelled_count, diff.moved_count) == (0, 1, 1, 0)
    changes = {change.example.example_id: change for change in datasets.list_example_changes("edited/V002", page_size=1)}
    assert changes[gone.example_id].kind == pb.ExampleChange.KIND_REMOVED
    assert changes[other.example_id].kind == pb.ExampleChange.KIND_RELABELLED
    assert (changes[other.example_id].base_label, changes[other.example_id].example.label) == ("1", "2")
    with pytest.raises(client_errors.FailedPrecondition, match="first version"):
        datasets.diff_dataset_versions("edited/V001")
    with pytest.raises(client_errors.InvalidArgument, match="whose split is kept"):
        datasets.create_dataset_version("edited", base_version="V001", seed=4)
    wrong = datasets.create_dataset_version("edited", base_version="V001", edits=[pb.Edit(action=1, example_ids=["nobody"])])
    with pytest.raises(client_errors.JobFailed, match="nobody"):
        datasets.wait_dataset_version(wrong.name, WAIT_S)


def test_nothing_that_a_version_needs_is_collected(dataset: Dataset) -> None:
    dataset.filled("kept", table(80), "t.csv")
    started = dataset.client.datasets.create_dataset_version("kept")
    version = dataset.client.datasets.wait_dataset_version(started.name, WAIT_S)
    dataset.platform.artifacts.put_bytes(b"nobody names this")
    removed = dataset.platform.collect(grace_s=-1)
    assert len(removed) == 1
    descriptor = Blob(version.descriptor_blob.uri, version.descriptor_blob.sha256, version.descriptor_blob.size_bytes)
    with open_dataset(dataset.platform.artifacts, descriptor) as reader:
        assert all(dataset.platform.artifacts.exists(blob) for blob in reader.descriptor.blobs)


def test_a_failed_import_says_why_and_leaves_only_its_source(dataset: Dataset) -> None:
    dataset.client.datasets.create_dataset("failing")
    source = dataset.upload(b"x,y\n1,a\n2,b\n", "t.csv")
    before = dataset.uris()
    started = dataset.client.datasets.create_import("failing", source, file_name="t.csv", label_column="price")
    with pytest.raises(client_errors.JobFailed) as caught:
        dataset.client.datasets.wait_import(started.name, WAIT_S)
    assert "TARGET_COLUMN_MISSING" in str(caught.value) or "price" in str(caught.value)
    failed = dataset.client.datasets.get_import(started.name)
    assert failed.status.state == job_pb2.JOB_STATE_FAILED
    assert failed.status.reason == "TARGET_COLUMN_MISSING"
    assert dataset.uris() == before
    assert dataset.client.datasets.get_dataset("failing").current_import == ""


def test_two_imports_at_once_and_a_cancelled_one(dataset: Dataset) -> None:
    dataset.client.datasets.create_dataset("busy")
    source = dataset.upload(zipped(pictures(6000)), "many.zip")
    before = dataset.uris()
    started = dataset.client.datasets.create_import("busy", source, file_name="many.zip")
    with pytest.raises(client_errors.FailedPrecondition) as caught:
        dataset.client.datasets.create_import("busy", source, file_name="many.zip")
    assert caught.value.reason == "IMPORT_RUNNING"
    dataset.client.datasets.cancel_import(started.name)
    ended = _wait_for_end(dataset, started.name)
    assert ended.status.state == job_pb2.JOB_STATE_CANCELLED
    assert dataset.uris() == before
    assert dataset.client.datasets.get_dataset("busy").current_import == ""
    again = dataset.client.datasets.create_import("busy", dataset.upload(table(), "t.csv"), file_name="t.csv")
    assert dataset.client.datasets.wait_import(again.name, WAIT_S).summary.example_count == 60


def _wait_for_end(dataset: Dataset, name: str) -> pb.Import:
    deadline = time.monotonic() + WAIT_S
    while True:
        found = dataset.client.datasets.get_import(name)
        if found.status.state not in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_failed_version_gives_its_number_back(dataset: Dataset) -> None:
    dataset.filled("numbers", table(), "t.csv")
    failing = dataset.client.datasets.create_dataset_version("numbers", split_source="given")
    with pytest.raises(client_errors.JobFailed):
        dataset.client.datasets.wait_dataset_version(failing.name, WAIT_S)
    assert dataset.client.datasets.get_dataset_version(failing.name).status.reason == "NO_GIVEN_USAGE"
    started = dataset.client.datasets.create_dataset_version("numbers")
    assert started.name == failing.name
    assert dataset.client.datasets.wait_dataset_version(started.name, WAIT_S).status.state == job_pb2.JOB_STATE_SUCCEEDED


def test_a_wrong_ratio_is_refused_at_once_with_the_field(dataset: Dataset) -> None:
    dataset.filled("ratio", table(), "t.csv")
    with pytest.raises(client_errors.InvalidArgument) as caught:
        dataset.client.datasets.create_dataset_version("ratio", train_ratio="1.5")
    assert caught.value.reason == "BAD_TRAIN_RATIO"
    assert list(dataset.client.datasets.list_dataset_versions("ratio")) == []


def test_a_dataset_goes_with_all_it_has(dataset: Dataset) -> None:
    dataset.filled("gone", table(), "t.csv")
    dataset.client.datasets.delete_dataset("gone")
    with pytest.raises(client_errors.NotFound):
        dataset.client.datasets.get_dataset("gone")
    dataset.client.datasets.create_dataset("gone")
    assert list(dataset.client.datasets.list_imports("gone")) == []


def test_boxes_in_and_out_again(dataset: Dataset) -> None:
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{right}</xmax><ymax>9</ymax></bndbox></object>"
        for name, right in (("cat", 9), ("dog", 1))
    )
    sources: dict[str, bytes] = {}
    for number, (name, data) in enumerate(pictures(9).items()):
        sources[f"JPEGImages/{number}.png"] = data
        sources[f"Annotations/{number}.xml"] = f"<annotation><filename>{name}</filename>{boxes}</annotation>".encode()
    imported = dataset.filled("boxes", zipped(sources), "boxes.zip")
    assert imported.format == pb.SOURCE_FORMAT_VOC
    assert list(imported.summary.class_counts) == [9, 9]
    assert {finding.kind for finding in imported.findings} == {"DEGENERATE_BOX"}
    started = dataset.client.datasets.create_dataset_version("boxes")
    version = dataset.client.datasets.wait_dataset_version(started.name, WAIT_S)
    refused = dataset.client.datasets.create_dataset_export("boxes", "masks")
    with pytest.raises(client_errors.JobFailed):
        dataset.client.datasets.wait_dataset_export(refused.name, WAIT_S)
    assert dataset.client.datasets.get_dataset_export(refused.name).status.reason == "FORMAT_MISMATCH"
    made = dataset.client.datasets.create_dataset_export("boxes/V001", "coco")
    done = dataset.client.datasets.wait_dataset_export(made.name, WAIT_S)
    assert (done.dataset_version, done.format, done.example_count) == (version.name, pb.SOURCE_FORMAT_COCO, 9)
    archive = dataset.client.artifacts.download(done.archive, dataset.folder / done.file_name)
    again = dataset.filled("boxes-again", archive.read_bytes(), done.file_name)
    assert again.summary.digest == version.digest
    assert [each.name for each in dataset.client.datasets.list_dataset_exports("boxes")] == [made.name, refused.name]
    assert dataset.platform.artifacts.exists(Blob(done.archive.uri, done.archive.sha256, done.archive.size_bytes))
