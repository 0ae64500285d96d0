"""The exporter on a real server, with real worker processes; only the trainer and dataset services are fakes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from modelyard.client import Addresses, Client, FailedPrecondition, InvalidArgument, JobFailed, NotFound
from modelyard.core import errors
from modelyard.core.artifacts import ArtifactStore
from modelyard.core.platform import open_platform
from modelyard.exporter import bootstrap
from modelyard.exporter.domain.export import DatasetVersionRef, ModelVersionRef
from modelyard.exporter.settings import ExporterSettings
from modelyard.formats.bundle import open_bundle
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.tabular import TabularHyperparameters
from modelyard.runtime.model import load_model
from modelyard.trainer.v1 import trainer_pb2
from modelyard.trainer.worker.tabular import run_tabular_training, write_tabular_model
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.datasets import file_store, open_reader, publish_table
from tests.support.hosted import hosted
from tests.support.tables import TARGETS, credit_table

PARENT = "projects/default"
MODEL = f"{PARENT}/models/credit/versions/V001"
VERSION = f"{PARENT}/datasets/credit/versions/V001"
TASK = "tabular_classification"
LINEAR = trainer_pb2.Recipe(recipe_id="linear", task=learning_pb2.TASK_TABULAR_CLASSIFICATION, architecture="linear")


@dataclass
class Known:
    """ports.ModelVersions and ports.DatasetVersions from memory."""

    versions: dict[str, object] = field(default_factory=dict)

    def get(self, name: str) -> object:
        if name not in self.versions:
            raise errors.NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return self.versions[name]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("exporter")
    store = file_store(folder / "artifacts")
    models, versions = _world(store, folder)
    platform = open_platform(ExporterSettings(data_dir=folder), "exporter")
    service = bootstrap.build(platform, models=models, versions=versions)  # type: ignore[arg-type]
    with hosted(platform, [service]) as address:
        yield Client(Addresses.same(address))


def _world(store: ArtifactStore, folder: Path) -> tuple[Known, Known]:
    """A linear model of a table; versions that are running, or of something else."""
    drop = [name for name in TARGETS if name != "good"]
    descriptor = publish_table(store, credit_table(), "good", task=TASK, drop=drop)
    other = publish_table(store, {"x": [1.0, 2.0] * 50, "y": ["a", "b"] * 50}, "y", task=TASK)
    reader = open_reader(store, descriptor)
    recipe = replace(find_recipe("linear", TASK), tabular=TabularHyperparameters())
    result = run_tabular_training(reader, recipe, on_event=lambda event: None)
    write_tabular_model(folder / "model.zip", result, recipe, reader.descriptor, {})
    model = ModelVersionRef(MODEL, TASK, store.put_file(folder / "model.zip"), VERSION)
    version = DatasetVersionRef(VERSION, "SUCCEEDED", TASK, "ab" * 32, descriptor)
    running = replace(version, name=f"{VERSION}-running", state="RUNNING", descriptor=None)
    foreign = replace(version, name=f"{VERSION}-other", descriptor=other)
    models = [
        model,
        replace(model, name=f"{MODEL}-running", dataset_version=running.name),
        replace(model, name=f"{MODEL}-other", dataset_version=foreign.name),
        replace(model, name=f"{MODEL}-broken", model_file=store.put_bytes(b"no model")),
    ]
    return Known({each.name: each for each in models}), Known({each.name: each for each in (version, running, foreign)})


def test_export(client: Client, tmp_path: Path) -> None:
    started = client.exports.create_export("credit/V001", target="cpu-1core")
    export = client.exports.wait_export(started.name, timeout_s=120)
    assert export.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert export.dataset_version == VERSION
    assert export.parity.example_count >= 16
    assert export.parity.max_abs_difference <= export.parity.tolerance
    assert export.latency.target == "cpu-1core"
    assert export.latency.threads == 1
    assert 0 < export.latency.p50_ms <= export.latency.p95_ms
    path = client.artifacts.download(export.artifact, tmp_path / "m.bundle")
    bundle = open_bundle(path)
    assert bundle.card.source.model_version == MODEL
    assert bundle.card.source.dataset_digest == "ab" * 32
    answers = load_model(bundle).run(bundle.test_vectors().inputs)
    assert set(answers["label"].tolist()) <= {"yes", "no"}
    assert export.name in [item.name for item in client.exports.list_exports()]
    assert export.name in [item.name for item in client.exports.list_exports(model_version=export.model_version)]
    assert not list(client.exports.list_exports(model_version="other/V001"))


def test_the_same_model_exports_to_the_same_bytes(client: Client) -> None:
    names = [client.exports.create_export("credit/V001").name for _ in range(2)]
    first, second = (client.exports.wait_export(name, timeout_s=240) for name in names)
    assert first.name != second.name
    assert first.artifact.sha256 == second.artifact.sha256


def test_a_repeated_request_gives_the_same_export(client: Client) -> None:
    request_id = str(uuid.uuid4())
    first, second = (client.exports.create_export("credit/V001", request_id=request_id) for _ in range(2))
    assert first.name == second.name
    with pytest.raises(InvalidArgument):
        client.exports.create_export("credit/V001", target="cpu-1core", request_id=request_id)
    client.exports.cancel_export(first.name)


def test_cancel_and_delete(client: Client) -> None:
    name = client.exports.create_export("credit/V001").name
    client.exports.cancel_export(name)
    with pytest.raises(JobFailed):
        client.exports.wait_export(name, timeout_s=60)
    assert client.exports.get_export(name).artifact.uri == ""
    client.exports.delete_export(name)
    with pytest.raises(NotFound):
        client.exports.get_export(name)


@pytest.mark.parametrize(("version", "reason"), [("V001-other", "DATASET_MISMATCH"), ("V001-broken", "BAD_MODEL")])
def test_what_cannot_be_exported_fails_with_its_reason(client: Client, version: str, reason: str) -> None:
    started = client.exports.create_export(f"credit/{version}")
    with pytest.raises(JobFailed):
        client.exports.wait_export(started.name, timeout_s=120)
    export = client.exports.get_export(started.name)
    assert export.status.reason == reason
    assert export.artifact.uri == ""


def test_wrong_requests_name_the_field(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"export\.target is 'moon'"):
        client.exports.create_export("credit/V001", target="moon")
    with pytest.raises(NotFound):
        client.exports.create_export("credit/V009")
    with pytest.raises(FailedPrecondition, match="RUNNING") as caught:
        client.exports.create_export("credit/V001-running")
    assert caught.value.reason == "DATASET_VERSION_NOT_READY"
    with pytest.raises(NotFound):
        client.exports.get_export("nothing-here")


def test_latency_profile(client: Client) -> None:
    trees = trainer_pb2.Recipe(recipe_id="lightgbm", architecture="lightgbm")
    started = client.profiles.create_latency_profile("credit/V001", [trees, LINEAR], target="cpu-1core")
    profile = client.profiles.wait_latency_profile(started.name, timeout_s=180)
    assert [candidate.recipe_id for candidate in profile.candidates] == ["lightgbm", "linear"]
    assert [candidate.error_message for candidate in profile.candidates] == ["", ""]
    assert all(candidate.latency.p50_ms > 0 for candidate in profile.candidates)
    assert profile.candidates[1].size_bytes < profile.candidates[0].size_bytes


@pytest.mark.parametrize(
    ("recipes", "says"),
    [
        ([], "1 to 32"),
        ([LINEAR] * 33, "33 recipes"),
        ([trainer_pb2.Recipe(recipe_id="linear")], r"recipes\[0\]\.architecture is empty"),
        (
            [LINEAR, trainer_pb2.Recipe(architecture="linear", task=learning_pb2.TASK_TABULAR_REGRESSION)],
            r"recipes\[1\]\.task is tabular_regression",
        ),
    ],
)
def test_wrong_profiles_name_the_field(client: Client, recipes: list[trainer_pb2.Recipe], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        client.profiles.create_latency_profile("credit/V001", recipes)
