"""The watch over a change of traffic: taken back when it makes things worse, once, and with what was measured in the record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from modelyard.serving.domain.endpoint import EventKind
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.version_statistics import Timing
from modelyard.serving.handlers.endpoints import get_endpoint
from modelyard.serving.handlers.guard import Guard
from modelyard.serving.handlers.reconcile import reconcile
from modelyard.serving.handlers.router import route
from modelyard.serving.handlers.traffic import Update, roll_back, update_endpoint
from tests.support.serving_models import ENDPOINT, FakeServed, World, a_world


@dataclass
class Watched:
    """A server whose guard looks when the test says so; a look is a second after the one before."""

    world: World
    at: float = 1000.0
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.world.deployer, lambda: self.at)

    def look(self, seconds: float = 1.0) -> None:
        self.at += seconds
        self.guard.look()

    @property
    def shares(self) -> dict[str, int]:
        return self.world.store.get(ENDPOINT).routing.shares

    def rollbacks(self) -> list[str]:
        return [event.detail for event in self.world.store.record if event.kind is EventKind.ROLLED_BACK]


def serve(model: FakeServed, successes: int, failures: int = 0, ms: float = 5.0) -> None:
    for _ in range(successes):
        model.statistics.succeeded(int(ms * 1e6), 1, Timing())
    for _ in range(failures):
        model.statistics.failed(1_000_000)


def two(percent: int | None = 20, policy: RollbackPolicy | None = None) -> tuple[Watched, FakeServed, FakeServed]:
    """V001 answered 500 requests in 5 ms each; then V002 gets a share."""
    watched = Watched(a_world())
    if policy is not None:
        update_endpoint(watched.world.deployer, ENDPOINT, Update(policy=policy))
    old = watched.world.deploy(1)
    watched.look()
    serve(old, 500)
    watched.look()
    new = watched.world.deploy(2, percent)
    return watched, old, new


def test_a_version_that_does_well_stays() -> None:
    watched, _, new = two()
    for _ in range(10):
        serve(new, 50)
        watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}
    assert not watched.rollbacks()


def test_one_that_fails_is_taken_back_with_what_was_measured() -> None:
    watched, _, new = two()
    watched.look()
    serve(new, 50, 30)
    watched.look()
    assert watched.shares == {"V001": 100}
    said = (
        "V001 80 % -> 100 %, V002 20 % -> 0 %; canary: none; by itself: V002: 30 of 80 requests failed (37.5 %; at most 1 % may)"
    )
    assert watched.rollbacks() == [said]
    assert route(watched.world.registry, "flowers", "", "").entry.version == "V001"
    assert not new.closed  # it stays loaded, for another try


def test_one_that_is_slow_and_stays_so_is_taken_back() -> None:
    watched, _, new = two()
    for _ in range(5):
        serve(new, 60, ms=40)
        watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}
    serve(new, 60, ms=40)
    watched.look()
    assert watched.shares == {"V001": 100}
    assert "p99 was" in watched.rollbacks()[0]


def test_a_slow_start_or_a_burst_takes_nothing_back() -> None:
    watched, _, new = two()
    for _ in range(3):
        serve(new, 60, ms=100)
        watched.look()
        for _ in range(8):
            serve(new, 60)
            watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}


def test_when_all_are_slower_the_new_one_is_not_blamed() -> None:
    watched, old, new = two()
    for _ in range(20):
        serve(old, 60, ms=9)
        serve(new, 60, ms=14)
        watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}


def test_one_that_falls_ill_is_taken_back_at_once() -> None:
    watched, _, new = two()
    watched.look()
    new.fall_ill("it ended by signal 11")
    watched.look()
    assert watched.shares == {"V001": 100}
    assert "V002: it became unhealthy (it ended by signal 11)" in watched.rollbacks()[0]


def test_a_full_switch_is_taken_back_too() -> None:
    watched, _, new = two(percent=None)
    serve(new, 0, 60)
    watched.look()
    assert watched.shares == {"V001": 100}
    assert watched.world.store.get(ENDPOINT).routing.labels == {"champion": "V001"}


def test_what_was_taken_back_is_not_watched_and_nothing_goes_to_and_fro() -> None:
    watched, old, new = two()
    serve(new, 0, 60)
    watched.look()
    serve(old, 0, 500)
    for _ in range(5):
        watched.look()
    assert len(watched.rollbacks()) == 1


def test_failures_from_before_the_change_do_not_count() -> None:
    watched, _, new = two(percent=0)
    serve(new, 0, 500)  # somebody tried it by its name
    watched.look()
    update_endpoint(watched.world.deployer, ENDPOINT, Update(traffic=[("V001", 50), ("V002", 50)]))
    watched.look()
    serve(new, 200)
    watched.look()
    assert watched.shares == {"V001": 50, "V002": 50}


def test_after_its_window_a_change_stays() -> None:
    watched, _, new = two(policy=RollbackPolicy(window_s=30))
    watched.look()
    watched.look(31)
    serve(new, 0, 100)
    watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}


def test_a_policy_that_is_disabled_takes_nothing_back() -> None:
    watched, _, new = two(policy=RollbackPolicy(disabled=True))
    serve(new, 0, 100)
    new.fall_ill()
    watched.look()
    assert not watched.rollbacks()


def test_a_change_seen_after_a_restart_is_watched_for_what_is_left_of_its_window() -> None:
    watched, _, _ = two()
    again = Watched(watched.world.restarted())
    reconcile(again.world.deployer, lambda deployment, error: None)
    new = next(model for model in again.world.loader.models if model.version == "V002")
    again.look()
    serve(new, 0, 60)
    again.look()
    assert again.shares == {"V001": 100}


def test_an_old_change_is_not_watched_after_a_restart() -> None:
    watched, _, _ = two()
    store = watched.world.store
    endpoint = store.get(ENDPOINT)
    assert endpoint.change_time is not None
    store.endpoints[ENDPOINT] = replace(endpoint, change_time=endpoint.change_time - timedelta(hours=1))
    again = Watched(watched.world.restarted())
    reconcile(again.world.deployer, lambda deployment, error: None)
    serve(again.world.loader.models[0], 0, 60)
    serve(again.world.loader.models[1], 0, 60)
    again.look()
    again.look()
    assert not again.rollbacks()


def test_of_two_servers_one_takes_it_back() -> None:
    """The second has measured the same, and sees in the database that it is done."""
    watched, _, new = two()
    other = Watched(watched.world.restarted())
    reconcile(other.world.deployer, lambda deployment, error: None)
    theirs = next(model for model in other.world.loader.models if model.version == "V002")
    other.look()
    serve(new, 0, 60)
    serve(theirs, 0, 60)
    watched.look()
    other.look()
    assert len(watched.rollbacks()) == 1
    assert other.shares == {"V001": 100}
    reconcile(other.world.deployer, lambda deployment, error: None)
    assert route(other.world.registry, "flowers", "", "").entry.version == "V001"


def test_when_nobody_else_answers_it_is_not_taken_back() -> None:
    watched, old, new = two()
    old.fall_ill()
    serve(new, 0, 60)
    watched.look()
    watched.look()
    assert watched.shares == {"V001": 80, "V002": 20}


def test_while_the_database_is_away_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, _, new = two()
    watched.look()
    serve(new, 0, 60)
    calls = watched.world.store.change

    def away(*_: object) -> None:
        raise Unavailable("DATABASE_UNAVAILABLE", "not now")

    monkeypatch.setattr(watched.world.store, "change", away)
    watched.look()
    monkeypatch.setattr(watched.world.store, "change", calls)
    watched.look()
    assert watched.shares == {"V001": 100}


def test_who_falls_ill_and_recovers_is_written_down_once_by_all_servers() -> None:
    watched, old, _ = two()
    other = Watched(watched.world.restarted())
    reconcile(other.world.deployer, lambda deployment, error: None)
    watched.look()
    other.look()
    old.fall_ill("it ended by signal 11")
    next(model for model in other.world.loader.models if model.version == "V001").fall_ill("it ended by signal 9")
    for _ in range(3):
        watched.look()
        other.look()
    old.recover()
    watched.look()
    lines = [(event.kind, event.detail) for event in watched.world.store.record][-2:]
    assert lines == [(EventKind.UNHEALTHY, "it ended by signal 11"), (EventKind.RECOVERED, "")]


def test_one_that_was_ill_when_the_server_ended_is_written_down_as_recovered() -> None:
    watched, old, _ = two()
    watched.look()
    old.fall_ill()
    watched.look()
    again = Watched(watched.world.restarted())
    reconcile(again.world.deployer, lambda deployment, error: None)
    again.look()
    assert watched.world.store.record[-1].kind is EventKind.RECOVERED


def test_going_back_by_hand_and_forward_again() -> None:
    world = a_world()
    world.deploy(1)
    world.deploy(2, percent=10)
    world.deploy(3)
    view = roll_back(world.deployer, ENDPOINT, "customers complain")
    assert view.endpoint.routing.shares == {"V001": 90, "V002": 10}
    assert view.endpoint.routing.labels == {"champion": "V001", "canary": "V002"}
    assert world.store.record[-1].detail.endswith("customers complain")
    assert world.store.record[-1].deployment.endswith("V003")
    assert get_endpoint(world.store, world.registry, ENDPOINT).default_version == "V001"
    again = roll_back(world.deployer, ENDPOINT, "")
    assert again.endpoint.routing.shares == {"V003": 100}
    assert again.endpoint.routing.labels["champion"] == "V003"


def test_going_back_keeps_every_caller_where_it_was() -> None:
    world = a_world()
    world.deploy(1)
    world.deploy(2, percent=30)
    keys = [f"caller-{number}" for number in range(300)]
    before = [route(world.registry, "flowers", "", key).entry.version for key in keys]
    update_endpoint(world.deployer, ENDPOINT, Update(traffic=[("V001", 10), ("V002", 90)]))
    roll_back(world.deployer, ENDPOINT, "")
    assert [route(world.registry, "flowers", "", key).entry.version for key in keys] == before


def test_where_there_is_nothing_to_go_back_to_it_is_refused() -> None:
    world = a_world()
    for _ in range(2):
        with pytest.raises(FailedPrecondition) as refused:
            roll_back(world.deployer, ENDPOINT, "")
        assert refused.value.reason == "NOTHING_TO_ROLL_BACK"
        if not world.store.rows:
            world.deploy(1)


def test_going_back_to_who_does_not_answer_is_refused() -> None:
    world = a_world()
    old = world.deploy(1)
    world.deploy(2)
    old.fall_ill()
    with pytest.raises(FailedPrecondition) as refused:
        roll_back(world.deployer, ENDPOINT, "")
    assert refused.value.reason == "VERSION_NOT_READY"
    with pytest.raises(InvalidArgument) as too_long:
        roll_back(world.deployer, ENDPOINT, "x" * 501)
    assert too_long.value.violations[0].field == "reason"
