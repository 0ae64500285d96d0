"""What an evaluation tells beyond its figures, over gRPC: slices, examples, gaps, the threshold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modelyard.client import Addresses, Client, InvalidArgument
from modelyard.core.platform import open_platform
from modelyard.evaluator import bootstrap
from modelyard.evaluator.domain.evaluation import DatasetVersionRef, ExportRef
from modelyard.evaluator.settings import EvaluatorSettings
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.type.v1 import learning_pb2
from tests.support import small_bundles
from tests.support.datasets import file_store, publish_table
from tests.support.hosted import hosted

PARENT = "projects/default"
EXPORT = f"{PARENT}/exports/good"
VERSION = f"{PARENT}/datasets/rows/versions/V001"
TASK = "tabular_classification"
WRONG = 23


class _Known(dict[str, Any]):
    """ports.Exports and ports.DatasetVersions from memory."""

    def get(self, name: str, _: Any = None) -> Any:
        return self[name]

    def use(self, version: str, evaluation: str, usages: tuple[str, ...]) -> Any:
        return self[version].descriptor


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("evaluator")
    store = file_store(folder / "artifacts")
    x = [float(1 - 2 * (row % 2)) * (1 + row % 7) for row in range(500)]
    labels = ["yes" if (value > 0) != (row % WRONG == 3) else "no" for row, value in enumerate(x)]
    usage = ["train" if row < 200 else "test" if row < 350 else "validation" for row in range(500)]
    rows: dict[str, Any] = {"x": x, "word": [("a", "b", "c")[row % 3] for row in range(500)], "y": labels}
    descriptor = publish_table(store, rows, "y", task=TASK, usage=usage)
    artifact = store.put_file(small_bundles.table_classifier(folder / "bundle.zip"))
    exports = _Known({EXPORT: ExportRef(EXPORT, "SUCCEEDED", artifact, None, VERSION, TASK)})
    columns = ("x", "word", "y")
    versions = _Known({VERSION: DatasetVersionRef(VERSION, "SUCCEEDED", descriptor, "ab" * 32, TASK, columns)})
    platform = open_platform(EvaluatorSettings(data_dir=folder), "evaluator")
    with hosted(platform, [bootstrap.build(platform, exports=exports, versions=versions)]) as address:
        yield Client(Addresses.same(address))


@pytest.fixture(scope="module")
def evaluation(client: Client) -> pb.Evaluation:
    created = client.evaluations.create_evaluation(EXPORT, slice_columns=["word", "x"])
    return client.evaluations.wait_evaluation(created.name, timeout_s=60)


def test_slices_come_worst_first_with_intervals(evaluation: pb.Evaluation) -> None:
    assert list(evaluation.slice_columns) == ["word", "x"]
    assert {entry.column for entry in evaluation.slices} == {"word", "x"}
    accuracies = [entry.metrics[0].value for entry in evaluation.slices]
    assert accuracies == sorted(accuracies)
    assert evaluation.slices[0].metrics[0].name == "accuracy"
    assert evaluation.slices[0].metrics[0].lower < accuracies[0] < evaluation.slices[0].metrics[0].upper
    words = [entry for entry in evaluation.slices if entry.column == "word"]
    assert sum(entry.example_count for entry in words) == evaluation.scores[2].example_count == 150


def test_wrong_labels_are_suspected(evaluation: pb.Evaluation) -> None:
    assert evaluation.label_suspects
    assert all(example.label != example.prediction for example in evaluation.label_suspects)
    usages = [example.usage for example in evaluation.label_suspects]
    assert usages[-1] == learning_pb2.USAGE_TRAIN
    assert usages[0] != learning_pb2.USAGE_TRAIN
    worst = evaluation.worst_examples[0]
    assert worst.example_id
    assert worst.loss > 1
    assert 0.5 < worst.probability <= 1


def test_gaps_and_threshold(evaluation: pb.Evaluation) -> None:
    assert [gap.name for gap in evaluation.train_gaps] == ["accuracy", "f1_macro", "log_loss"]
    assert not any(gap.higher_is_better for gap in evaluation.train_gaps)
    assert 0 < evaluation.suggested_threshold < 1
    names = [metric.name for metric in evaluation.scores[2].metrics]
    assert {"pr_auc", "calibration_error"} <= set(names)


def test_lists_leave_out_what_is_long(client: Client, evaluation: pb.Evaluation) -> None:
    listed = next(found for found in client.evaluations.list_evaluations() if found.name == evaluation.name)
    assert not listed.slices
    assert not listed.worst_examples
    assert not listed.label_suspects
    assert listed.scores == evaluation.scores
    assert listed in list(client.evaluations.list_evaluations(exports=["other", evaluation.export]))
    assert not list(client.evaluations.list_evaluations(exports=["other"]))
    assert listed.train_gaps == evaluation.train_gaps


def test_an_unknown_column_is_refused_at_once_with_what_is_possible(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="x, word, y") as caught:
        client.evaluations.create_evaluation(EXPORT, slice_columns=["word", "colour"])
    assert caught.value.reason == "UNKNOWN_SLICE_COLUMN"
    assert caught.value.violations[0].field == "evaluation.slice_columns[1]"


def test_slices_need_the_test_usage(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.evaluations.create_evaluation(EXPORT, usages=[learning_pb2.USAGE_TRAIN], slice_columns=["x"])
    assert caught.value.reason == "SLICES_NEED_TEST"
