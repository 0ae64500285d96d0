"""Endpoints, deployments and their record on SQLite and PostgreSQL: written together or not at all."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from modelyard.core.database import now
from modelyard.core.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.resources import ResourceStore, referenced_uris
from modelyard.serving.adapters.endpoint_store import SqlEndpointStore
from modelyard.serving.domain.changes import Changed, deployed, new_routing, rerouted, rolled_back, shadowed, undeployed
from modelyard.serving.domain.endpoint import Deployment, Endpoint, EventKind
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.shadow import Shadow
from modelyard.serving.ports import NewEndpoint, Request
from tests.support.serving_fakes import PROJECT, blob

ENDPOINT = f"{PROJECT}/endpoints/flowers"


@pytest.fixture
def store(engine: Engine) -> SqlEndpointStore:
    made = SqlEndpointStore(engine, ResourceStore(engine))
    made.create(ENDPOINT, NewEndpoint("Flowers"), Request())
    return made


def planned(number: int, endpoint: str = ENDPOINT) -> Deployment:
    return Deployment(
        name=f"{endpoint}/deployments/V{number:03d}",
        export=f"{PROJECT}/exports/x{number}",
        gate_decision=f"{PROJECT}/gateDecisions/g{number}",
        model_version=f"{PROJECT}/models/m/versions/V{number:03d}",
        artifact=blob(f"{number % 10}", "serving"),
        create_time=datetime.now(UTC),
    )


def put(store: SqlEndpointStore, number: int, request: Request = Request(), percent: int | None = None) -> Deployment:  # noqa: B008
    """Deploys a version with a share of the traffic."""
    wanted = planned(number)
    return store.deploy(wanted, request, lambda endpoint, others: deployed(endpoint, others, wanted, percent, now()))[0]


def take(store: SqlEndpointStore, number: int) -> Endpoint:
    """Takes a version off, whatever its share."""

    def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
        return undeployed(endpoint, deployments, f"V{number:03d}", others_ready=False)

    return store.undeploy(planned(number).name, change)


def split(store: SqlEndpointStore, etag: str = "", **shares: int) -> Endpoint:
    """Shares by version."""

    def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
        wanted = new_routing(endpoint, deployments[-1].version, shares, None)
        return rerouted(endpoint, deployments, wanted, now())

    return store.change(ENDPOINT, change, etag)


def test_a_deployment_is_read_back(store: SqlEndpointStore) -> None:
    made = put(store, 1)
    assert store.deployment(made.name) == made
    assert list(store.deployments(ENDPOINT)) == [made] == list(store.deployments())
    assert (made.export, made.artifact) == (planned(1).export, planned(1).artifact)


def test_a_deployment_changes_its_endpoint(store: SqlEndpointStore) -> None:
    before = store.get(ENDPOINT)
    put(store, 1)
    between = store.get(ENDPOINT)
    take(store, 1)
    after = store.get(ENDPOINT)
    assert len({before.etag, between.etag, after.etag}) == 3
    assert before.update_time < between.update_time < after.update_time


def test_the_record_goes_on_beyond_the_endpoint(store: SqlEndpointStore) -> None:
    put(store, 1)
    put(store, 2)
    store.delete(ENDPOINT)
    assert list(store.deployments()) == []
    store.create(ENDPOINT, NewEndpoint(), Request())
    put(store, 3)
    events = store.events(ENDPOINT, 0, "").items
    assert [event.sequence for event in events] == [5, 4, 3, 2, 1]
    kinds = [EventKind.DEPLOYED, EventKind.UNDEPLOYED, EventKind.UNDEPLOYED, EventKind.DEPLOYED, EventKind.DEPLOYED]
    assert [event.kind for event in events] == kinds
    assert all(earlier.time <= later.time for later, earlier in itertools.pairwise(events))


def test_the_record_comes_in_pages(store: SqlEndpointStore) -> None:
    for number in range(1, 6):
        put(store, number)
    first = store.events(ENDPOINT, 3, "")
    rest = store.events(ENDPOINT, 3, first.next_page_token)
    assert [event.sequence for event in (*first.items, *rest.items)] == [5, 4, 3, 2, 1]
    assert rest.next_page_token == ""


def test_the_record_of_what_never_was_is_not_found(store: SqlEndpointStore) -> None:
    assert store.events(ENDPOINT, 0, "").items == ()
    with pytest.raises(NotFound):
        store.events(f"{PROJECT}/endpoints/other", 0, "")


def test_a_version_is_deployed_once(store: SqlEndpointStore) -> None:
    put(store, 1)
    with pytest.raises(AlreadyExists):
        put(store, 1, Request("other", "f"))
    assert len(store.events(ENDPOINT, 0, "").items) == 1
    assert store.repeated(Request("other", "f")) is None


def test_a_repeated_request_gives_what_it_made(store: SqlEndpointStore) -> None:
    request = Request("8f14e45f", "f" * 64)
    assert store.repeated(request) is None
    made = put(store, 1, request)
    assert store.repeated(request) == made == put(store, 1, request)
    with pytest.raises(InvalidArgument) as refused:
        store.repeated(Request("8f14e45f", "0" * 64))
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_what_is_not_there_cannot_be_deployed_to_or_taken_off(store: SqlEndpointStore) -> None:
    for call in (
        lambda: store.deploy(planned(1, f"{PROJECT}/endpoints/other"), Request(), lambda endpoint, _: Changed(endpoint)),
        lambda: take(store, 9),
        lambda: store.change(f"{PROJECT}/endpoints/other", lambda endpoint, _: Changed(endpoint)),
        lambda: store.note_health(planned(9).name, False, ""),
        lambda: store.delete(f"{PROJECT}/endpoints/other"),
    ):
        with pytest.raises(NotFound):
            call()
    assert list(store.deployments()) == []


def test_many_at_once_leave_a_record_without_a_gap(store: SqlEndpointStore) -> None:
    threads = [threading.Thread(target=put, args=(store, number)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.sequence for event in store.events(ENDPOINT, 0, "").items) == list(range(1, 13))


def test_only_what_is_deployed_keeps_its_bytes(store: SqlEndpointStore, engine: Engine) -> None:
    put(store, 1)
    assert referenced_uris(engine) == {blob("1", "serving").uri}
    take(store, 1)
    assert referenced_uris(engine) == set()


def test_endpoints_are_listed_newest_first(store: SqlEndpointStore) -> None:
    store.create(f"{PROJECT}/endpoints/second", NewEndpoint(), Request())
    store.create("projects/lab/endpoints/third", NewEndpoint(), Request())
    assert [endpoint.name.rpartition("/")[2] for endpoint in store.list(PROJECT, 0, "").items] == ["second", "flowers"]


def test_a_renewed_deployment_keeps_its_place_and_its_passport_is_kept(store: SqlEndpointStore, engine: Engine) -> None:
    made = put(store, 1)
    assert made.passport is None
    before = store.get(ENDPOINT).etag
    renewed = store.renew(replace(made, gate_decision=f"{PROJECT}/gateDecisions/later", passport=blob("7", "serving")))
    assert renewed == store.deployment(made.name)
    assert (renewed.create_time, renewed.passport) == (made.create_time, blob("7", "serving"))
    assert {made.artifact.uri, blob("7", "serving").uri} <= referenced_uris(engine)
    assert store.get(ENDPOINT).etag != before
    assert len(store.events(ENDPOINT, 0, "").items) == 1


def test_what_is_not_there_cannot_be_renewed(store: SqlEndpointStore) -> None:
    with pytest.raises(NotFound):
        store.renew(planned(1))


def test_what_is_said_of_a_new_endpoint_is_kept(store: SqlEndpointStore) -> None:
    policy = RollbackPolicy(window_s=30, max_error_rate=0.5, max_latency_ratio=3, min_requests=7, disabled=True)
    made = store.create(f"{PROJECT}/endpoints/e", NewEndpoint("E", policy, "x-user"), Request())
    assert made == store.get(made.name)
    assert (made.display_name, made.policy, made.sticky_header) == ("E", policy, "x-user")


def test_shares_labels_shadow_and_the_way_back_are_read_back(store: SqlEndpointStore) -> None:
    put(store, 1)
    put(store, 2, percent=10)
    written = split(store, V001=70, V002=30)
    assert written == store.get(ENDPOINT)
    assert written.routing.shares == {"V001": 70, "V002": 30}
    assert written.routing.labels == {"champion": "V001", "canary": "V002"}
    assert written.previous is not None
    assert written.previous.shares == {"V001": 90, "V002": 10}
    assert (written.change, written.watched) == (3, True)
    shadow = Shadow("V002", 50, now())
    store.change(ENDPOINT, lambda endpoint, deployments: shadowed(endpoint, deployments, shadow))
    assert store.get(ENDPOINT).shadow == shadow


def test_every_change_leaves_one_line_that_tells_who_answers_after_it(store: SqlEndpointStore) -> None:
    put(store, 1)
    put(store, 2, percent=10)
    split(store, V001=50, V002=50)
    split(store, V001=50, V002=50)
    store.change(ENDPOINT, lambda endpoint, deployments: rolled_back(endpoint, deployments, "too slow", now()))
    store.note_health(planned(2).name, False, "signal 11")
    store.note_health(planned(2).name, False, "signal 11")
    store.note_health(planned(2).name, True, "")
    split(store, V001=100)
    take(store, 2)
    lines = list(reversed(store.events(ENDPOINT, 0, "").items))
    assert [(line.kind, line.shares) for line in lines] == [
        (EventKind.DEPLOYED, {"V001": 100}),
        (EventKind.DEPLOYED, {"V001": 90, "V002": 10}),
        (EventKind.TRAFFIC_CHANGED, {"V001": 50, "V002": 50}),
        (EventKind.ROLLED_BACK, {"V001": 90, "V002": 10}),
        (EventKind.UNHEALTHY, {"V001": 90, "V002": 10}),
        (EventKind.RECOVERED, {"V001": 90, "V002": 10}),
        (EventKind.TRAFFIC_CHANGED, {"V001": 100}),
        (EventKind.UNDEPLOYED, {"V001": 100}),
    ]
    assert lines[3].detail == "V001 50 % -> 90 %, V002 50 % -> 10 %; too slow"
    assert lines[4].detail == "signal 11"
    assert {line.artifact_sha256 for line in lines} == {blob("1").sha256, blob("2").sha256}
    assert lines[-1].labels == {"champion": "V001"}


def test_a_change_with_an_old_etag_is_refused(store: SqlEndpointStore) -> None:
    old = store.get(ENDPOINT).etag
    put(store, 1)
    put(store, 2)
    with pytest.raises(Aborted) as refused:
        split(store, old, V001=100)
    assert refused.value.reason == "ETAG_MISMATCH"
    assert store.get(ENDPOINT).routing.shares == {"V002": 100}


def test_a_change_that_is_refused_writes_nothing(store: SqlEndpointStore, engine: Engine) -> None:
    put(store, 1)
    before = store.get(ENDPOINT)
    with pytest.raises(FailedPrecondition):
        store.change(ENDPOINT, lambda endpoint, deployments: rolled_back(endpoint, deployments, "", now()))
    with pytest.raises(InvalidArgument):
        put(store, 2, percent=101)
    assert store.get(ENDPOINT) == before
    assert [deployment.version for deployment in store.deployments(ENDPOINT)] == ["V001"]
    assert len(store.events(ENDPOINT, 0, "").items) == 1
    assert referenced_uris(engine) == {blob("1", "serving").uri}


def test_of_many_that_take_the_same_change_back_one_does(store: SqlEndpointStore) -> None:
    put(store, 1)
    put(store, 2, percent=20)
    seen = store.get(ENDPOINT).change

    def back() -> None:
        def change(endpoint: Endpoint, deployments: Sequence[Deployment]) -> Changed:
            return rolled_back(endpoint, deployments, "by itself", now()) if endpoint.change == seen else Changed(endpoint)

        store.change(ENDPOINT, change)

    threads = [threading.Thread(target=back) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(ENDPOINT).routing.shares == {"V001": 100}
    kinds = [event.kind for event in store.events(ENDPOINT, 0, "").items]
    assert kinds.count(EventKind.ROLLED_BACK) == 1


def test_all_is_every_endpoint_with_its_versions(store: SqlEndpointStore) -> None:
    put(store, 1)
    store.create(f"{PROJECT}/endpoints/second", NewEndpoint(), Request())
    found = {endpoint.name: [each.version for each in deployments] for endpoint, deployments in store.all()}
    assert found == {ENDPOINT: ["V001"], f"{PROJECT}/endpoints/second": []}


def test_an_endpoint_from_before_there_were_shares_is_read(store: SqlEndpointStore, engine: Engine) -> None:
    put(store, 1)
    resources = ResourceStore(engine)
    resources.update(ENDPOINT, lambda _: {"display_name": "Old"})
    old = store.get(ENDPOINT)
    assert (old.display_name, old.routing.shares, old.policy) == ("Old", {}, RollbackPolicy())
    put(store, 2, percent=10)
    assert store.get(ENDPOINT).routing.shares == {"V001": 90, "V002": 10}
