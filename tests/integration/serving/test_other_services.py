"""Serving beside an exporter and an evaluator on one server: exports, decisions and bytes come over real calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import Client, FailedPrecondition, NotFound
from modelyard.core import errors
from modelyard.core.artifacts import Blob, open_store
from modelyard.core.jobs.convert import blob_message
from modelyard.core.platform import Platform, open_platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.core.settings import CoreSettings
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.evaluator.v1.evaluator_service_pb2_grpc import EvaluatorServiceServicer, add_EvaluatorServiceServicer_to_server
from modelyard.exporter.v1 import exporter_pb2
from modelyard.exporter.v1.exporter_service_pb2_grpc import ExporterServiceServicer, add_ExporterServiceServicer_to_server
from modelyard.serving import bootstrap
from modelyard.serving.adapters.services import ClientExports
from modelyard.serving.settings import ServingSettings
from modelyard.type.v1 import job_pb2
from tests.support.bundles import mlp_bundle
from tests.support.hosted import hosted
from tests.support.passports import a_passport, trusted_key
from tests.support.serving_fakes import PROJECT

EXPORT, GATE = f"{PROJECT}/exports/x", f"{PROJECT}/gateDecisions/g"


@dataclass
class Exporter(ExporterServiceServicer):
    """Knows one export."""

    artifact: Blob | None = None

    def GetExport(self, request: Any, context: Any) -> exporter_pb2.Export:
        if request.name != EXPORT or self.artifact is None:
            raise errors.NotFound("RESOURCE_NOT_FOUND", f"{request.name} does not exist.", name=request.name)
        return exporter_pb2.Export(
            name=EXPORT,
            model_version=f"{PROJECT}/models/m/versions/V007",
            artifact=blob_message(self.artifact),
            status=job_pb2.JobStatus(state=job_pb2.JOB_STATE_SUCCEEDED),
        )


@dataclass
class Evaluator(EvaluatorServiceServicer):
    """Lets the exporter's export through."""

    exporter: Exporter
    passport: Blob

    def GetGateDecision(self, request: Any, context: Any) -> evaluator_pb2.GateDecision:
        assert self.exporter.artifact is not None
        sha256 = self.exporter.artifact.sha256
        return evaluator_pb2.GateDecision(
            name=request.name,
            verdict=evaluator_pb2.VERDICT_DEPLOY,
            artifact_sha256=sha256,
            passport=blob_message(self.passport),
        )


@dataclass
class Beside:
    """The three services of one process, and their platform."""

    platform: Platform
    exporter: Exporter = field(default_factory=Exporter)

    def services(self, **replaced: Any) -> list[Service]:
        exporter, artifact = self.exporter, self.exporter.artifact
        assert artifact is not None
        passport = a_passport(trusted_key(self.platform.settings.data_dir), artifact.sha256)
        evaluator = Evaluator(exporter, self.platform.for_service("evaluator").artifacts.put_bytes(passport))
        add_exporter = Mount(
            "modelyard.exporter.v1.ExporterService", lambda s: add_ExporterServiceServicer_to_server(exporter, s)
        )
        add_evaluator = Mount(
            "modelyard.evaluator.v1.EvaluatorService", lambda s: add_EvaluatorServiceServicer_to_server(evaluator, s)
        )
        serving = bootstrap.build(self.platform.for_service("serving"), **replaced)
        return [Service("exporter", [add_exporter]), Service("evaluator", [add_evaluator]), serving]


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    made = Beside(open_platform(CoreSettings(data_dir=tmp_path / "data"), "modelyard"))
    made.exporter.artifact = made.platform.for_service("exporter").artifacts.put_file(mlp_bundle(tmp_path / "b.zip"))
    return made


def deploy(client: Client) -> str:
    client.endpoints.create_endpoint("net")
    return client.endpoints.create_deployment("net", export=EXPORT, gate_decision=GATE).artifact.uri


def test_bytes_in_the_same_store_become_servings_own(beside: Beside) -> None:
    with hosted(beside.platform, beside.services()) as address, Client(address) as client:
        uri = deploy(client)
        assert beside.exporter.artifact is not None
        assert uri == f"artifact://serving/{beside.exporter.artifact.sha256}"
        beside.platform.for_service("exporter").artifacts.delete(beside.exporter.artifact)
        assert beside.platform.for_service("serving").collect(grace_s=0) == []
        assert client.predictions.ready("net", version="V007")
        client.endpoints.delete_endpoint("net")
        collected = beside.platform.for_service("serving").collect(grace_s=0)
        assert uri in collected
        assert len(collected) == 2  # the bundle and its passport


def test_bytes_in_another_store_are_downloaded(beside: Beside, tmp_path: Path) -> None:
    own = open_store(f"file://{tmp_path / 'elsewhere'}", "serving")
    exports = ClientExports(beside.platform.client, own)
    with hosted(beside.platform, beside.services(exports=exports)) as address, Client(address) as client:
        assert own.exists(deploy(client))
        assert client.predictions.ready("net")


def test_what_another_service_refuses_keeps_its_reason(beside: Beside) -> None:
    with hosted(beside.platform, beside.services()) as address, Client(address) as client:
        client.endpoints.create_endpoint("net")
        with pytest.raises(NotFound) as refused:
            client.endpoints.create_deployment("net", export=f"{PROJECT}/exports/other", gate_decision=GATE)
        assert refused.value.reason == "RESOURCE_NOT_FOUND"
        assert refused.value.values["name"] == f"{PROJECT}/exports/other"


def test_a_missing_service_is_named_with_the_setting_that_helps(beside: Beside) -> None:
    alone = [service for service in beside.services() if service.name == "serving"]
    with hosted(beside.platform, alone) as address, Client(address) as client:
        client.endpoints.create_endpoint("net")
        with pytest.raises(FailedPrecondition, match="set MODELYARD_EXPORTER_ADDRESS") as refused:
            client.endpoints.create_deployment("net", export=EXPORT, gate_decision=GATE)
        assert refused.value.reason == "NO_SUCH_SERVICE"


def test_servings_own_settings_are_read_beside_the_platforms(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_INFERENCE_QUEUE", "3")
    settings = bootstrap.serving_settings(beside.platform)
    assert isinstance(settings, ServingSettings)
    assert (settings.inference_queue, settings.data_dir) == (3, beside.platform.settings.data_dir)
