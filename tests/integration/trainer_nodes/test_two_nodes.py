"""A training over two nodes, which are two real torchrun agents here: as good as over one, and elastic to the loss of a node."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.client import Client, JobFailed
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.platform import open_platform
from modelyard.trainer.bootstrap import build
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.type.v1 import job_pb2
from tests.integration.trainer.conftest import TABLE, Trainer, environment, published, worker_pids
from tests.support.hosted import hosted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A trainer whose attempts run on two nodes, with a checkpoint every half second."""
    yield from trainer_of_two_nodes(tmp_path_factory.mktemp("nodes"), checkpoint_every_s=0.5)


@pytest.fixture
def sparing(tmp_path: Path) -> Iterator[Trainer]:
    """The same, with no checkpoint but those that somebody asks for."""
    yield from trainer_of_two_nodes(tmp_path, checkpoint_every_s=3600)


def trainer_of_two_nodes(folder: Path, checkpoint_every_s: float) -> Iterator[Trainer]:
    settings = TrainerSettings(data_dir=folder, training_slots=1, checkpoint_every_s=checkpoint_every_s, group_timeout_s=60)
    platform = open_platform(settings, "trainer", JobLimits(retry_wait_s=0.1, cancel_grace_s=20))
    stand_in = published(folder)
    service = build(platform, worker_module="tests.support.two_nodes")
    with hosted(platform, [stand_in.service(), service]) as address, Client(address) as client:
        yield Trainer(client, platform)


def on_node(number: int, job: str) -> list[int]:
    """The agent of a node and what it started."""
    found = [pid for pid in worker_pids() if job in environment(pid) and f"NODE={number}" in environment(pid).split("\0")]
    assert found, f"nothing runs on node {number}"
    return found


# First: it has a trainer of its own, and a process has one DBOS, which the trainer of the others then makes anew.
def test_a_node_that_is_told_to_leave_costs_nothing(sparing: Trainer) -> None:
    job = sparing.create("evicted", model="evicted", hyperparameters=pb.Hyperparameters(max_epochs=12, batch_size=32))
    before = sparing.until(job, lambda now: now.latest_point.epoch >= 2 and now.processes == 2)
    for pid in on_node(1, job.name):  # the agent passes it on; so may the kubelet
        os.kill(pid, signal.SIGTERM)
    assert not before.checkpoints, "so what it goes on from is what it saved when told to leave"
    ended = sparing.wait(job)
    assert (ended.status.state, ended.status.attempt, ended.processes) == (job_pb2.JOB_STATE_SUCCEEDED, 1, 1)
    steps = [p.step for response in sparing.client.training.watch_training_job(job.name) for p in response.points]
    assert steps == sorted(steps), "no step was made twice"


def test_two_nodes_train_a_model_as_good_as_one_does(nodes: Trainer) -> None:
    settings = pb.Hyperparameters(max_epochs=4, batch_size=32, seed=3)
    alone, together = (
        nodes.wait(nodes.create(name, hyperparameters=settings, repeat_reason="one node and two"))
        for name in ("on-one-node", "on-two")
    )
    assert (together.status.state, together.status.reason) == (job_pb2.JOB_STATE_SUCCEEDED, "COMPLETED")
    assert together.latest_point.step == alone.latest_point.step
    metrics = [dict(each.latest_point.metrics) for each in (alone, together)]
    assert metrics[1]["val_accuracy"] == pytest.approx(metrics[0]["val_accuracy"], abs=0.03)
    assert metrics[1]["val_loss"] == pytest.approx(metrics[0]["val_loss"], abs=0.05)
    assert (alone.processes, together.processes) == (1, 2)


def test_a_node_that_is_lost_costs_no_more_than_what_came_after_the_last_checkpoint(nodes: Trainer) -> None:
    job = nodes.create("lost", model="lost", hyperparameters=pb.Hyperparameters(max_epochs=12, batch_size=32))
    before = nodes.until(job, lambda now: len(now.checkpoints) == 2 and now.latest_point.epoch > 1)
    assert before.processes == 2
    killed = time.time()
    for pid in on_node(1, job.name):
        os.kill(pid, signal.SIGKILL)
    ended = nodes.wait(job)
    assert ended.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert ended.status.attempt == 1, "the node that was left went on by itself"
    assert ended.processes == 1
    assert [version.name for version in nodes.client.models.list_model_versions("lost")] == [ended.model_version]
    responses = list(nodes.client.training.watch_training_job(job.name))
    after = [point for response in responses for point in response.points if point.time.ToNanoseconds() / 1e9 > killed]
    assert after[-1].epoch == 12
    assert min(point.step for point in after) >= max(each.step for each in before.checkpoints), "it began again"


def test_cancelling_ends_all_nodes(nodes: Trainer) -> None:
    job = nodes.long("cancelled-on-two")
    nodes.until(job, lambda now: now.latest_point.step > 1)
    nodes.client.training.cancel_training_job(job.name)
    nodes.until(job, lambda now: now.status.state == job_pb2.JOB_STATE_CANCELLED)
    assert not [pid for pid in worker_pids() if job.name in environment(pid)]


def test_trees_are_not_grown_by_two(nodes: Trainer) -> None:
    job = nodes.create("trees", dataset_version=TABLE, model="trees", recipe="linear")
    with pytest.raises(JobFailed, match="one node"):
        nodes.wait(job)
