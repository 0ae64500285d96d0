"""From scored bytes over the gate to what serves: one key, one data folder, and no other road."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.main import main
from modelyard.client import Addresses, Client, FailedPrecondition
from modelyard.core.artifacts import Blob
from modelyard.core.errors import InvalidArgument
from modelyard.core.latency import Latency
from modelyard.core.platform import Platform, open_platform
from modelyard.core.settings import CoreSettings
from modelyard.evaluator import bootstrap as evaluator_bootstrap
from modelyard.evaluator.domain.evaluation import DatasetVersionRef, ExportRef
from modelyard.evaluator.settings import EvaluatorSettings
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.formats.bundle import open_bundle, write_bundle
from modelyard.formats.passport import read, verify
from modelyard.formats.passport_keys import SIGNING_KEY, TRUSTED_KEYS, read_signing_key, trusted_keys
from modelyard.serving import bootstrap as serving_bootstrap
from modelyard.serving.adapters.services import ClientExports
from modelyard.serving.domain.admission import Export
from modelyard.serving.v1 import serving_pb2
from tests.support import small_bundles
from tests.support.datasets import publish_table
from tests.support.hosted import hosted
from tests.support.passports import a_key

PARENT = "projects/default"
VERSION = f"{PARENT}/datasets/rows/versions/V001"
TASK = "tabular_classification"
READY = serving_pb2.Deployment.STATE_READY


@dataclass
class Made:
    """The exports there are, as the evaluator and as serving ask for them."""

    artifacts: dict[str, Blob]
    fetching: ClientExports

    def get(self, name: str) -> ExportRef:
        return ExportRef(name, "SUCCEEDED", self.artifacts[name], Latency(0.5, 1.5, 2.0, 100, 2, "cpu", "this"), VERSION, TASK)


@dataclass
class Served(Made):
    """The same as serving's port."""

    def get(self, name: str) -> Export:  # type: ignore[override]
        return Export(name, f"{PARENT}/models/m/versions/V00{len(name) % 10}", "SUCCEEDED", self.artifacts[name])

    def fetch(self, artifact: Blob) -> Blob:
        return self.fetching.fetch(artifact)

    def path(self, artifact: Blob) -> Path:
        return self.fetching.path(artifact)


@dataclass
class World:
    """A running evaluator and serving over one data folder, with two exports of different bytes and their decisions."""

    client: Client
    platform: Platform
    artifacts: dict[str, Blob]
    decisions: dict[str, pb.GateDecision]


def export(name: str) -> str:
    return f"{PARENT}/exports/{name}"


def _bundle(folder: Path, recipe: str) -> Path:
    """The same model with another recipe on its card: other bytes."""
    plain = open_bundle(small_bundles.table_classifier(folder / "plain.zip"))
    path = folder / f"{recipe}.zip"
    write_bundle(path, replace(plain.card, recipe=recipe), plain.model_bytes(), plain.test_vectors())
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("passports")
    platform = open_platform(CoreSettings(data_dir=folder), "modelyard")
    store = platform.for_service("exporter").artifacts
    artifacts = {export(name): store.put_file(_bundle(folder, name)) for name in ("x", "other")}
    x = [float(1 - 2 * (row % 2)) for row in range(500)]
    labels = [("no" if value > 0 else "yes") if row % 10 == 3 else ("yes" if value > 0 else "no") for row, value in enumerate(x)]
    columns: dict[str, Any] = {"x": x, "word": ["w"] * 500, "y": labels}
    descriptor = publish_table(platform.for_service("dataset").artifacts, columns, "y", task=TASK)
    versions = _Versions(DatasetVersionRef(VERSION, "SUCCEEDED", descriptor, "ab" * 32, TASK))
    fetching = ClientExports(platform.client, platform.for_service("serving").artifacts)
    evaluator = evaluator_bootstrap.build(platform.for_service("evaluator"), exports=Made(artifacts, fetching), versions=versions)
    serving = serving_bootstrap.build(platform.for_service("serving"), exports=Served(artifacts, fetching))
    with hosted(platform, [evaluator, serving]) as address:
        client = Client(Addresses.same(address))
        evaluations = {name: client.evaluations.create_evaluation(name).name for name in artifacts}
        for name in evaluations.values():
            client.evaluations.wait_evaluation(name, timeout_s=120)
        client.endpoints.create_endpoint("rows")
        decisions = {name: client.gate.create_gate_decision(of) for name, of in evaluations.items()}
        yield World(client, platform, artifacts, decisions)


@dataclass
class _Versions:
    version: DatasetVersionRef

    def get(self, name: str) -> DatasetVersionRef:
        return self.version

    def use(self, version: str, evaluation: str, usages: tuple[str, ...]) -> Blob:
        assert self.version.descriptor is not None
        return self.version.descriptor


def _bytes(world: World, name: str) -> bytes:
    blob = world.decisions[export(name)].passport
    return world.platform.for_service("evaluator").artifacts.read_bytes(blob.uri)


def test_the_passport_is_signed_with_a_key_made_for_this_data_folder(world: World) -> None:
    folder = world.platform.settings.data_dir
    assert (folder / SIGNING_KEY).stat().st_mode & 0o777 == 0o600
    data = _bytes(world, "x")
    found = verify(data, world.artifacts[export("x")].sha256, trusted_keys(folder / TRUSTED_KEYS))
    assert found.key_id == read_signing_key(folder / SIGNING_KEY).public.key_id
    assert found.content["gate"]["decision"] == world.decisions[export("x")].name
    assert found.content["artifact"]["sha256"] == world.artifacts[export("x")].sha256
    assert found.content["dataset"]["digest"]
    assert "unknown" in found.content["experiment"]  # no trainer runs here: said, not guessed
    test = found.content["evaluation"]["scores"]["test"]
    assert test["examples"] == 50
    assert test["metrics"][0]["lower"] < test["metrics"][0]["value"]


def test_the_passport_is_kept_as_long_as_the_decision(world: World) -> None:
    evaluator = world.platform.for_service("evaluator")
    assert world.decisions[export("x")].passport.uri not in evaluator.collect(grace_s=0)


@pytest.mark.parametrize("way", ["another decision", "made again"])
def test_bytes_without_an_evaluation_of_their_own_are_not_deployed(world: World, way: str) -> None:
    name, decision = export("x"), world.decisions[export("x")]
    before = world.artifacts[name]
    if way == "another decision":
        decision = world.decisions[export("other")]
    else:
        remade = _bundle(world.platform.settings.data_dir, "again")
        world.artifacts[name] = world.platform.for_service("exporter").artifacts.put_file(remade)
    try:
        with pytest.raises(FailedPrecondition) as caught:
            world.client.endpoints.create_deployment("rows", export=name, gate_decision=decision.name)
    finally:
        world.artifacts[name] = before
    assert caught.value.reason == "ARTIFACT_NOT_EVALUATED"
    assert not world.client.endpoints.get_endpoint("rows").deployments


def test_what_the_gate_let_through_is_deployed_and_answers(world: World) -> None:
    name = export("x")
    made = world.client.endpoints.create_deployment("rows", export=name, gate_decision=world.decisions[name].name)
    assert made.state == READY
    assert world.client.predictions.ready("rows")
    world.client.endpoints.delete_deployment(made.name)


def test_the_command_line_shows_and_verifies_it(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    decision, folder = world.decisions[export("x")].name, world.platform.settings.data_dir
    server = ["--server", world.platform.own_address["address"], "--data-dir", str(folder)]
    assert _ran("passport", "show", decision, "--out", str(tmp_path / "p.json"), "--json", *server) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["gate"]["verdict"] == "DEPLOY"
    assert read((tmp_path / "p.json").read_bytes()).verdict == "DEPLOY"
    assert _ran("passport", "verify", decision, *server) == 0
    assert "verified" in capsys.readouterr().out


def _ran(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_a_signing_key_that_is_none_is_told_when_the_service_starts(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    settings = EvaluatorSettings(data_dir=tmp_path / "data", passport_signing_key=tmp_path / "key.pem")
    with pytest.raises(InvalidArgument, match=r"key\.pem"):
        evaluator_bootstrap.build(open_platform(settings, "evaluator"))


def test_a_key_that_is_mounted_signs_instead_of_one_of_its_own(tmp_path: Path) -> None:
    key = a_key(tmp_path, "mounted")
    from modelyard.evaluator.adapters.passports import SignedPassports

    platform = open_platform(EvaluatorSettings(data_dir=tmp_path / "data"), "evaluator")
    passports = SignedPassports(platform.artifacts, tmp_path / "mounted.pem", tmp_path / "own.pem", tmp_path / "trusted")
    blob = passports.issue(export("x"), "ab" * 32, {"gate": {"verdict": "DEPLOY"}})
    found = verify(platform.artifacts.read_bytes(blob), "ab" * 32, trusted_keys(tmp_path / "trusted"))
    assert found.key_id == key.public.key_id
    assert not (tmp_path / "own.pem").exists()
