"""python -m modelyard.core.migrate on a real PostgreSQL."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, text

from modelyard.core.migrate import main
from tests.support.postgres import fresh_database


def schemas(url: str) -> set[str]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found = {row[0] for row in connection.execute(text("SELECT schema_name FROM information_schema.schemata"))}
        if "trainer_durable" in found:
            # DBOS took the same steps as the services do, so that these find nothing left to do.
            kept = connection.execute(text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dbos_%'")).scalar()
            assert kept == 0
    engine.dispose()
    return found


def test_it_makes_the_tables_of_a_service_and_does_it_again_without_harm(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(request.getfixturevalue("_postgres")) as url:
        monkeypatch.setenv("MODELYARD_DATABASE_URL", url)
        statuses: list[int] = []
        both = [threading.Thread(target=lambda: statuses.append(main(["--wait", "5", "trainer"]))) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert statuses == [0, 0]
        assert {"trainer", "trainer_durable"} <= schemas(url)
        assert main(["trainer"]) == 0


def test_a_database_that_is_not_there_is_waited_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELYARD_DATABASE_URL", "postgresql+psycopg://a:secret@127.0.0.1:9/none")
    assert main(["--wait", "0.1", "trainer"]) == 2
    said = capsys.readouterr().err
    assert "NO_DATABASE" in said
    assert "secret" not in said


def test_without_a_database_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("MODELYARD_DATABASE_URL", raising=False)
    assert main([]) == 2
    assert "MODELYARD_DATABASE_URL" in capsys.readouterr().err
