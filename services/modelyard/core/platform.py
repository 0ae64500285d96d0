"""What every service stands on, opened once: database, resources, jobs, artifacts. And the main function of a service."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Engine

from modelyard.access.v1 import access_service_pb2_grpc
from modelyard.artifact.v1 import artifact_service_pb2_grpc
from modelyard.client.access import Access, forget_token, remember_token
from modelyard.core.access.audit import AuditLog
from modelyard.core.access.composition import build_guard
from modelyard.core.access.ownership import SqlOwnership
from modelyard.core.access.quotas import Quotas
from modelyard.core.artifacts import ArtifactStore, collect, open_store
from modelyard.core.database import migrate, now, open_database
from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.durable import Durable
from modelyard.core.jobs.engine import JobEngine, JobLimits
from modelyard.core.jobs.flavors import Flavors, load_flavors
from modelyard.core.jobs.job import Job
from modelyard.core.jobs.jobs_servicer import JobsServicer
from modelyard.core.jobs.logs import JobLogs
from modelyard.core.jobs.process_runner import ProcessRunner
from modelyard.core.jobs.runner import Runner
from modelyard.core.jobs.store import JobStore
from modelyard.core.jobs.turn import Turn
from modelyard.core.jobs.worker_servicer import WorkerServicer
from modelyard.core.leaving import leave, leave_after
from modelyard.core.resources import ResourceStore, forget_requests, referenced_uris
from modelyard.core.rpc import tracing
from modelyard.core.rpc.access_servicer import AccessServicer
from modelyard.core.rpc.artifact_servicer import ArtifactServicer
from modelyard.core.rpc.logs import configure_logs
from modelyard.core.rpc.loop import run
from modelyard.core.rpc.server import Mount, RpcServer, Service
from modelyard.core.rpc.uploads import Uploads
from modelyard.core.settings import CoreSettings
from modelyard.jobs.v1 import jobs_service_pb2_grpc
from modelyard.worker.v1 import worker_service_pb2_grpc

if TYPE_CHECKING:
    from modelyard.client import Client

log = structlog.get_logger()
COLLECT_EVERY_S = 3600.0
STOP_S = 20.0
"""For workers to save what they have, and for all to be closed; beside what running calls get."""
LEAST_DRAIN_S = 1.0
REMEMBER_REQUESTS = timedelta(days=7)
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
EVERY_INTERFACE = ("0.0.0.0", "::", "")  # noqa: S104  compared with, not bound to


@dataclass(frozen=True)
class Platform:
    """One service's view: its own namespace of artifacts; database and jobs shared by all services of this process."""

    name: str
    settings: CoreSettings
    engine: Engine
    resources: ResourceStore
    jobs: JobEngine
    artifacts: ArtifactStore
    job_store: JobStore
    job_logs: JobLogs
    own_address: dict[str, str] = field(default_factory=dict)
    """Filled with the key "address" once this process's server listens."""

    def for_service(self, name: str) -> Platform:
        """The same database and jobs, another namespace of artifacts."""
        return replace(self, name=name, artifacts=_open_artifacts(self.settings, name))

    def client(self, project: str = "default") -> Client:
        """A client of the other services: at the addresses in the settings, else at this process's own server."""
        from modelyard.client import Addresses, Client

        own = self.own_address.get("address", "")
        own = own if own.startswith("unix:") or not own else f"http://{own}"  # without TLS, whatever the others have
        addresses = {name: getattr(self.settings, f"{name}_address") or own for name in SERVICES}
        return Client(Addresses(**addresses), project=project, access=access_of(self.settings))

    def collect(self, grace_s: float | None = None) -> list[str]:
        """Delete the blobs of this namespace that no document names and that are older than the grace. Gives their uris."""
        grace = self.settings.artifact_grace_s if grace_s is None else grace_s
        return collect(self.artifacts, referenced_uris(self.engine), grace)


def gpus_of(jobs: Any, job: Job) -> int:
    """How many GPUs a job has while it runs: those of its instance flavor, on all nodes."""
    flavors = getattr(jobs, "flavors", None)
    if flavors is None:
        return 0
    flavor = flavors.of(dict(job.labels).get("instance_flavor", ""), job.kind)
    return int(flavor.gpu) * int(flavor.nodes)


def access_of(settings: CoreSettings) -> Access:
    """Who this process is to the services that it calls, and whom it trusts."""
    token = settings.service_token.get_secret_value()
    return Access(token=token, ca=settings.tls_ca, certificate=settings.tls_certificate, key=settings.tls_key)


def open_platform(settings: CoreSettings, name: str, limits: JobLimits | None = None) -> Platform:
    """Open (and migrate) everything. `name` is the service, or "modelyard" for all of them in one process."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    tracing.start(settings.tracing_endpoint, name, settings.tracing_share)
    url, schema = settings.database_url_for(name), settings.database_schema_for(name)
    engine = open_database(url, schema)
    migrate(engine)
    store, logs = JobStore(engine), JobLogs(engine, settings.job_log_bytes)
    flavors = load_flavors(settings.flavors)
    jobs = JobEngine(
        store,
        lambda life: Durable(_durable_url(settings, url, name), f"{schema}_durable", life),
        runner=_runner(settings, flavors),
        flavors=flavors,
        logs=logs,
        turn=Turn(engine, schema),
        limits=limits,
        worker_address=settings.worker_address,
    )
    return Platform(name, settings, engine, ResourceStore(engine), jobs, _open_artifacts(settings, name), store, logs)


def _durable_url(settings: CoreSettings, url: str, name: str) -> str:
    """DBOS's own tables: beside ours in PostgreSQL (a schema of their own), a file of their own with SQLite."""
    return f"sqlite:///{settings.data_dir.absolute() / f'{name}-durable.db'}" if url.startswith("sqlite") else url


def _open_artifacts(settings: CoreSettings, name: str) -> ArtifactStore:
    cache = settings.data_dir / "artifact-cache"
    return open_store(settings.artifacts_url_or_default(), name, settings, cache_dir=cache)


def _runner(settings: CoreSettings, flavors: Flavors) -> Runner:
    environment = _worker_environment(settings)
    if settings.runner == "process":
        return ProcessRunner(environment, log_dir=settings.data_dir / "logs", work_dir=settings.data_dir.absolute() / "work")
    from modelyard.core.jobs.kubernetes_runner import open_runner

    return open_runner(settings, flavors, environment)


def _worker_environment(settings: CoreSettings) -> dict[str, str]:
    """What a worker must know of the settings: where the artifacts are."""
    return {
        "MODELYARD_DATA_DIR": str(settings.data_dir.absolute()),
        "MODELYARD_ARTIFACTS_URL": settings.artifacts_url_or_default(),
        "MODELYARD_ARTIFACT_CACHE_BYTES": str(settings.artifact_cache_bytes),
        "MODELYARD_S3_ENDPOINT": settings.s3_endpoint,
        "MODELYARD_S3_REGION": settings.s3_region,
        "MODELYARD_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "MODELYARD_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "MODELYARD_S3_CA": str(settings.s3_ca.absolute()) if settings.s3_ca else "",
        "MODELYARD_TLS_CA": str(settings.tls_ca.absolute()) if settings.tls_ca else "",
        "MODELYARD_TRACING_ENDPOINT": settings.tracing_endpoint,
        # A worker speaks for its job alone.
        **dict.fromkeys(("MODELYARD_SERVICE_TOKEN", "MODELYARD_TOKEN", "MODELYARD_TOKENS_FILE", "MODELYARD_TLS_KEY"), ""),
        "MODELYARD_TLS_CERTIFICATE": "",
        "MODELYARD_WORKER_PATIENCE_S": str(settings.worker_patience_s),
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }


class Host:
    """The services of a process on one server. `start` and `stop` run on the server's event loop."""

    def __init__(
        self, platform: Platform, services: Sequence[Service], namespaces: Sequence[str], *, user_token: str = ""
    ) -> None:
        """`user_token`: of the user whose own server it is (embedded)."""
        self._platform = platform
        self._services = services
        self._platforms = [platform.for_service(name) for name in namespaces]
        self._ownership = SqlOwnership(platform.engine, namespaces)
        self._audit = AuditLog(platform.engine, platform.settings.audit_keep_days)
        self._quotas = Quotas(
            platform.engine,
            namespaces,
            platform.settings.quotas_file,
            gpus_of=lambda job: gpus_of(platform.jobs, job),
            is_worker=platform.jobs.is_worker,
        )
        platform.job_store.admit = self._quotas.admit
        platform.jobs.places = self._quotas
        self._own_token = secrets.token_urlsafe(32)
        guard = build_guard(
            platform.settings,
            ownership=self._ownership,
            job_token=platform.job_store.has_token,
            verifiers=[verifier for service in services for verifier in service.verifiers],
            own_token=self._own_token,
            user_token=user_token,
        )
        self._server = RpcServer(
            [mount for service in services for mount in service.mounts] + self._own_mounts(),
            platform.settings,
            tracing.traced_natives({path: handler for service in services for path, handler in service.natives.items()}),
            tracing.traced_http(next((service.http for service in services if service.http is not None), None)),
            guard=guard,
            audit=self._audit,
            admission=self._quotas.admission(),
        )
        self._stopped = threading.Event()

    def _own_mounts(self) -> list[Mount]:
        stores = {platform.name: platform.artifacts for platform in self._platforms}
        uploads = stores.get("dataset") or next(iter(stores.values()))
        waiting = Uploads(self._platform.settings.data_dir / "uploads")
        begins = self._platform.jobs.import_is_near
        artifacts = ArtifactServicer(uploads, stores, self._ownership.record, self._quotas, waiting, begins)
        access = AccessServicer(self._audit, self._quotas)
        workers = WorkerServicer(self._platform.job_store)
        jobs = JobsServicer(self._platform.jobs, self._platform.job_logs)
        return [
            Mount(
                "modelyard.artifact.v1.ArtifactService",
                lambda server: artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server),
            ),
            Mount(
                "modelyard.access.v1.AccessService",
                lambda server: access_service_pb2_grpc.add_AccessServiceServicer_to_server(access, server),
            ),
            Mount(
                "modelyard.worker.v1.WorkerService",
                lambda server: worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(workers, server),
            ),
            Mount(
                "modelyard.jobs.v1.JobsService",
                lambda server: jobs_service_pb2_grpc.add_JobsServiceServicer_to_server(jobs, server),
            ),
        ]

    async def start(self) -> str:
        """Listen, go on with the jobs that had not ended, start the services. Gives host:port."""
        port = await self._server.start()
        host = self._platform.settings.host
        address = f"{'127.0.0.1' if host in EVERY_INTERFACE else host}:{port}"
        local = self._server.local_address or address
        self._platform.own_address["address"] = local
        for own in (local, f"http://{local}"):
            remember_token(own, self._own_token)
        await asyncio.to_thread(self._platform.jobs.launch, local)
        for service in self._services:
            if service.start is not None:
                await asyncio.to_thread(service.start)
        threading.Thread(target=self._collect_now_and_then, name="collector", daemon=True).start()
        await self._server.ready()
        return address

    @property
    def local_address(self) -> str:
        """Where processes of this user call once it has started: the address, or a socket without TLS beside it."""
        return self._platform.own_address["address"]

    @property
    def stops_within_s(self) -> float:
        """The most that `stop` takes where nothing hangs."""
        return self._platform.settings.drain_s + STOP_S

    async def stop(self) -> None:
        """Drain, leave the jobs for the next start, close. Calls that run have `drain_s` for it all, not for each part of it."""
        self._stopped.set()
        begin = time.monotonic()
        await self._server.drain()
        for service in self._services:
            if service.stop is not None:
                await asyncio.to_thread(service.stop)
        await asyncio.to_thread(self._platform.jobs.shut_down)
        await self._server.stop(max(LEAST_DRAIN_S, self._platform.settings.drain_s - (time.monotonic() - begin)))
        await asyncio.to_thread(self._audit.close)
        for own in (self.local_address, f"http://{self.local_address}"):
            forget_token(own)
        await asyncio.to_thread(tracing.stop)
        self._platform.engine.dispose()

    def _collect_now_and_then(self) -> None:
        while not self._stopped.wait(COLLECT_EVERY_S):
            forget_requests(self._platform.engine, now() - REMEMBER_REQUESTS)
            for platform in self._platforms:
                try:
                    removed = platform.collect()
                    self._ownership.forget(removed)
                except Exception:
                    log.exception("collection failed", namespace=platform.name)
                else:
                    log.info("collected", namespace=platform.name, blobs=len(removed))


async def serve_until_signalled(host: Host, on_ready: Callable[[str], None]) -> None:
    """Start, wait for SIGINT or SIGTERM, stop; whatever hangs, the process ends STOP_S after the time that calls have to end.
    A second signal ends it at once."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if asked.is_set():
            leave(130, "stopped at once")
        asked.set()
        leave_after(host.stops_within_s, 1, "did not stop in time, and is ended as it is; jobs go on at the next start")

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ask)
    on_ready(await host.start())
    await asked.wait()
    log.info("stopping")
    await host.stop()


def run_service_main(name: str, build: Callable[[Platform], Service], settings_class: type[CoreSettings] = CoreSettings) -> int:
    """`python -m modelyard.<service>`: settings from the environment, serve until a signal. Gives the exit status."""
    try:
        settings = settings_class()
        configure_logs(settings.log_format, settings.log_level)
        platform = open_platform(settings, name)
        host = Host(platform, [build(platform)], [name])
        run(serve_until_signalled(host, lambda address: log.info("ready", service=name, address=address)))
    except ModelyardError as error:
        sys.stderr.write(f"modelyard {name}: {error.reason}: {error.message}\n")
        return 2
    except ValueError as error:  # pydantic's ValidationError: names the setting and what is wrong with it
        sys.stderr.write(f"modelyard {name}: {error}\n")
        return 2
    return 0
