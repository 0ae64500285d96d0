"""Quality reports on a real server with real worker processes: wrong labels found, looked at, mended, and gone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from modelyard.client import Client
from modelyard.client import errors as client_errors
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.platform import open_platform
from modelyard.dataset.bootstrap import build
from modelyard.dataset.settings import DatasetSettings
from modelyard.dataset.v1 import dataset_pb2 as pb
from modelyard.formats.pictures import encode_png
from modelyard.type.v1 import job_pb2
from tests.support.hosted import hosted

WAIT_S = 200


@dataclass
class Service:
    """A running service through its client, and where files go."""

    client: Client
    folder: Path

    def filled(self, name: str, files: dict[str, bytes]) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        place = self.folder / f"{name}.zip"
        place.write_bytes(out.getvalue())
        datasets = self.client.datasets
        datasets.create_dataset(name)
        started = datasets.create_import(name, self.client.artifacts.upload(place), file_name=place.name)
        datasets.wait_import(started.name, WAIT_S)

    def report(self, name: str, version: str = "", depth: str = "") -> pb.QualityReport:
        started = self.client.datasets.create_quality_report(name, dataset_version=version, depth=depth)
        return self.client.datasets.wait_quality_report(started.name, WAIT_S)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("quality")
    platform = open_platform(DatasetSettings(data_dir=folder / "data"), "dataset", JobLimits(retry_wait_s=0.1, cancel_grace_s=20))
    with hosted(platform, [build(platform)]) as address, Client(address) as client:
        made = Service(client, folder)
        made.filled("digits", digits())
        yield made


WRONG = 25


def digits(count: int = 500) -> dict[str, bytes]:
    """Real scans of digits; every 20th lies in the folder of the next class."""
    data = load_digits()
    images = np.kron((data.images[:count] * 15).astype(np.uint8), np.ones((4, 4), np.uint8))
    return {
        f"{(label + (i % 20 == 7)) % 10}/{i}-is-{label}.png": encode_png(image)
        for i, (label, image) in enumerate(zip(data.target, images, strict=False))
    }


def of_kind(report: pb.QualityReport, kind: str) -> pb.Finding:
    return next(finding for finding in report.findings if finding.kind == kind)


def test_wrong_labels_are_found_mended_and_gone(service: Service) -> None:
    report = service.report("digits")
    assert report.example_count == 500
    assert report.depth == pb.QualityReport.DEPTH_FULL
    assert any("models trained on four fifths" in note for note in report.notes)
    finding = of_kind(report, "LABEL_ERRORS")
    hits = [int(path.split("/")[1].split("-")[0]) % 20 == 7 for path in finding.examples]
    assert np.mean(hits) >= 0.8
    assert sum(hits) >= 0.7 * WRONG
    assert len(finding.example_ids) == len(finding.scores) == len(finding.examples)
    assert len(finding.fix.labels) == len(finding.fix.example_ids) == len(finding.fix_scores)
    datasets = service.client.datasets
    started = datasets.create_dataset_version("digits", edits=[finding.fix])
    version = datasets.wait_dataset_version(started.name, WAIT_S)
    assert list(version.edited_counts) == [finding.example_count]
    assert list(version.edits[0].labels) == []
    again = service.report("digits", version="V001")
    assert again.dataset_version == version.name
    left = [each for each in again.findings if each.kind == "LABEL_ERRORS"]
    assert sum(each.example_count for each in left) <= 0.3 * finding.example_count


def test_the_page_is_an_artifact_with_pictures_in_it(service: Service, tmp_path: Path) -> None:
    report = service.report("digits")
    text = service.client.artifacts.download(report.page, tmp_path / "page.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "LABEL_ERRORS" in text
    first = text.partition("data:image/png;base64,")[2].partition('"')[0]
    import base64

    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (32, 32)


def test_a_quick_report_reads_no_example(service: Service) -> None:
    report = service.report("digits", depth="quick")
    assert report.depth == pb.QualityReport.DEPTH_QUICK
    assert "LABEL_ERRORS" not in {finding.kind for finding in report.findings}


def test_a_version_of_another_dataset_is_refused(service: Service) -> None:
    service.filled("others", {f"{i % 2}/{i}.png": encode_png(np.full((9, 9), 8 * i, np.uint8)) for i in range(30)})
    datasets = service.client.datasets
    datasets.wait_dataset_version(datasets.create_dataset_version("others").name, WAIT_S)
    with pytest.raises(client_errors.InvalidArgument) as caught:
        datasets.create_quality_report("digits", dataset_version="others/V001")
    assert caught.value.reason == "OTHER_DATASET"
    with pytest.raises(client_errors.NotFound):
        datasets.create_quality_report("digits", dataset_version="V777")


def test_a_report_is_cancelled(service: Service) -> None:
    datasets = service.client.datasets
    started = datasets.create_quality_report("digits")
    datasets.cancel_quality_report(started.name)
    with pytest.raises(client_errors.JobFailed):
        datasets.wait_quality_report(started.name, WAIT_S)
    assert datasets.get_quality_report(started.name).status.state == job_pb2.JOB_STATE_CANCELLED
