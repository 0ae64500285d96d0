"""Any order of deployments, changes of traffic, labels, rollbacks and undeployments: what must hold after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelyard.client.history import answering_at
from modelyard.core.errors import FailedPrecondition
from modelyard.serving.handlers import registry
from modelyard.serving.handlers.deployments import delete_deployment
from modelyard.serving.handlers.router import route
from modelyard.serving.handlers.traffic import Update, roll_back, update_endpoint
from modelyard.serving.rpc.convert import event_message
from tests.support.serving_models import ENDPOINT, World, a_world

NUMBERS = st.integers(1, 4)


@contextmanager
def or_refused(*reasons: str) -> Iterator[None]:
    """What is refused for one of these reasons changes nothing: the invariants see to it."""
    try:
        yield
    except FailedPrecondition as refused:
        if refused.reason not in reasons:
            raise


class Traffic(RuleBasedStateMachine):
    """One endpoint, one server, four exports; models fall ill and recover as they like."""

    @initialize()
    def begin(self) -> None:
        self.closing_s, registry.CLOSING_S = registry.CLOSING_S, 0.0  # type: ignore[misc]
        self.world: World = a_world(4)

    def teardown(self) -> None:
        registry.CLOSING_S = self.closing_s  # type: ignore[misc]

    def versions(self) -> list[str]:
        return [deployment.version for deployment in self.world.store.deployments(ENDPOINT)]

    @rule(number=NUMBERS, percent=st.sampled_from([None, 0, 1, 33, 100]))
    def deploy(self, number: int, percent: int | None) -> None:
        with or_refused(*(() if percent in (None, 100) else ("NOTHING_ELSE_ANSWERS",))):
            self.world.deploy(number, percent)

    @precondition(lambda self: self.versions())
    @rule(data=st.data(), cut=st.integers(0, 100))
    def split(self, data: st.DataObject, cut: int) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.versions()), min_size=1, max_size=2, unique=True))
        shares = [(chosen[0], 100)] if len(chosen) == 1 else [(chosen[0], cut), (chosen[1], 100 - cut)]
        self._update(Update(traffic=shares))

    @precondition(lambda self: self.versions())
    @rule(data=st.data(), name=st.sampled_from(["champion", "canary", "old"]))
    def label(self, data: st.DataObject, name: str) -> None:
        kept = self.world.store.get(ENDPOINT).routing.labels
        self._update(Update(labels=list({**kept, name: data.draw(st.sampled_from(self.versions()))}.items())))

    @rule()
    def let_the_champion_answer(self) -> None:
        self._update(Update(traffic=[]))

    def _update(self, update: Update) -> None:
        with or_refused("VERSION_NOT_READY"):
            update_endpoint(self.world.deployer, ENDPOINT, update)

    @rule()
    def go_back(self) -> None:
        before = self.world.store.get(ENDPOINT)
        with or_refused("NOTHING_TO_ROLL_BACK", "VERSION_NOT_READY"):
            after = roll_back(self.world.deployer, ENDPOINT, "").endpoint
            assert after.routing == before.previous

    @precondition(lambda self: self.versions())
    @rule(data=st.data())
    def undeploy(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.versions()))
        with or_refused("DEPLOYMENT_HAS_TRAFFIC"):
            delete_deployment(self.world.deployer, f"{ENDPOINT}/deployments/{version}")

    @rule(data=st.data())
    def fall_ill_or_recover(self, data: st.DataObject) -> None:
        there = [entry.loaded for entry in self.world.registry.versions("flowers") if entry.loaded is not None]
        if there:
            model = data.draw(st.sampled_from(there))
            model.recover() if not _is_ready(model) else model.fall_ill()  # type: ignore[attr-defined]

    @invariant()
    def shares_are_whole_and_name_what_is_there(self) -> None:
        endpoint, there = self.world.store.get(ENDPOINT), set(self.versions())
        for routing in (endpoint.routing, endpoint.previous):
            if routing is not None:
                assert sum(routing.shares.values()) in (0, 100)
                assert set(routing.shares) <= there
                assert set(routing.labels.values()) <= there

    @invariant()
    def memory_is_what_is_written(self) -> None:
        table = self.world.registry.tables.get("flowers")
        assert set(table.entries if table else ()) == set(self.versions())
        if table is not None:
            assert table.endpoint == self.world.store.get(ENDPOINT)

    @invariant()
    def somebody_answers_while_somebody_can(self) -> None:
        ready = [entry for entry in self.world.registry.versions("flowers") if entry.is_ready]
        for key in ("", "anna", "bert"):
            if ready:
                assert route(self.world.registry, "flowers", "", key).entry.is_ready

    @invariant()
    def the_record_is_enough(self) -> None:
        found = answering_at([event_message(event) for event in self.world.store.record])
        endpoint, there = self.world.store.get(ENDPOINT), self.versions()
        assert sorted(found) == sorted(there)
        expected = endpoint.routing.filled(there[-1] if there else "").shares
        assert {version: one.percent for version, one in found.items() if one.percent} == expected
        by_name = {deployment.version: deployment.artifact.sha256 for deployment in self.world.store.deployments(ENDPOINT)}
        assert {version: one.artifact_sha256 for version, one in found.items()} == by_name


def _is_ready(model: object) -> bool:
    return str(model.condition.state) == "READY"  # type: ignore[attr-defined]


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
