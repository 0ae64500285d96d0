"""`modelyard doctor` before a real PostgreSQL and a real S3: what is there, and what is wrong with it."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from modelyard.cli.checks import FAIL, OK, WARN, Check
from modelyard.cli.checkup_parts import database, store
from modelyard.core.settings import CoreSettings


def of(url: str) -> Check:
    found = database(url)
    assert found is not None
    return found


def test_a_database(postgres_url: str) -> None:
    good = of(postgres_url)
    assert (good.status, "PostgreSQL" in good.found) == (OK, True)
    missing = of(make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False))
    assert (missing.status, "create the database" in missing.cure) == (FAIL, True)


def test_a_bucket(s3_settings: CoreSettings) -> None:
    missing = store(s3_settings)
    assert missing is not None
    assert (missing.status, "has no bucket" in missing.found) == (WARN, True)
    wrong = store(s3_settings.model_copy(update={"s3_secret_key": SecretStr("wrong-wrong-wrong")}))
    assert wrong is not None
    assert (wrong.status, "refuses the keys" in wrong.found) == (FAIL, True), wrong
