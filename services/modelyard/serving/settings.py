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
    retry_failed_s: float = Field(300.0, ge=1, description="Seconds until a deployment that could not be loaded is tried again.")

    def trusted_keys_place(self) -> Path:
        """Where the trusted keys are: the place set, or the folder that an evaluator over the same data folder fills."""
        return self.passport_trusted_keys or self.data_dir / TRUSTED_KEYS
