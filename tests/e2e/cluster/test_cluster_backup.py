"""Everything is lost, and restored as docs/operations.md says: the database first into the copy, the bucket second."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject
from psycopg import sql

from modelyard.client import Client
from tests.e2e.cluster.conftest import Installed
from tests.e2e.cluster.kube import LONG, until
from tests.e2e.cluster.test_cluster_journey import start, succeeded
from tests.support.sources import digits_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), LONG]
SERVICES = "app.kubernetes.io/part-of=modelyard,app.kubernetes.io/managed-by=Helm"
WRITES = "app.kubernetes.io/component in (dataset,trainer,exporter,evaluator,serving,pipeline)"


def postgres(name: str) -> str:
    """A program of PostgreSQL's, of the newest version here."""
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)
    if found is None:
        pytest.skip(f"{name} is not here; Debian's postgresql-client has it")
    return str(found)


def database_url(installed: Installed) -> str:
    password = installed.kube.secret(f"{installed.name}-postgresql", "POSTGRES_PASSWORD").decode()
    address = installed.kube.get("service", f"{installed.name}-postgresql")["spec"]["clusterIP"]
    return f"postgresql://modelyard:{password}@{address}:5432/modelyard"


def bucket(installed: Installed) -> tuple[Minio, str]:
    secret, address = f"{installed.name}-artifacts", installed.kube.get("service", f"{installed.name}-minio")["spec"]["clusterIP"]
    key, hidden = (installed.kube.secret(secret, f"MODELYARD_S3_{each}_KEY").decode() for each in ("ACCESS", "SECRET"))
    name = installed.kube.secret(secret, "MODELYARD_ARTIFACTS_URL").decode().removeprefix("s3://")
    return Minio(f"{address}:9000", access_key=key, secret_key=hidden, secure=False), name


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"


def prediction(client: Client, endpoint: str, picture: Path) -> list[str]:
    return list(client.predictions.predict(endpoint, image=picture).labels)


def test_what_was_lost_is_restored(installed: Installed, tmp_path: Path) -> None:
    name = f"kept-{int(time.time()) % 100_000}"
    source = digits_folder(tmp_path / "digits")
    picture = next(source.rglob("*.png"))
    with installed.client() as client:
        succeeded(client, start(client, source, name, 20), name)
        version = next(iter(client.models.list_model_versions(name)))
        answered = until("a prediction", lambda: prediction(client, name, picture), 60)

    # The copy.
    dump, copy = tmp_path / "yard.dump", tmp_path / "bucket"
    run(postgres("pg_dump"), "--format=custom", f"--file={dump}", database_url(installed))
    store, where = bucket(installed)
    for found in store.list_objects(where, recursive=True):
        store.fget_object(where, str(found.object_name), str(copy / str(found.object_name)))
    assert len([path for path in copy.rglob("*") if path.is_file()]) > 10

    try:
        # What writes is stopped; then everything is lost.
        installed.kube.run("scale", "deployment", "-l", SERVICES, "--replicas=0")
        until("no pod that writes", lambda: not installed.kube.items("pods", WRITES), 300)
        with psycopg.connect(database_url(installed), autocommit=True) as connection:
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
            ).fetchall()
            assert len(schemas) > 5
            for (schema,) in schemas:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CREATE SCHEMA public")  # every new database has it
        names = [DeleteObject(str(found.object_name)) for found in store.list_objects(where, recursive=True)]
        assert not list(store.remove_objects(where, names))

        # The restoration.
        run(postgres("pg_restore"), "--clean", "--if-exists", f"--dbname={database_url(installed)}", str(dump))
        for path in copy.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                store.put_object(where, path.relative_to(copy).as_posix(), io.BytesIO(data), len(data))
    finally:
        installed.upgrade()

    with installed.client() as client:
        assert client.models.get_model_version(version.name) == version
        file = client.artifacts.download(version.model_file, tmp_path / "model.zip")
        assert file.stat().st_size == version.model_file.size_bytes

        def again() -> list[str] | None:
            try:
                return prediction(client, name, picture)
            except Exception:  # its pods come up again
                return None

        assert until("a prediction after the restoration", again, 300) == answered
