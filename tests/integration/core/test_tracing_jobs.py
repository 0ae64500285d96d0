"""A job goes on in the trace of the call that made it, also after a restart."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.rpc import tracing
from tests.support.pipeline_fakes import World
from tests.support.reevaluation_fakes import FakeWatching, ended, running, until, wanted
from tests.support.spans import traced


def test_a_job_goes_on_in_the_trace_that_made_it(tmp_path: Path) -> None:
    watching = FakeWatching(World(looks=10_000))
    watching.publish("V002", 100, 10)
    with traced() as spans:
        with running(tmp_path, watching) as (client, _):
            with tracing.span("mine") as mine:
                name = client.reevaluations.create_reevaluation(wanted()).name
            until(client, name, lambda found: bool(watching.scored))
        trace = mine.get_span_context().trace_id
        watching.world.looks = 1
    with traced() as spans:
        with running(tmp_path, watching) as (client, _):
            until(client, name, ended(1))
        (job,) = spans.named("job ReevaluationRun")
        assert job.context.trace_id == trace
        assert job.attributes["modelyard.job"].startswith(name)
