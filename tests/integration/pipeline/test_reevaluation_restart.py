"""The schedule of re-evaluations is in the database: it goes on with the next server, and a run that was under way ends."""

from __future__ import annotations

from pathlib import Path

from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from tests.support.pipeline_fakes import World
from tests.support.reevaluation_fakes import FakeWatching, ended, make_due, running, until, wanted


def test_the_schedule_survives_a_restart(tmp_path: Path) -> None:
    watching = FakeWatching(World(looks=10_000))
    watching.publish("V002", 130, 70)
    with running(tmp_path, watching) as (client, platform):
        name = client.reevaluations.create_reevaluation(wanted()).name
        until(client, name, lambda found: bool(watching.scored))  # it waits for its evaluation, which does not end
        assert client.reevaluations.get_reevaluation(name).results[0].status.state == 2
    watching.world.looks = 1
    with running(tmp_path, watching) as (client, platform):
        found = until(client, name, ended(1))
        assert found.verdict == pb.REEVALUATION_VERDICT_DRIFTED
        assert len(watching.scored) == 1  # the run found what it had started
    with running(tmp_path, watching) as (client, platform):
        watching.publish("V003", 185, 15)
        make_due(platform, name)
        assert until(client, name, ended(2)).verdict == pb.REEVALUATION_VERDICT_OK
