"""A worker reads of the environment what its service's settings would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.core.jobs import worker_settings as module
from modelyard.core.jobs.worker_settings import WorkerSettings, worker_settings
from modelyard.core.settings import CoreSettings

GIVEN = {
    "data_dir": "/var/lib/modelyard", "artifacts_url": "s3://bucket", "s3_endpoint": "https://minio:9000", "s3_region": "eu-1",
    "s3_access_key": "who", "s3_secret_key": "hidden", "s3_ca": "/etc/s3.pem", "artifact_cache_bytes": "67108864",
    "tls_ca": "/etc/ca.pem", "tracing_endpoint": "http://otel:4317", "max_message_bytes": "1048576", "worker_patience_s": "12.5",
}  # fmt: skip


def read(settings: CoreSettings | WorkerSettings) -> dict[str, object]:
    found = {name: getattr(settings, name) for name in WorkerSettings.__dataclass_fields__}
    for name in ("s3_access_key", "s3_secret_key"):
        found[name] = found[name].get_secret_value()
    return found | {"url": settings.artifacts_url_or_default()}


@pytest.mark.parametrize("given", [{}, GIVEN, dict.fromkeys(GIVEN, "")], ids=["nothing", "all", "empty"])
def test_both_read_the_same(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    assert set(GIVEN) == set(WorkerSettings.__dataclass_fields__)
    for name in GIVEN:
        monkeypatch.delenv(f"MODELYARD_{name.upper()}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"MODELYARD_{name.upper()}", value)
    assert read(worker_settings()) == read(CoreSettings())
    assert "hidden" not in repr(worker_settings())


def test_a_secret_of_dockers_is_read_where_the_environment_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    (tmp_path / "modelyard_s3_secret_key").write_text("from a file\n")
    monkeypatch.delenv("MODELYARD_S3_SECRET_KEY", raising=False)
    assert worker_settings().s3_secret_key.get_secret_value() == "from a file"
    monkeypatch.setenv("MODELYARD_S3_SECRET_KEY", "from the environment")
    assert worker_settings().s3_secret_key.get_secret_value() == "from the environment"


def test_a_worker_of_imports_starts_without_pydantic() -> None:
    code = """
import sys
import modelyard.dataset.worker.ready
print(*sorted({"pydantic", "sqlalchemy", "sklearn", "torch"} & set(sys.modules)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""
