"""deploy/compose on a real Docker: up, a model, a service killed in the middle, a machine that starts again, down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from modelyard.client import Access, Client, ModelyardClientError, Unauthenticated
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.type.v1 import job_pb2
from tests.e2e.test_apart import start
from tests.support.real_servers import free_port
from tests.support.sources import digits_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("MODELYARD_E2E_COMPOSE"), reason="`make e2e-compose` runs it, with a Docker"),
]
ROOT = Path(__file__).parents[3]
SERVICES = {"dataset", "trainer", "exporter", "evaluator", "serving", "pipeline", "gateway", "console", "postgresql", "minio"}


class Compose:
    """A copy of deploy/compose with secrets of its own, as its first lines say."""

    def __init__(self, folder: Path) -> None:
        self.folder = shutil.copytree(ROOT / "deploy" / "compose", folder / "compose", ignore=shutil.ignore_patterns("secrets"))
        subprocess.run([self.folder / "prepare"], check=True, capture_output=True)
        self.token = (self.folder / "secrets" / "admin-token").read_text()
        self.address = f"127.0.0.1:{free_port()}"
        self._files = ["-f", str(self.folder / "compose.yaml")]
        if stores := os.environ.get("MODELYARD_E2E_COMPOSE_STORES"):
            self._files += ["-f", stores]
        password = (self.folder / "secrets" / "postgres-password").read_text()
        self._environment = os.environ | {"MODELYARD_BIND": self.address, "E2E_POSTGRES_PASSWORD": password}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            ["docker", "compose", *self._files, *command], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-3000:]}"
        return done.stdout

    def up(self) -> None:
        self.run("up", "--detach", "--wait", "--wait-timeout", "300")

    def states(self) -> dict[str, str]:
        lines = [json.loads(line) for line in self.run("ps", "--all", "--format", "json").splitlines()]
        return {one["Service"]: one["Health"] or one["State"] for one in lines}

    def client(self, token: str | None = None) -> Client:
        return Client(self.address, access=Access(self.token if token is None else token), patience_s=120)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    made = Compose(tmp_path_factory.mktemp("compose"))
    try:
        made.up()
        yield made
    finally:
        for name in SERVICES:
            logs = subprocess.run(["docker", "logs", f"modelyard-{name}-1"], capture_output=True, text=True, check=False)
            (made.folder / f"{name}.log").write_text(logs.stdout + logs.stderr)
        made.run("down", "--volumes", "--timeout", "20")
    left = subprocess.run(["docker", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert left.stdout == ""


def test_everything_comes_up_healthy_and_only_gateway_and_console_are_reached(compose: Compose) -> None:
    assert compose.states() == dict.fromkeys(SERVICES - {"gateway"}, "healthy") | {"gateway": "running"}
    for name in SERVICES - {"gateway", "console"}:
        ports = subprocess.run(["docker", "port", f"modelyard-{name}-1"], capture_output=True, text=True, check=True).stdout
        assert ports == ""
    with compose.client("") as nobody, pytest.raises(Unauthenticated):
        list(nobody.datasets.list_datasets())
    with compose.client("0" * 48) as stranger, pytest.raises(Unauthenticated):
        list(stranger.datasets.list_datasets())


def test_a_model_while_its_trainer_is_killed_and_after_the_machine_starts_again(compose: Compose, tmp_path: Path) -> None:
    folder = digits_folder(tmp_path / "digits")
    picture = next(folder.rglob("*.png"))
    with compose.client() as client:
        name = start(client, folder, "digits", 30)
        until_training(client)
        compose.run("kill", "trainer")  # restart: unless-stopped does not start what was killed by hand: the person does
        compose.run("up", "--detach", "--wait", "trainer")
        run = client.pipelines.wait_pipeline_run(name, 600)
        assert run.status.state == job_pb2.JOB_STATE_SUCCEEDED, run.status
        assert run.result.gate_decision.verdict == evaluator_pb2.VERDICT_DEPLOY
        answered = client.predictions.predict("digits", image=picture).labels
        assert [found.status.state for found in client.training.list_training_jobs()] == [job_pb2.JOB_STATE_SUCCEEDED]

    compose.run("stop", "--timeout", "30")
    compose.up()
    with compose.client() as client:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert client.predictions.predict("digits", image=picture).labels == answered
                break
            except (ModelyardClientError, grpc.RpcError):
                assert time.monotonic() < deadline
                time.sleep(1)


def until_training(client: Client) -> None:
    """Waits until a training job has a checkpoint to go on from, or half of its time is over."""
    deadline = time.monotonic() + 200
    while not any(job.status.state == job_pb2.JOB_STATE_RUNNING for job in client.training.list_training_jobs()):
        assert time.monotonic() < deadline, "no training began"
        time.sleep(0.5)
    time.sleep(8)
