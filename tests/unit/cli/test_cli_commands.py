"""The other commands against fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


def test_dataset_import_with_a_wrong_column(run: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    ended = run("dataset", "import", tmp_path / "t.csv", "--name", "t", "--label", "missing")
    assert ended.status == 2
    assert ended.err.splitlines()[-2:] == ["error: label_column is 'missing'; the table has a, b", "hint: set it with --label"]


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


def test_a_missing_version_ends_with_1_and_is_named(run: Any) -> None:
    ended = run("dataset", "show", "none/V001")
    assert ended.status == 1
    assert ended.err == f"error: there is no {P}/datasets/none/versions/V001\n"


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give pictures, or --row, or --csv"),
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
