"""Re-evaluations on a real server with a real job engine; only the services they ask are fakes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import REGISTRY

from modelyard.client import AlreadyExists, Client, InvalidArgument, NotFound
from modelyard.core import errors
from modelyard.core.platform import Platform
from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.pipeline_fakes import PARENT, World
from tests.support.reevaluation_fakes import DATASET, ENDPOINT, GATE, FakeWatching, ended, make_due, running, until, wanted


@pytest.fixture(scope="module")
def watching() -> FakeWatching:
    return FakeWatching(World(looks=1))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, watching: FakeWatching) -> Iterator[tuple[Client, Platform]]:
    with running(tmp_path_factory.mktemp("pipeline"), watching) as found:
        yield found


@pytest.fixture(scope="module")
def client(here: tuple[Client, Platform]) -> Client:
    return here[0]


def gauge_becomes(name: str, value: float) -> None:
    """What Prometheus reads of the re-evaluation "digits" becomes this, once the scheduler has looked."""
    labels = {"reevaluation": f"{PARENT}/reevaluations/digits", "endpoint": ENDPOINT}
    deadline = time.monotonic() + 10
    while (found := REGISTRY.get_sample_value(f"modelyard_reevaluation_{name}", labels)) != pytest.approx(value):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_it_runs_by_itself_and_says_what_it_finds(here: tuple[Client, Platform], watching: FakeWatching) -> None:
    client, platform = here
    watching.publish("V001", 0, 0)
    made = client.reevaluations.create_reevaluation(wanted(display_name="Digits", interval=Duration(seconds=3600)))
    assert made.name == f"{PARENT}/reevaluations/digits"
    assert (made.usage, made.min_new_examples, made.max_loss) == (learning_pb2.USAGE_TEST, 50, 0.02)
    first = until(client, "digits", ended(1))
    assert first.verdict == pb.REEVALUATION_VERDICT_NOT_ENOUGH_DATA
    assert "what the gate looked at" in first.results[0].advice
    assert first.results[0].evaluation == ""
    assert 3500 < first.next_time.ToSeconds() - first.create_time.ToSeconds() < 3700

    watching.publish("V002", 130, 70)
    make_due(platform, made.name)
    second = until(client, "digits", ended(2))
    result = second.results[0]
    assert second.verdict == result.verdict == pb.REEVALUATION_VERDICT_DRIFTED
    assert result.dataset_version == f"{DATASET}/versions/V002"
    assert result.export == f"{PARENT}/exports/x1"
    assert result.gate_evaluation == GATE
    assert (result.new_examples, result.known_examples) == (200, 200)
    assert result.metric.value == pytest.approx(0.65)
    assert result.gate_metric.value == pytest.approx(0.9)
    assert 0 < result.loss.lower < result.loss.value < result.loss.upper
    assert watching.world.how[result.evaluation]["usage"] == "test"

    scored = len(watching.scored)
    make_due(platform, made.name)
    third = until(client, "digits", ended(3))
    assert third.results[0].evaluation == result.evaluation  # nothing changed: it is not scored again
    assert third.results[0].verdict == pb.REEVALUATION_VERDICT_DRIFTED
    assert len(watching.scored) == scored

    gauge_becomes("drifted", 1)
    gauge_becomes("loss", 0.25)

    watching.publish("V003", 185, 15)
    client.reevaluations.run_reevaluation("digits")
    assert until(client, "digits", ended(4)).verdict == pb.REEVALUATION_VERDICT_OK
    listed = list(client.reevaluations.list_reevaluations())
    assert [(each.name, len(each.results)) for each in listed] == [(made.name, 1)]


def test_a_run_that_fails_says_why_and_the_next_one_goes_on(here: tuple[Client, Platform], watching: FakeWatching) -> None:
    client, platform = here
    watching.publish("V002", 100, 10)
    watching.champion_error = errors.FailedPrecondition("NO_CHAMPION", "nothing answers")
    made = client.reevaluations.create_reevaluation(wanted(), reevaluation_id="failing")
    found = until(client, "failing", ended(1))
    assert found.results[0].status.state == job_pb2.JOB_STATE_FAILED
    assert found.results[0].status.reason == "NO_CHAMPION"
    assert found.verdict == pb.REEVALUATION_VERDICT_UNSPECIFIED
    watching.champion_error = None
    make_due(platform, made.name)
    assert until(client, "failing", ended(2)).verdict == pb.REEVALUATION_VERDICT_OK
    client.reevaluations.delete_reevaluation("failing")


def test_one_run_at_a_time(here: tuple[Client, Platform], watching: FakeWatching) -> None:
    client, _ = here
    watching.world.looks = 40
    watching.publish("V009", 100, 10)
    client.reevaluations.create_reevaluation(wanted(), reevaluation_id="slow")
    first, second = (client.reevaluations.run_reevaluation("slow").name for _ in range(2))
    assert first == second
    client.reevaluations.delete_reevaluation("slow")
    watching.world.looks = 1


def test_the_same_request_gives_the_same_and_its_name_is_taken(client: Client) -> None:
    request_id = str(uuid.uuid4())
    first = client.reevaluations.create_reevaluation(wanted(), reevaluation_id="twice", request_id=request_id)
    again = client.reevaluations.create_reevaluation(wanted(), reevaluation_id="twice", request_id=request_id)
    assert first.name == again.name
    with pytest.raises(AlreadyExists):
        client.reevaluations.create_reevaluation(wanted(), reevaluation_id="twice")
    until(client, "twice", ended(1))
    client.reevaluations.delete_reevaluation("twice")
    with pytest.raises(NotFound):
        client.reevaluations.get_reevaluation("twice")
    anew = client.reevaluations.create_reevaluation(wanted(), reevaluation_id="twice")
    assert len(anew.results) <= 1
    client.reevaluations.delete_reevaluation("twice")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"endpoint": "../etc"}, "reevaluation.endpoint"),
        ({"endpoint": ""}, "reevaluation.endpoint"),
        ({"interval": Duration(seconds=59)}, "reevaluation.interval"),
        ({"usage": learning_pb2.USAGE_TRAIN}, "reevaluation.usage"),
        ({"usage": 77}, "reevaluation.usage"),
        ({"max_loss": -1.0}, "reevaluation.max_loss"),
    ],
)
def test_what_is_wrong_is_refused_at_once(client: Client, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.reevaluations.create_reevaluation(wanted(**fields), reevaluation_id="wrong")
    assert caught.value.violations[0].field == field


def test_an_endpoint_that_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound):
        client.reevaluations.create_reevaluation(wanted(endpoint=f"{PARENT}/endpoints/none"))
