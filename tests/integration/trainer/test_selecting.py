"""A model selection that is stopped, and ones that are refused: real server, SQLite, worker processes, digits. That the time is
held is in tests/integration/trainer_clock."""

from __future__ import annotations

import pytest

from modelyard.client import InvalidArgument
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.type.v1 import job_pb2
from tests.integration.trainer.conftest import DIGITS, PARENT, Trainer

pytestmark = pytest.mark.slow


def a_recipe(base_lr: float) -> pb.Recipe:
    return pb.Recipe(recipe_id="micronet", hyperparameters=pb.Hyperparameters(base_lr=base_lr, max_epochs=10_000, batch_size=32))


def test_stopping_keeps_the_best_so_far_and_what_is_wrong_is_named(trainer: Trainer) -> None:
    selections = trainer.client.selections
    started = selections.create_model_selection(DIGITS, "stopped", 600.0, recipes=[a_recipe(4e-3)])
    parts = trainer.client.training.list_training_jobs
    trainer_job = None
    for change in selections.watch_model_selection(started.name):
        names = [name for each in change.model_selection.candidates for name in each.training_jobs]
        if names:
            trainer_job = trainer.client.training.get_training_job(names[0])
            break
    assert trainer_job is not None
    trainer.until(trainer_job, lambda now: now.latest_point.step > 0)
    selections.stop_model_selection(started.name)
    ended = selections.wait_model_selection(started.name, timeout_s=120)
    assert (ended.status.state, ended.status.reason) == (job_pb2.JOB_STATE_SUCCEEDED, "STOPPED")
    assert ended.model_version.startswith(f"{PARENT}/models/stopped/versions/")
    assert [each.name for each in parts(model="stopped", show_parts=True)] == [trainer_job.name]
    for more, field in (
        ({"recipes": [pb.Recipe(recipe_id="giantnet")]}, "recipe_id"),
        ({"max_inference_duration_ms": 5.0}, "target"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            selections.create_model_selection(DIGITS, "wrong", 60.0, **more)
        assert field in caught.value.message
