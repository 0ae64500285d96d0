"""What may be exported and measured, decided without a server; and the jobs as messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import JobState
from modelyard.core.requests import Request
from modelyard.exporter.domain.export import (
    Candidate,
    DatasetVersionRef,
    ExportResult,
    Latency,
    Measured,
    ModelVersionRef,
    Parity,
    ProfileResult,
    check_candidates,
)
from modelyard.exporter.handlers.exports import create_export, spec_of
from modelyard.exporter.handlers.profiles import create_profile
from modelyard.exporter.handlers.profiles import spec_of as profile_spec_of
from modelyard.exporter.rpc import convert
from modelyard.exporter.v1 import exporter_pb2 as pb
from tests.support.trainer_fakes import FakeJobs

PARENT = "projects/default"
MODEL = f"{PARENT}/models/credit/versions/V001"
VERSION = f"{PARENT}/datasets/credit/versions/V001"
TASK = "image_classification"
LATENCY = Latency(1.0, 2.0, 3.0, 100, 2, "cpu", "a processor")
NET = Candidate("tinynet", TASK, "modelyard:tinynet", 28, 28, 1)


def blob(letter: str) -> Blob:
    return Blob(f"artifact://trainer/{letter * 64}", letter * 64, 10)


@dataclass
class Known:
    """ports.ModelVersions and ports.DatasetVersions."""

    versions: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        if name not in self.versions:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return self.versions[name]


MODELS = Known({MODEL: ModelVersionRef(MODEL, TASK, blob("a"), VERSION)})
VERSIONS = Known({VERSION: DatasetVersionRef(VERSION, "SUCCEEDED", TASK, "cd" * 32, blob("b"))})


def export(jobs: FakeJobs, versions: Known = VERSIONS, **changes: str) -> Any:
    asked = {"parent": PARENT, "model_version": MODEL, "format": "onnx", "precision": "fp32", "target": "", **changes}
    return create_export(jobs, MODELS, versions, request=Request("id", "CreateExport", "print"), **asked)  # type: ignore[arg-type]


def test_an_export_names_every_blob_it_needs() -> None:
    jobs = FakeJobs()
    spec = spec_of(export(jobs))
    assert (spec.model_file, spec.descriptor) == (blob("a"), blob("b"))
    assert (spec.target, spec.dataset_version, spec.dataset_digest) == ("cpu", VERSION, "cd" * 32)
    assert jobs.submitted[0]["request_id"] == "id"
    assert jobs.submitted[0]["name"].startswith(f"{PARENT}/exports/")


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        ({"parent": "project"}, "parent"),
        ({"model_version": "credit"}, "export.model_version"),
        ({"format": "7"}, "export.format"),
        ({"precision": "int8"}, "export.precision"),
        ({"target": "phone"}, "export.target"),
    ],
)
def test_wrong_exports_name_the_field(changes: dict[str, str], field_name: str) -> None:
    jobs = FakeJobs()
    with pytest.raises(InvalidArgument) as caught:
        export(jobs, **changes)
    assert caught.value.violations[0].field == field_name
    assert jobs.submitted == []


def test_a_dataset_version_must_be_ready() -> None:
    jobs = FakeJobs()
    running = replace(VERSIONS.versions[VERSION], state="RUNNING", descriptor=None)
    with pytest.raises(FailedPrecondition) as caught:
        export(jobs, Known({VERSION: running}))
    assert caught.value.reason == "DATASET_VERSION_NOT_READY"
    assert jobs.submitted == []


def test_a_profile_takes_the_task_of_the_dataset_version() -> None:
    jobs = FakeJobs()
    candidates = (replace(NET, task="unspecified"),)
    request = Request()
    job = create_profile(
        jobs, VERSIONS, parent=PARENT, dataset_version=VERSION, candidates=candidates, target="cpu-1core", request=request
    )
    assert profile_spec_of(job).candidates == (NET,)
    assert profile_spec_of(job).target == "cpu-1core"


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        ({"architecture": ""}, "latency_profile.recipes[0].architecture"),
        ({"task": "tabular_regression"}, "latency_profile.recipes[0].task"),
        ({"input_height": 0}, "latency_profile.recipes[0].input_height"),
        ({"input_width": 20_000}, "latency_profile.recipes[0].input_width"),
        ({"input_channels": 4}, "latency_profile.recipes[0].input_channels"),
    ],
)
def test_wrong_candidates_name_the_field(changes: dict[str, Any], field_name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_candidates((replace(NET, **changes),), TASK)
    assert caught.value.violations[0].field == field_name


def test_an_export_that_ended_shows_what_it_made() -> None:
    job = export(FakeJobs())
    assert convert.export_message(job).artifact.uri == ""
    result = ExportResult(blob("e"), Parity(64, 1e-7, 1.0, 1e-3), LATENCY)
    message = convert.export_message(replace(job, state=JobState.SUCCEEDED, result=to_document(result)))
    assert message.artifact.sha256 == "e" * 64
    assert message.parity == pb.Parity(example_count=64, max_abs_difference=1e-7, label_agreement=1.0, tolerance=1e-3)
    assert message.latency.p95_ms == 2.0
    assert (message.format, message.precision) == (pb.FORMAT_ONNX, pb.PRECISION_FP32)


def test_a_profile_that_ended_shows_what_it_measured() -> None:
    job = create_profile(
        FakeJobs(), VERSIONS, parent=PARENT, dataset_version=VERSION, candidates=(NET, NET), target="", request=Request()
    )
    assert len(convert.profile_message(job).candidates) == 0
    result = ProfileResult((Measured("tinynet", LATENCY, 99), Measured("odd", None, 0, "no such network")))
    message = convert.profile_message(replace(job, state=JobState.SUCCEEDED, result=to_document(result)))
    assert [candidate.error_message for candidate in message.candidates] == ["", "no such network"]
    assert [candidate.HasField("latency") for candidate in message.candidates] == [True, False]
