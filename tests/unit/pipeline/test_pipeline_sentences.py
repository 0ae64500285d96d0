"""What people read of a step."""

from __future__ import annotations

from modelyard.pipeline.handlers import sentences
from modelyard.pipeline.ports import Decided, JobView


def test_a_running_training() -> None:
    point = {"step": "30", "loss": "NaN", "metrics": {"val_accuracy": 0.5}, "examples_per_second": 1234.5}
    view = JobView("x", "RUNNING", stage="epoch 3 of 10", point=point)
    assert sentences.running_sentence(view) == "epoch 3 of 10, loss nan, val_accuracy 0.5, 1234 examples/s"
    assert sentences.running_sentence(JobView("x", "QUEUED")) == ""


def test_a_finished_training() -> None:
    found = {"model_version": "projects/p/models/m/versions/V002", "latest_point": {"epoch": 3.5, "metrics": {"rmse": 2}}}
    view = JobView("x", "SUCCEEDED", "TIME_LIMIT", found=found)
    assert sentences.trained_sentence(view) == "V002 after 3.5 epochs: rmse 2 on validation (TIME_LIMIT)"


def test_imports_and_findings() -> None:
    assert sentences.imported_sentence({"summary": {"example_count": "7", "rejected_count": "2"}}) == "7 examples; 2 left out"
    assert sentences.checked_sentence([]) == "no findings"
    assert sentences.checked_sentence([{"kind": "OUTLIERS", "message": "Two."}]) == "1 finding; OUTLIERS: Two."


def test_scores_and_decisions() -> None:
    assert sentences.scored_sentence([]) == "test: no examples"
    assert sentences.decided_sentence(Decided("n", "DEPLOY", ("fine",), {})) == "DEPLOY"
    assert sentences.decided_sentence(Decided("n", "BACK_TO_DATA", ("bad", "fine"), {})) == "BACK_TO_DATA: bad"


def test_an_export_says_the_bytes_that_limits_are_about() -> None:
    found = {
        "format": "FORMAT_ONNX",
        "precision": "PRECISION_INT8",
        "artifact": {"size_bytes": "162062"},
        "model_size_bytes": "124033",
    }
    assert sentences.exported_sentence(found) == "onnx int8, 124033 bytes"
    del found["model_size_bytes"]
    assert sentences.exported_sentence(found) == "onnx int8, 162062 bytes"
