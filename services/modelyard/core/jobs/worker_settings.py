"""The few of core's settings that a worker needs, read without pydantic: its import would be a third of a short job's start.

The service has checked them; what is read here is what CoreSettings reads (tests/unit/core/test_worker_settings.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

SECRETS = Path("/run/secrets")


@dataclass(frozen=True)
class Secret:
    """A text that no log shows, as pydantic has it."""

    _text: str = field(repr=False)

    def get_secret_value(self) -> str:
        """The text."""
        return self._text


@dataclass(frozen=True)
class WorkerSettings:
    """See CoreSettings."""

    data_dir: Path = Path(".modelyard")
    artifacts_url: str = ""
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_access_key: Secret = Secret("")
    s3_secret_key: Secret = Secret("")
    s3_ca: Path | None = None
    artifact_cache_bytes: int = 20 << 30
    tls_ca: Path | None = None
    tracing_endpoint: str = ""
    max_message_bytes: int = 64 << 20
    worker_patience_s: float = 900.0

    def artifacts_url_or_default(self) -> str:
        """The root of the artifact stores: the one set, or a folder in the data folder."""
        return self.artifacts_url or f"file://{self.data_dir.absolute() / 'artifacts'}"


_READ: dict[str, Callable[[str], Any]] = {
    "Path": Path,
    "Path | None": Path,
    "str": str,
    "Secret": Secret,
    "int": int,
    "float": float,
}


def worker_settings() -> WorkerSettings:
    """From MODELYARD_* variables, and where there is none from files that Docker puts down as secrets."""
    given = {each.name: (text, each.type) for each in fields(WorkerSettings) if (text := _given(each.name))}
    return WorkerSettings(**{name: _READ[str(kind)](text) for name, (text, kind) in given.items()})


def _given(name: str) -> str:
    if text := os.environ.get(f"MODELYARD_{name.upper()}", ""):
        return text
    place = SECRETS / f"modelyard_{name}"
    return place.read_text().strip() if place.is_file() else ""
