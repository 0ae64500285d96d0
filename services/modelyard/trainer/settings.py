"""Settings of the trainer; all from MODELYARD_* environment variables."""

from __future__ import annotations

from pydantic import Field

from modelyard.core.settings import CoreSettings


class TrainerSettings(CoreSettings):
    """What the trainer needs to know besides the settings of every service."""

    training_slots: int = Field(
        1, ge=1, le=1024, description="Training jobs that run at once; others wait in the order they came."
    )
    training_attempts: int = Field(3, ge=1, le=100, description="How often a lost training worker is started in all.")
    checkpoint_every_s: float = Field(30.0, gt=0, le=86_400, description="Seconds between two checkpoints of a running training.")
    data_memory_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes of decoded pictures that a training holds in memory; larger data are read while they are needed. "
        "0: a third of the memory there is.",
    )
