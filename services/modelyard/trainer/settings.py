"""Settings of the trainer; all from MODELYARD_* environment variables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.core.settings import CoreSettings


class TrainerSettings(CoreSettings):
    """What the trainer needs to know besides the settings of every service."""

    training_slots: int = Field(
        1, ge=1, le=1024, description="Training jobs that run at once; others wait in the order they came."
    )
    study_slots: int = Field(
        8, ge=1, le=1024, description="Advised trainings, and cross-validations, that go on at once; their trainings take slots."
    )
    preview_slots: int = Field(2, ge=1, le=1024, description="Previews of recipes that are made at once.")
    training_attempts: int = Field(3, ge=1, le=100, description="How often a lost training worker is started in all.")
    checkpoint_every_s: float = Field(30.0, gt=0, le=86_400, description="Seconds between two checkpoints of a running training.")
    data_memory_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes of decoded pictures that a training holds in memory; larger data are read while they are needed. "
        "0: a third of the memory there is.",
    )
    group_timeout_s: float = Field(
        180.0, ge=5, le=3600, description="Seconds that a process of a training over several waits for the others within a step."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where training computes. auto: on a GPU of NVIDIA's where torch finds one, else on the processor."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Numbers that networks are trained with. auto: bfloat16 or float16 on a GPU, float32 on a processor."
    )
    deterministic: bool = Field(False, description="Only kernels that give the same bits again on the same GPU; slower.")

    def for_workers(self) -> dict[str, str]:
        """What a training worker must know of these, as its environment."""
        return {
            "MODELYARD_CHECKPOINT_EVERY_S": str(self.checkpoint_every_s),
            "MODELYARD_GROUP_TIMEOUT_S": str(self.group_timeout_s),
            "MODELYARD_DEVICE": self.device,
            "MODELYARD_PRECISION": self.precision,
            "MODELYARD_DETERMINISTIC": str(self.deterministic).lower(),
        }
