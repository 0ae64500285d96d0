"""Settings of the serving service, from MODELYARD_* environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from modelyard.core.settings import CoreSettings
from modelyard.formats.passport_keys import TRUSTED_KEYS


class ServingSettings(CoreSettings):
    """What serving needs to know beyond what all services do."""

    inference_threads: int = Field(
        0, ge=0, le=1024, description="Cores that all versions together may use. 0: those this process may use (CPU set, cgroup)."
    )
    intra_op_threads: int = Field(
        0, ge=0, le=1024, description="Threads of one prediction. 0: as many as suit the model, tried when it is loaded."
    )
    inference_queue: int = Field(
        256, ge=0, le=100_000, description="Predictions that may wait for one version; more are refused at once."
    )
    isolation: Literal["process", "none"] = Field(
        "process", description="process: every version computes in a process of its own. none: in the server's, for tiny devices."
    )
    execution_timeout_s: float = Field(
        60.0, gt=0, description="Seconds after which a version's process that does not answer is ended and started again."
    )
    model_memory_mib: int = Field(
        0, ge=0, description="Address space that the process of one version may use, in MiB, its code included. 0: no limit."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models compute. auto: a GPU of NVIDIA's where the runtime finds one, else the processor."
    )
    max_batch_size: int = Field(4096, ge=1, le=1_000_000, description="Most examples in one prediction.")
    reconcile_s: float = Field(
        10.0, ge=0.1, description="Seconds between looks at what other servers of the same database have deployed."
    )
    passport_trusted_keys: Path | None = Field(
        None,
        description="PEM file with the public key that passports must be signed with, or a folder of such files. "
        "Empty: {data_dir}/keys/trusted. Without any key nothing can be deployed.",
    )
    fleet_signing_key: Path | None = Field(
        None,
        description="PEM file with the private key (ECDSA P-256) that signs what devices and pods are to serve; the same for all "
        "servers of a database. Empty: {data_dir}/keys/fleet.pem, made at first use.",
    )
    fleet_report_s: float = Field(30.0, ge=0.1, le=86_400, description="Seconds between two reports of a device.")
    fleet_missed_reports: int = Field(3, ge=1, description="Reports that a device may miss before it counts as offline.")
    rollout_step_s: float = Field(1.0, ge=0.05, description="Seconds between two looks at roll-outs to devices.")
    retry_failed_s: float = Field(300.0, ge=1, description="Seconds until a deployment that could not be loaded is tried again.")

    serving_pods: Literal["none", "process", "kubernetes"] = Field(
        "none",
        description="Where versions live. none: in processes of this server. kubernetes: in pods, to which this server "
        "forwards. process: the same with processes of this machine for pods.",
    )
    serving_image: str = Field("", description="Image of serving pods (kubernetes); a target may name another.")
    serving_targets: Path | None = Field(
        None,
        description="YAML or JSON list of what cpu, gpu and edge mean: {name, image, cpu, memory, disk, gpu, gpu_resource, "
        "node_selector, tolerations, environment, runtime_class, priority_class}. Empty: edge is arm64, all else as usual.",
    )
    pods_address: str = Field("", description="host:port at which serving pods reach this service (kubernetes).")
    pods_namespace: str = Field("", description="Namespace of serving pods. Empty: the one this service runs in.")
    pods_owner: str = Field("", description="Object that owns all of them and takes them with it: apps/v1/Deployment/NAME.")
    pods_node_cache: str = Field("", description="host:port of the nodes' cache of bundles. Empty: pods fetch from this service.")
    pods_tls_secret: str = Field("", description="Secret with tls.crt, tls.key and ca.crt of serving pods. Empty: no TLS.")
    pods_pull_secrets: str = Field("", description="Names of the secrets for pulling the serving image, comma-separated.")
    pods_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = Field("", description="When serving images are pulled.")
    pods_user: int = Field(0, ge=0, le=2**31 - 1, description="User id of serving pods; 0: the image's own, which is not root.")
    pods_labels: str = Field("", description="Labels of all that belongs to serving pods: key=value, comma-separated.")
    pods_cpu_percent: int = Field(
        70,
        ge=1,
        le=1000,
        description="Of the processor that pods ask for: above it there will be more of them, within their placement.",
    )
    pods_ready_s: float = Field(
        240.0, ge=1, description="Seconds that a deployment waits until its version is ready in all pods."
    )
    pods_hold_s: float = Field(5.0, ge=0, description="Seconds that a request waits while no pod can be asked.")
    pods_cold_start_s: float = Field(
        60.0, ge=1, description="Seconds that requests wait for the first pod of an endpoint that was scaled to zero."
    )

    def trusted_keys_place(self) -> Path:
        """Where the trusted keys are: the place set, or the folder that an evaluator over the same data folder fills."""
        return self.passport_trusted_keys or self.data_dir / TRUSTED_KEYS
