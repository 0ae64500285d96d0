"""The evaluator on a real server, with real worker processes; only the services it calls are fakes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import Addresses, Client, FailedPrecondition, InvalidArgument, JobFailed, NotFound
from modelyard.core import errors
from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.latency import Latency
from modelyard.core.platform import open_platform
from modelyard.evaluator import bootstrap
from modelyard.evaluator.domain.evaluation import DatasetVersionRef, ExportRef
from modelyard.evaluator.settings import EvaluatorSettings
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support import small_bundles
from tests.support.datasets import file_store, publish_table
from tests.support.hosted import hosted

PARENT = "projects/default"
EXPORT = f"{PARENT}/exports/good"
VERSION = f"{PARENT}/datasets/rows/versions/V001"
TASK = "tabular_classification"


@dataclass
class FakeExports:
    """ports.Exports from memory."""

    known: dict[str, ExportRef] = field(default_factory=dict)

    def get(self, name: str) -> ExportRef:
        if name not in self.known:
            raise errors.NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return self.known[name]


@dataclass
class FakeVersions:
    """ports.DatasetVersions from memory."""

    known: dict[str, DatasetVersionRef] = field(default_factory=dict)

    def get(self, name: str) -> DatasetVersionRef:
        if name not in self.known:
            raise errors.NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return self.known[name]

    def use(self, version: str, evaluation: str, usages: tuple[str, ...]) -> Blob:
        found = self.known[version].descriptor
        assert found is not None
        return found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("evaluator")
    settings = EvaluatorSettings(data_dir=folder, evaluator_slots=2)
    store = file_store(folder / "artifacts")
    exports, versions = _world(store, folder)
    platform = open_platform(settings, "evaluator")
    service = bootstrap.build(platform, exports=exports, versions=versions)
    with hosted(platform, [service]) as address:
        yield Client(Addresses.same(address))


def _world(store: ArtifactStore, folder: Path) -> tuple[FakeExports, FakeVersions]:
    x = [float(1 - 2 * (row % 2)) for row in range(500)]
    labels = [("no" if value > 0 else "yes") if row % 10 == 3 else ("yes" if value > 0 else "no") for row, value in enumerate(x)]
    rows: dict[str, Any] = {"x": x, "word": ["w"] * 500, "y": labels}
    descriptor = publish_table(store, rows, "y", task=TASK)
    artifact = store.put_file(small_bundles.table_classifier(folder / "bundle.zip"))
    latency = Latency(0.5, 1.5, 2.0, 100, 2, "cpu", "a processor")
    good = ExportRef(EXPORT, "SUCCEEDED", artifact, latency, VERSION, TASK)
    broken = store.put_bytes(b"this is not a bundle")
    exports = {
        EXPORT: good,
        f"{PARENT}/exports/running": replace(good, name=f"{PARENT}/exports/running", state="RUNNING", artifact=None),
        f"{PARENT}/exports/broken": replace(good, name=f"{PARENT}/exports/broken", artifact=broken),
        f"{PARENT}/exports/other": replace(good, name=f"{PARENT}/exports/other", task="tabular_regression"),
    }
    versions = {VERSION: DatasetVersionRef(VERSION, "SUCCEEDED", descriptor, "ab" * 32, TASK)}
    return FakeExports(exports), FakeVersions(versions)


@pytest.fixture(scope="module")
def evaluation(client: Client) -> pb.Evaluation:
    created = client.evaluations.create_evaluation(EXPORT)
    return client.evaluations.wait_evaluation(created.name, timeout_s=60)


def test_an_evaluation_scores_every_usage(evaluation: pb.Evaluation) -> None:
    assert evaluation.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert evaluation.dataset_version == VERSION
    assert [score.usage for score in evaluation.scores] == [1, 2, 3]
    test = evaluation.scores[2]
    accuracy = test.metrics[0]
    assert accuracy.name == "accuracy"
    assert accuracy.lower < accuracy.value < accuracy.upper
    assert len(test.confusion) == len(test.classes) == 2
    assert sum(sum(row.counts) for row in test.confusion) == test.example_count == 50
    assert evaluation.predictions.size_bytes > 0
    assert len(evaluation.baseline_scores) == 3


def test_watching_ends_with_the_result(client: Client) -> None:
    created = client.evaluations.create_evaluation(EXPORT, usages=[learning_pb2.USAGE_TEST])
    changes = list(client.evaluations.watch_evaluation(created.name))
    sequences = [change.sequence for change in changes]
    assert sequences == sorted(set(sequences))
    assert changes[-1].evaluation.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert len(changes[-1].evaluation.scores) == 1


def test_the_same_request_gives_the_same_evaluation(client: Client) -> None:
    request_id = str(uuid.uuid4())
    first = client.evaluations.create_evaluation(EXPORT, request_id=request_id)
    assert client.evaluations.create_evaluation(EXPORT, request_id=request_id).name == first.name
    with pytest.raises(InvalidArgument) as caught:
        client.evaluations.create_evaluation(EXPORT, usages=[learning_pb2.USAGE_TEST], request_id=request_id)
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_the_gate_lets_a_good_artifact_through(client: Client, evaluation: pb.Evaluation) -> None:
    decision = client.gate.create_gate_decision(evaluation.name, floors={"accuracy": 0.7}, max_latency_ms=20)
    assert decision.verdict == pb.VERDICT_DEPLOY
    assert decision.artifact_sha256 == evaluation.artifact_sha256
    assert {test.name for test in decision.tests} == {"test_examples", "floor:accuracy", "baseline:accuracy", "latency:p95_ms"}
    assert decision.latency.p95_ms == 1.5
    assert client.gate.get_gate_decision(decision.name) == decision
    assert decision.name in [listed.name for listed in client.gate.list_gate_decisions()]
    assert decision.name in [listed.name for listed in client.gate.list_gate_decisions(evaluations=[evaluation.name])]
    assert not list(client.gate.list_gate_decisions(evaluations=["other"]))


def test_the_gate_says_why_not(client: Client, evaluation: pb.Evaluation) -> None:
    decision = client.gate.create_gate_decision(evaluation.name, floors={"accuracy": 0.999}, max_latency_ms=1)
    assert decision.verdict == pb.VERDICT_BACK_TO_DATA
    assert "0.999" in decision.reasons[0]
    assert "1 ms are allowed" in decision.reasons[1]


def test_unknown_floors_and_usages_are_named(client: Client, evaluation: pb.Evaluation) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.gate.create_gate_decision(evaluation.name, floors={"accuracy": 0.5, "beauty": 1.0})
    assert caught.value.reason == "UNKNOWN_METRIC"
    assert caught.value.violations[0].field == "floors[1].metric"
    assert "f1_macro" in caught.value.message


def test_only_an_evaluation_that_succeeded_can_be_decided_about(client: Client) -> None:
    created = client.evaluations.create_evaluation(f"{PARENT}/exports/broken")
    with pytest.raises(FailedPrecondition) as caught:
        client.gate.create_gate_decision(created.name)
    assert caught.value.reason == "EVALUATION_NOT_READY"
    with pytest.raises(JobFailed) as failed:
        client.evaluations.wait_evaluation(created.name, timeout_s=60)
    assert failed.value.reason == "INVALID_BUNDLE"


def test_the_gate_needs_the_test_usage(client: Client) -> None:
    created = client.evaluations.create_evaluation(EXPORT, usages=[learning_pb2.USAGE_TRAIN])
    client.evaluations.wait_evaluation(created.name, timeout_s=60)
    with pytest.raises(FailedPrecondition) as caught:
        client.gate.create_gate_decision(created.name)
    assert caught.value.reason == "TEST_NOT_SCORED"


@pytest.mark.parametrize(
    ("export", "version", "reason"),
    [
        (f"{PARENT}/exports/running", "", "EXPORT_NOT_READY"),
        (f"{PARENT}/exports/other", "", "TASK_MISMATCH"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(client: Client, export: str, version: str, reason: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        client.evaluations.create_evaluation(export, dataset_version=version)
    assert caught.value.reason == reason


def test_what_does_not_exist_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        client.evaluations.create_evaluation(f"{PARENT}/exports/nothing")
    with pytest.raises(NotFound):
        client.evaluations.get_evaluation(f"{PARENT}/evaluations/nothing")
    with pytest.raises(NotFound):
        client.gate.create_gate_decision(f"{PARENT}/evaluations/nothing")


def test_a_usage_twice_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.evaluations.create_evaluation(EXPORT, usages=[learning_pb2.USAGE_TEST, learning_pb2.USAGE_TEST])
    assert caught.value.violations[0].field == "evaluation.usages[1]"
