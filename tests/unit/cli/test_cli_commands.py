"""The other commands against fakes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli import exits
from modelyard.client.errors import InvalidArgument, Violation
from modelyard.exporter.v1 import exporter_pb2
from modelyard.trainer.v1 import trainer_pb2
from tests.support.cli_fakes import P, Yard


def test_dataset_import(run: Any, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "rose").mkdir()
    (tmp_path / "rose" / "a.jpg").write_bytes(b"x")
    (tmp_path / "out").symlink_to("/etc")
    ended = run("dataset", "import", tmp_path, "--name", "flowers")
    assert ended.status == 0
    assert "rose 2, tulip 1" in ended.out
    assert "x.jpg: EMPTY_FILE" in ended.out
    assert "left out" in ended.err
    assert "a link to a folder" in ended.err
    assert run("dataset", "import", tmp_path, "--name", "taken", "--json").document["summary"]["example_count"] == 3


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("dataset_version.edits[0].label", ""),
        ("dataset_version.edits", ""),
        ("training_job.dataset_version", "set it with --dataset-version"),
        ("training_job.hyperparameters.seed", "set it with --seed"),
        ("gate.floors[2].value", "set it with --floor"),
        ("dataset_version.split.test_where", "set it with --test-where"),
        ("dataset_version.split.source", ""),
        ("training_job.resume_from.checkpoint", "set it with --from"),
        ("training_job.resume_from.training_job", "set it with --resume"),
        ("dataset_import.label_column", "set it with --label"),
    ],
)
def test_the_option_that_is_hinted_at_sets_the_field(field: str, hint: str) -> None:
    assert exits._hint(InvalidArgument("it is wrong", reason="X", violations=(Violation(field, "it is wrong"),))) == hint


def test_dataset_import_with_a_wrong_column(run: Any, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    ended = run("dataset", "import", tmp_path / "t.csv", "--name", "t", "--label", "missing")
    assert ended.status == 2
    assert ended.err.splitlines()[-2:] == ["error: label_column is 'missing'; the table has a, b", "hint: set it with --label"]
    assert yard.datasets.deleted == [f"{P}/datasets/t"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("dataset", "export", "flowers/V001", "{}", "--format", "coco"),
        ("dataset", "report", "flowers", "-o", "{}"),
        ("export", "flowers", "-o", "{}"),
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    arguments: tuple[str, ...], run: Any, yard: Yard, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "out"
    ended = run(*(word.format(place) for word in arguments))
    assert ended.status == 2
    assert f"is {str(place)!r}, which cannot be written: a file is where a folder is to be" in ended.err
    assert yard.datasets.requests == []


def test_dataset_check_publish_list_show_examples(run: Any, yard: Yard) -> None:
    assert "warning: EXACT_DUPLICATES: 4 pictures twice" in run("dataset", "check", "flowers").out
    published = run("dataset", "publish", "flowers", "--train-ratio", "0.75", "--seed", "3", "--json").document
    assert published["status"]["state"] == "SUCCEEDED"
    assert yard.datasets.requests[-1].dataset_version.split.train_ratio == "0.75"
    assert [one["name"] for one in run("dataset", "list", "--json").document["datasets"]] == [f"{P}/datasets/flowers"]
    assert "V001" in run("dataset", "show", "flowers").out
    assert "tulip" in run("dataset", "show", "flowers/latest").out.lower()
    examples = run("dataset", "examples", "flowers/V001", "--limit", "3", "--usage", "test", "--json").document["examples"]
    assert [example["example_id"] for example in examples] == ["e0", "e1", "e2"]


def test_dataset_export_writes_a_folder_or_a_zip_and_never_over_anything(run: Any, yard: Yard, tmp_path: Path) -> None:
    ended = run("dataset", "export", "flowers/V001", tmp_path / "out", "--format", "coco", "--lossy")
    assert "1 example, 2 files" in ended.out
    assert "no masks" in ended.out
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["1.png", "instances_train.json"]
    sent = yard.datasets.requests[-1].dataset_export
    assert (sent.dataset_version, sent.format, sent.lossy) == (f"{P}/datasets/flowers/versions/V001", 7, True)
    again = run("dataset", "export", "flowers", tmp_path / "out", "--format", "coco")
    assert again.status != 0
    assert "there already" in again.err
    whole = run("dataset", "export", "flowers", tmp_path / "new" / "out.zip", "--format", "voc", "--json")
    assert whole.document["files"] == 1
    assert (tmp_path / "new" / "out.zip").read_bytes().startswith(b"PK")
    assert "give one of image_folders" in run("dataset", "export", "flowers", tmp_path / "x", "--format", "cocoa").err


def test_a_missing_version_ends_with_1_and_is_named(run: Any) -> None:
    ended = run("dataset", "show", "none/V001")
    assert ended.status == 1
    hint = "hint: `modelyard dataset show none` lists its versions\n"
    assert ended.err == f"error: there is no {P}/datasets/none/versions/V001\n{hint}"


def test_train_sends_what_was_set_and_nothing_else(run: Any, yard: Yard) -> None:
    options = (
        "--recipe tinynet --max-train-time 90s --base-lr 0.01 --optimizer adamw --schedule reduce-on-plateau --label-smoothing 0"
    )
    ended = run("train", "flowers", *options.split(), "--json")
    assert ended.status == 0
    sent = yard.trainer.requests[0].training_job
    assert (sent.dataset_version, sent.model) == (f"{P}/datasets/flowers/versions/V001", f"{P}/models/flowers")
    assert (sent.recipe.recipe_id, sent.max_training_time.seconds) == ("tinynet", 90)
    given = sent.recipe.hyperparameters
    assert given.optimizer == trainer_pb2.OPTIMIZER_ADAMW
    assert given.schedule == trainer_pb2.SCHEDULE_REDUCE_ON_PLATEAU
    assert given.base_lr == 0.01
    assert given.HasField("label_smoothing")
    assert not given.HasField("max_epochs")
    assert "lr 0.01" in ended.err


def test_train_resumes_with_the_jobs_own_data(run: Any, yard: Yard) -> None:
    run("train", "flowers/V001", "--model", "mine")
    assert run("train", "--resume", "job-1", "--from", "best", "--max-epochs", "20").status == 0
    sent = yard.trainer.requests[1].training_job
    assert (sent.dataset_version, sent.model) == (f"{P}/datasets/flowers/versions/V001", f"{P}/models/mine")
    assert sent.resume_from.training_job == f"{P}/trainingJobs/job-1"
    assert sent.resume_from.checkpoint == trainer_pb2.CHECKPOINT_KIND_BEST
    assert sent.recipe.hyperparameters.max_epochs == 20


def test_train_with_wrong_values(run: Any) -> None:
    assert "dataset_version is missing" in run("train").err
    assert "optimizer is 'lion'; give one of sgd" in run("train", "flowers", "--optimizer", "lion").err
    assert "max_epochs is 9999999999" in run("train", "flowers", "--max-epochs", "9999999999").err
    assert "linear" in run("train", "--recipes").out


def test_export_unpacks_the_bundle(run: Any, tmp_path: Path) -> None:
    ended = run("export", "flowers", "--output", tmp_path / "bundle", "--json")
    assert ended.document["model_version"] == f"{P}/models/flowers/versions/V001"
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == {
        "bundle.json": b"{}",
        "model.onnx": b"onnx",
    }


def test_export_into_one_file(run: Any, tmp_path: Path) -> None:
    run("export", "flowers", "--output", tmp_path / "made" / "flowers.zip", "--no-evaluate")
    assert zipfile.ZipFile(tmp_path / "made" / "flowers.zip").namelist() == ["bundle.json", "model.onnx"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["flowers.zip"]


def test_export_prints_at_last_one_object_with_all_that_is_promised(run: Any, yard: Yard) -> None:
    ended = run("export", "flowers", "--format", "litert", "--precision", "int8", "--json")
    assert ended.status == 0
    found = ended.document
    assert (len(found["sha256"]), found["bytes"], found["verdict"]) == (64, 4, "DEPLOY")
    assert found["metrics"]["test"] == found["float_metrics"]["test"] == {"accuracy": 0.91}
    assert found["latency_ms"] == {"p50": 1.5, "p95": 2.5, "p99": 3.5, "threads": 2, "target": "cpu"}
    assert (found["format"], found["precision"], found["state"]) == ("LITERT", "INT8", "SUCCEEDED")
    asked, parent = yard.exporter.asked
    assert (asked.format, asked.precision) == (exporter_pb2.FORMAT_LITERT, exporter_pb2.PRECISION_INT8)
    assert (parent.format, parent.precision) == (exporter_pb2.FORMAT_ONNX, exporter_pb2.PRECISION_FP32)
    (decision,) = yard.evaluator.decisions
    assert decision.parent_evaluation == found["float_evaluation"] != decision.evaluation == found["evaluation"]
    assert decision.quantized
    assert decision.model_size_bytes == 4


def test_the_float_parent_and_its_scores_are_used_again(run: Any, yard: Yard) -> None:
    run("export", "flowers", "--precision", "int8")
    run("export", "flowers", "--precision", "fp16", "--json")
    assert len(yard.exporter.asked) == 3
    assert len(yard.evaluator.evaluations) == 3
    first, second = yard.evaluator.decisions
    assert first.parent_evaluation == second.parent_evaluation


def test_the_float_export_has_no_parent(run: Any, yard: Yard) -> None:
    ended = run("export", "flowers", "--json")
    assert ended.document["metrics"] == ended.document["float_metrics"]
    assert yard.evaluator.decisions[0].parent_evaluation == ""


def test_export_only(run: Any, yard: Yard) -> None:
    ended = run("export", "flowers", "--precision", "int8", "--no-evaluate", "--json")
    assert (ended.document["verdict"], ended.document["metrics"]) == ("", {})
    assert len(yard.exporter.asked) == 1
    assert yard.evaluator.evaluations == []


def test_limits_let_the_exporter_choose(run: Any, yard: Yard) -> None:
    ended = run("export", "flowers", "--max-size", "200KB", "--max-loss", "0.02", "--max-latency-ms", "20")
    asked = yard.exporter.asked[0]
    assert (asked.limits.max_size_bytes, asked.limits.max_loss, asked.limits.max_latency_ms) == (200_000, 0.02, 20.0)
    assert asked.precision == 0
    assert "accepted: 4 bytes" in ended.out
    decision = yard.evaluator.decisions[0]
    assert (decision.max_size_bytes, decision.max_loss, decision.max_latency_ms) == (200_000, 0.02, 20.0)


def test_means_that_are_named_are_taken_as_they_are(run: Any, yard: Yard) -> None:
    run("export", "flowers", "--qat", "--max-loss", "0.02", "--max-train-time", "90s", "--prune-channels", "0.3")
    asked = yard.exporter.asked[0]
    assert not asked.HasField("limits")
    assert (asked.precision, asked.quantization) == (exporter_pb2.PRECISION_INT8, exporter_pb2.QUANTIZATION_AWARE_TRAINING)
    assert (asked.max_training_time.seconds, asked.pruning.channels) == (90, 0.3)


def test_what_was_not_measured_is_said_and_never_guessed(run: Any) -> None:
    assert (
        run("export", "flowers", "--target", "mcu", "--format", "edge", "--precision", "int8", "--json").document["latency_ms"]
        is None
    )
    assert "not measured: no mcu is here" in run("export", "flowers", "--target", "mcu", "--no-evaluate").out


def test_an_export_that_the_gate_refuses_ends_with_3(run: Any) -> None:
    ended = run("export", "flowers", "--floor", "accuracy=0.95", "--json")
    assert (ended.status, ended.document["verdict"]) == (3, "BACK_TO_DATA")
    assert ended.document["gate"]["reasons"] == ["accuracy is 0.91, the floor is higher"]


def test_export_with_wrong_values(run: Any) -> None:
    assert "max_size is 'big'" in run("export", "flowers", "--max-size", "big").err
    assert "format is 'h5'; give one of onnx" in run("export", "flowers", "--format", "h5").err
    assert "precision is 'int4'" in run("export", "flowers", "--precision", "int4").err


def test_model_import(run: Any, yard: Yard, tmp_path: Path) -> None:
    path = tmp_path / "vww.tflite"
    path.write_bytes(b"TFL3")
    ended = run("model", "import", path, "--dataset-version", "flowers", "--classes", "a, b", "--licence", "Apache-2.0", "--json")
    assert (ended.document["origin"], ended.document["format"]) == ("IMPORTED", "LITERT")
    sent = yard.exporter.imported[0].imported_model
    assert (sent.file_name, list(sent.classes), sent.pixel_scale) == ("vww.tflite", ["a", "b"], 1.0)
    assert yard.artifacts.blobs[sent.blob.uri] == b"TFL3"
    assert "give --endpoint" in run("deploy", "x1").err
    assert run("deploy", "x1", "--endpoint", "people").status == 0
    assert "imported" in run("model", "import", path, "--dataset-version", "flowers").out
    assert "a folder" in run("model", "import", tmp_path, "--dataset-version", "flowers").err


def test_targets(run: Any, yard: Yard) -> None:
    made = run(
        "target", "create", "camera", "--format", "litert", "--precision", "int8", "--ram", "64KiB", "--agent", "c:1", "--json"
    )
    assert made.document["ram_bytes"] == 65_536
    assert yard.exporter.targets[f"{P}/targets/camera"].precision == exporter_pb2.PRECISION_INT8
    listed = run("target", "list").out
    assert "This machine" in listed
    assert "65.5 KB" in listed
    assert run("target", "delete", "camera").status == 0
    assert "there is no" in run("target", "delete", "camera").err


def test_evaluate(run: Any) -> None:
    assert run("evaluate", "x1", "--usage", "test", "--json").document["metrics"]["test"] == {"accuracy": 0.91}
    assert "0.9 to 0.92" in run("evaluate", "x1").out


def test_deploy_asks_the_gate_first(run: Any, yard: Yard) -> None:
    ended = run("deploy", "x1", "--json")
    assert ended.status == 0
    assert ended.document["endpoint"] == f"{P}/endpoints/flowers"
    assert len(yard.evaluator.evaluations) == 1
    assert yard.serving.requests[0].deployment.gate_decision == f"{P}/gateDecisions/g1"
    refused = run("deploy", "x1", "--min-accuracy", "0.95")
    assert refused.status == 3
    assert "the gate says BACK_TO_DATA: accuracy is 0.91" in refused.err
    assert len(yard.serving.requests) == 1
    assert len(yard.evaluator.evaluations) == 1


def test_endpoint(run: Any, yard: Yard) -> None:
    assert "flowers" in run("endpoint", "list").out
    assert "READY" in run("endpoint", "show", "flowers").out
    assert run("endpoint", "events", "flowers", "--json").document["deployment_events"][0]["kind"] == "DEPLOYED"
    run("endpoint", "delete", "flowers/V001")
    run("endpoint", "delete", "flowers")
    names = [request.name for request in yard.serving.requests]
    assert names == [f"{P}/endpoints/flowers/deployments/V001", f"{P}/endpoints/flowers"]


def test_model(run: Any) -> None:
    assert "flowers" in run("model", "list").out
    assert "accuracy 0.9" in run("model", "show", "flowers").out
    assert run("model", "show", "flowers/latest", "--json").document["name"] == f"{P}/models/flowers/versions/V001"


def test_predict_pictures(run: Any, yard: Yard, tmp_path: Path) -> None:
    for number in range(70):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"jpeg")
    found = run("predict", "flowers", *sorted(tmp_path.iterdir()), "--json").document
    assert (found["model_version"], len(found["predictions"]), yard.inference.batches) == ("V001", 70, [64, 6])
    first = found["predictions"][0]
    assert (Path(first["input"]).name, first["label"], first["probability"]) == ("00.jpg", "rose", 0.75)
    assert first["probabilities"] == [0.75, 0.25]
    assert "00.jpg: rose (75.0%)" in run("predict", "flowers", tmp_path / "00.jpg").out


def test_predict_rows(run: Any, tmp_path: Path) -> None:
    found = run("predict", "titanic", "--row", '{"age": 3}', "--row", '{"age": null}', "--json").document
    assert [one["input"] for one in found["predictions"]] == ["row 1", "row 2"]
    (tmp_path / "t.csv").write_text("\ufeffname;age\nx;3\ny;\n")
    assert len(run("predict", "titanic", "--csv", tmp_path / "t.csv", "--json").document["predictions"]) == 2
    (tmp_path / "t.csv").write_text("name;age\n")
    ended = run("predict", "titanic", "--csv", tmp_path / "t.csv")
    assert (ended.status, "t.csv': it has no rows" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give pictures or sounds, or --row, or --csv"),
        (("--row", "{age: 3}"), "is not JSON"),
        (("--row", "[1]"), "give an object"),
        (("--row", '{"aeg": 3}'), "has no column 'age'"),
        (("--row", '{"age": "old"}'), "rows[0].age is 'old'"),
        (("missing.jpg",), "image is 'missing.jpg': No such file"),
        (("--csv", "missing.csv"), "there is no such file"),
    ],
)
def test_predict_with_wrong_input(run: Any, arguments: tuple[str, ...], said: str) -> None:
    ended = run("predict", "titanic", *arguments)
    assert ended.status == 2
    assert said in ended.err
