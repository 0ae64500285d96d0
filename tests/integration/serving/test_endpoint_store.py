"""Endpoints, deployments and their record on SQLite and PostgreSQL: written together or not at all."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from modelyard.core.errors import AlreadyExists, InvalidArgument, NotFound
from modelyard.core.resources import ResourceStore, referenced_uris
from modelyard.serving.adapters.endpoint_store import SqlEndpointStore
from modelyard.serving.domain.endpoint import Deployment, EventKind
from modelyard.serving.ports import Request
from tests.support.serving_fakes import PROJECT, blob

ENDPOINT = f"{PROJECT}/endpoints/flowers"


@pytest.fixture
def store(engine: Engine) -> SqlEndpointStore:
    made = SqlEndpointStore(engine, ResourceStore(engine))
    made.create(ENDPOINT, "Flowers", Request())
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


def test_a_deployment_is_read_back(store: SqlEndpointStore) -> None:
    made = store.deploy(planned(1), Request())
    assert store.deployment(made.name) == made
    assert list(store.deployments(ENDPOINT)) == [made] == list(store.deployments())
    assert (made.export, made.artifact) == (planned(1).export, planned(1).artifact)


def test_a_deployment_changes_its_endpoint(store: SqlEndpointStore) -> None:
    before = store.get(ENDPOINT)
    store.deploy(planned(1), Request())
    between = store.get(ENDPOINT)
    store.undeploy(planned(1).name)
    after = store.get(ENDPOINT)
    assert len({before.etag, between.etag, after.etag}) == 3
    assert before.update_time < between.update_time < after.update_time


def test_the_record_goes_on_beyond_the_endpoint(store: SqlEndpointStore) -> None:
    store.deploy(planned(1), Request())
    store.deploy(planned(2), Request())
    store.delete(ENDPOINT)
    assert list(store.deployments()) == []
    store.create(ENDPOINT, "", Request())
    store.deploy(planned(3), Request())
    events = store.events(ENDPOINT, 0, "").items
    assert [event.sequence for event in events] == [5, 4, 3, 2, 1]
    kinds = [EventKind.DEPLOYED, EventKind.UNDEPLOYED, EventKind.UNDEPLOYED, EventKind.DEPLOYED, EventKind.DEPLOYED]
    assert [event.kind for event in events] == kinds
    assert all(earlier.time <= later.time for later, earlier in itertools.pairwise(events))


def test_the_record_comes_in_pages(store: SqlEndpointStore) -> None:
    for number in range(1, 6):
        store.deploy(planned(number), Request())
    first = store.events(ENDPOINT, 3, "")
    rest = store.events(ENDPOINT, 3, first.next_page_token)
    assert [event.sequence for event in (*first.items, *rest.items)] == [5, 4, 3, 2, 1]
    assert rest.next_page_token == ""


def test_the_record_of_what_never_was_is_not_found(store: SqlEndpointStore) -> None:
    assert store.events(ENDPOINT, 0, "").items == ()
    with pytest.raises(NotFound):
        store.events(f"{PROJECT}/endpoints/other", 0, "")


def test_a_version_is_deployed_once(store: SqlEndpointStore) -> None:
    store.deploy(planned(1), Request())
    with pytest.raises(AlreadyExists):
        store.deploy(planned(1), Request("other", "f"))
    assert len(store.events(ENDPOINT, 0, "").items) == 1
    assert store.repeated(Request("other", "f")) is None


def test_a_repeated_request_gives_what_it_made(store: SqlEndpointStore) -> None:
    request = Request("8f14e45f", "f" * 64)
    assert store.repeated(request) is None
    made = store.deploy(planned(1), request)
    assert store.repeated(request) == made == store.deploy(planned(1), request)
    with pytest.raises(InvalidArgument) as refused:
        store.repeated(Request("8f14e45f", "0" * 64))
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_what_is_not_there_cannot_be_deployed_to_or_taken_off(store: SqlEndpointStore) -> None:
    for call in (
        lambda: store.deploy(planned(1, f"{PROJECT}/endpoints/other"), Request()),
        lambda: store.undeploy(planned(9).name),
        lambda: store.delete(f"{PROJECT}/endpoints/other"),
    ):
        with pytest.raises(NotFound):
            call()
    assert list(store.deployments()) == []


def test_many_at_once_leave_a_record_without_a_gap(store: SqlEndpointStore) -> None:
    threads = [threading.Thread(target=store.deploy, args=(planned(number), Request())) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.sequence for event in store.events(ENDPOINT, 0, "").items) == list(range(1, 13))


def test_only_what_is_deployed_keeps_its_bytes(store: SqlEndpointStore, engine: Engine) -> None:
    store.deploy(planned(1), Request())
    assert referenced_uris(engine) == {blob("1", "serving").uri}
    store.undeploy(planned(1).name)
    assert referenced_uris(engine) == set()


def test_endpoints_are_listed_newest_first(store: SqlEndpointStore) -> None:
    store.create(f"{PROJECT}/endpoints/second", "", Request())
    store.create("projects/lab/endpoints/third", "", Request())
    assert [endpoint.name.rpartition("/")[2] for endpoint in store.list(PROJECT, 0, "").items] == ["second", "flowers"]


def test_a_renewed_deployment_keeps_its_place_and_its_passport_is_kept(store: SqlEndpointStore, engine: Engine) -> None:
    made = store.deploy(planned(1), Request())
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
