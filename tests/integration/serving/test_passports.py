"""Only what a trusted key signed is served: when it is deployed, and again each time its bytes are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.client import Client, FailedPrecondition
from modelyard.core.errors import InvalidArgument
from modelyard.core.platform import open_platform
from modelyard.formats.passport_keys import TRUSTED_KEYS
from modelyard.serving import bootstrap
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1 import serving_pb2
from tests.support.bundles import mlp_bundle
from tests.support.passports import a_key, a_passport
from tests.support.serving_server import ServingWorld, serving

READY, FAILED = serving_pb2.Deployment.STATE_READY, serving_pb2.Deployment.STATE_FAILED
Spoil = Callable[[Path, ServingWorld, str, str], bytes]


def _changed_byte(folder: Path, world: ServingWorld, sha256: str, other: str) -> bytes:
    good = a_passport(world.exports.key, sha256)
    middle = len(good) // 2
    return good[:middle] + (b"A" if good[middle : middle + 1] != b"A" else b"B") + good[middle + 1 :]


def _another_artifact(folder: Path, world: ServingWorld, sha256: str, other: str) -> bytes:
    return a_passport(world.exports.key, other)


def _strange_key(folder: Path, world: ServingWorld, sha256: str, other: str) -> bytes:
    return a_passport(a_key(folder, "strange"), sha256)


def _refused_by_the_gate(folder: Path, world: ServingWorld, sha256: str, other: str) -> bytes:
    return a_passport(world.exports.key, sha256, verdict="BACK_TO_DATA")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_changed_byte, "PASSPORT_BAD_SIGNATURE"),
        (_another_artifact, "PASSPORT_OF_ANOTHER_ARTIFACT"),
        (_strange_key, "PASSPORT_UNTRUSTED_KEY"),
        (_refused_by_the_gate, "PASSPORT_NOT_DEPLOYABLE"),
    ],
)
def test_what_has_no_right_passport_is_refused_and_what_serves_goes_on(tmp_path: Path, spoil: Spoil, reason: str) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        first, gate = world.exports.add("x1", "V001", mlp_bundle(tmp_path / "1.zip", seed=1))
        client.endpoints.create_deployment("mlp", export=first, gate_decision=gate)
        export, _ = world.exports.add("x2", "V002", mlp_bundle(tmp_path / "2.zip", seed=2))
        sha256, other = (world.exports.get(name).artifact.sha256 for name in (export, first))  # type: ignore[union-attr]
        passport = world.exports.artifacts.put_bytes(spoil(tmp_path, world, sha256, other))
        gate = world.exports.gates.add("g2", "", passport=passport)
        decision = world.exports.gates.decisions[gate]
        world.exports.gates.decisions[gate] = type(decision)(gate, "DEPLOY", (), sha256, passport)
        with pytest.raises(FailedPrecondition) as refused:
            client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
        assert refused.value.reason == reason
        got = client.endpoints.get_endpoint("mlp")
        assert [(item.name.rpartition("/")[2], item.state) for item in got.deployments] == [("V001", READY)]
        assert client.predictions.ready("mlp", version="V001")


def test_a_key_that_is_not_trusted_any_more_counts_from_the_next_load_on(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        export, gate = world.exports.add("x1", "V001", mlp_bundle(tmp_path / "1.zip"))
        client.endpoints.create_deployment("mlp", export=export, gate_decision=gate)
        for path in (tmp_path / "data" / TRUSTED_KEYS).iterdir():
            path.unlink()
        assert client.predictions.ready("mlp")
    with serving(tmp_path / "data", earlier=world) as again, Client(again.address) as client:
        deployment = _settled(client)
        assert deployment.state == FAILED
        assert "MODELYARD_PASSPORT_TRUSTED_KEYS" in deployment.error_message


def test_bytes_that_changed_in_the_store_are_not_loaded(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world, Client(world.address) as client:
        client.endpoints.create_endpoint("mlp")
        export, gate = world.exports.add("x1", "V001", mlp_bundle(tmp_path / "1.zip"))
        artifact = client.endpoints.create_deployment("mlp", export=export, gate_decision=gate).artifact
        path = world.exports.artifacts.path(artifact.uri)
    path.chmod(0o644)
    path.write_bytes(mlp_bundle(tmp_path / "2.zip", seed=2).read_bytes())
    with serving(tmp_path / "data", earlier=world) as again, Client(again.address) as client:
        assert _settled(client).state == FAILED


def _settled(client: Client) -> serving_pb2.Deployment:
    import time

    deadline = time.monotonic() + 20
    while True:
        deployment = client.endpoints.get_endpoint("mlp").deployments[0]
        if deployment.state != serving_pb2.Deployment.STATE_LOADING or time.monotonic() > deadline:
            return deployment
        time.sleep(0.05)


def test_a_trusted_key_that_is_none_is_told_when_the_service_starts(tmp_path: Path) -> None:
    wrong = tmp_path / "key.pem"
    wrong.write_text("this is no key")
    settings = ServingSettings(data_dir=tmp_path / "data", passport_trusted_keys=wrong)
    with pytest.raises(InvalidArgument, match=r"key\.pem") as refused:
        bootstrap.build(open_platform(settings, "serving"))
    assert refused.value.reason == "BAD_PASSPORT_KEY"
