"""A real S3 for the tests: the one of S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY, or a MinIO started from a binary."""

from __future__ import annotations

import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.real_servers import absent, free_port, running, temporary_folder


@dataclass(frozen=True)
class S3Server:
    """Where it is (http://host:port) and the keys."""

    endpoint: str
    access_key: str
    secret_key: str


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server."""
    given = os.environ.get("S3_ENDPOINT")
    if given:
        yield S3Server(given, os.environ["S3_ACCESS_KEY"], os.environ["S3_SECRET_KEY"])
        return
    binary = _binary()
    if binary is None:
        absent("No MinIO: not in MINIO_BIN, on PATH or in the cache folder, and S3_ENDPOINT is not set")
    with _started(binary) as server:
        yield server


@contextmanager
def s3_server_with_tls(authority: Authority) -> Iterator[S3Server]:
    """A MinIO of the test's own at https://127.0.0.1:port, with a certificate of this authority."""
    binary = _binary()
    if binary is None:
        absent("No MinIO: not in MINIO_BIN, on PATH or in the cache folder")
    pair = authority.sign("minio", "127.0.0.1", "localhost")
    with temporary_folder() as folder:
        shutil.copy(pair.certificate, folder / "public.crt")
        shutil.copy(pair.key, folder / "private.key")
        with _started(binary, certificates=folder, ca=authority.ca) as server:
            yield server


def _binary() -> str | None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    candidates = [os.environ.get("MINIO_BIN"), shutil.which("minio"), str(cache / "local-cluster" / "bin" / "minio")]
    return next((found for found in candidates if found and os.access(found, os.X_OK)), None)


@contextmanager
def _started(binary: str, certificates: Path | None = None, ca: Path | None = None) -> Iterator[S3Server]:
    address = f"127.0.0.1:{free_port()}"
    server = S3Server(f"{'https' if certificates else 'http'}://{address}", "modelyard", "modelyard-secret")
    env = os.environ | {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key, "MINIO_BROWSER": "off"}
    with temporary_folder() as folder:
        command = [binary, "server", str(folder / "data"), "--address", address, "--quiet"]
        command += ["--certs-dir", str(certificates)] if certificates else []
        with running(command, lambda: _answers(server.endpoint, ca), folder / "log", env=env):
            yield server


def _answers(endpoint: str, ca: Path | None = None) -> bool:
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
