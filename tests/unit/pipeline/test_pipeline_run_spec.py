"""A wrong run is refused at once, with the field, the value, and what would be right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import InvalidArgument
from modelyard.pipeline.domain import spec as spec_module
from modelyard.pipeline.domain.progress import WEIGHTS, in_order, share_done, steps_of, time_left
from modelyard.pipeline.domain.spec import ClassFloor, Floor, Limits, RunSpec, Source, Split, TargetFacts, check_task, complete

PARENT = "projects/default"
BLOB = Blob(f"artifact://dataset/{'ab' * 32}", "ab" * 32, 1000)
GOOD = RunSpec(source=Source(BLOB, f"{PARENT}/datasets/flowers"))


def _violations(spec: RunSpec) -> tuple[str, list[str]]:
    with pytest.raises(InvalidArgument) as caught:
        complete(spec, PARENT)
    return caught.value.reason, [violation.field.removeprefix("pipeline_run.") for violation in caught.value.violations]


def test_defaults() -> None:
    spec = complete(GOOD, PARENT)
    assert (spec.model, spec.endpoint) == (f"{PARENT}/models/flowers", f"{PARENT}/endpoints/flowers")
    assert (spec.target, spec.max_inference_ms, spec.max_training_s) == ("cpu", 500, None)
    named = complete(replace(GOOD, model=f"{PARENT}/models/roses"), PARENT)
    assert named.endpoint == f"{PARENT}/endpoints/roses"
    version = complete(RunSpec(dataset_version=f"{PARENT}/datasets/d/versions/V001"), PARENT)
    assert version.model == f"{PARENT}/models/d"


@pytest.mark.parametrize("ratio", ["0.8", "0.12345", ".5", "0.00001", "0.99999", ""])
def test_right_ratios(ratio: str) -> None:
    assert complete(replace(GOOD, split=Split(ratio)), PARENT).split.train_ratio == ratio


@pytest.mark.parametrize(
    "ratio", ["1.5", "0.1234567", "0", "1", "0.0", "1.0", "-0.5", "0,8", "8e-1", "80%", "0.", "nan", "٠.٥", " 0.8"]
)
def test_wrong_ratios(ratio: str) -> None:
    assert _violations(replace(GOOD, split=Split(ratio))) == ("BAD_TRAIN_RATIO", ["split.train_ratio"])


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"source": None}, "MISSING_DATA", "data"),
        ({"dataset": f"{PARENT}/datasets/other"}, "MISSING_DATA", "data"),
        ({"source": Source(BLOB, "flowers")}, "BAD_RESOURCE_NAME", "source.dataset"),
        ({"source": Source(BLOB, "")}, "BAD_RESOURCE_NAME", "source.dataset"),
        ({"source": Source(BLOB, f"{PARENT}/datasets/Über mich")}, "BAD_RESOURCE_NAME", "source.dataset"),
        ({"source": Source(BLOB, "projects/else/datasets/flowers")}, "BAD_RESOURCE_NAME", "source.dataset"),
        ({"source": Source(replace(BLOB, size_bytes=0), f"{PARENT}/datasets/d")}, "EMPTY_SOURCE", "source.blob.size_bytes"),
        (
            {"source": Source(replace(BLOB, uri="file:///etc/passwd"), f"{PARENT}/datasets/d")},
            "BAD_ARTIFACT_URI",
            "source.blob.uri",
        ),
        ({"model": "flowers"}, "BAD_RESOURCE_NAME", "model"),
        ({"endpoint": f"{PARENT}/models/x"}, "BAD_RESOURCE_NAME", "endpoint"),
        ({"incremental_model_version": f"{PARENT}/models/x"}, "BAD_RESOURCE_NAME", "incremental_model_version"),
        ({"dataset_version_id": "1st"}, "BAD_ID", "dataset_version_id"),
        ({"dataset_version_id": "latest"}, "BAD_ID", "dataset_version_id"),
        ({"format": "h5"}, "UNSUPPORTED_FORM", "format"),
        ({"precision": "int4"}, "UNSUPPORTED_FORM", "precision"),
        ({"format": "savedmodel", "precision": "int8"}, "UNSUPPORTED_FORM", "precision"),
        ({"max_loss": 1.5}, "BAD_MAX_LOSS", "max_loss"),
        ({"max_loss": math.nan}, "BAD_MAX_LOSS", "max_loss"),
        ({"compression": Limits(max_size_bytes=-1)}, "BAD_LIMITS", "compression.max_size_bytes"),
        ({"compression": Limits(max_loss=2.0)}, "BAD_LIMITS", "compression.max_loss"),
        ({"compression": Limits(max_latency_ms=-1.0)}, "BAD_LIMITS", "compression.max_latency_ms"),
        ({"class_floors": (ClassFloor("", "recall", 0.5),)}, "BAD_FLOOR", "class_floors[0].label"),
        ({"class_floors": (ClassFloor("a", "accuracy", 0.5),)}, "UNKNOWN_METRIC", "class_floors[0].metric"),
        ({"class_floors": (ClassFloor("a", "recall", 50.0),)}, "BAD_FLOOR", "class_floors[0].value"),
        ({"max_inference_ms": -1}, "BAD_MAX_INFERENCE_DURATION", "max_inference_duration_ms"),
        ({"max_inference_ms": 20_001}, "BAD_MAX_INFERENCE_DURATION", "max_inference_duration_ms"),
        ({"max_training_s": 0.5}, "BAD_MAX_TRAINING_TIME", "max_training_time"),
        ({"max_training_s": math.nan}, "BAD_MAX_TRAINING_TIME", "max_training_time"),
        ({"floors": (Floor("accuracy", 0.9), Floor("beauty", 1.0))}, "UNKNOWN_METRIC", "floors[1].metric"),
        ({"floors": (Floor("accuracy", math.inf),)}, "BAD_FLOOR", "floors[0].value"),
        ({"display_name": "x" * 201}, "TOO_LONG", "display_name"),
        ({"excluded_columns": ("a", "")}, "BAD_COLUMN", "excluded_columns[1]"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], reason: str, field: str) -> None:
    assert _violations(replace(GOOD, **changes)) == (reason, [field])


def test_everything_wrong_is_named_at_once() -> None:
    spec = replace(GOOD, format="moon", max_inference_ms=-5, split=Split("2"))
    assert _violations(spec)[1] == ["split.train_ratio", "max_inference_duration_ms", "format"]


def test_demands_by_task() -> None:
    check_task(replace(GOOD, compression=Limits(metric="picture_iou")), "semantic_segmentation")
    with pytest.raises(InvalidArgument, match="'accuracy'; for semantic_segmentation it must be one of picture_iou") as limited:
        check_task(replace(GOOD, compression=Limits(metric="accuracy")), "semantic_segmentation")
    assert limited.value.violations[0].field == "pipeline_run.compression.metric"
    check_task(replace(GOOD, floors=(Floor("rmse", 1.0),)), "tabular_regression")
    check_task(
        replace(GOOD, floors=(Floor("roc_auc", 0.9),), class_floors=(ClassFloor("a", "f1", 0.5),)), "tabular_classification"
    )
    check_task(replace(GOOD, precision="int8"), "image_classification")
    check_task(replace(GOOD, format="onnx", facts=LITERT_INT8), "tabular_classification")
    with pytest.raises(InvalidArgument, match="for image_classification"):
        check_task(replace(GOOD, floors=(Floor("rmse", 1.0),)), "image_classification")
    with pytest.raises(InvalidArgument, match="a regression has no classes"):
        check_task(replace(GOOD, class_floors=(ClassFloor("a", "f1", 0.5),)), "tabular_regression")


@pytest.mark.parametrize(
    "changes",
    [{"format": "litert"}, {"precision": "int8"}, {"facts": TargetFacts("edge", "int8", False), "target": "mcu"}],
)
def test_a_table_is_no_network(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="onnx fp32 only") as caught:
        check_task(replace(GOOD, **changes), "tabular_regression")
    assert caught.value.reason == "UNSUPPORTED_FORM"


LITERT_INT8 = TargetFacts("litert", "int8", False)


@pytest.mark.parametrize(
    ("changes", "float_first"),
    [
        ({}, False),
        ({"format": "onnx", "precision": "fp32"}, False),
        ({"precision": "int8"}, True),
        ({"format": "litert"}, True),
        ({"format": "openvino", "precision": "fp32"}, True),
        ({"facts": LITERT_INT8}, True),
        ({"facts": LITERT_INT8, "format": "onnx"}, False),
        ({"facts": LITERT_INT8, "format": "litert", "precision": "fp32"}, True),
        ({"compression": Limits()}, True),
    ],
)
def test_what_is_not_float_onnx_is_compared_with_it(changes: dict[str, Any], float_first: bool) -> None:
    assert replace(GOOD, **changes).float_first is float_first


@pytest.mark.parametrize(
    ("changes", "task", "float_first"),
    [
        ({"precision": "int8"}, "series_classification", True),
        ({"precision": "int8"}, "object_detection", True),
        ({"precision": "fp32"}, "series_classification", False),
        ({"facts": TargetFacts("onnx", "int8", True)}, "series_classification", False),
        ({"facts": TargetFacts("onnx", "int8", True)}, "audio_classification", True),
        ({"compression": Limits()}, "tabular_regression", False),
        ({"compression": Limits()}, "image_classification", True),
    ],
)
def test_series_are_compared_when_their_numbers_are_named(changes: dict[str, Any], task: str, float_first: bool) -> None:
    assert replace(GOOD, **changes).float_first_of(task) is float_first


def test_limits_go_with_no_integers_of_series() -> None:
    check_task(replace(GOOD, precision="int8"), "series_classification")
    check_task(replace(GOOD, compression=Limits()), "series_classification")
    check_task(replace(GOOD, compression=Limits(), precision="int8"), "image_classification")
    with pytest.raises(InvalidArgument, match="precision is int8; for series_classification no loss is measured") as caught:
        check_task(replace(GOOD, compression=Limits(), precision="int8"), "series_classification")
    assert (caught.value.reason, caught.value.violations[0].field) == ("BAD_LIMITS", "pipeline_run.compression")


def test_the_latency_is_demanded_when_it_was_said() -> None:
    assert not complete(GOOD, PARENT).latency_demanded
    assert complete(replace(GOOD, max_inference_ms=20), PARENT).latency_demanded
    assert complete(GOOD, PARENT).max_loss == 0.01


@given(st.text(max_size=20), st.integers(-10, 30_000), st.floats(allow_nan=False) | st.none(), st.text(max_size=10))
def test_a_spec_is_refused_or_survives_as_json(name: str, limit: int, seconds: float | None, ratio: str) -> None:
    spec = replace(GOOD, display_name=name, max_inference_ms=limit, max_training_s=seconds, split=Split(ratio))
    try:
        completed = complete(spec, PARENT)
    except InvalidArgument as error:
        assert error.violations  # noqa: PT017  either way something is checked
        return
    assert from_document(to_document(completed), RunSpec) == completed


PLAIN = ("import", "check", "publish", "choose_recipe", "train", "export", "evaluate", "gate", "deploy")


def test_a_run_takes_the_steps_that_its_data_need() -> None:
    assert steps_of(GOOD) == PLAIN
    assert steps_of(RunSpec(dataset="d"))[0] == "check"
    assert steps_of(RunSpec(dataset_version="v", skip_deployment=True)) == PLAIN[3:-1]


def test_what_was_recorded_adds_steps_in_their_order() -> None:
    everything = {"float_first": True, "incumbent": "x", "verdict": "RETRY_WITH_QAT"}
    assert steps_of(GOOD, everything) == tuple(WEIGHTS)
    assert steps_of(replace(GOOD, precision="int8"), {"float_first": False}) == PLAIN
    assert steps_of(GOOD, {"verdict": "BACK_TO_DATA"}) == PLAIN
    assert in_order({"deploy", "import"}) == ("import", "deploy")


def test_the_share_rises_from_0_to_1() -> None:
    steps = steps_of(GOOD)
    shares = [share_done(steps, step, within) for step in steps for within in (0.0, 0.5, 1.0)]
    assert shares == sorted(shares)
    assert [shares[0], shares[-1]] == pytest.approx([0.0, 1.0])


def test_time_left() -> None:
    steps = steps_of(GOOD)
    assert time_left(steps, "import", 0.5, 10.0, None) is None
    assert time_left(steps, "train", 0.5, 100.0, 60.0) == pytest.approx(75.0)
    assert time_left(steps, "evaluate", 0.0, 90.0, None) == pytest.approx(10.0)


def test_the_forms_that_are_known_are_the_exporters() -> None:
    from modelyard.exporter.domain.form import PRECISIONS_OF

    assert spec_module.PRECISIONS_OF == PRECISIONS_OF
