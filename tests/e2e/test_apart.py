"""The same journey with every service in a process of its own, PostgreSQL and MinIO behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelyard.client import Client
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.postgres import fresh_database
from tests.support.servers import Apart
from tests.support.sources import breast_cancer_csv, digits_folder
from tests.support.triton import triton

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def apart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    server = request.getfixturevalue("_s3")
    s3 = {
        "MODELYARD_ARTIFACTS_URL": "s3://modelyard-apart",
        "MODELYARD_S3_ENDPOINT": server.endpoint,
        "MODELYARD_S3_ACCESS_KEY": server.access_key,
        "MODELYARD_S3_SECRET_KEY": server.secret_key,
    }
    with fresh_database(request.getfixturevalue("_postgres")) as database_url:
        apart = Apart(tmp_path_factory.mktemp("apart"), database_url, s3)
        try:
            apart.start_all()
            yield apart
        finally:
            apart.stop_all()


def start(client: Client, source: Path, name: str, seconds: int = 8) -> str:
    blob = client.artifacts.upload(source)
    run = pipeline_pb2.PipelineRun(
        source=pipeline_pb2.Source(blob=blob, file_name=source.name, dataset=client.names.dataset(name)),
        split=dataset_pb2.SplitPolicy(train_ratio="0.8"),
        floors=[learning_pb2.Floor(metric="accuracy", value=0.7)],
    )
    run.max_training_time.FromSeconds(seconds)
    return client.pipelines.create_pipeline_run(run).name


def test_pictures_from_folder_to_prediction(apart: Apart, tmp_path: Path) -> None:
    folder = digits_folder(tmp_path / "digits")
    with apart.client() as client:
        run = client.pipelines.wait_pipeline_run(start(client, folder, "digits", 15), 400)
        assert run.status.state == job_pb2.JOB_STATE_SUCCEEDED
        assert run.result.gate_decision.verdict == evaluator_pb2.VERDICT_DEPLOY
        export = client.exports.get_export(run.result.export)
        assert export.artifact.sha256 == run.result.export_sha256
        assert client.evaluations.get_evaluation(run.result.evaluation).artifact_sha256 == run.result.export_sha256
    picture = next((folder / "7").iterdir()).read_bytes()
    server = triton.InferenceServerClient(f"127.0.0.1:{apart.ports['serving']}")
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([picture], dtype=np.object_))
    answer = server.infer("digits", [image])
    assert answer.as_numpy("label").tolist() == [b"7"]
    assert answer.get_response().model_version == "V001"


def test_a_run_goes_on_over_a_kill_of_each_service(apart: Apart, tmp_path: Path) -> None:
    source = breast_cancer_csv(tmp_path / "cancer.csv")
    with apart.client() as client:
        run = start(client, source, "cancer")
    for name in ("pipeline", "trainer", "dataset", "evaluator", "exporter", "serving"):
        time.sleep(2)
        apart.processes[name].kill()
        apart.start(name).wait_ready()
    with apart.client() as client:
        found = client.pipelines.wait_pipeline_run(run, 400)
        assert found.status.state == job_pb2.JOB_STATE_SUCCEEDED
        assert [version.name.rsplit("/", 1)[1] for version in client.models.list_model_versions("cancer")] == ["V001"]
