"""Settings: from the environment, checked, frozen, silent about secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.core.settings import CoreSettings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CoreSettings.model_fields:
        monkeypatch.delenv(f"MODELYARD_{name.upper()}", raising=False)


def test_without_any_setting_everything_is_local() -> None:
    settings = CoreSettings(data_dir=Path("/srv/yard"))
    assert settings.database_url_for("trainer") == "sqlite:////srv/yard/trainer.db"
    assert settings.artifacts_url_or_default() == "file:///srv/yard/artifacts"
    assert (settings.host, settings.database_schema_for("trainer")) == ("127.0.0.1", "trainer")


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_DATABASE_URL", "postgresql://host/db")
    monkeypatch.setenv("MODELYARD_PORT", "8970")
    monkeypatch.setenv("MODELYARD_ARTIFACTS_URL", "s3://bucket")
    monkeypatch.setenv("MODELYARD_METRICS_PORT", "")
    settings = CoreSettings()
    assert (settings.database_url_for("trainer"), settings.port) == ("postgresql://host/db", 8970)
    assert (settings.artifacts_url_or_default(), settings.metrics_port) == ("s3://bucket", 0)


@pytest.mark.parametrize(
    ("name", "value"), [("port", "70000"), ("port", "x"), ("max_message_bytes", "1"), ("log_format", "xml"), ("drain_s", "-1")]
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MODELYARD_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        CoreSettings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_S3_SECRET_KEY", "very-secret")
    settings = CoreSettings()
    assert settings.s3_secret_key.get_secret_value() == "very-secret"
    assert "very-secret" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CoreSettings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in CoreSettings.model_fields.items() if not field.description] == []
