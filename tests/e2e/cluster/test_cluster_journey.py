"""On a real cluster, through the gateway: from data to predictions; upgrades, rollbacks and lost parts on the way."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelyard.client import Client
from modelyard.dataset.v1 import dataset_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.e2e.cluster.conftest import Installed
from tests.e2e.cluster.kube import LONG, until
from tests.support.sources import breast_cancer_csv, digits_folder
from tests.support.triton import InferenceServerException, triton

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
RUN_S = 900


def fashion_folder(path: Path, count: int) -> Path:
    """The first pictures of fashion_mnist's test set, in folders by class."""
    import gzip
    import os

    where = Path(os.environ.get("MODELYARD_DATA", Path(__file__).parents[4] / "shared" / "data")) / "fashion_mnist"
    files = {kind: next(where.rglob(f"t10k-{kind}*"), None) for kind in ("images", "labels")}
    if None in files.values():
        return digits_folder(path)
    read: Callable[[Path], bytes] = lambda file: gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()  # noqa: E731
    pixels = np.frombuffer(read(files["images"]), np.uint8, offset=16).reshape(-1, 28, 28)[:count]  # type: ignore[arg-type]
    labels = np.frombuffer(read(files["labels"]), np.uint8, offset=8)[:count]  # type: ignore[arg-type]
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (path / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path / str(label) / f"{number}.png")
    return path


def start(client: Client, source: Path, name: str, seconds: int) -> str:
    blob = client.artifacts.upload(source)
    run = pipeline_pb2.PipelineRun(
        source=pipeline_pb2.Source(blob=blob, file_name=source.name, dataset=client.names.dataset(name)),
        split=dataset_pb2.SplitPolicy(train_ratio="0.8"),
        floors=[learning_pb2.Floor(metric="accuracy", value=0.5)],
        model=client.names.model(name),
        endpoint=client.names.endpoint(name),
    )
    run.max_training_time.FromSeconds(seconds)
    return client.pipelines.create_pipeline_run(run).name


def succeeded(client: Client, run: str, name: str) -> None:
    """It ended well, and made one of everything: nothing is lost, nothing doubled."""
    found = client.pipelines.wait_pipeline_run(run, RUN_S)
    assert found.status.state == job_pb2.JOB_STATE_SUCCEEDED, found.status
    assert [version.name.rsplit("/", 1)[1] for version in client.models.list_model_versions(name)] == ["V001"]
    versions = client.datasets.list_dataset_versions(name)
    assert [version.name.rsplit("/", 1)[1] for version in versions] == ["V001"]


def test_auto_from_a_folder_to_a_prediction(installed: Installed, tmp_path: Path) -> None:
    folder = fashion_folder(tmp_path / "fashion", 1500)
    command = [sys.executable, "-m", "modelyard.cli", "auto", str(folder), "--name", "fashion", "--max-train-time", "60s"]
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            pods = installed.kube.items("pods", "app.kubernetes.io/component=worker")
            seen.update(pod["spec"]["containers"][0]["image"].rpartition("/")[2].partition(":")[0] for pod in pods)
            stop.wait(2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = subprocess.run(
            [*command, "--min-accuracy", "0.5", "--server", installed.address],
            env=installed.environment(), capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
    finally:
        stop.set()
        watcher.join()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {"modelyard-dataset", "modelyard-trainer", "modelyard-exporter", "modelyard-evaluator"} <= seen, seen
    assert installed.kube.items("deployments", "app.kubernetes.io/component=serving-pod"), "no Deployment of serving pods"
    picture = next((folder / "3").iterdir()).read_bytes()
    server = triton.InferenceServerClient(
        installed.address, ssl=True, root_certificates=str(installed.ca),
        channel_args=[("grpc.ssl_target_name_override", f"{installed.name}-gateway")],
    )  # fmt: skip
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([picture], dtype=np.object_))
    answer = server.infer("fashion", [image], headers={"authorization": f"Bearer {installed.token}"})
    assert answer.get_response().model_version == "V001"
    assert answer.as_numpy("label").shape == (1,)
    with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
        server.infer("fashion", [image])


def test_an_upgrade_and_a_rollback_during_training_lose_nothing(installed: Installed, tmp_path: Path) -> None:
    source = digits_folder(tmp_path / "digits")
    with installed.client() as client:
        run = start(client, source, "upgraded", 60)

        def training() -> bool:
            return any(job.status.state == job_pb2.JOB_STATE_RUNNING for job in client.training.list_training_jobs())

        until("a training job that runs", training, 300)
    revision = installed.kube.helm("history", "yard", "-o", "json").count('"revision"')
    installed.upgrade("--set", f"defaults.podAnnotations.upgraded=to-{revision}")
    installed.kube.helm("rollback", "yard", str(revision), "--wait", "--timeout", "15m")
    with installed.client() as client:
        succeeded(client, run, "upgraded")


@pytest.mark.parametrize("victim", ["services", pytest.param("postgresql", marks=LONG), pytest.param("minio", marks=LONG)])
def test_a_run_goes_on_over_the_loss_of(installed: Installed, tmp_path: Path, victim: str) -> None:
    source, name = breast_cancer_csv(tmp_path / "cancer.csv"), f"without-{victim}"
    chance = random.Random(f"{victim}-{time.time()}")
    with installed.client() as client:
        run = start(client, source, name, 20)
    if victim == "services":
        for component in ("pipeline", "trainer", "dataset", "evaluator", "exporter", "serving", "gateway"):
            time.sleep(chance.uniform(0, 8))
            for pod in installed.kube.pods(component)[:1]:
                installed.kube.run("delete", "pod", pod, "--grace-period=0", "--force")
    else:
        time.sleep(chance.uniform(0, 20))
        installed.kube.run("scale", f"statefulset/{installed.name}-{victim}", "--replicas=0")
        time.sleep(60)
        installed.kube.run("scale", f"statefulset/{installed.name}-{victim}", "--replicas=1")
    with installed.client() as client:
        succeeded(client, run, name)


def test_helm_test_runs_a_small_pipeline(installed: Installed) -> None:
    said = installed.kube.helm("test", "yard", "--timeout", "15m", "--logs", check=False)
    assert "Phase:          Succeeded" in said, said[-3000:] + installed.kube.run("logs", f"{installed.name}-test", check=False)
