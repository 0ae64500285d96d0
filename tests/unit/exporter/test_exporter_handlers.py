"""What may be exported and measured, decided without a server; and the jobs as messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import JobState
from modelyard.core.latency import Latency
from modelyard.core.requests import Request
from modelyard.exporter.domain.compression import AWARE, CompressionLimits, CompressionStep, Figure
from modelyard.exporter.domain.export import (
    Calibration,
    Candidate,
    DatasetVersionRef,
    ExportResult,
    Imported,
    Measured,
    ModelVersionRef,
    Parity,
    ProfileResult,
    Pruning,
    Wish,
    check_candidates,
    complete,
)
from modelyard.exporter.domain.targets import CPU, MCU, Target, predefined
from modelyard.exporter.handlers.exports import Ports, create_export, import_model, spec_of
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


@dataclass
class FakeTargets:
    """ports.Targets: the named ones."""

    def find(self, parent: str, target: str, field: str) -> Target:
        for each in predefined(gpu_is_here=False):
            if each.id == (target or CPU):
                return each
        raise InvalidArgument("UNKNOWN_TARGET", f"{field} is {target!r}", field=field)


@dataclass
class FakeUploads:
    """ports.Uploads."""

    there: bool = True

    def exists(self, blob: Blob) -> bool:
        return self.there


def ports(jobs: FakeJobs, versions: Known = VERSIONS, models: Known = MODELS, uploads: FakeUploads | None = None) -> Ports:
    return Ports(jobs, models, versions, FakeTargets(), uploads or FakeUploads())


def export(jobs: FakeJobs, versions: Known = VERSIONS, models: Known = MODELS, **changes: Any) -> Any:
    parent = changes.pop("parent", PARENT)
    request = Request("id", "CreateExport", "print")
    return create_export(ports(jobs, versions, models), parent, Wish(**{"model_version": MODEL, **changes}), request)


def test_an_export_names_every_blob_it_needs() -> None:
    jobs = FakeJobs()
    spec = spec_of(export(jobs))
    assert (spec.model_file, spec.descriptor) == (blob("a"), blob("b"))
    assert (spec.target, spec.dataset_version, spec.dataset_digest) == ("cpu", VERSION, "cd" * 32)
    assert (spec.format, spec.precision, spec.max_training_s) == ("onnx", "fp32", 300.0)
    assert jobs.submitted[0]["request_id"] == "id"
    assert jobs.submitted[0]["name"].startswith(f"{PARENT}/exports/")


@pytest.mark.parametrize(
    ("changes", "field_name", "reason"),
    [
        ({"parent": "project"}, "parent", "BAD_RESOURCE_NAME"),
        ({"model_version": "credit"}, "export.model_version", "BAD_RESOURCE_NAME"),
        ({"format": "7"}, "export.format", "UNSUPPORTED_FORM"),
        ({"format": "litert", "precision": "9"}, "export.precision", "UNSUPPORTED_FORM"),
        ({"format": "savedmodel", "precision": "int8"}, "export.precision", "UNSUPPORTED_FORM"),
        ({"format": "edge", "precision": "fp32"}, "export.precision", "UNSUPPORTED_FORM"),
        ({"target": "phone"}, "export.target", "UNKNOWN_TARGET"),
        ({"target": "mcu", "format": "onnx"}, "export.format", "FORMAT_NOT_FOR_TARGET"),
        ({"quantization": AWARE}, "export.quantization", "BAD_QUANTIZATION"),
        ({"quantization": AWARE, "precision": "fp16"}, "export.quantization", "BAD_QUANTIZATION"),
        ({"quantization": "guess", "precision": "int8"}, "export.quantization", "BAD_QUANTIZATION"),
        ({"pruning": Pruning(channels=0.95)}, "export.pruning.channels", "BAD_PRUNING"),
        ({"pruning": Pruning(weights=-0.1)}, "export.pruning.weights", "BAD_PRUNING"),
        ({"pruning": Pruning(channels=float("nan"))}, "export.pruning.channels", "BAD_PRUNING"),
        ({"limits": CompressionLimits(), "pruning": Pruning(channels=0.5)}, "export.pruning", "BAD_PRUNING"),
        ({"limits": CompressionLimits(), "quantization": AWARE}, "export.quantization", "BAD_QUANTIZATION"),
        ({"limits": CompressionLimits(max_size_bytes=-1)}, "export.limits.max_size_bytes", "BAD_LIMITS"),
        ({"limits": CompressionLimits(max_latency_ms=20_001)}, "export.limits.max_latency_ms", "BAD_LIMITS"),
        ({"limits": CompressionLimits(max_loss=float("nan"))}, "export.limits.max_loss", "BAD_LIMITS"),
        ({"limits": CompressionLimits(metric="beauty")}, "export.limits.metric", "BAD_LIMITS"),
        ({"max_training_s": 0.5}, "export.max_training_time", "BAD_MAX_TRAINING_TIME"),
    ],
)
def test_wrong_exports_name_the_field(changes: dict[str, Any], field_name: str, reason: str) -> None:
    jobs = FakeJobs()
    with pytest.raises(InvalidArgument) as caught:
        export(jobs, **changes)
    assert (caught.value.violations[0].field, caught.value.reason) == (field_name, reason)
    assert jobs.submitted == []


@pytest.mark.parametrize(
    ("task", "metric", "right"),
    [
        ("image_classification", "picture_iou", "accuracy, f1_macro, recall_macro, or empty for accuracy"),
        ("object_detection", "accuracy", "it must be one of picture_ap50, or empty for picture_ap50"),
        ("semantic_segmentation", "recall_macro", "it must be one of picture_iou"),
        ("tabular_regression", "accuracy", "no form loses anything, so leave it empty"),
    ],
)
def test_a_metric_of_another_task_is_refused_by_name(task: str, metric: str, right: str) -> None:
    models = Known({MODEL: ModelVersionRef(MODEL, task, blob("a"), VERSION)})
    with pytest.raises(InvalidArgument) as caught:
        export(FakeJobs(), models=models, limits=CompressionLimits(metric=metric))
    assert (caught.value.violations[0].field, caught.value.reason) == ("export.limits.metric", "BAD_LIMITS")
    assert f"limits.metric is {metric!r}; for {task}" in caught.value.message
    assert right in caught.value.message


@pytest.mark.parametrize(
    ("task", "metric"),
    [("image_classification", "f1_macro"), ("object_detection", "picture_ap50"), ("semantic_segmentation", "picture_iou")],
)
def test_a_metric_of_the_task_is_taken(task: str, metric: str) -> None:
    models = Known({MODEL: ModelVersionRef(MODEL, task, blob("a"), VERSION)})
    spec = spec_of(export(FakeJobs(), models=models, limits=CompressionLimits(metric=metric)))
    assert spec.limits is not None
    assert spec.limits.metric == metric


TABLE = Known({MODEL: ModelVersionRef(MODEL, "tabular_regression", blob("a"), VERSION)})


@pytest.mark.parametrize(
    "changes",
    [{"precision": "int8"}, {"format": "litert"}, {"pruning": Pruning(channels=0.3)}, {"target": MCU}],
)
def test_a_table_is_exported_as_onnx_fp32_alone(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        export(FakeJobs(), models=TABLE, **changes)
    spec = spec_of(export(FakeJobs(), models=TABLE, target="edge-arm64"))
    assert (spec.format, spec.precision) == ("onnx", "fp32")


SERIES = Known({MODEL: ModelVersionRef(MODEL, "series_classification", blob("a"), VERSION)})


def test_series_become_integers_only_when_that_is_said() -> None:
    """Most of their models have no integer form, so no target asks for one; and what they lose on the way is not measured."""
    small = replace(predefined(gpu_is_here=False)[0], precision="int8")
    assert complete(Wish(MODEL), "series_classification", small).precision == "fp32"
    assert complete(Wish(MODEL), "image_classification", small).precision == "int8"
    assert spec_of(export(FakeJobs(), models=SERIES, precision="int8")).precision == "int8"
    assert spec_of(export(FakeJobs(), models=SERIES, limits=CompressionLimits())).precision == "fp32"
    with pytest.raises(InvalidArgument, match="leave limits out") as caught:
        export(FakeJobs(), models=SERIES, precision="int8", limits=CompressionLimits(max_loss=0.1))
    assert (caught.value.violations[0].field, caught.value.reason) == ("export.limits", "BAD_LIMITS")


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ({}, ("onnx", "fp32")),
        ({"precision": "int8"}, ("onnx", "int8")),
        ({"target": "edge-arm64"}, ("litert", "int8")),
        ({"target": "mcu"}, ("edge", "int8")),
        ({"target": "edge-arm64", "format": "onnx"}, ("onnx", "fp32")),
        ({"format": "edge"}, ("edge", "int8")),
        ({"format": "openvino"}, ("openvino", "fp32")),
        ({"limits": CompressionLimits()}, ("onnx", "")),
        ({"limits": CompressionLimits(), "format": "litert", "precision": "int8"}, ("litert", "int8")),
    ],
)
def test_what_is_not_said_follows_from_the_target(asked: dict[str, Any], form: tuple[str, str]) -> None:
    spec = spec_of(export(FakeJobs(), **asked))
    assert (spec.format, spec.precision) == form
    assert spec.facts is not None
    assert spec.facts.id == asked.get("target", "cpu")


def test_a_wish_survives_the_job_and_the_contract() -> None:
    limits = CompressionLimits(1000, 5.0, 0.02, "accuracy", True)
    asked = pb.Export(
        model_version=MODEL,
        format=pb.FORMAT_LITERT,
        precision=pb.PRECISION_INT8,
        target="cpu-1core",
        limits=pb.CompressionLimits(
            max_size_bytes=1000, max_latency_ms=5.0, max_loss=0.02, metric="accuracy", skip_training=True
        ),
    )
    wish = convert.wish_from(asked)
    assert wish.limits == limits
    job = create_export(ports(FakeJobs()), PARENT, wish, Request())
    message = convert.export_message(job)
    assert (message.format, message.precision, message.target) == (pb.FORMAT_LITERT, pb.PRECISION_INT8, "cpu-1core")
    assert message.limits == asked.limits
    assert message.origin == pb.ORIGIN_TRAINED
    assert message.max_training_time.seconds == 300
    pruned = convert.wish_from(pb.Export(model_version=MODEL, pruning=pb.Pruning(channels=0.5), quantization=2, precision=3))
    assert (pruned.pruning.channels, pruned.quantization, pruned.precision) == (0.5, AWARE, "int8")


def test_a_latency_that_nobody_can_measure_cannot_be_limited() -> None:
    jobs = FakeJobs()
    with pytest.raises(FailedPrecondition) as caught:
        export(jobs, target="edge-arm64", limits=CompressionLimits(max_latency_ms=5.0))
    assert caught.value.reason == "LATENCY_UNMEASURED"
    assert jobs.submitted == []


IMPORTED = Imported("vww_96_float.tflite", ("person", "none"))


def imported(jobs: FakeJobs, uploads: FakeUploads | None = None, **changes: Any) -> Any:
    given: dict[str, Any] = {"file": blob("f"), "imported": IMPORTED, "task": TASK, "dataset_version": VERSION, "target": ""}
    return import_model(ports(jobs, uploads=uploads), PARENT, request=Request("id", "ImportModel", "print"), **given | changes)


def test_an_imported_model_is_an_export_without_a_model_version() -> None:
    job = imported(FakeJobs())
    spec = spec_of(job)
    assert (spec.model_version, spec.format, spec.precision) == ("", "litert", "")
    assert (spec.model_file, spec.imported) == (blob("f"), IMPORTED)
    message = convert.export_message(job)
    assert (message.origin, message.model_version, message.format) == (pb.ORIGIN_IMPORTED, "", pb.FORMAT_LITERT)


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        ({"file": Blob("", "", 0)}, "imported_model.blob"),
        ({"file": Blob("http://x", "", 1)}, "imported_model.blob.uri"),
        ({"file": replace(blob("f"), size_bytes=0)}, "imported_model.blob.size_bytes"),
        ({"imported": replace(IMPORTED, file_name="model.h5")}, "imported_model.file_name"),
        ({"imported": replace(IMPORTED, file_name=".onnx")}, "imported_model.file_name"),
        ({"imported": replace(IMPORTED, classes=())}, "imported_model.classes"),
        ({"imported": replace(IMPORTED, classes=("a", "a"))}, "imported_model.classes[1]"),
        ({"imported": replace(IMPORTED, classes=("a", ""))}, "imported_model.classes[1]"),
        ({"imported": replace(IMPORTED, pixel_scale=float("inf"))}, "imported_model.pixel_scale"),
        ({"imported": replace(IMPORTED, licence="x" * 1001)}, "imported_model.licence"),
        ({"task": "tabular_regression"}, "imported_model.task"),
        ({"dataset_version": "flowers"}, "imported_model.dataset_version"),
        ({"target": "phone"}, "target"),
    ],
)
def test_wrong_imports_name_the_field(changes: dict[str, Any], field_name: str) -> None:
    jobs = FakeJobs()
    with pytest.raises(InvalidArgument) as caught:
        imported(jobs, **changes)
    assert caught.value.violations[0].field == field_name
    assert jobs.submitted == []


def test_an_import_needs_its_file() -> None:
    with pytest.raises(NotFound, match="upload the model file first"):
        imported(FakeJobs(), FakeUploads(there=False))


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
        jobs,
        VERSIONS,
        FakeTargets(),
        parent=PARENT,
        dataset_version=VERSION,
        candidates=candidates,
        target="cpu-1core",
        request=request,
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


def test_what_the_planner_made_is_what_is_shown() -> None:
    job = export(FakeJobs(), limits=CompressionLimits(max_loss=0.02))
    metric, loss = Figure("accuracy", 0.9, 0.88, 0.92, True), Figure("accuracy", 0.01, -0.01, 0.02, False)
    step = CompressionStep("int8 after training", "onnx", "int8", "post_training", 900, LATENCY, metric, loss, True, "fits")
    result = ExportResult(
        blob("e"),
        None,
        None,
        LATENCY,
        "not here",
        900,
        Calibration(256, 7, "ab"),
        (CompressionStep("float", "onnx", "fp32"), step),
        "onnx",
        "int8",
        "post_training",
    )
    assert convert.export_message(job).precision == pb.PRECISION_UNSPECIFIED
    message = convert.export_message(replace(job, state=JobState.SUCCEEDED, result=to_document(result)))
    assert (message.precision, message.quantization) == (pb.PRECISION_INT8, pb.QUANTIZATION_POST_TRAINING)
    assert not message.HasField("latency")
    assert not message.HasField("parity")
    assert (message.unmeasured_reason, message.model_size_bytes) == ("not here", 900)
    assert message.single_thread_latency.p95_ms == 2.0
    assert (message.calibration.example_count, message.calibration.seed, message.calibration.digest) == (256, 7, "ab")
    assert [entry.accepted for entry in message.trail] == [False, True]
    assert message.trail[1].loss.upper == 0.02
    assert message.trail[1].metric.higher_is_better
    assert message.trail[1].latency.p50_ms == 1.0
    assert not message.trail[0].HasField("metric")


def test_a_profile_that_ended_shows_what_it_measured() -> None:
    job = create_profile(
        FakeJobs(),
        VERSIONS,
        FakeTargets(),
        parent=PARENT,
        dataset_version=VERSION,
        candidates=(NET, NET),
        target="",
        request=Request(),
    )
    assert len(convert.profile_message(job).candidates) == 0
    result = ProfileResult((Measured("tinynet", LATENCY, 99), Measured("odd", None, 0, "no such network")))
    message = convert.profile_message(replace(job, state=JobState.SUCCEEDED, result=to_document(result)))
    assert [candidate.error_message for candidate in message.candidates] == ["", "no such network"]
    assert [candidate.HasField("latency") for candidate in message.candidates] == [True, False]
