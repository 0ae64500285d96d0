"""Settings that all services share. A service's own settings extend them; both come from MODELYARD_* environment variables.

MODELYARD_DATA_DIR=/var/lib/modelyard, MODELYARD_PORT=8970, and with `__` for what is nested. Nothing else reads the environment,
but for workers, which read a few of these without pydantic (jobs/worker_settings.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20
GIB = 1 << 30
SECRETS = Path("/run/secrets")
"""Where Docker puts secrets: a file modelyard_database_url there is MODELYARD_DATABASE_URL. The environment comes first."""


class CoreSettings(BaseSettings):
    """What every service needs to know. Frozen: a change means a restart."""

    model_config = SettingsConfigDict(
        env_prefix="MODELYARD_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    data_dir: Path = Field(Path(".modelyard"), description="Folder for everything this service keeps on its own disk.")
    database_url: str = Field("", description="sqlite:///path or postgresql+psycopg://... Empty: {data_dir}/{service}.db.")
    database_schema: str = Field("", description="PostgreSQL schema with this service's tables. Empty: the service's name.")
    artifacts_url: str = Field("", description="file:///folder or s3://bucket. Empty: {data_dir}/artifacts.")
    s3_endpoint: str = Field("", description="Address of the S3 server: http://host:port or https://host.")
    s3_region: str = Field("us-east-1", description="Region of the bucket; MinIO's default is us-east-1.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the S3 server.")
    artifact_cache_bytes: int = Field(
        20 * GIB, ge=64 * MIB, description="About how many bytes of artifacts from S3 are kept on this service's own disk."
    )
    s3_ca: Path | None = Field(
        None, description="PEM file with the authorities of the S3 server's certificate. Empty: the system's."
    )
    artifact_grace_s: float = Field(
        86_400.0, ge=0, description="Seconds that a blob no document names is kept before collection."
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(0, ge=0, le=65_535, description="Port of the gRPC server; 0 takes a free one.")
    front: Literal["auto", "grpc"] = Field(
        "auto", description="auto: our own front end where a service has fast methods or REST. grpc: grpc.aio alone, no REST."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain of the port. Empty: no TLS.")
    tls_key: Path | None = Field(None, description="PEM file with the private key of the certificate.")
    tls_ca: Path | None = Field(
        None,
        description="PEM file with the authorities that this process trusts: of services it calls, and of client certificates "
        "(mutual TLS). Files that change are read again without a restart.",
    )
    auth: Literal["none", "token"] = Field(
        "none", description="token: every call says who makes it, and its role decides. none: whoever reaches the port may all."
    )
    tokens_file: Path | None = Field(
        None, description="YAML or JSON file with the static tokens (their sha256), read again when it changes."
    )
    oidc_issuer: str = Field("", description="Issuer of the OIDC access tokens that are accepted. Empty: none are.")
    oidc_audience: str = Field("", description="Audience that OIDC tokens must name; needed with oidc_issuer.")
    oidc_jwks: str = Field(
        "", description="https:// address or path of the issuer's keys (JWKS). Empty: what {issuer}/.well-known says."
    )
    oidc_roles_claim: str = Field(
        "modelyard_roles",
        description="Claim with the roles: an object {project: role}, or a list of 'project:role'; '*' is every project.",
    )
    oidc_ca: Path | None = Field(None, description="PEM file with the authorities of the issuer's server. Empty: the system's.")
    service_token: SecretStr = Field(
        SecretStr(""), description="Token that services know each other by, where they have no client certificates."
    )
    quotas_file: Path | None = Field(
        None, description="YAML or JSON file with the quotas of projects, read again when it changes. Empty: no limits."
    )
    audit_keep_days: int = Field(
        400,
        ge=0,
        le=36_500,
        description="Days that rows of the audit log are kept; its lines in the log are not touched. 0: for ever.",
    )
    metrics_auth: Literal["auto", "none"] = Field(
        "auto", description="auto: the metrics port asks for a token where the other does. none: it never does."
    )
    embedded_auth: Literal["management", "all", "none"] = Field(
        "management",
        description="What `modelyard up` wants the user's token for: management (all but predictions), all, none. "
        "Only where auth is none, and on loopback.",
    )
    max_connections: int = Field(
        4096, ge=1, le=1_000_000, description="Connections at once; more are closed at once (front: auto)."
    )
    idle_s: float = Field(300.0, ge=1, description="Seconds until a connection without a call is closed (front: auto).")
    health_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port where grpc.health.v1.Health alone answers, without TLS, for probes that know none; 0: none.",
    )
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port of the Prometheus metrics over HTTP; 0: none.")
    tracing_endpoint: str = Field(
        "",
        description="http://host:port of an OTLP collector (gRPC) that spans go to; needs modelyard[tracing]. Empty: none.",
    )
    tracing_share: float = Field(1.0, ge=0, le=1, description="Share of the traces that begin here which are kept, 0 to 1.")
    max_message_bytes: int = Field(64 * MIB, ge=MIB, le=2047 * MIB, description="Largest gRPC message, both ways, in bytes.")
    rpc_threads: int = Field(16, ge=1, le=1024, description="Calls that are worked on at once.")
    drain_s: float = Field(10.0, ge=0, description="Seconds that running calls get to end when the server stops.")

    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line that is written.")

    dataset_address: str = Field(
        "", description="host:port (TLS where tls_ca is set), https:// or http:// of the dataset service."
    )
    trainer_address: str = Field("", description="host:port of the trainer service.")
    exporter_address: str = Field("", description="host:port of the exporter service.")
    evaluator_address: str = Field("", description="host:port of the evaluator service.")
    serving_address: str = Field("", description="host:port of the serving service.")
    pipeline_address: str = Field("", description="host:port of the pipeline service.")

    runner: Literal["process", "kubernetes"] = Field(
        "process", description="Where jobs run: as processes of this machine, or as Jobs of the Kubernetes cluster around it."
    )
    flavors: Path | None = Field(None, description="YAML or JSON file of instance flavors. Empty: one, `local`.")
    job_log_bytes: int = Field(
        262_144, ge=0, le=64 * MIB, description="Of what each worker writes so many bytes are kept, the newest; 0: none."
    )
    worker_patience_s: float = Field(
        900.0, ge=1, le=86_400, description="Seconds that a worker waits for its service when it does not answer."
    )
    worker_address: str = Field("", description="host:port at which workers reach this service. Empty: where it listens.")
    worker_image: str = Field("", description="Image of worker pods (runner: kubernetes); a flavor may name another.")
    worker_secret: str = Field("", description="Secret whose keys worker pods get as environment: S3 keys. Empty: none.")
    worker_tls_secret: str = Field(
        "", description="Secret with tls.crt, tls.key and ca.crt, mounted in worker pods. Empty: none."
    )
    worker_user: int = Field(0, ge=0, le=2**31 - 1, description="User id of worker pods; 0: the image's own, which is not root.")
    worker_pull_secrets: str = Field("", description="Names of the secrets for pulling the worker image, comma-separated.")
    worker_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = Field("", description="When worker images are pulled.")
    runner_namespace: str = Field("", description="Namespace of worker pods. Empty: the one this service runs in.")
    runner_owner: str = Field(
        "",
        description="Object that owns all Jobs, which are deleted with it: apps/v1/Deployment/NAME or v1/ConfigMap/NAME.",
    )
    runner_queue: str = Field("", description="Kueue's LocalQueue that Jobs wait in. Empty: no Kueue.")
    runner_labels: str = Field("", description="Labels of every Job and worker pod: key=value, comma-separated.")
    job_ttl_s: int = Field(600, ge=0, le=604_800, description="Seconds after which a Job that has ended is deleted.")

    def database_url_for(self, service: str) -> str:
        """The database of a service: the one set, or a SQLite file of its own in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / f'{service}.db'}"

    def database_schema_for(self, service: str) -> str:
        """The PostgreSQL schema of a service. SQLite has none and ignores it."""
        return self.database_schema or service

    def artifacts_url_or_default(self) -> str:
        """The root of the artifact stores: the one set, or a folder in the data folder."""
        return self.artifacts_url or f"file://{self.data_dir.absolute() / 'artifacts'}"
