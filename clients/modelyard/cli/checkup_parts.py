"""Checks of `modelyard doctor` that look at what a server stands on, as its settings name it, and at a source of data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from modelyard.cli.checks import FAIL, OK, WARN, Check
from modelyard.cli.output import several

PATIENCE_S: Final = 5
MOST_FILES: Final = 100_000
_KEYS: Final = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled")


def check_parts(source: Path | None) -> list[Check]:
    """Settings, database, artifact store and device, where the environment names them; a source, where one is given."""
    found = [readable(source)] if source is not None else []
    try:
        from modelyard.core.settings import CoreSettings
    except ImportError:
        return found  # a client alone: it stands on no database
    try:
        settings = CoreSettings()
    except ValueError as error:
        return [*found, Check("settings", FAIL, _first_error(error), "correct the variable, see docs/reference/settings.md")]
    checks = (database(settings.database_url), store(settings), device(os.environ.get("MODELYARD_DEVICE", "")))
    return [*found, *(check for check in checks if check is not None)]


def _first_error(error: Any) -> str:
    """Of pydantic's errors the first, without what was given where that is secret."""
    try:
        first = error.errors(include_input=False, include_url=False)[0]
    except (AttributeError, IndexError, TypeError):
        return "the settings cannot be read"
    return f"MODELYARD_{'__'.join(map(str, first['loc'])).upper()}: {first['msg']}"


def database(url: str) -> Check | None:
    """Whether the database that MODELYARD_DATABASE_URL names can be reached. None where it names none."""
    if not url.startswith("postgresql"):
        return None
    import psycopg
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return Check(
            "database", FAIL, "MODELYARD_DATABASE_URL is no address", "give postgresql+psycopg://user:password@host:port/name"
        )
    where = f"{parsed.host}:{parsed.port or 5432}/{parsed.database}"
    try:
        address = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, connect_timeout=PATIENCE_S) as connection:
            row = connection.execute("select current_setting('server_version_num')::int").fetchone()
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())[:200]
        if "password" in said or "authentication" in said:
            return Check(
                "database", FAIL, f"{where} refuses the user: {said}", "correct user and password in MODELYARD_DATABASE_URL"
            )
        if "does not exist" in said:
            return Check("database", FAIL, f"{where}: {said}", "create the database, and let the user create schemas in it")
        return Check(
            "database", FAIL, f"{where} cannot be reached: {said}", "start it; correct MODELYARD_DATABASE_URL; open the firewall"
        )
    version = int(row[0]) // 10_000 if row else 0
    if version < 14:
        return Check("database", FAIL, f"{where} is PostgreSQL {version}", "use PostgreSQL 14 or newer")
    return Check("database", OK, f"{where}, PostgreSQL {version}")


def store(settings: Any) -> Check | None:
    """Whether the bucket that MODELYARD_ARTIFACTS_URL names can be reached and read. None where it names none."""
    url = settings.artifacts_url
    if not url.startswith("s3://"):
        return None
    import urllib3
    from minio.error import MinioException, S3Error

    from modelyard.core.artifacts_s3 import connect
    from modelyard.core.errors import ModelyardError

    bucket, where = url.removeprefix("s3://"), settings.s3_endpoint
    try:
        there = connect(settings).bucket_exists(bucket)
    except ModelyardError as error:
        return Check("artifact store", FAIL, str(error), "correct MODELYARD_S3_ENDPOINT")
    except S3Error as error:
        if error.code in _KEYS:
            return Check(
                "artifact store",
                FAIL,
                f"{where} refuses the keys: {error.code}",
                "correct MODELYARD_S3_ACCESS_KEY and _SECRET_KEY",
            )
        return Check("artifact store", FAIL, f"{where}: {error.code}", "correct MODELYARD_ARTIFACTS_URL and MODELYARD_S3_REGION")
    except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        cure = "start it; correct MODELYARD_S3_ENDPOINT; for https give MODELYARD_S3_CA where the system does not trust it"
        return Check("artifact store", FAIL, f"{where} cannot be reached: {said}", cure)
    if not there:
        return Check(
            "artifact store", WARN, f"{where} has no bucket {bucket!r}", "the first write makes it, if the keys may; else make it"
        )
    return Check("artifact store", OK, f"{where}/{bucket}")


def device(wanted: str) -> Check | None:
    """Whether a GPU that MODELYARD_DEVICE asks for is there. None where it asks for none."""
    if not wanted.startswith("cuda"):
        return None
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidia0").exists():
        cure = "unset MODELYARD_DEVICE; or install the NVIDIA driver, and give the container access (--gpus all)"
        return Check("device", FAIL, f"MODELYARD_DEVICE is {wanted!r}, and no GPU is here", cure)
    return Check("device", OK, wanted)


def readable(source: Path) -> Check:
    """Whether every file of a source of data can be read."""
    if not source.exists():
        return Check("source", FAIL, f"{source} does not exist", "give a folder or a file that is here")
    count, closed = 0, []
    for path in _files(source):
        count += 1
        if not os.access(path, os.R_OK):
            closed.append(path)
        if count == MOST_FILES:
            break
    if closed:
        words = f"{len(closed)} of {count} cannot be read: {closed[0]}"
        return Check("source", FAIL, words, f"let your user read them: chmod -R u+rX {source}")
    if not count:
        return Check("source", FAIL, f"{source} holds no file", "give the folder that has the data")
    return Check("source", OK, f"{source}: {several(count, 'file')}" + (" and more" if count == MOST_FILES else ""))


def _files(source: Path) -> Iterator[Path]:
    """Files, and folders that cannot be entered."""
    if source.is_file():
        yield source
        return
    refused: list[Path] = []
    for folder, _, names in os.walk(source, onerror=lambda error: refused.append(Path(error.filename or source))):
        yield from refused
        refused.clear()
        yield from (Path(folder, name) for name in names)
    yield from refused
