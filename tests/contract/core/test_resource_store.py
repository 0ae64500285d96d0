"""What the resource store and its database must do, run over SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, inspect, select, text

from modelyard.core import database
from modelyard.core.artifacts import build_uri
from modelyard.core.database import migrate, open_database, reading, writing
from modelyard.core.errors import Aborted, AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from modelyard.core.resources import (
    Naming,
    Page,
    Resource,
    ResourceStore,
    claim_request,
    fingerprint_of,
    forget_requests,
    referenced_uris,
)
from modelyard.dataset.adapters import annotation_tables

PARENT = "projects/p"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DOCUMENTS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
reuse = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(engine: Engine) -> ResourceStore:
    return ResourceStore(engine)


def named(id_: str) -> str:
    return f"{PARENT}/datasets/{id_}"


def create(store: ResourceStore, id_: str, document: dict[str, Any] | None = None, **keywords: Any) -> Resource:
    return store.create(named(id_), "datasets", PARENT, document or {"id": id_}, **keywords)


def all_pages(store: ResourceStore, size: int, *, newest_first: bool = True) -> list[str]:
    names: list[str] = []
    page = Page((), "")
    while True:
        page = store.list("datasets", PARENT, size, page.next_page_token, newest_first=newest_first)
        assert len(page.items) <= size
        names += [item.name for item in page.items]
        if not page.next_page_token:
            return names


def test_create_then_get(store: ResourceStore) -> None:
    before = datetime.now(UTC)
    made = create(store, "flowers", {"title": "Flowers", "size": 3})
    assert made == store.get(named("flowers"))
    assert (made.collection, made.parent, made.document, made.revision) == (
        "datasets",
        PARENT,
        {"title": "Flowers", "size": 3},
        1,
    )
    assert before <= made.create_time == made.update_time <= datetime.now(UTC)
    assert made.create_time.utcoffset() == timedelta(0)


@reuse
@given(document=DOCUMENTS)
def test_any_document_comes_back_as_it_was(store: ResourceStore, document: dict[str, Any]) -> None:
    made = store.put(named("any"), "datasets", PARENT, document)
    assert made.document == store.get(named("any")).document == document
    assert list(made.document) == list(document)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_what_json_cannot_hold_is_refused_and_not_kept(store: ResourceStore, value: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create(store, "bad", {"value": value})
    assert refused.value.reason == "NOT_JSON"
    with pytest.raises(NotFound):
        store.get(named("bad"))


def test_a_name_is_made_once(store: ResourceStore) -> None:
    create(store, "flowers")
    with pytest.raises(AlreadyExists, match="projects/p/datasets/flowers exists") as refused:
        create(store, "flowers", {"other": 1})
    assert refused.value.reason == "RESOURCE_EXISTS"
    assert store.get(named("flowers")).document == {"id": "flowers"}


def test_of_many_creates_at_once_one_wins(store: ResourceStore) -> None:
    outcomes = at_once(8, lambda number: create(store, "flowers", {"number": number}))
    made = [outcome for outcome in outcomes if isinstance(outcome, Resource)]
    assert len(made) == 1
    assert [type(outcome) for outcome in outcomes if outcome is not made[0]] == [AlreadyExists] * 7
    assert store.get(named("flowers")) == made[0]


def test_a_repeated_request_gives_the_same_resource(store: ResourceStore) -> None:
    request: dict[str, Any] = {"request_id": "8f3c", "method": "CreateDataset", "fingerprint": "aa"}
    made = create(store, "flowers", **request)
    store.update(named("flowers"), lambda document: document | {"title": "later"})
    again = create(store, "made-up-by-the-server-on-the-second-call", **request)
    assert again.name == made.name
    assert again.document["title"] == "later"
    assert len(store.list("datasets").items) == 1


def test_a_request_id_with_another_body_is_refused(store: ResourceStore) -> None:
    create(store, "flowers", request_id="8f3c", method="CreateDataset", fingerprint="aa")
    with pytest.raises(InvalidArgument) as refused:
        create(store, "other", request_id="8f3c", method="CreateDataset", fingerprint="bb")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert refused.value.violations[0].field == "request_id"
    create(store, "other", request_id="8f3c", method="CreateModel", fingerprint="bb")


def test_a_request_that_failed_may_be_sent_again(store: ResourceStore) -> None:
    create(store, "flowers")
    request: dict[str, Any] = {"request_id": "8f3c", "method": "CreateDataset", "fingerprint": "aa"}
    with pytest.raises(AlreadyExists):
        create(store, "flowers", **request)
    store.delete(named("flowers"))
    assert create(store, "flowers", **request).revision == 1


def test_the_same_request_many_times_at_once_makes_one_resource(store: ResourceStore) -> None:
    request: dict[str, Any] = {"request_id": "8f3c", "method": "CreateDataset", "fingerprint": "aa"}
    outcomes = at_once(8, lambda number: create(store, f"flowers-{number}", **request))
    assert len({outcome.name for outcome in outcomes if isinstance(outcome, Resource)}) == 1
    assert all(isinstance(outcome, Resource) for outcome in outcomes)
    assert len(store.list("datasets").items) == 1


@pytest.mark.parametrize("request_id", ["a b", "ä", "a\n", "a\0", "a" * 129])
def test_a_wrong_request_id_is_refused(store: ResourceStore, request_id: str) -> None:
    with pytest.raises(InvalidArgument, match="request_id is"):
        create(store, "flowers", request_id=request_id, method="CreateDataset", fingerprint="aa")


def test_request_ids_are_forgotten_after_a_while(engine: Engine) -> None:
    def claim(name: str) -> str | None:
        with writing(engine) as connection:
            return claim_request(connection, "8f3c", "CreateDataset", "aa", name)

    assert claim("first") is None
    assert claim("second") == "first"
    assert forget_requests(engine, datetime.now(UTC) - timedelta(days=1)) == 0
    assert forget_requests(engine, datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert claim("third") is None


def test_fingerprints_ignore_the_order_of_keys() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
    assert fingerprint_of(b"bytes") != fingerprint_of(b"other")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pages_hold_everything_once_in_order(store: ResourceStore, size: int) -> None:
    names = [create(store, f"d{number}").name for number in range(7)]
    store.create("projects/q/datasets/other", "datasets", "projects/q", {})
    store.create(f"{PARENT}/models/m", "models", PARENT, {})
    assert all_pages(store, size) == names[::-1]
    assert all_pages(store, size, newest_first=False) == names


def test_a_last_page_that_is_full_says_that_it_is_the_last(store: ResourceStore) -> None:
    for number in range(4):
        create(store, f"d{number}")
    first = store.list("datasets", PARENT, 2)
    assert first.next_page_token
    assert store.list("datasets", PARENT, 2, first.next_page_token).next_page_token == ""


def test_resources_made_at_the_same_moment_are_all_listed(engine: Engine, store: ResourceStore) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with writing(engine) as connection:
        for number in range(5):
            row = {"name": named(f"d{number}"), "collection": "datasets", "parent": PARENT, "document": {}, "revision": 1}
            connection.execute(insert(database.resource).values(**row, create_time=moment, update_time=moment))
    assert all_pages(store, 2) == [named(f"d{number}") for number in reversed(range(5))]


def test_a_list_goes_on_where_it_was_when_resources_come_and_go(store: ResourceStore) -> None:
    for number in range(6):
        create(store, f"d{number}")
    first = store.list("datasets", PARENT, 2)
    create(store, "new")
    store.delete(named("d3"))
    store.delete(first.items[-1].name)
    rest = store.list("datasets", PARENT, 10, first.next_page_token)
    assert [item.name for item in rest.items] == [named("d2"), named("d1"), named("d0")]


def test_without_a_parent_all_are_listed(store: ResourceStore) -> None:
    create(store, "d")
    store.create("projects/q/datasets/d", "datasets", "projects/q", {})
    assert len(store.list("datasets").items) == 2
    assert len(store.list("datasets", "projects/q").items) == 1
    assert store.list("nothing") == Page((), "")


def test_a_list_of_those_that_name_others_is_exact_and_has_pages_of_its_own(store: ResourceStore) -> None:
    wanted, others = "projects/p/exports/a_b%", ("projects/p/exports/A_b%", "projects/p/exports/a_b%c", "projects/p/exports/axb")
    for number in range(3):
        create(store, f"d{number}", {"export": wanted, "at": number})
    for number, other in enumerate(others):
        create(store, f"e{number}", {"export": other, "parent": wanted})
    create(store, "f", {"note": f'"export":"{wanted}"'})
    naming = Naming("export", (wanted, "projects/p/exports/none"))
    first = store.list("datasets", PARENT, 2, naming=naming)
    rest = store.list("datasets", PARENT, 2, first.next_page_token, naming=naming)
    assert [item.name for item in (*first.items, *rest.items)] == [named("d2"), named("d1"), named("d0")]
    assert rest.next_page_token == ""
    with pytest.raises(InvalidArgument, match="page_token is"):
        store.list("datasets", PARENT, 2, first.next_page_token)


def test_page_sizes(store: ResourceStore, engine: Engine) -> None:
    row = {"collection": "datasets", "parent": PARENT, "document": {}, "revision": 1}
    times = {"create_time": database.now(), "update_time": database.now()}
    with writing(engine) as connection:
        connection.execute(insert(database.resource), [{"name": named(f"d{n}"), **row, **times} for n in range(1005)])
    assert len(store.list("datasets", PARENT, 0).items) == 50
    assert len(store.list("datasets", PARENT, 2**31 - 1).items) == 1000
    with pytest.raises(InvalidArgument, match="page_size is -1"):
        store.list("datasets", PARENT, -1)


def test_a_token_of_another_list_is_refused(store: ResourceStore) -> None:
    for number in range(3):
        create(store, f"d{number}")
    token = store.list("datasets", PARENT, 1).next_page_token
    uses: list[Callable[[], Page]] = [
        lambda: store.list("models", PARENT, 1, token),
        lambda: store.list("datasets", "projects/q", 1, token),
        lambda: store.list("datasets", None, 1, token),
        lambda: store.list("datasets", PARENT, 1, token, newest_first=False),
        lambda: store.list("datasets", PARENT, 1, token[:-4]),
    ]
    for use in uses:
        with pytest.raises(InvalidArgument) as refused:
            use()
        assert refused.value.reason == "BAD_PAGE_TOKEN"


@reuse
@given(token=st.text(min_size=1) | st.binary(min_size=1).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_other_token_is_refused(store: ResourceStore, token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token is"):
        store.list("datasets", PARENT, 1, token)


def test_update_raises_the_revision_and_the_time(store: ResourceStore) -> None:
    made = create(store, "flowers", {"size": 1})
    changed = store.update(made.name, lambda document: document | {"size": 2}, made.etag)
    assert (changed.document, changed.revision, changed.create_time) == ({"size": 2}, 2, made.create_time)
    assert changed.update_time > made.update_time
    assert changed.etag != made.etag
    assert store.get(made.name) == changed


def test_an_equal_document_changes_nothing(store: ResourceStore) -> None:
    made = create(store, "flowers")
    assert store.update(made.name, lambda document: document) == made
    assert store.put(made.name, "datasets", PARENT, made.document) == made


def test_an_old_etag_is_refused(store: ResourceStore) -> None:
    made = create(store, "flowers")
    store.update(made.name, lambda document: {"x": 1})
    with pytest.raises(Aborted) as refused:
        store.update(made.name, lambda document: {"x": 2}, made.etag)
    assert refused.value.reason == "ETAG_MISMATCH"
    with pytest.raises(Aborted):
        store.delete(made.name, made.etag)
    assert store.get(made.name).document == {"x": 1}


def test_an_etag_does_not_outlive_its_resource(store: ResourceStore) -> None:
    made = create(store, "flowers")
    store.delete(made.name, made.etag)
    assert create(store, "flowers").etag != made.etag


def test_an_update_that_fails_changes_nothing(store: ResourceStore) -> None:
    made = create(store, "flowers", {"list": [1]})

    def fails(document: dict[str, Any]) -> dict[str, Any]:
        document["list"].append(2)
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        store.update(made.name, fails)
    assert store.get(made.name) == made


def test_updates_at_once_lose_nothing(store: ResourceStore) -> None:
    create(store, "counter", {"count": 0})
    at_once(8, lambda _: [store.update(named("counter"), lambda d: {"count": d["count"] + 1}) for _ in range(5)])
    assert store.get(named("counter")).document == {"count": 40}
    assert store.get(named("counter")).revision == 41


def test_of_many_updates_with_one_etag_one_wins(store: ResourceStore) -> None:
    made = create(store, "flowers")
    outcomes = at_once(6, lambda number: store.update(made.name, lambda _: {"number": number}, made.etag))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Aborted"] * 5 + ["Resource"]


def test_put_makes_or_replaces(store: ResourceStore) -> None:
    first = store.put(named("flowers"), "datasets", PARENT, {"a": 1})
    second = store.put(named("flowers"), "datasets", PARENT, {"b": 2})
    assert (first.revision, second.revision, second.document) == (1, 2, {"b": 2})
    outcomes = at_once(6, lambda number: store.put(named("new"), "datasets", PARENT, {"number": number}))
    assert all(isinstance(outcome, Resource) for outcome in outcomes)
    assert store.get(named("new")).revision == 6


def test_what_does_not_exist_is_named(store: ResourceStore) -> None:
    uses: list[Callable[[], object]] = [
        lambda: store.get(named("none")),
        lambda: store.update(named("none"), lambda document: document),
        lambda: store.delete(named("none")),
    ]
    for use in uses:
        with pytest.raises(NotFound, match="projects/p/datasets/none does not exist") as refused:
            use()
        assert refused.value.reason == "RESOURCE_NOT_FOUND"


def test_every_uri_a_document_names_is_referenced(engine: Engine, store: ResourceStore) -> None:
    uris = [build_uri("trainer", f"{number:064x}") for number in range(8)]
    create(store, "d1", {"blob": {"uri": uris[0]}, "deep": [[{"x": f"see {uris[1]}, {uris[2]}"}]]})
    create(store, "d2", {"nothing": "artifact://"})
    job = {"name": "j", "kind": "training", "parent": PARENT, "service": "trainer", "state": "RUNNING"}
    documents = {"spec": {"a": uris[3]}, "saved": [uris[4]], "result": uris[5], "error": {"text": uris[6]}}
    with writing(engine) as connection:
        connection.execute(insert(database.job).values(**job, **documents, create_time=database.now()))
        event = {"job": "j", "sequence": 1, "time": database.now(), "document": {"old checkpoint": uris[7]}}
        connection.execute(insert(database.job_event).values(**event))
    assert referenced_uris(engine) == set(uris[:7])
    store.delete(named("d1"))
    assert referenced_uris(engine) == set(uris[3:7])


# The database below.


def test_the_migrations_make_the_tables_of_the_code(engine: Engine) -> None:
    assert all(table.metadata is database.metadata for table in annotation_tables.TABLES)
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), database.metadata) == []
    migrate(engine)
    assert set(inspect(engine).get_table_names()) == {*database.metadata.tables, "alembic_version"}


def test_a_job_row_comes_back_with_its_types(engine: Engine) -> None:
    moment = datetime(2026, 11, 21, 15, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    row = {"name": "j", "kind": "training", "parent": PARENT, "service": "trainer", "state": "QUEUED", "sequence": 2**40}
    with writing(engine) as connection:
        connection.execute(insert(database.job).values(**row, spec={"epochs": 3}, create_time=moment))
    with reading(engine) as connection:
        found = connection.execute(select(database.job)).one()
    assert (found.spec, found.saved, found.sequence, found.attempt) == ({"epochs": 3}, None, 2**40, 0)
    assert (found.instruction, found.reason, found.running_seconds) == ("CONTINUE", "", 0.0)
    assert found.create_time == moment
    assert found.create_time.utcoffset() == timedelta(0)
    assert found.end_time is None


def test_a_time_without_zone_is_refused(engine: Engine) -> None:
    row = {"name": "j", "kind": "training", "parent": PARENT, "service": "trainer", "state": "QUEUED"}
    with pytest.raises(Exception, match="no time zone"), writing(engine) as connection:
        connection.execute(insert(database.job).values(**row, create_time=datetime(2026, 1, 1)))


def test_readers_go_on_while_somebody_writes(engine: Engine, store: ResourceStore) -> None:
    create(store, "flowers", {"size": 1})
    with writing(engine) as connection:
        connection.execute(text("UPDATE resource SET revision = 7"))
        assert store.get(named("flowers")).revision == 1
    assert store.get(named("flowers")).revision == 7


def test_one_reading_sees_one_moment(engine: Engine, store: ResourceStore) -> None:
    create(store, "first")
    count = text("SELECT count(*) FROM resource")
    with reading(engine) as connection:
        assert connection.scalar(count) == 1
        create(store, "second")
        assert connection.scalar(count) == 1
    with reading(engine) as connection:
        assert connection.scalar(count) == 2


def test_migrating_from_several_processes_and_threads(urls: tuple[str, str]) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_migrate_together, args=(*urls, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert at_once(3, lambda _: _migrate(*urls)) == [None] * 3
    engine = open_database(*urls)
    assert create(ResourceStore(engine), "flowers").revision == 1
    engine.dispose()


def test_migrating_several_databases_at_once_in_one_process(tmp_path: Path) -> None:
    assert at_once(6, lambda number: _migrate(f"sqlite:///{tmp_path / f'{number}.db'}", "")) == [None] * 6


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """URL and schema of a database that was never migrated."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'new.db'}", ""
    return request.getfixturevalue("postgres_url"), "trainer"


def test_services_in_one_postgresql_do_not_see_each_other(postgres_url: str) -> None:
    engines = [open_database(postgres_url, schema) for schema in ("trainer", "dataset")]
    for engine in engines:
        migrate(engine)
    stores = [ResourceStore(engine) for engine in engines]
    create(stores[0], "flowers")
    assert stores[1].list("datasets").items == ()
    for engine in engines:
        engine.dispose()


def test_a_postgresql_that_is_away_is_unavailable() -> None:
    engine = open_database("postgresql://user:secret-word@127.0.0.1:9/none?connect_timeout=2")
    with pytest.raises(Unavailable) as refused:
        ResourceStore(engine).get("projects/p")
    assert refused.value.reason == "DATABASE_UNAVAILABLE"
    assert "secret-word" not in refused.value.message


def test_a_postgresql_that_comes_back_is_used_again(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    migrate(engine)
    store = ResourceStore(engine)
    create(store, "flowers")
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    with open_database(postgres_url).connect() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
    assert store.get(named("flowers")).revision == 1
    engine.dispose()


def test_a_full_sqlite_is_named_and_keeps_what_it_had(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'small.db'}")
    migrate(engine)
    store = ResourceStore(engine)
    create(store, "flowers")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 40")
    with pytest.raises(ResourceExhausted) as refused:
        create(store, "large", {"text": "x" * 1_000_000})
    assert refused.value.reason == "DISK_FULL"
    assert [item.name for item in store.list("datasets").items] == [named("flowers")]
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://host/db", "nonsense", "postgresql+asyncpg://u:secret@h/d"],
)
def test_a_wrong_database_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidArgument, match="database_url is") as refused:
        open_database(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("schema", ["Trainer", "a b", "a;drop", "1a", "a" * 64])
def test_a_wrong_schema_is_refused(schema: str) -> None:
    with pytest.raises(InvalidArgument, match="database_schema is"):
        open_database("postgresql://localhost/db", schema)


def _migrate_together(url: str, schema: str, barrier: Barrier) -> None:
    import alembic.command  # noqa: F401  before the barrier, so that both are at the tables at the same moment

    barrier.wait(100)
    _migrate(url, schema)


def _migrate(url: str, schema: str) -> None:
    engine = open_database(url, schema)
    migrate(engine)
    engine.dispose()


def at_once(count: int, act: Callable[[int], object]) -> list[object]:
    """Runs `act` in that many threads at the same moment; gives what each returned or raised."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait()
        try:
            return act(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
