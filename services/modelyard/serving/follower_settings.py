"""Settings of a follower, from MODELYARD_* environment variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelyard.serving.settings import ServingSettings


class FollowerSettings(ServingSettings):
    """What a model server needs to know whose desired state comes from a centre."""

    follow_address: str = Field("", description="host:port of the serving service that is followed.")
    follow_endpoint: str = Field(
        "", description="projects/{project}/endpoints/{endpoint}: what a pod serves. Empty: this is a device of its own."
    )
    follow_target: str = Field("cpu", description="Target that the pod serves: cpu, gpu, edge.")
    follow_token_file: Path | None = Field(None, description="File with the pod's token.")
    follow_enrol_token_file: Path | None = Field(
        None, description="File with a one-time token: a device that is not known yet enrols with it, once."
    )
    follow_device_id: str = Field("", description="Name that the device wants when it enrols. Empty: the centre gives one.")
    follow_cache: str = Field("", description="host:port that is asked for bundles before the centre is. Empty: none.")
    follow_state_keys: Path | None = Field(
        None,
        description="PEM file, or folder of them, with the centre's public keys. Empty: a device has them from enrolment; a pod "
        "takes the centre's word, which its TLS vouches for.",
    )
    follow_retry_s: float = Field(30.0, ge=0.1, description="Seconds until a version that could not be loaded is tried again.")
    follow_backoff_s: float = Field(60.0, ge=0.1, description="Longest pause, in seconds, between tries to reach the centre.")
    cache_mib: int = Field(
        512, ge=0, description="What the cache of bundles may hold beside what is served or needed to go back, in MiB."
    )
    download_kib_s: int = Field(0, ge=0, description="Most that a download may take of the line, in KiB/s. 0: no limit.")
