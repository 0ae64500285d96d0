"""A model selection end to end, and that it holds its time: real server, SQLite, worker processes, digits.

The workers' clock counts the looks at it (tests.support.counted_worker), so that every machine comes to the same. In a folder of
its own, for a process runs the jobs of one server at a time, and that of tests/integration/trainer lives as long as its folder.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelyard.trainer.v1 import selection_pb2
from modelyard.trainer.v1 import trainer_pb2 as pb
from tests.integration.trainer.conftest import DIGITS, Trainer, running

pytestmark = pytest.mark.slow

TIME_S = 24.0


def a_recipe(base_lr: float) -> pb.Recipe:
    return pb.Recipe(recipe_id="micronet", hyperparameters=pb.Hyperparameters(base_lr=base_lr, max_epochs=10_000, batch_size=32))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with running(tmp_path_factory.mktemp("counted"), worker_module="tests.support.counted_worker") as started:
        yield started


def test_candidates_compete_and_the_time_is_held(counted: Trainer) -> None:
    trainer, selections = counted, counted.client.selections
    recipes = [a_recipe(1e-6), a_recipe(5e-3)]
    shown: list[selection_pb2.ModelSelection] = []
    started = selections.create_model_selection(DIGITS, "chosen", TIME_S, recipes=recipes, max_candidates=2)
    ended = selections.wait_model_selection(
        started.name, timeout_s=240, on_change=lambda change: shown.append(change.model_selection)
    )
    states = [each.state for each in ended.candidates]
    assert states == [selection_pb2.CANDIDATE_STATE_ELIMINATED, selection_pb2.CANDIDATE_STATE_WON]
    won = ended.candidates[1]
    assert len(won.training_jobs) == 2
    jobs = [trainer.client.training.get_training_job(name) for each in ended.candidates for name in each.training_jobs]
    spent = sum(job.train_duration.ToNanoseconds() / 1e9 for job in jobs)
    assert ended.train_duration.ToNanoseconds() / 1e9 == pytest.approx(spent, abs=0.01)
    assert spent == pytest.approx(TIME_S, rel=0.02)
    assert ended.spared_duration.seconds > 100, "10,000 epochs each were asked for"
    last = trainer.client.training.get_training_job(ended.best_training_job)
    assert last.resume_from.training_job == won.training_jobs[0]
    assert ended.model_version == last.model_version
    assert trainer.client.models.get_model_version(ended.model_version).training_job == last.name
    assert {job.part_of for job in jobs} == {ended.name}
    group = ended.name.rpartition("/")[2]
    assert {each.name for each in trainer.client.training.list_training_jobs(tag=group, show_parts=True)} == {
        job.name for job in jobs
    }
    # The second goes on where the first stood.
    first = trainer.client.training.get_training_job(won.training_jobs[0])
    assert last.latest_point.step > first.latest_point.step
    assert [each.status.progress.fraction for each in shown] == sorted(each.status.progress.fraction for each in shown)
    assert any(each.rung == 1 and each.rungs == 2 for each in shown)
